"""A sheet of samples: pictures with their boxes and masks drawn, maps in colour, and the words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsvlm.data.palette import RGB, SCENES, SECOND
from rsvlm.data.protocols import attributes_of
from rsvlm.data.sample import Instance, Sample, SampleError
from rsvlm.data.transforms import to_pil

_INK, _PAPER, _FAULT = (24, 24, 24), (250, 250, 248), (200, 60, 50)
_GAP, _TEXT, _LINE = 6, 460, 14
_HUES: tuple[RGB, ...] = (
    (255, 60, 60),
    (60, 220, 60),
    (80, 120, 255),
    (255, 220, 40),
    (255, 80, 255),
    (60, 230, 230),
)
#: Pictures of one sample; further frames are told of, not shown.
_PICTURES = 4


def sheet(datasets: Sequence[Any], count: int = 10, size: int = 256) -> Image.Image:
    """Draws samples, spread evenly over each data set.

    Args:
        datasets: sequences of samples; each gets its share of the rows.
        count: rows.
        size: side of the square that a picture is fitted into.
    """
    rows = []
    for number, dataset in enumerate(datasets):
        share = len(range(number, count, len(datasets)))
        share = min(share, len(dataset))
        for k in range(share):
            rows.append(_row(dataset, (2 * k + 1) * len(dataset) // (2 * share), size))
    columns = max((len(pictures) for pictures, _ in rows), default=1)
    step = size + _GAP
    page = Image.new("RGB", (columns * step + _TEXT + _GAP, len(rows) * step + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for number, (pictures, words) in enumerate(rows):
        top = _GAP + number * step
        for column, picture in enumerate(pictures):
            page.paste(picture, (_GAP + column * step, top))
        lines = [line for text in words for line in textwrap.wrap(text, _TEXT // 6)]
        room = size // _LINE
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines"]
        pen.multiline_text(
            (_GAP + len(pictures) * step, top), "\n".join(lines), fill=_INK, font=font, spacing=3
        )
    return page


def drawn(sample: Sample, image_id: int, size: int) -> Image.Image:
    """One picture of a sample, fitted into a square, with its instances.

    Args:
        sample: the sample.
        image_id: which of its pictures.
        size: side of the square.
    """
    image = to_pil(sample.images[image_id]).convert("RGB")
    scale = size / max(image.size)
    shown = image.resize(_scaled(image.size, scale), Image.Resampling.BILINEAR)
    found = [i for i in sample.instances if i.image_id == image_id]
    pixels = np.asarray(shown).astype(np.float32)
    for number, instance in enumerate(found):
        if instance.mask is not None:
            mask = Image.fromarray(instance.mask).resize(shown.size, Image.Resampling.NEAREST)
            hue = np.array(_HUES[number % len(_HUES)], np.float32)
            pixels[np.asarray(mask)] = 0.5 * pixels[np.asarray(mask)] + 0.5 * hue
    shown = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(shown)
    for number, instance in enumerate(found):
        if instance.box is not None:
            corners = [(x * scale, y * scale) for x, y in _corners(instance)]
            pen.polygon(corners, outline=_HUES[number % len(_HUES)])
    return shown


def coloured(ids: np.ndarray, names: Sequence[str], size: int) -> Image.Image:
    """A map in colours: those of the generated world where a class has its name."""
    known, spare = SECOND | SCENES, iter(_HUES * 50)
    table = [known.get(name) or next(spare) for name in names]
    table += [next(spare) for _ in range(256 - len(table))]
    picture = Image.fromarray(np.array(table, np.uint8)[ids])
    side = _scaled(picture.size, size / max(picture.size))
    return picture.resize(side, Image.Resampling.NEAREST)


def _row(dataset: Any, index: int, size: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures and words of a sample; where it cannot be read, why."""
    try:
        sample = dataset[index]
    except SampleError as error:
        empty = Image.new("RGB", (size, size), _FAULT)
        entries = attributes_of(dataset).entries
        texts = list(entries[index].texts) if entries is not None else []
        return [empty], [str(error), *texts]
    pictures = [drawn(sample, i, size) for i in range(min(len(sample.images), _PICTURES))]
    names = attributes_of(dataset).semantic_classes
    pictures += [coloured(ids, names, size) for ids in sample.semantic]
    mask = sample.meta.get("change_mask")
    if isinstance(mask, np.ndarray):
        grey = Image.fromarray((mask > 0).astype(np.uint8) * 255).convert("RGB")
        pictures.append(grey.resize(_scaled(grey.size, size / max(grey.size))))
    return pictures, _words(dataset, sample)


def _words(dataset: Any, sample: Sample) -> list[str]:
    first = f"{sample.meta.get('id', '?')}  ({sample.meta.get('split', '')})"
    classes = attributes_of(dataset).classes
    if sample.label is not None and classes:
        first = f"{classes[sample.label].upper()}  {first}"
    if "changeflag" in sample.meta:
        first += "  changed" if sample.meta["changeflag"] else "  unchanged"
    words = [first]
    if len(sample.images) > _PICTURES:
        words.append(f"[{len(sample.images)} pictures, the first {_PICTURES} are shown]")
    words += [f"- {text}" for text in sample.texts]
    said = {"user": "Q", "assistant": "A", "system": "S"}
    words += [f"{said[t.role]}{f' [{t.kind}]' if t.kind else ''} {t.text}" for t in sample.turns]
    named = [f"{i.category}: {i.phrase}" if i.phrase else i.category for i in sample.instances]
    if named:
        words.append(f"{len(named)} instances: " + "; ".join(dict.fromkeys(named)))
    return words


def _corners(instance: Instance) -> list[tuple[float, float]]:
    """The outermost pixels of a box, turned counter-clockwise on the screen by its angle."""
    assert instance.box is not None
    x0, y0, x1, y1 = instance.box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    turn = math.radians(instance.angle or 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    half_width, half_height = (x1 - x0 - 1) / 2, (y1 - y0 - 1) / 2
    # Pixel k covers k to k + 1, so its number is half a pixel short of its middle.
    return [
        (x - 0.5 + a * half_width * cos + b * half_height * sin,
         y - 0.5 - a * half_width * sin + b * half_height * cos)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]  # fmt: skip


def _scaled(sides: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))
