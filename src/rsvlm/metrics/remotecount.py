"""RemoteCount: does an image's caption with the right number fit better than with another?

Liu et al., "RemoteCLIP", TGRS 2024, section IV: 947 image-text pairs of 13 classes; the number in
the caption is replaced by each of one to ten, and the most similar of the ten is the answer.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = re.compile(
    r"(?<![\w.,-])(" + "|".join(NUMBERS) + r"|10|[1-9])(?![\w-]|[.,]\d)", re.IGNORECASE
)


def count_prompts(caption: str, *, digits: bool = False) -> tuple[list[str], int]:
    """The caption with each number in the place of its own, and which one it had.

    Args:
        caption: a sentence with exactly one number from one to ten, as a word or in digits.
        digits: write `1` to `10` rather than `one` to `ten`.

    Returns:
        Ten captions, from one to ten, and the caption's own number.

    Raises:
        ValueError: no number, or several.
    """
    found = list(_NUMBER.finditer(caption))
    if len(found) != 1:
        what = "no number" if not found else f"{len(found)} numbers"
        raise ValueError(
            f"{what} from one to ten in {caption!r}: a RemoteCount caption has exactly one."
        )
    match = found[0]
    word = match.group().lower()
    number = NUMBERS.index(word) + 1 if word in NUMBERS else int(word)
    capital = match.group()[0].isupper()
    words = [str(n + 1) if digits else name for n, name in enumerate(NUMBERS)]
    if capital:
        words = [word.capitalize() for word in words]
    before, after = caption[: match.start()], caption[match.end() :]
    return [before + word + after for word in words], number


class RemoteCount(Metric):
    """Top-1 to top-10 accuracy in per cent, and the confusion matrix of the ten numbers.

    Formula: topk, the share of images whose true number's caption is among the k most similar of
    ten. Range: 0 to 100 per cent. Higher is better. Protocols: remotecount, remotecount_digits.
    Used in: RemoteCLIP's counting figure.

    Of equally similar captions the smaller number counts as the better.

    Args:
        protocol: `remotecount` (words) or `remotecount_digits`.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    ranks: Tensor

    def __init__(
        self,
        protocol: Literal["remotecount", "remotecount_digits"] = "remotecount",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol not in ("remotecount", "remotecount_digits"):
            raise ValueError(
                f"protocol {protocol!r} is unknown; choose remotecount or remotecount_digits."
            )
        self.protocol = protocol
        self._gathered: Tensor | None = None
        self.add_state("confusion", torch.zeros(10, 10, dtype=torch.long), "sum")
        self.add_state("ranks", torch.zeros(10, dtype=torch.long), "sum")

    def prompts(self, caption: str) -> tuple[list[str], int]:
        """See `count_prompts`, in this protocol's writing."""
        return count_prompts(caption, digits=self.protocol == "remotecount_digits")

    def update(
        self,
        image_features: Tensor | None,
        text_features: Tensor | None,
        numbers: Tensor,
        scores: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            image_features: [b, D], unit length.
            text_features: [b, 10, D], unit length, of each image's own ten captions.
            numbers: [b] long, 1 to 10, the true number.
            scores: [b, 10] cosines, in place of features.

        Raises:
            ValueError: other shapes, or a number outside.
        """
        if scores is None:
            if image_features is None or text_features is None:
                raise ValueError("give features of images and texts, or their scores.")
            scores = self.scores(image_features, text_features)
        if numbers.shape != (len(scores),):
            raise ValueError(f"numbers {tuple(numbers.shape)} must be [{len(scores)}].")
        outside = numbers[(numbers < 1) | (numbers > 10)]
        if len(outside):
            raise ValueError(f"number {int(outside[0])} is not among 1 to 10.")
        order = scores.sort(dim=1, descending=True, stable=True).indices
        true = numbers.long() - 1
        cells = torch.bincount(true * 10 + order[:, 0], minlength=100)
        self.confusion += cells.view(10, 10)
        self.ranks += torch.bincount((order == true[:, None]).int().argmax(1), minlength=10)

    @staticmethod
    def scores(image_features: Tensor, text_features: Tensor) -> Tensor:
        """[b, 10] cosines of each image and its own ten captions.

        Raises:
            ValueError: other shapes than `update`'s.
        """
        b, width = image_features.shape
        if text_features.shape != (b, 10, width):
            raise ValueError(
                f"text features {tuple(text_features.shape)} must be [{b}, 10, {width}]."
            )
        with torch.autocast(device_type=image_features.device.type, enabled=False):
            return (text_features.float() * image_features.float()[:, None]).sum(-1)

    def compute(self) -> dict[str, Tensor]:
        """`top1` to `top10`; afterwards `confusion_matrix` holds what all ranks saw."""
        seen = self.ranks.sum()
        if not int(seen):
            raise ValueError("no images were given: call update before compute.")
        self._gathered = self.confusion.clone()
        within = self.ranks.cumsum(0).double() / seen * 100
        return {f"top{k}": within[k - 1] for k in range(1, 11)}

    @property
    def confusion_matrix(self) -> Tensor:
        """[10, 10] counts of the last `compute`: row true number, column the answer.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._gathered is None:
            raise RuntimeError("confusion_matrix is there after compute; call that first.")
        return self._gathered

    def chance(self) -> dict[str, float]:
        """What a uniform guess is expected to score."""
        return {f"top{k}": 10.0 * k for k in range(1, 11)}
