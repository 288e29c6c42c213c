"""The test of a run that keeps its predictions in files: what is asked, kept and measured."""

from __future__ import annotations

from typing import Any

from rsvlm.data.prediction_files import PartWriter, Predictions
from rsvlm.data.prediction_records import Header
from rsvlm.errors import UserError
from rsvlm.evaluation.records import Outcome, Place, measure_place
from rsvlm.lit.stand_in import stand_in


class Recording:
    """Wires one split's files of predictions into a trainer's test.

    Args:
        place: where the predictions of the split lie.
        anew: whether predictions of other weights are removed.
    """

    def __init__(self, place: Place, *, anew: bool = False) -> None:
        self.place, self.anew = place, anew
        self.outcome: Outcome | None = None
        self._writer: PartWriter | None = None
        self._spare = False

    def setup(self, trainer: Any) -> None:
        """Finds out what is there already, on the first rank alone, for all of them.

        Other ranks must not read while one of them appends.
        """
        told: list[Any] = [None, None]
        if trainer.is_global_zero:
            try:
                found = self._held()
                told = [sorted(found.done), None] if found is not None else [[], None]
            except (ValueError, OSError) as error:
                told = [None, error]
        done, failed = trainer.strategy.broadcast(told)
        if failed is not None:
            raise failed
        trainer.datamodule.leave_out(frozenset(done))
        left = len(trainer.datamodule.dataset("test")) - len(done)
        # Fewer samples than ranks: the others ask about one of these too, so that a sharded model
        # runs on all ranks, and keep nothing.
        self._spare = 0 < left <= trainer.global_rank

    def _held(self) -> Predictions | None:
        try:
            return self.place.held()
        except UserError:
            if not self.anew:
                raise
            self.place.clear()
            return None

    def start(self, task: Any) -> None:
        """Opens this rank's part; after the evaluation has started."""
        evaluation, trainer = task.evaluation, task.trainer
        evaluation.known.split = str(trainer.datamodule.splits["test"])
        header = Header(evaluation.protocol, evaluation.known, self.place.fingerprint)
        self._writer = PartWriter(self.place.parts, trainer.global_rank, header)
        evaluation.writer = self._writer

    def update(self, task: Any, batch: Any, number: int) -> None:
        """Asks about a batch and keeps what was answered, whole or not at all."""
        assert self._writer is not None
        samples = task.trainer.datamodule.samples_of("test", number)
        other = stand_in(task, batch)
        if other is not None:
            task.evaluation.rehearse(task.model, other)
        elif self._spare and len(batch):
            task.evaluation.rehearse(task.model, batch)
        if self._spare:
            return
        if len(batch):
            task.evaluation.update(task.model, batch, samples)
        else:
            self._writer.append([], samples, list(batch.skipped))

    def finish(self, task: Any) -> list[dict[str, Any]]:
        """Rows of metrics.json, from the files of all ranks; the first one measures for all.

        Raises:
            UserError: records that cannot be measured.
        """
        self.close(task)
        trainer = task.trainer
        trainer.strategy.barrier("predictions")
        told: list[Any] = [None, None]
        if trainer.is_global_zero:
            try:
                self.outcome = measure_place(task.evaluation, self.place, unfinished=True)
                told[0] = self.outcome.rows
            except (ValueError, RuntimeError, LookupError, OSError) as error:
                told[1] = error  # for all ranks, or the others would wait for good
        rows, failed = trainer.strategy.broadcast(told)
        if failed is not None:
            raise failed
        return list(rows)

    def close(self, task: Any) -> None:
        """Ends this rank's part; what was written stays."""
        task.evaluation.writer = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
