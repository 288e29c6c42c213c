"""What goes through a pipeline, and what a stage must give.

A **record** is a plain dict. `id` is a text that no other record has; all else is the pipeline's:
texts, numbers, lists and dicts of these, `bytes` (an encoded picture stands under `image`) and
NumPy arrays (a vector under `embedding`). Nothing else, for records are kept in files between
stages, and go to other processes.

There are three kinds of stage, told apart by what they have:

- `Stage`: a pure function of one record: a record, a list of records (ids of their own), or
  `Dropped`. It may change the dict that it was given.
- `BatchStage`: the same for models and servers, several records at a time; `setup` loads the
  model, once in each worker, and the constructor loads nothing (it runs where no weights are).
- `Barrier`: needs all records before one can go on (de-duplication, ranking). It sees a small key
  of each, and says of each what to add to it, or `Dropped`.

The randomness of a stage comes from `rng(seed, record["id"])`, never from a generator of its own:
then parts may be made in any order, twice, or on another machine.

A stage is built from numbers, texts and other objects of the configuration, and pickled once a
worker. `name` is what Data-Juicer or NeMo Curator call it, `version` changes when its result does:
both are in the manifest, and a folder of another version is not gone on with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that goes no further.

    Attributes:
        reason: one of few words, which is counted ("image_bomb").
        detail: of this record, for its line in the list of what was dropped.
    """

    reason: str
    detail: str = ""


Outcome = Record | list[Record] | Dropped


@runtime_checkable
class Stage(Protocol):
    """A function of one record."""

    name: str
    version: str

    def __call__(self, record: Record) -> Outcome:
        """What becomes of a record."""


@runtime_checkable
class BatchStage(Protocol):
    """A function of several records, whose model is loaded once in each worker.

    Attributes:
        batch_size: most records that `process` is given.
    """

    name: str
    version: str
    batch_size: int

    def setup(self) -> None:
        """Loads what `process` needs; called once in each worker, before the first batch."""

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """What becomes of each record, in their order."""


@runtime_checkable
class Barrier(Protocol):
    """A decision over all records."""

    name: str
    version: str

    def key(self, record: Record) -> Any:
        """What `decide` needs of a record: as small as can be, all keys are in memory at once."""

    def decide(self, ids: Sequence[str], keys: Any) -> Sequence[Mapping[str, Any] | Dropped]:
        """Of each record what is added to it (often nothing, `{}`), or why it is dropped.

        Args:
            ids: [N] of all records, in their order.
            keys: a list of N; an array [N, ...] where each key is one.
        """


AnyStage = Stage | BatchStage | Barrier


@runtime_checkable
class Source(Protocol):
    """Where records come from, in the same order each time.

    Attributes:
        name: of the kind of source.
        version: changes when the records do.
    """

    name: str
    version: str

    def fingerprint(self) -> str:
        """A hash of the input: another one is another run."""

    def __iter__(self) -> Iterator[Record]:
        """The records, read as they are asked for."""


@runtime_checkable
class Writer(Protocol):
    """What is made of the records that came through, in the layout of the data set's reader."""

    name: str
    version: str

    def write(self, records: Iterator[Record], out: Path) -> Mapping[str, Any]:
        """Writes files into a folder, each by `files.written_whole`; gives facts for the manifest.

        It may be called again after a process was killed, and then writes the same files.
        """


def rng(seed: int, *words: str) -> np.random.Generator:
    """A generator that hangs on a seed and texts alone, as a record's id and a stage's name."""
    text = "\x1f".join((str(seed), *words))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
