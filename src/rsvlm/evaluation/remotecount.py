"""RemoteCount: which number in a caption fits its image best; see `metrics/remotecount.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation
from rsvlm.metrics.remotecount import NUMBERS, RemoteCount


class RemoteCountEvaluation(Evaluation):
    """An image's caption with each of ten numbers; the most similar one is the answer.

    Args:
        protocol: `remotecount` (words) or `remotecount_digits`.
        without_number: what becomes of an image none of whose captions has exactly one number
            from one to ten: `error`, as in the published set every one has; `skip` leaves it out,
            and the count of what is left stands beside each value.
    """

    def __init__(
        self,
        *,
        protocol: Literal["remotecount", "remotecount_digits"] = "remotecount",
        without_number: Literal["error", "skip"] = "error",
    ) -> None:
        if protocol not in ("remotecount", "remotecount_digits"):
            raise UserError(
                f"evaluation.protocol={protocol!r}: choose remotecount or remotecount_digits."
            )
        if without_number not in ("error", "skip"):
            raise UserError(f"evaluation.without_number={without_number!r}: choose error or skip.")
        self.protocol = protocol
        self.metric = RemoteCount(protocol)
        self.without_number = without_number

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric."""
        del dataset
        self.metric.to(device).reset()
        self.device, self.tokenize = device, model.tokenizer

    def update(self, model: Any, batch: Any) -> None:
        """Encodes a batch of images, and ten captions of each."""
        captions: list[list[str]] = [[] for _ in range(len(batch))]
        for text, row in zip(batch.texts, batch.image_of_text.tolist(), strict=True):
            captions[row].append(text)
        prompts: list[str] = []
        numbers: list[int] = []
        for row, texts in enumerate(captions):
            found, number, why = self._numbered(texts)
            if number is None and self.without_number == "error":
                raise UserError(
                    f"{batch.ids[row]}: {why} evaluation.without_number=skip leaves such images "
                    "out."
                )
            # A sharded model runs on all ranks or not at all: what is left out is encoded, too.
            prompts += found
            numbers.append(number or 0)
        images = model.encode_image(batch.images, normalize=True)
        ids = self.tokenize(prompts).to(self.device)
        texts_of = model.encode_text(ids, normalize=True).unflatten(0, (len(batch), 10))
        true = torch.tensor(numbers, device=self.device)
        kept = true > 0
        if bool(kept.any()):
            self.metric.update(images[kept], texts_of[kept], true[kept])

    def _numbered(self, texts: list[str]) -> tuple[list[str], int | None, str]:
        """Ten captions and the number of the first text that has one; else why there is none."""
        why = "it has no caption."
        for text in texts:
            try:
                return *self.metric.prompts(text), ""
            except ValueError as error:
                why = str(error)
        return ["one"] * 10, None, why

    def compute(self) -> dict[str, Any]:
        """Accuracies within the best one to ten, in per cent.

        Raises:
            UserError: no caption had a number.
        """
        try:
            values = self.metric.compute()
        except ValueError as error:
            raise UserError(
                "RemoteCount: no caption has exactly one number from one to ten."
            ) from error
        self._count = int(self.metric.confusion_matrix.sum())
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count of images with a number, unit and chance level."""
        return {"count": self._count, "unit": "%", "chance": self.metric.chance()[word]}

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """The confusion matrix of the ten numbers."""
        from rsvlm.report import confusion_matrix

        del model, preprocess
        title = f"{dataset.name}: numbers, per cent of each true one"
        matrix = self.metric.confusion_matrix.cpu().numpy()
        confusion_matrix(matrix, NUMBERS, folder / "confusion.png", title=title)
