"""All samples of a data set but those that a list names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rsvlm.data.inspection.faults import read_exclusions
from rsvlm.data.loading.wrappers import ChosenSamples
from rsvlm.data.protocols import attributes_of
from rsvlm.errors import UserError

log = logging.getLogger(__name__)


def without(dataset: Any, split: str, path: str | Path) -> Any:
    """The data set without the samples that a list names of its split.

    Args:
        dataset: has `entries`.
        split: of the data set.
        path: of the list, see `data.inspection.faults.write_exclusions`.

    Raises:
        UserError: the list cannot be read, names none of the split's samples, or names all; the
            data set's samples have no ids before they are read.
    """
    named = read_exclusions(path).get(split, set())
    if not named:
        log.info("%s names no sample of split %s.", path, split)
        return dataset
    entries = attributes_of(dataset).entries
    if entries is None:
        raise UserError(
            f"data.exclude={path}: samples of {dataset.name} have no ids before they are read, so "
            "none can be left out: leave data.exclude= away, or take the files of its sources."
        )
    kept = [i for i, entry in enumerate(entries) if str(entry.id) not in named]
    found = len(entries) - len(kept)
    if not found or not kept:
        first = str(entries[0].id) if len(entries) else "none"
        raise UserError(
            f"data.exclude={path} names {len(named)} samples of split {split}, which are "
            f"{'none' if not found else 'all'} of {dataset.name}'s {len(entries)} (whose first is "
            f"{first!r}): was it written for another data set?"
        )
    unknown = f", and {len(named) - found} that it has not" if found < len(named) else ""
    log.info("%s, split %s: %d samples left out%s.", dataset.name, split, found, unknown)
    return ChosenSamples(dataset, kept)
