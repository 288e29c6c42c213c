"""Readers and the rule of a division: what a table is asked for, and which images are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.datasets import sources
from rsvlm.data.datasets.base import FileDataset, listed
from rsvlm.data.datasets.splitting import SplitRule, divided, of_column, split_word
from rsvlm.data.datasets.tables import STAGES, Column
from rsvlm.errors import UserError


def rule_columns(rule: SplitRule, whole: bool) -> tuple[Column, ...]:
    """Columns that a table is asked for: those of the rule, and of one for all splits `split`."""
    named = {"lon": ("lon", "longitude", "lng"), "lat": ("lat", "latitude")}
    out = []
    for word in rule.columns:
        known = named.get(word, (word,))
        out.append(Column(word, known, () if word in named else (word,), "split_by="))
    return (*out, Column("split", ("split",), optional=True)) if whole else tuple(out)


def dividing(
    dataset: FileDataset,
    names: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    rule: SplitRule,
    what: str,
) -> list[int]:
    """The positions of the images of a data set's split, where its table is for all splits.

    The division is kept in `dataset.division`, and told in its problems.

    Args:
        dataset: whose split is served.
        names: of the images; one may stand there more than once.
        columns: what the table says of them.
        rule: how they are divided, unless the table itself says.
        what: what the table is called.

    Raises:
        UserError: see `divided`, or a split without an image.
    """
    named = columns.get("split") or ()
    if len(named) == len(names) and not rule.by and not rule.file:
        found = of_column(names, named, what)
    elif not rule.shares:
        return list(range(len(names)))
    else:
        first = {name: i for i, name in reversed(list(enumerate(names)))}
        order = list(dict.fromkeys(names))
        values = {word: [columns[word][first[name]] for name in order] for word in rule.columns}
        found = divided(order, rule, what, dataset.root, values)
    dataset.division = found.split_of
    dataset.problems += found.sentences
    if dataset.split == "all":
        return list(range(len(names)))
    word = found.holds(dataset.split, what)
    return [i for i, name in enumerate(names) if found.split_of.get(name) == word]


def apart(
    dataset: FileDataset,
    names: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    rule: SplitRule,
    read: Callable[[Path], tuple[list[str], dict[str, list[Any]]]],
) -> None:
    """Refuses images and groups of a split that the tables of other splits hold too.

    Raises:
        UserError: there are some.
    """
    mine = set(names) if rule.by in ("tile", "place") else set(map(str, columns[str(rule.by)]))
    for other in STAGES:
        source, _ = sources.find(dataset.root, other)
        if source is None or other == split_word(dataset.split):
            continue
        for table in source.tables:
            theirs, more = read(table)
            held = theirs if rule.by in ("tile", "place") else map(str, more[str(rule.by)])
            both = sorted(mine & set(held) | set(names) & set(theirs))
            if both:
                raise UserError(
                    f"{len(both)} image(s) or groups by {rule.by} are in {dataset.split} and in "
                    f"{other} too ({table}): {listed(both, 3)}. Keep each in one split, or let one "
                    "table without splits be divided."
                )
