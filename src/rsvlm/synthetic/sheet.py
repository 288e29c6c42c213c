"""A contact sheet of the generated world: pictures beside everything that is known of them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsvlm.data.palette import SCENES as COLOURS
from rsvlm.data.sample import Sample
from rsvlm.synthetic.dataset import Scenes
from rsvlm.synthetic.geometry import stream
from rsvlm.synthetic.world import CLASSES, SEMANTIC

_INK, _PAPER, _GAP, _TEXT = (24, 24, 24), (250, 250, 248), 6, 460


def coloured(semantic: np.ndarray) -> Image.Image:
    """Return a semantic map as a picture."""
    table = np.array([COLOURS[name] for name in SEMANTIC], np.uint8)
    return Image.fromarray(table[semantic])


def boxed(sample: Sample) -> Image.Image:
    """Return the first picture with its instances: masks tinted, boxes drawn."""
    image = sample.images[0]
    assert isinstance(image, Image.Image)
    pixels = np.asarray(image).astype(np.float32)
    hues = ((255, 60, 60), (60, 220, 60), (80, 120, 255), (255, 220, 40), (255, 80, 255))
    for instance in sample.instances:
        if instance.mask is not None and instance.image_id == 0:
            hue = np.array(hues[instance.id % len(hues)], np.float32)
            pixels[instance.mask] = 0.5 * pixels[instance.mask] + 0.5 * hue
    image = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for instance in sample.instances:
        if instance.box and instance.image_id == 0:
            x0, y0, x1, y1 = instance.box
            pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 255, 255))
    return image


def sheet(
    *,
    split: str = "train",
    seed: int = 0,
    first: int = 0,
    count: int = 10,
    size: int = 256,
    classes: Iterable[str] | None = None,
    nuisance: float = 0.3,
) -> Image.Image:
    """Draw a row for each scene: picture, instances, map, second date, change, words.

    The arguments are those of `Scenes`; `first` and `count` choose the scenes. Without `classes`
    each row is of another class, as long as there are enough of them.
    """
    chosen = tuple(classes) if classes else None
    if chosen is None and count <= len(CLASSES) and split != "holdout":
        chosen = tuple(stream(seed, first, 220).some(CLASSES, count))
    single = Scenes(
        split, n=first + count, size=size, seed=seed, classes=chosen,
        parts=("captions", "masks", "semantic", "references", "turns"),
    )  # fmt: skip
    dates = Scenes(
        split, n=first + count, size=size, seed=seed, classes=chosen, layout="before_after",
        parts=("captions", "semantic"), change=0.85, nuisance=nuisance,
    )  # fmt: skip
    step = size + _GAP
    side = max(_TEXT, size)
    page = Image.new("RGB", (5 * step + side + _GAP, count * step + _GAP), _PAPER)
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=11)
    for row in range(count):
        one, two = single[first + row], dates[first + row]
        changed = Image.fromarray(two.meta["change_mask"].astype(np.uint8) * 255)
        pictures = [one.images[0], boxed(one), coloured(one.semantic[0]), two.images[1], changed]
        top = _GAP + row * step
        for column, picture in enumerate(pictures):
            assert isinstance(picture, Image.Image)
            page.paste(picture.convert("RGB"), (_GAP + column * step, top))
        label = single.classes[one.label or 0]
        words = [f"{label.upper()}  {one.meta['id']}  {one.meta['gsd']:.2f} m"]
        words += one.texts[:4]
        words += [f"[ref] {i.phrase}" for i in one.instances if i.phrase][:1]
        asked = [t for t in one.turns if t.kind not in ("refer", "description")]
        pairs = zip(asked[::2], asked[1::2], strict=True)
        words += ["  ".join(f"{q.text} {a.text}" for q, a in list(pairs)[:3])]
        words += [f"[2nd date] {two.texts[0]}"]
        lines = [line for text in words for line in textwrap.wrap(text, side // 6)]
        room = size // 14
        pen.multiline_text(
            (_GAP + 5 * step, top), "\n".join(lines[:room]), fill=_INK, font=font, spacing=3
        )
    return page
