"""Training, validation and test hold different samples, or that is an error."""

from __future__ import annotations

from typing import Any

from rsvlm.data.datasets.base import listed
from rsvlm.data.protocols import Sharded, attributes_of
from rsvlm.errors import UserError

#: Samples of both stages above which they are not compared: published splits of that size are
#: files of their own, and their names take seconds and gigabytes. So are shards, whose names are
#: read sample by sample.
_MOST = 100_000


def check_apart(train: Any, other: Any, stage: str) -> None:
    """Holds the samples of a stage against those of training.

    A sample is the same where its name and its files are: sets whose splits share pictures, with
    other questions or objects on them, pass.

    Args:
        train: the training data.
        other: the data of another stage.
        stage: `val` or `test`.

    Raises:
        UserError: some are in both.
    """
    mine, theirs = (attributes_of(data).entries for data in (train, other))
    if mine is None or theirs is None or isinstance(train, Sharded):
        return
    if len(mine) + len(theirs) > _MOST:
        return
    known = {_key(entry) for entry in mine}
    both = [entry.id for entry in theirs if _key(entry) in known]
    if both:
        raise UserError(
            f"{len(both)} of {len(theirs)} samples of {stage} ({other.name}, split {other.split}) "
            f"are in training too (split {train.split}): {listed(both, 3)}. What is measured on "
            f"them says nothing. Choose other splits (data.splits.{stage}=; null for none), or say "
            "that it is meant: data.shared=allow."
        )


def _key(entry: Any) -> tuple[str, ...]:
    return str(entry.id), *map(str, getattr(entry, "paths", ()))
