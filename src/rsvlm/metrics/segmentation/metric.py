"""Masks of referring expressions and of questions against the true ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric
from rsvlm.metrics.segmentation.overlap import assign, overlap, resize

THRESHOLDS = (50, 60, 70, 80, 90)
#: A label in true masks: these pixels count for nothing.
IGNORE = 255


@dataclass(frozen=True)
class Rule:
    """What a protocol does.

    Attributes:
        size: (height, width) at which masks are compared; None is the true mask's.
        ignore: whether true masks may hold 255.
        several: whether an item has several masks, to be matched.
        empty: IoU of two empty masks.
        epsilon: added to the union of an IoU and to the number of masks in their mean.
        words: mean and cumulative IoU.
    """

    size: tuple[int, int] | None
    ignore: bool
    several: bool
    empty: float
    epsilon: float
    words: tuple[str, str]


RULES = {
    "rmsin": Rule((480, 480), False, False, 0.0, 0.0, ("miou", "oiou")),
    "lisa": Rule(None, True, False, 1.0, 1e-5, ("giou", "ciou")),
    "pixellm": Rule(None, True, True, 1.0, 1e-5, ("giou", "ciou")),
}


class Segmentation(RecordMetric):
    """Mean IoU, cumulative IoU and P@k of masks.

    Formula, I and U the pixels of intersection and union: miou (RMSIN) or giou (LISA, PixelLM), the
    mean over masks of I / U, where LISA and PixelLM add 1e-5 to U and to the number of masks; oiou
    or ciou, the sum of I by the sum of U; p50 to p90, the share of masks with an IoU >= 0.5 to 0.9.
    Two empty masks have IoU 0 (rmsin) or 1 (lisa, pixellm). Under pixellm the masks of a question
    are paired so that the sum of their IoUs is largest, a mask without a partner has IoU 0, its
    pixels are in the sum of U, and the mean is over the larger number of masks of an image. (The
    published matching takes logits at random points; pairs that overlap alike may differ.) Range: 0
    to 100 per cent. Higher is better. Protocols: rmsin, lisa, pixellm. Used in: the RRSIS-D and
    RefSegRS tables of RMSIN, LGCE and LAVT (rmsin), GeoPixel's and GeoPix's (rmsin with
    size="original"), LISA's ReasonSeg (lisa), PixelLM's MUSE (pixellm).

    A prediction of another size than the true mask is brought to it by the nearest pixel, and
    `facts` counts it as resized. No prediction (None, an empty list) is an empty mask, counted as
    empty. Masks that are not [H, W] of 0 and 1 are errors: probabilities and logits (NaN among
    them) must be cut at a threshold first. So is a metric of no masks.

    Args:
        protocol: `rmsin`, `lisa` or `pixellm`.
        size: side in pixels at which all masks are compared, or `original`; None takes the
            protocol's.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self,
        protocol: str = "rmsin",
        *,
        size: int | Literal["original"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol not in RULES:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, RULES)}")
        if not (size in (None, "original") or (type(size) is int and size > 0)):
            raise UserError(f"size={size!r}: give a number of pixels, 'original' or None.")
        self.protocol = protocol
        self.rule = RULES[protocol]
        self.size = self.rule.size if size is None else None if size == "original" else (size, size)
        self._ious: dict[Id, list[float]] | None = None

    def update(
        self,
        predictions: Sequence[Any],
        truths: Sequence[Any],
        ids: Sequence[Id] | None = None,
        images: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            predictions: b masks [H, W] of bool or of 0 and 1, or None; under `pixellm` b lists of
                masks, or tensors [P, H, W].
            truths: b true masks, likewise; 255 leaves a pixel out under `lisa` and `pixellm`.
            ids: b positions or names; None counts, which several processes cannot.
            images: b names of the image that a question belongs to, for PixelLM's mean; None takes
                each question as an image of its own.

        Raises:
            UserError: lengths that differ, masks of another form, questions without a true mask
                where one is needed.
        """
        if not len(predictions) == len(truths) == len(images or truths):
            raise UserError(
                f"{len(predictions)} predictions, {len(truths)} truths and "
                f"{len(images or truths)} images: give one of each."
            )
        named = self.name_items(len(predictions), ids)
        groups = named if images is None else images
        self.keep(
            [id, group, *self._count(predicted, true, f"item {id!r}")]
            for id, group, predicted, true in zip(named, groups, predictions, truths, strict=True)
        )

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Afterwards `ious` is there.

        Raises:
            UserError: no masks, or one item with two predictions.
        """
        rows = self.items()
        counts: dict[Id, list[int]] = {}
        self._ious = {}
        for id, group, pairs, predicted, true, *_ in rows:
            self._ious[id] = [self._iou(*pair) for pair in pairs]
            held = counts.setdefault(group, [0, 0])
            held[0], held[1] = held[0] + predicted, held[1] + true
        masks = sum(max(pair) for pair in counts.values())
        if not masks:
            raise UserError("no item has a mask, predicted or true: there is nothing to measure.")
        values = torch.tensor([v for one in self._ious.values() for v in one], dtype=torch.float64)
        shared = sum(pair[0] for row in rows for pair in row[2])
        union = sum(pair[1] for row in rows for pair in row[2])
        side = "original" if self.size is None else f"{self.size[0]} px"
        self.note(
            [row[5] for row in rows],
            empty=sum(row[6] for row in rows),
            resized=sum(row[7] for row in rows),
            settings={} if self.size == self.rule.size else {"size": side},
        )
        mean, whole = self.rule.words
        found = {
            mean: values.sum() / (masks + self.rule.epsilon),
            whole: torch.tensor(shared / max(union, 1), dtype=torch.float64),
        }
        for percent in THRESHOLDS:
            found[f"p{percent}"] = (values >= percent / 100).sum() / masks
        return {word: 100 * value.double() for word, value in found.items()}

    @property
    def ious(self) -> dict[Id, list[float]]:
        """Id -> IoU (0 to 1) of each of its masks, of the last `compute`.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._ious is None:
            raise RuntimeError("ious are there after compute; call that first.")
        return dict(self._ious)

    def _iou(self, shared: int, union: int, matched: int) -> float:
        if not matched:
            return 0.0
        return shared / (union + self.rule.epsilon) if union else self.rule.empty

    def _count(self, predicted: Any, true: Any, what: str) -> list[Any]:
        """[pairs of (I, U, matched), predicted, true, digest of the truth, empty, resized]."""
        truths = self._masks(true, f"{what}, true mask", IGNORE if self.rule.ignore else 1)
        if truths is None:
            if not self.rule.several:
                raise UserError(f"{what} has no true mask.")
            truths = torch.zeros(0, 1, 1, dtype=torch.uint8)
        guesses = self._masks(predicted, what, 1)
        none = guesses is None
        if guesses is None:
            kept = 0 if self.rule.several else 1
            guesses = torch.zeros(kept, *truths.shape[1:], dtype=torch.uint8)
        digest = f"{zlib.crc32(truths.numpy().tobytes()):08x}.{tuple(truths.shape)}"
        height, width = (truths if len(truths) else guesses).shape[1:]
        target = self.size or (height, width)
        moved = not none and len(truths) > 0 and guesses.shape[1:] != truths.shape[1:]
        guesses, truths = resize(guesses, target), resize(truths, target)
        valid = truths != IGNORE if bool((truths == IGNORE).any()) else None
        found = overlap(guesses == 1, truths == 1, valid)
        if not self.rule.several:
            pairs = [[int(found.shared[0, 0]), int(found.union[0, 0]), 1]]
            return [pairs, 1, 1, digest, int(none), int(moved)]
        ious = (found.shared / found.union.clamp(min=1)).tolist()
        met = assign(ious)
        pairs = [[int(found.shared[i, j]), int(found.union[i, j]), 1] for i, j in met]
        alone = [found.predicted[i] for i in range(len(guesses)) if i not in {i for i, _ in met}]
        alone += [found.true[j] for j in range(len(truths)) if j not in {j for _, j in met}]
        pairs += [[0, int(area), 0] for area in alone]
        return [pairs, len(guesses), len(truths), digest, int(none), int(moved)]

    def _masks(self, given: Any, what: str, highest: int) -> Tensor | None:
        """[n, H, W] uint8 on the CPU; None where there is none."""
        if given is None or (isinstance(given, list | tuple) and not given):
            return None
        if isinstance(given, list | tuple) and self.rule.several:
            parts = [self._tensor(one, what) for one in given]
            if len({tuple(part.shape) for part in parts}) > 1:
                raise UserError(f"{what}: its masks have several sizes.")
            masks = torch.stack(parts)
        else:
            masks = self._tensor(given, what)
            masks = masks if self.rule.several else masks[None]
        if masks.ndim != 3 or not masks.shape[1] or not masks.shape[2]:
            form = "[n, H, W]" if self.rule.several else "[H, W]"
            raise UserError(f"{what}: a mask of form {tuple(masks.shape)} is not {form}.")
        kinds = torch.unique(masks).tolist()
        if any(kind not in (0, 1, highest) for kind in kinds):
            raise UserError(
                f"{what}: values {kinds[:4]} are no mask's; give bool or 0 and 1"
                + (" (255 leaves a pixel out)." if highest == IGNORE else ".")
            )
        return masks if len(masks) else None

    def _tensor(self, given: Any, what: str) -> Tensor:
        if not isinstance(given, Tensor | np.ndarray):
            raise UserError(f"{what} is a {type(given).__name__}, not a mask [H, W].")
        if isinstance(given, np.ndarray):
            given = np.array(given)  # one that may be written to, in rows
        mask = torch.as_tensor(given).detach().cpu()
        if mask.is_floating_point() or mask.is_complex():
            raise UserError(
                f"{what}: a mask of {mask.dtype} may hold scores; cut it at a threshold first "
                "(mask > 0.5, logits > 0)."
            )
        if mask.dtype != torch.bool and bool(((mask < 0) | (mask > IGNORE)).any()):
            raise UserError(f"{what}: values outside of 0 and 1 are no mask's.")
        return mask.to(torch.uint8).contiguous()
