"""Several data sets as one: RET-2, RET-3, Cap-4 and other unions that papers train on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from rsvlm.data.sample import Sample
from rsvlm.data.text_files import read_lines
from rsvlm.errors import UserError


class ConcatDataset(Dataset[Sample]):
    """One data set behind the other, less the samples that a list leaves out.

    Unions of remote-sensing sets leak: RSICD's training images are in RSITMD's test split and the
    other way round (RemoteCLIP issue 26). `exclude` takes the lists that papers publish, or one of
    your own: a text or CSV file whose first column is a file name.

    Args:
        parts: name → partial of a data set class, finished with `split`.
        split: `train`, `val`, `test`, as the parts know it.
        name: the union's word in metric names.
        exclude: part name → file with the ids to leave out of training.

    Raises:
        UserError: no parts, an unknown part in `exclude`, or a list that matches nothing.
    """

    classes: list[str] | None = None
    licence = "that of the parts"
    paper = ""
    homepage = ""

    def __init__(
        self,
        parts: dict[str, Callable[..., Any]],
        split: str = "train",
        *,
        name: str = "joined",
        exclude: dict[str, str | None] | None = None,
    ) -> None:
        if not parts:
            raise UserError("a joined data set needs parts: data.dataset.parts={name: reader}.")
        unknown = set(exclude or {}) - set(parts)
        if unknown:
            raise UserError(
                f"data.dataset.exclude names {', '.join(sorted(unknown))}; the parts are "
                f"{', '.join(parts)}."
            )
        self.name, self.split = name, split
        self.parts = {part: make(split=split) for part, make in parts.items()}
        self.published_counts: dict[str, int] = {}
        self.problems: list[str] = []
        self._kept: list[tuple[Any, Sequence[int]]] = []
        for part, dataset in self.parts.items():
            given = (exclude or {}).get(part) if split == "train" else None
            kept: Sequence[int] = range(len(dataset))
            if given is not None:
                kept = self._without(part, dataset, Path(given))
            self._kept.append((dataset, kept))
        self._ends = list(accumulate(len(kept) for _, kept in self._kept))
        self.entries = [dataset.entries[i] for dataset, kept in self._kept for i in kept]

    def _without(self, part: str, dataset: Any, file: Path) -> list[int]:
        if not file.is_file():
            raise UserError(f"data.dataset.exclude.{part}: there is no file {file}.")
        lines = read_lines(file)
        names = {Path(line.split(",")[0].strip().strip('"')).stem for line in lines if line.strip()}
        ids = [Path(str(entry.id)).stem for entry in dataset.entries]
        kept = [i for i, stem in enumerate(ids) if stem not in names]
        if len(kept) == len(ids):
            raise UserError(
                f"{file} leaves nothing out of {part}: its first column must hold file names such "
                f"as {ids[0]}."
            )
        self.problems.append(f"{part}: {len(ids) - len(kept)} samples left out by {file.name}")
        return kept

    def __len__(self) -> int:
        return self._ends[-1]

    def _place(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        dataset, kept = self._kept[part]
        return dataset, kept[index - (self._ends[part - 1] if part else 0)]

    def __getitem__(self, index: int) -> Sample:
        dataset, place = self._place(index)
        # A label is a class of one part's list and means nothing in the union.
        return replace(dataset[place], label=None)
