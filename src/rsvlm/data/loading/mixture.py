"""Data sets of different kinds as one, in stated shares: a function of (seed, epoch, index)."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from rsvlm.data.protocols import attributes_of
from rsvlm.data.sample import Sample
from rsvlm.errors import UserError, near

log = logging.getLogger(__name__)


class Mixture(Dataset[Sample]):
    """Several sources, each with its share of an epoch.

    An epoch has `length` places; every source gets its share of them, to the sample. A source goes
    on in the next epoch where it stopped, in an order of its own that changes with each pass: all
    of it is seen once before any of it is seen twice. So neither workers, ranks nor a restart in
    the middle of an epoch change what place i of epoch e shows. `data.order=shuffled` spreads the
    sources over an epoch; `data.order=grouped` gives each batch one source (MiniGPT-v2's way)
    and leaves out the places that fill no batch.

    Splits other than `mixed` hold all of every source, one behind the other.

    Samples keep their `meta["dataset"]` and get `meta["source"]`, the part's word; a class label
    means nothing beyond its part and is left out.

    Args:
        parts: word → partial of a data set class, finished with `split=`.
        split: `train`, `val`, `test`, as the parts know it.
        weights: word → share, in any unit (RSVQA-HR's 65 % of SkyEye-968k is one to lower). By
            default a part weighs as many samples as it has.
        temperature: shares are weights to the power of 1 / temperature: 1 leaves them, a large one
            makes them equal.
        length: places of an epoch; by default as many as the parts have samples.
        stages: shares that change with time: `[{epochs: 2, weights: {...}}, {weights: {...}}]`,
            each with `weights` and maybe `temperature`; the last one has no end. A weight of 0
            leaves a part out of a stage.
        splits: word → the split to open instead, for parts that name theirs otherwise: one for
            all, or a mapping {train: …, test: …}.
        mixed: the splits that are mixed.
        name: the mixture's word in metric names.
        seed: seed of the parts' orders.

    Raises:
        UserError: no parts, an empty part, unknown words in weights, shares that are not positive,
            or stages without an end before the last.
    """

    classes: list[str] | None = None
    licence = "that of the parts"
    paper = ""
    homepage = ""

    def __init__(
        self,
        parts: Mapping[str, Callable[..., Any]],
        split: str = "train",
        *,
        weights: Mapping[str, float] | None = None,
        temperature: float = 1.0,
        length: int | None = None,
        stages: Sequence[Mapping[str, Any]] | None = None,
        splits: Mapping[str, str | Mapping[str, str]] | None = None,
        mixed: Sequence[str] = ("train",),
        name: str = "mixture",
        seed: int = 0,
    ) -> None:
        if not parts:
            raise UserError("a mixture needs parts: data.dataset.parts={word: reader}.")
        if stages and (weights or temperature != 1.0):
            raise UserError("give weights= and temperature=, or stages= that hold them; not both.")
        _known("splits", splits or {}, parts)
        self.name, self.split, self.seed = name, split, seed
        opened = {word: (splits or {}).get(word, split) for word in parts}
        self.parts = {
            word: make(split=own if isinstance(own, str) else own.get(split, split))
            for (word, make), own in zip(parts.items(), opened.values(), strict=True)
        }
        self.sizes = {word: len(part) for word, part in self.parts.items()}
        self.published_counts: dict[str, int] = {}
        self.problems = [
            f"{word}: {problem}"
            for word, part in self.parts.items()
            for problem in attributes_of(part).problems
        ]
        self.training = split in mixed
        total = sum(self.sizes.values())
        self.length = total if not self.training or length is None else int(length)
        empty = [word for word, size in self.sizes.items() if not size]
        if self.training and empty:
            raise UserError(f"parts without samples cannot be mixed: {', '.join(empty)}.")
        if self.length < 1:
            raise UserError(f"length={length}: a mixture has at least one place.")
        given = stages or [{"weights": weights, "temperature": temperature}]
        self.stages: list[tuple[int | None, tuple[int, ...]]] = []
        if self.training:
            for i, stage in enumerate(given):
                self.stages.append(self._stage(stage, last=i == len(given) - 1))
            log.info("%s", self.table())
        else:
            self.stages = [(None, tuple(self.sizes.values()))]

    def _stage(self, stage: Mapping[str, Any], last: bool) -> tuple[int | None, tuple[int, ...]]:
        unknown = set(stage) - {"epochs", "weights", "temperature"}
        if unknown:
            raise UserError(
                f"a stage holds epochs, weights and temperature, not {', '.join(sorted(unknown))}."
            )
        epochs = stage.get("epochs")
        if not last and (epochs is None or int(epochs) < 1):
            raise UserError("every stage but the last needs epochs=, at least 1.")
        weights = stage.get("weights")
        _known("weights", weights or {}, self.parts)
        temperature = float(stage.get("temperature") or 1.0)
        if temperature <= 0:
            raise UserError(f"temperature={temperature} must be greater than 0.")
        # With weights given, a part that is not named has none.
        raw = self.sizes if not weights else {word: weights.get(word, 0) for word in self.parts}
        values = np.array([float(raw[word]) for word in self.parts])
        if not np.isfinite(values).all() or (values < 0).any() or not values.sum():
            raise UserError(f"weights={dict(raw)}: shares are at least 0, and one is more.")
        shares = np.where(values > 0, values ** (1 / temperature), 0.0)
        quota = _apportioned(self.length, shares / shares.sum())
        end = None if last or epochs is None else int(epochs)
        return end, tuple(int(q) for q in quota)

    # What is where ------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.length

    def quota(self, epoch: int) -> dict[str, int]:
        """The places of each part in an epoch."""
        return dict(zip(self.parts, self._quota(epoch), strict=True))

    def _quota(self, epoch: int) -> tuple[int, ...]:
        for epochs, quota in self.stages:
            if epochs is None or epoch < epochs:
                return quota
            epoch -= epochs
        return self.stages[-1][1]

    def _before(self, epoch: int) -> list[int]:
        """How many samples of each part were shown in the epochs before."""
        shown = [0] * len(self.parts)
        for epochs, quota in self.stages:
            held = epoch if epochs is None else min(epochs, epoch)
            shown = [s + held * q for s, q in zip(shown, quota, strict=True)]
            epoch -= held
        return shown

    @property
    def source_sizes(self) -> list[int]:
        """The places of each part in an epoch, for `data.order=grouped`.

        Raises:
            UserError: there are several stages, whose epochs have different places.
        """
        if len(self.stages) > 1:
            raise UserError("data.order=grouped takes a mixture of one stage; use shuffled.")
        return list(self.stages[0][1])

    def place(self, epoch: int, index: int) -> tuple[str, int]:
        """The part and the position within it that place `index` of an epoch shows.

        Raises:
            IndexError: there is no such place.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        quota = self._quota(epoch)
        ends = list(accumulate(quota))
        part = bisect_right(ends, index)
        word = list(self.parts)[part]
        within = index - (ends[part - 1] if part else 0)
        if not self.training:
            return word, within
        turn, step = divmod(self._before(epoch)[part] + within, self.sizes[word])
        return word, int(_pass(self.seed, part, turn, self.sizes[word])[step])

    def at(self, epoch: int, index: int) -> Sample:
        """The sample of a place in an epoch; a `TransformedDataset` asks for it so."""
        word, position = self.place(epoch, index)
        sample = self.parts[word][position]
        return replace(sample, label=None, meta=sample.meta | {"source": word})

    def __getitem__(self, index: int) -> Sample:
        return self.at(0, index)

    # What was shown -----------------------------------------------------------------------

    def counts(
        self, epoch: int, indices: Sequence[int] | np.ndarray | None = None
    ) -> dict[str, int]:
        """Samples of each part among places of an epoch; of all by default."""
        quota = self._quota(epoch)
        if indices is None:
            return dict(zip(self.parts, quota, strict=True))
        found = np.searchsorted(np.cumsum(quota), np.asarray(indices), side="right")
        return dict(zip(self.parts, np.bincount(found, minlength=len(quota)).tolist(), strict=True))

    def table(self) -> str:
        """Sizes, shares and passes over each part, one line each."""
        lines = [f"{self.name}: {self.length} places an epoch"]
        for i, (epochs, quota) in enumerate(self.stages):
            if len(self.stages) > 1:
                span = f"{epochs} epochs" if epochs is not None else "to the end"
                lines.append(f"  stage {i + 1}, {span}")
            for (word, size), count in zip(self.sizes.items(), quota, strict=True):
                lines.append(
                    f"  {word:<24} {size:>9} samples  {count / self.length:6.1%} of an epoch  "
                    f"{count / size:8.2f} passes"
                )
        return "\n".join(lines)


@lru_cache(maxsize=64)
def _pass(seed: int, part: int, turn: int, size: int) -> np.ndarray:
    """The order of a part in one pass over it."""
    draw = np.random.default_rng(np.random.SeedSequence((seed, turn, part, 3)))
    return draw.permutation(size)


def _apportioned(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `total`, nearest to the shares (largest remainders first)."""
    exact = shares * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[rest] += 1
    return whole


def _known(what: str, given: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    for word in given:
        if word not in parts:
            raise UserError(f"{what} names {word!r}, which is no part. {near(word, parts)}")
