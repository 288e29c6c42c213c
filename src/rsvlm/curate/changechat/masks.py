"""What a mask of change shows, and what else is said of the pair that contradicts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.data.datasets.change_rules import LEAST, cells, regions
from rsvlm.data.images import BrokenImage
from rsvlm.data.palette import read_greys
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.errors import UserError

#: What a mask's classes may be called; ChangeChat's answers speak of the first two.
THINGS = ("road", "building", "region")
#: LEVIR-MCI's grey values; LEVIR-CD's masks of buildings are read by them too.
CLASSES = {128: "road", 255: "building"}


@dataclass
class ReadMask:
    """Counts the changed regions of each class and names their cells of a 3 x 3 grid.

    Adds `facts`, class → {count, cells}: a region is an 8-connected component of more than `least`
    pixels of its class, and a cell is named if more than `least` pixels of regions lie in it
    (`data/datasets/change_rules.py`; Change-Agent's code counts so, ChangeChat's is not published).

    Dropped: `broken_mask` (it cannot be read), `mask_values` (it has others than `classes`),
    `mask_size` (another one than a picture's), `broken_image` (a picture has no size).

    Args:
        classes: grey value → `road` or `building`, or `region` for a mask that does not say what
            has changed; 0 is no change. None takes LEVIR-MCI's, `CLASSES`.
        least: components of so many pixels or fewer are specks.

    Raises:
        UserError: a class of another name, or `region` beside others.
    """

    classes: Mapping[Any, str] | None = None
    least: int = LEAST

    name = "mask_statistics"
    version = "1"

    def __post_init__(self) -> None:
        # Keys of a configuration's mapping may be texts.
        given = CLASSES if self.classes is None else self.classes
        self.classes = {int(grey): str(word) for grey, word in given.items()}
        words = set(self.classes.values())
        if not words or not words <= set(THINGS) or ("region" in words and len(words) > 1):
            raise UserError(
                f"classes={dict(self.classes)}: grey values stand for road and building, as "
                "{128: road, 255: building}, or all for region, as {1: region}."
            )
        if 0 in self.classes:
            raise UserError("classes= has 0, which is no change in every mask.")

    def __call__(self, record: Record) -> Outcome:
        """Adds the facts of a pair's mask."""
        assert self.classes is not None
        words = [word for word in THINGS if word in self.classes.values()]
        known = {0: 0} | {grey: 1 + words.index(word) for grey, word in self.classes.items()}
        try:
            mask = read_greys(record["mask"], known)
        except BrokenImage as error:
            reason = "mask_values" if "another value" in error.reason else "broken_mask"
            return Dropped(reason, str(error))
        high, wide = mask.shape
        for picture in (record["before"], record["after"]):
            try:
                with Image.open(picture) as image:
                    size = image.size
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                return Dropped("broken_image", f"{picture}: {error}")
            if size != (wide, high):
                return Dropped(
                    "mask_size", f"the mask is {wide} x {high}, {picture} {size[0]} x {size[1]}"
                )
        facts = {}
        for number, word in enumerate(words, start=1):
            found = regions(mask == number, self.least)
            facts[word] = {"count": int(found.max(initial=0)), "cells": cells(found, self.least)}
        return record | {"facts": facts, "size": [high, wide]}


def changed(record: Record) -> bool:
    """Whether the mask of a pair shows a change."""
    return any(fact["count"] for fact in record["facts"].values())


@dataclass
class FindContradictions:
    """Finds pairs whose mask, flag and captions do not agree; LEVIR-MCI has hundreds of them.

    Adds `contradictions`, words of:

    - `flag_without_mask`: the flag says change, the mask shows none. It may lie in what the masks
      have no class for, such as plants and water.
    - `mask_without_flag`: the mask shows change, the flag says none.
    - `captions_against_flag`: all captions say that nothing has changed and the flag says change,
      or some describe one and it says none.
    - `captions_against_mask`: the same with the mask, where there is no flag.
    - `captions_disagree`: some say that nothing has changed, and others describe a change.

    Args:
        drop: leave such pairs out: dropped as `contradiction`. Otherwise they are kept, and listed
            by the writer.
        no_change: captions that say that nothing has changed; by default LEVIR-CC's.
    """

    drop: bool = False
    no_change: list[str] = field(default_factory=lambda: sorted(NO_CHANGE["levir_cc"]))

    name = "contradiction_filter"
    version = "1"

    def __call__(self, record: Record) -> Outcome:
        """Adds what contradicts what, or drops the pair for it."""
        found = self.contradictions(record)
        if found and self.drop:
            return Dropped("contradiction", ", ".join(found))
        return record | {"contradictions": found}

    def contradictions(self, record: Record) -> list[str]:
        """The words of a pair; see above."""
        flag, mask = record["changeflag"], changed(record)
        known = {_plain(text) for text in self.no_change}
        same = [_plain(text) in known for text in record["captions"]]
        found = []
        if flag is not None and bool(flag) != mask:
            found.append("flag_without_mask" if flag else "mask_without_flag")
        if same:
            told = not all(same)
            if flag is not None and bool(flag) != told:
                found.append("captions_against_flag")
            if flag is None and mask != told:
                found.append("captions_against_mask")
            if told and any(same):
                found.append("captions_disagree")
        return found


def _plain(text: str) -> str:
    return " ".join(text.rstrip(" .").lower().split())
