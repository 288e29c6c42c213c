"""RemoteCount: which number in a caption fits its image best; see `metrics/remotecount.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.errors import UserError
from rsvlm.evaluation.base import ALONE, Evaluation, Measurement
from rsvlm.evaluation.clip import table_of
from rsvlm.metrics.intervals import means
from rsvlm.metrics.remotecount import NUMBERS, RemoteCount


class RemoteCountEvaluation(Evaluation):
    """An image's caption with each of ten numbers; the most similar one is the answer.

    Args:
        protocol: `remotecount` (words) or `remotecount_digits`.
        without_number: what becomes of an image none of whose captions has exactly one number
            from one to ten: `error`, as in the published set every one has; `skip` leaves it out,
            and the count of what is left stands beside each value.
        **shared: see `Evaluation`.
    """

    needs = "space"

    def __init__(
        self,
        *,
        protocol: Literal["remotecount", "remotecount_digits"] = "remotecount",
        without_number: Literal["error", "skip"] = "error",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if protocol not in ("remotecount", "remotecount_digits"):
            raise UserError(
                f"evaluation.protocol={protocol!r}: choose remotecount or remotecount_digits."
            )
        if without_number not in ("error", "skip"):
            raise UserError(f"evaluation.without_number={without_number!r}: choose error or skip.")
        self.protocol = protocol
        self.metric = RemoteCount(protocol, **ALONE)
        self.without_number = without_number

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Takes the model's tokenizer."""
        del dataset
        self.device, self.tokenize = device, model.tokenizer

    def nothing(self, facts: DatasetFacts) -> str:
        """What to tell of a data set without numbers."""
        return (
            "RemoteCount: no caption has exactly one number from one to ten (data set "
            f"{facts.name})."
        )

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
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
        rows = self.metric.scores(images, texts_of).cpu()
        best = rows.sort(dim=1, descending=True, stable=True).indices[:, 0].tolist()
        return [
            PredictionRecord(
                id, str(name), prediction=NUMBERS[predicted], scores=row, label=number - 1
            )
            for id, name, predicted, row, number in zip(
                batch.index.tolist(), batch.ids, best, rows.tolist(), numbers, strict=True
            )
            if number
        ]

    def _numbered(self, texts: list[str]) -> tuple[list[str], int | None, str]:
        """Ten captions and the number of the first text that has one; else why there is none."""
        why = "it has no caption."
        for text in texts:
            try:
                return *self.metric.prompts(text), ""
            except ValueError as error:
                why = str(error)
        return ["one"] * 10, None, why

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Accuracies within the best one to ten, in per cent, of images with a number."""
        del facts
        scores, labels = table_of(records, NUMBERS)
        self.metric.reset()
        self.metric.update(None, None, labels + 1, scores)
        values = {word: float(value) for word, value in self.metric.compute().items()}
        chance = self.metric.chance()
        about = {w: {"count": len(records), "unit": "%", "chance": chance[w]} for w in values}
        rank = (scores.sort(dim=1, descending=True, stable=True).indices == labels[:, None]).int()
        place = rank.argmax(1).numpy()
        columns = {f"top{k}": (place < k).astype(float) for k in range(1, 11)}
        return Measurement(values, about, [means([one.id for one in records], columns)])

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """The confusion matrix of the ten numbers."""
        from rsvlm.report import confusion_matrix

        del records
        title = f"{dataset.name}: numbers, per cent of each true one"
        matrix = self.metric.confusion_matrix.cpu().numpy()
        confusion_matrix(matrix, NUMBERS, folder / "confusion.png", title=title)
