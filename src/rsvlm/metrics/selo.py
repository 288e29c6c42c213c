"""Semantic localisation: where in a large image is what a sentence describes?

Windows of several sizes are scored against the sentence, the scores are averaged into a
probability map, and the map is compared with annotated regions by four indicators.

Sources: Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic Localization",
TGRS 2022; code `evaluations/SLM.py` and `predict/generate_selo.py` of
xiaoyuan1996/SemanticLocalizationMetrics (1e9596d), which RS5M repeats (`inference_tool.py`).

The published code does everything again for each sentence: cut, resize, encode, and divide the map
pixel by pixel. Here windows are encoded once per image; a map is computed on the grid of the
windows' edges, between which it is constant, and becomes pixels only at the end.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from rsvlm.metrics.selo_image_ops import (
    box_blur,
    component_centres,
    fill_polygons,
    maximum_filter,
    median_of_cells,
    resize_cubic,
)

STEPS = (256, 512, 768)
WINDOW = 256
MEDIAN = 251

Polygon = Sequence[Sequence[float]]
WORDS = ("rsu", "ras", "rda", "rmi")


@dataclass(frozen=True, slots=True)
class Window:
    """Rows `top` to `bottom` and columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


def windows(height: int, width: int, steps: Sequence[int] = STEPS) -> list[Window]:
    """The distinct windows of an image, in the order in which the published code cuts them.

    For each step there are two grids, the second moved by half a step; the last window of a line
    is moved back to end at the border.

    Raises:
        ValueError: the image is smaller than a step (the published code fails there).
    """
    if min(height, width) < max(steps):
        raise ValueError(
            f"image of {width} x {height} px is smaller than a window of {max(steps)} px; give "
            f"steps=[...] of at most {min(height, width)}."
        )
    found: dict[Window, None] = {}
    for step in steps:
        for start in (0, step - step // 2):
            for left in range(start, width, step):
                left = left if left + step < width else width - step
                for top in range(start, height, step):
                    top = top if top + step < height else height - step
                    found[Window(top, top + step, left, left + step)] = None
    return list(found)


def window_pictures(
    image: np.ndarray, cut: Sequence[Window], *, jpeg: bool = False
) -> Iterator[Image.Image]:
    """Each window at 256 px, as the model's preprocessing gets it.

    Args:
        image: [H, W, 3] uint8, RGB.
        cut: which windows.
        jpeg: through a JPEG of quality 95, as published.
    """
    for window in cut:
        crop = image[window.top : window.bottom, window.left : window.right]
        small = np.ascontiguousarray(resize_cubic(crop, WINDOW))
        yield Image.fromarray(_through_jpeg(small) if jpeg else small)


def encode_windows(
    image: np.ndarray,
    encode: Callable[[list[Image.Image]], Tensor],
    *,
    steps: Sequence[int] = STEPS,
    batch: int = 64,
    jpeg: bool = False,
) -> Tensor:
    """Features of all windows of an image, to be used for every sentence about it.

    Args:
        image: [H, W, 3] uint8, RGB.
        encode: pictures of 256 px to unit-length features [n, D].
        steps: window sizes, pixels.
        batch: pictures per call of `encode`.
        jpeg: see `window_pictures`.

    Returns:
        [W, D], in the order of `windows`.
    """
    height, width = image.shape[:2]
    cut = windows(height, width, steps)
    parts = []
    for start in range(0, len(cut), batch):
        parts.append(encode(list(window_pictures(image, cut[start : start + batch], jpeg=jpeg))))
    return torch.cat(parts)


def probability_map(
    scores: np.ndarray,
    size: tuple[int, int],
    *,
    steps: Sequence[int] = STEPS,
    kernel: int = MEDIAN,
    jpeg: bool = False,
) -> np.ndarray:
    """The 8-bit map of a sentence: mean score of the windows over a pixel, stretched, smoothed.

    Args:
        scores: [W] similarity of each of `windows(*size, steps)` to the sentence.
        size: (height, width) of the image.
        steps: window sizes, pixels.
        kernel: side of the median filter.
        jpeg: write the map as a JPEG of quality 95 and read it back, as published.

    Returns:
        [H, W] uint8; zeros where all scores are equal.

    Raises:
        ValueError: another number of scores than windows, or scores that are not finite.
    """
    cut = windows(*size, steps)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(cut),):
        raise ValueError(
            f"scores {scores.shape} for {len(cut)} windows of a {size[1]} x {size[0]} image with "
            f"steps {tuple(steps)}."
        )
    if not np.isfinite(scores).all():
        raise ValueError("window scores are not finite.")
    rows = np.unique([edge for w in cut for edge in (w.top, w.bottom)])
    columns = np.unique([edge for w in cut for edge in (w.left, w.right)])
    row, column = ({int(e): i for i, e in enumerate(edges)} for edges in (rows, columns))
    heat = np.zeros((len(rows) - 1, len(columns) - 1))
    count = np.zeros_like(heat)
    for window, score in zip(cut, scores, strict=True):
        cells = (
            slice(row[window.top], row[window.bottom]),
            slice(column[window.left], column[window.right]),
        )
        heat[cells] += score
        count[cells] += 1
    heat /= count
    heat -= heat.min()
    highest = heat.max()
    levels = np.zeros(heat.shape, np.uint8)
    if highest > 0:
        levels = (255 * (heat / highest)).astype(np.uint8)
    smooth = median_of_cells(levels, rows, columns, kernel)
    return _through_jpeg(smooth) if jpeg else smooth


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    """What is left of an image after OpenCV's JPEG settings, quality 95."""
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=95)
    return np.asarray(Image.open(held))


def attention_centres(gray: np.ndarray) -> list[tuple[int, int]]:
    """(x, y) of the peaks of a map, highest first, those below one half left out.

    Five box filters of 50 px, then the maxima of windows of 1,000 px; touching equal maxima are
    one peak at their centroid.
    """
    # 8 bit -> 0..1 -> 8 bit, as published: a few levels lose one on the way.
    levels = np.arange(256) / 255.0
    soft = np.asarray(levels * 255.0, dtype=np.uint8)[gray]
    for _ in range(5):
        soft = box_blur(soft, 50)
    peaks = (maximum_filter(soft, 1000) == soft) & (soft > 0)
    centres = component_centres(peaks)
    centres.sort(key=lambda at: int(gray[at[1], at[0]]), reverse=True)
    return [at for at in centres if levels[gray[at[1], at[0]]] >= 0.5]


def indicators(gray: np.ndarray, regions: Sequence[Polygon]) -> dict[str, float]:
    """The four indicators of one probability map.

    - `rsu` = 1 - exp(-0.707 S_in / (S_all - S_in + 1e-7) (HW - |M|) / |M|), M the annotated area.
    - `ras` = (exp(3 a) - 1) / (exp(3) - 1), a the mean over regions of the mean distance of the
      peaks within a region's radius to its centre, over the radius (1 without a peak).
    - `rda`: the mean over regions of 0 or 1 for as many peaks, else half of one minus the peaks'
      mean distance to their own centre over the radius, plus exp(-0.5 (peaks + 2)).
    - `rmi` = 0.4 rsu + 0.35 (1 - ras) + 0.25 rda.

    Args:
        gray: [H, W] uint8, probability times 255.
        regions: polygons of (x, y) points; where two overlap, see `maps.fill_polygons`.

    Raises:
        ValueError: no regions, or one without an extent or outside the map.
    """
    if not len(regions):
        raise ValueError("a sentence without annotated regions cannot be evaluated.")
    if gray.ndim != 2 or gray.dtype != np.uint8:
        raise ValueError(f"the map must be [H, W] uint8, not {gray.shape} {gray.dtype}.")
    polygons = [np.asarray(region, np.float64) for region in regions]
    circles = [_circle(polygon, number) for number, polygon in enumerate(polygons)]
    mask = fill_polygons(gray.shape, polygons)
    area = int(mask.sum())
    if not area:
        height, width = gray.shape
        raise ValueError(f"no region lies inside the map of {width} x {height} px.")

    inside = int(gray[mask].sum(dtype=np.int64)) / 255
    everything = int(gray.sum(dtype=np.int64)) / 255
    odds = inside / (everything - inside + 1e-7) * (gray.size - area) / area
    rsu = 1 - np.exp(-0.707 * odds)

    centres = np.array(attention_centres(gray), np.float64).reshape(-1, 2)
    offsets, spreads = [], []
    for x, y, radius in circles:
        distance = np.linalg.norm(centres - (x, y), axis=1)
        near = centres[distance <= radius]
        offsets.append(distance[distance <= radius].mean() / radius if len(near) else 1.0)
        if len(near) < 2:
            spreads.append(float(len(near)))
        else:
            spread = np.linalg.norm(near - near.mean(0), axis=1).mean() / radius
            spreads.append(0.5 * (1 - spread) + np.exp(-0.5 * (len(near) + 2)))
    ras = (np.exp(3 * np.mean(offsets)) - 1) / (np.exp(3) - 1)
    rda = np.mean(spreads)
    rmi = 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda
    return dict(zip(WORDS, map(float, (rsu, ras, rda, rmi)), strict=True))


def _circle(polygon: np.ndarray, number: int) -> tuple[int, int, int]:
    """Centre and 1.5 times the mean distance of the points from it, cut to integers."""
    x, y = (int(polygon[:, axis].sum() / len(polygon)) for axis in (0, 1))
    radius = int(np.mean(np.linalg.norm(polygon - (x, y), axis=1)) * 1.5)
    if radius < 1:
        raise ValueError(
            f"region {number} has no extent ({len(polygon)} points around {x}, {y}); a region is a "
            "polygon of (x, y) points in pixels of the full image."
        )
    return x, y, radius


class SeLo(Metric):
    """Mean of the four indicators over all sentences.

    Formula: see `indicators`. Range: 0 to 1 each. Higher is better (Ras: lower). Protocols: selo,
    selo_jpeg. Used in: Yuan et al.'s tables on AIR-SLT and GeoRSCLIP's (selo_jpeg).

    Args:
        protocol: `selo` uses windows and maps as computed; `selo_jpeg` sends both through JPEG as
            the published code does, which is what published numbers are.
        steps: window sizes, pixels.
        kernel: side of the median filter over a map.
    """

    is_differentiable = False
    full_state_update = False

    sums: Tensor
    count: Tensor

    def __init__(
        self,
        protocol: Literal["selo", "selo_jpeg"] = "selo_jpeg",
        *,
        steps: Sequence[int] = STEPS,
        kernel: int = MEDIAN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol not in ("selo", "selo_jpeg"):
            raise ValueError(f"protocol {protocol!r} is unknown; choose selo or selo_jpeg.")
        self.protocol = protocol
        self.jpeg = protocol == "selo_jpeg"
        self.steps = tuple(steps)
        self.kernel = kernel
        self.add_state("sums", torch.zeros(len(WORDS), dtype=torch.float64), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), "sum")

    def encode(
        self,
        image: np.ndarray,
        encode: Callable[[list[Image.Image]], Tensor],
        *,
        batch: int = 64,
    ) -> Tensor:
        """[W, D] features of an image's windows; see `encode_windows`."""
        return encode_windows(image, encode, steps=self.steps, batch=batch, jpeg=self.jpeg)

    def map(self, scores: Tensor | np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """[H, W] uint8 map of a sentence from its window scores; see `probability_map`."""
        held = scores.detach().float().cpu().numpy() if isinstance(scores, Tensor) else scores
        return probability_map(held, size, steps=self.steps, kernel=self.kernel, jpeg=self.jpeg)

    def update(
        self, scores: Tensor | np.ndarray, size: tuple[int, int], regions: Sequence[Polygon]
    ) -> None:
        """Adds a sentence.

        Args:
            scores: [W] cosine of each window, in the order of `encode`, and the sentence.
            size: (height, width) of the image.
            regions: polygons of (x, y) points in pixels of the full image.
        """
        found = indicators(self.map(scores, size), regions)
        self.sums += torch.tensor([found[word] for word in WORDS], dtype=torch.float64).to(
            self.sums
        )
        self.count += 1

    def compute(self) -> dict[str, Tensor]:
        """`rsu`, `ras` (lower is better), `rda`, `rmi`."""
        if not int(self.count):
            raise ValueError("no sentences were given: call update before compute.")
        return dict(zip(WORDS, self.sums / self.count, strict=True))
