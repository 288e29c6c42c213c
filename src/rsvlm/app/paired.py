"""Differences of two runs on the images that both have, with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.app.measure import outcomes
from rsvlm.errors import UserError
from rsvlm.evaluation.records import Outcome
from rsvlm.metrics.intervals import paired
from rsvlm.metrics.names import parse

Row = dict[str, Any]
#: (data set, split, protocol) -> what a run's predictions give.
Held = dict[tuple[str, str, str], Outcome]


def paired_rows(
    first: Path, second: Path, *, times: int = 1000, seed: int = 0, own: Path | None = None
) -> list[Row]:
    """One row for each metric that both runs have, see `metrics.intervals.paired`.

    Args:
        first: a run's folder.
        second: another one's.
        times: bootstrap samples.
        seed: of their draws.
        own: the user's own folder of configurations.

    Raises:
        UserError: no predictions, nothing in common, or another truth for the same image.
    """
    names = (str(first), str(second))
    return paired_rows_of(held_of(first, own), held_of(second, own), names, times=times, seed=seed)


def held_of(run: Path, own: Path | None = None) -> Held:
    """What a run's predictions give, by data set, split and protocol.

    Raises:
        UserError: no predictions, or such as cannot be measured.
    """
    _, _, found = outcomes(run, own, bootstrap=0)
    return {_key(one.rows): one for one in found}


def paired_rows_of(
    first: Held, second: Held, names: tuple[str, str], *, times: int = 1000, seed: int = 0
) -> list[Row]:
    """As `paired_rows`, of runs that are measured already.

    Args:
        first: of `held_of`.
        second: likewise.
        names: of both, for errors.
        times: bootstrap samples.
        seed: of their draws.

    Raises:
        UserError: nothing in common, or another truth for the same image.
    """
    shared = [key for key in first if key in second]
    if not shared:
        known = ["; ".join(" ".join(key) for key in one) for one in (first, second)]
        raise UserError(
            f"nothing to compare: {names[0]} measured {known[0]} and {names[1]} {known[1]}. Runs "
            "are compared on the same data set and split, under the same protocol."
        )
    rows: list[Row] = []
    for key in shared:
        a, b = first[key], second[key]
        same_truths(a.records, b.records, *names)
        words, images = paired(a.measured.statistics, b.measured.statistics, times=times, seed=seed)
        both = {row["name"] for row in a.rows} & {row["name"] for row in b.rows}
        for name in (row["name"] for row in a.rows if row["name"] in both):
            word = parse(name).metric
            if word in words:
                bounds = {"level": 95, "bootstrap": times, "seed": seed, "images": images}
                rows.append({"name": name, **words[word], **bounds})
    return rows


def _key(rows: list[Row]) -> tuple[str, str, str]:
    first = rows[0]
    return str(first["dataset"]), str(first["split"]), str(first["protocol"])


def same_truths(first: Any, second: Any, a: str, b: str) -> None:
    """Holds the truths of two runs' records against each other.

    Raises:
        UserError: an item that both have, with another truth.
    """
    fields = ("answer", "references", "label", "true_boxes", "true_masks")
    known = {one.id: one for one in first}
    for other in second:
        one = known.get(other.id)
        if one is None:
            continue
        for name in fields:
            if getattr(one, name) != getattr(other, name):
                raise UserError(
                    f"id {one.id!r} has another truth ({name}) in {a} than in {b}: the two runs "
                    "rest on different data, and their difference would mean nothing."
                )
