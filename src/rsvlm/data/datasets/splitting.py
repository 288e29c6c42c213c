"""Division of one's own data into splits by rule: by image, by group, or by place.

Neighbouring tiles show the same ground, roads and seasons: divided at random they lie in training
and test, and what is measured flatters. So images are divided by a column that says what belongs
together, or by cells of the ground, between which training may keep a margin.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rsvlm.data.datasets.base import listed
from rsvlm.data.datasets.tables import STAGES
from rsvlm.data.folders import check_names
from rsvlm.errors import UserError
from rsvlm.files import write_text

#: The last two numbers of a tile's name: row and column, `paris_003_017.tif`.
_TILE = re.compile(r"(\d+)[^\d]+(\d+)(?=\D*$)")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How data that nobody divided is divided.

    Attributes:
        shares: split → share of the images; None divides nothing.
        seed: of the hash that orders images, groups or cells.
        by: None for images, the name of a column for groups, `place` for cells of `lon` and `lat`
            (columns), or `tile` for cells of the two last numbers of a file's name.
        cell: side of a cell: degrees, or tiles.
        margin: training leaves out what lies so near to validation or test, in the same unit.
        file: where the division is written, and read from where it is there already, relative to
            the data's folder: a table of image and split.
    """

    shares: Mapping[str, float] | None = None
    seed: int = 0
    by: str | None = None
    cell: float | None = None
    margin: float = 0.0
    file: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a table that the rule needs."""
        if self.by is None or self.by == "tile":
            return ()
        return ("lon", "lat") if self.by == "place" else (self.by,)


@dataclass(slots=True)
class Division:
    """What became of a rule.

    Attributes:
        split_of: image → split; images that a margin leaves out have none.
        sentences: what was done, and what a user should know.
    """

    split_of: dict[str, str]
    sentences: list[str] = field(default_factory=list)

    def holds(self, split: str, what: str) -> str:
        """The word by which this division calls a split.

        Raises:
            UserError: no image is in it.
        """
        word, counts = split_word(split), Counter(self.split_of.values())
        if counts[word]:
            return word
        known = ", ".join(f"{name} ({count})" for name, count in counts.items())
        advice = ""
        if word in ("val", "test"):
            advice = f" Leave it out (data.splits.{word}=null), or name another for it."
        raise UserError(f"{what}: there is no split {split!r}; there is {known}.{advice}")

    def write(self, path: Path) -> None:
        """Writes it as a table of image and split."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("image", "split"))
        rows.writerows(self.split_of.items())
        write_text(path, text.getvalue())


def split_word(word: object) -> str:
    """The word of a split, whichever of its words a table uses."""
    text = str(word).strip().lower()
    return next((split for split, words in STAGES.items() if text in words), str(word).strip())


def divided(
    names: Sequence[str],
    rule: SplitRule,
    what: str,
    root: Path,
    columns: Mapping[str, Sequence[object]] | None = None,
) -> Division:
    """Divides images.

    Args:
        names: of the images, each once.
        rule: how.
        what: what the table is called.
        root: the data's folder.
        columns: of `rule.columns`, a value for each name.

    Raises:
        UserError: shares that are none, too few images or groups, places that are no numbers, a
            file of a division that does not fit.
    """
    if rule.file:
        check_names([rule.file], [root], "data.dataset.split_file=")
    file = root / rule.file if rule.file else None
    if file is not None and file.is_file():
        return _read(file, names)
    shares = dict(rule.shares or {})
    if not all(0 < share < 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"data.dataset.shares={shares}: shares add up to 1, as 0.8, 0.1, 0.1.")
    if rule.by is None:
        found = _by_image(names, shares, rule.seed, what)
    else:
        found = _by_group(names, rule, shares, what, columns or {})
    if file is not None:
        found.write(file)
        found.sentences.append(f"the division was written to {file}.")
    return found


def _by_image(names: Sequence[str], shares: Mapping[str, float], seed: int, what: str) -> Division:
    """By a hash of seed and name, so that neither the order of lines nor the machine matters."""
    if len(names) < len(shares):
        raise UserError(
            f"{what} is one table with {len(names)} images, too few to be divided into "
            f"{', '.join(shares)}: write a table for each, or give data.dataset.shares=null "
            "data.splits.val=null data.splits.test=null to train on all."
        )
    order = sorted(names, key=lambda name: _hash(seed, name))
    first, *others = shares
    counts = {word: max(1, round(shares[word] * len(order))) for word in others}
    counts = {first: len(order) - sum(counts.values()), **counts}
    out: dict[str, str] = {}
    for split, count in counts.items():
        out |= dict.fromkeys(order[len(out) : len(out) + count], split)
    listing = ", ".join(f"{word} {count}" for word, count in counts.items())
    return Division(
        {name: out[name] for name in names},
        [
            (
                f"{what} is the only table and was divided by image: {listing} "
                "(data.dataset.shares=, data.dataset.split_seed=; or write a table for each split)."
            )
        ],
    )


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()


def _by_group(
    names: Sequence[str],
    rule: SplitRule,
    shares: Mapping[str, float],
    what: str,
    columns: Mapping[str, Sequence[object]],
) -> Division:
    points = None
    if rule.by in ("place", "tile"):
        points = _points(names, rule, columns)
        side = rule.cell if rule.cell is not None else (0.1 if rule.by == "place" else 8)
        if side <= 0:
            raise UserError(f"data.dataset.cell={side}: the side of a cell is more than 0.")
        cells = np.floor(points / side).astype(int)
        groups = [f"{x}:{y}" for x, y in cells.tolist()]
        unit = f"{side:g} degrees" if rule.by == "place" else f"{side:g} tiles"
        how, many = f"by cells of {unit}", "cells"
    else:
        groups = [str(value).strip() for value in columns[str(rule.by)]]
        bare = [name for name, group in zip(names, groups, strict=True) if group in ("", "None")]
        if bare:
            raise UserError(
                f"{what}: {len(bare)} image(s) have nothing in the column {rule.by!r}, by which "
                f"they are divided: {listed(bare)}."
            )
        how, many = f"by the column {rule.by!r}", "groups"
    of_group = _assigned(groups, shares, rule.seed, what, many)
    splits = [of_group[group] for group in groups]
    sentences = []
    if rule.margin:
        if points is None:
            raise UserError(
                "data.dataset.margin= needs places: divide by data.dataset.split_by=place or tile."
            )
        near = _near(points, splits, next(iter(shares)), rule.margin)
        if near:
            sentences.append(f"{len(near)} training image(s) within the margin were left out.")
        splits = [("" if i in near else split) for i, split in enumerate(splits)]
    split_of = {name: split for name, split in zip(names, splits, strict=True) if split}
    counts = Counter(split_of.values())
    empty = [split for split in shares if not counts[split]]
    if empty:
        raise UserError(
            f"{what}, divided {how}: no image is left for {' and '.join(empty)}. Choose smaller "
            "cells or margins (data.dataset.cell=, data.dataset.margin=)."
        )
    listing = ", ".join(f"{split} {counts[split]}" for split in shares)
    told = f"{what} was divided {how}, {len(of_group)} {many}: {listing} images"
    return Division(
        split_of, [f"{told} (data.dataset.shares=, data.dataset.split_seed=).", *sentences]
    )


def _assigned(
    groups: Sequence[str], shares: Mapping[str, float], seed: int, what: str, many: str
) -> dict[str, str]:
    """Group → split: ordered by a hash, each split is filled up to its share of the images."""
    sizes = Counter(groups)
    if len(sizes) < len(shares):
        raise UserError(
            f"{what} has {len(sizes)} {many}, too few to be divided into {', '.join(shares)}: give "
            "smaller ones, or fewer splits (data.dataset.shares=)."
        )
    order = sorted(sizes, key=lambda group: _hash(seed, group))
    first, *others = shares
    out: dict[str, str] = {}
    for place, split in enumerate(others):
        needed = len(others) - place  # a group for training and for each later split
        wanted, got = shares[split] * len(groups), 0
        while len(order) > needed and (not got or got + sizes[order[0]] / 2 <= wanted):
            group = order.pop(0)
            out[group], got = split, got + sizes[group]
    return out | dict.fromkeys(order, first)


def _points(
    names: Sequence[str], rule: SplitRule, columns: Mapping[str, Sequence[object]]
) -> np.ndarray:
    """[names, 2] where each image lies."""
    if rule.by == "tile":
        found = [_TILE.search(Path(name).stem) for name in names]
        bare = [name for name, match in zip(names, found, strict=True) if match is None]
        if bare:
            raise UserError(
                f"{len(bare)} file name(s) have no two numbers to tell a tile's place by, as "
                f"paris_003_017.tif has: {listed(bare)}. Divide by a column instead "
                "(data.dataset.split_by=)."
            )
        return np.array([[int(m[1]), int(m[2])] for m in found if m is not None], float)
    points = []
    for name, lon, lat in zip(names, columns["lon"], columns["lat"], strict=True):
        try:
            x, y = float(str(lon)), float(str(lat))
        except ValueError:
            x = y = math.nan
        if not (-180 <= x <= 360 and -90 <= y <= 90):
            raise UserError(
                f"{name}: lon {lon!r} and lat {lat!r} are no degrees. Group columns in "
                "metres by a column of your own (data.dataset.split_by=)."
            )
        points.append((x, y))
    return np.array(points, float)


def _near(points: np.ndarray, splits: Sequence[str], first: str, margin: float) -> set[int]:
    """Training images within a square margin around those of other splits."""
    training = np.array([split == first for split in splits])
    held: dict[tuple[int, int], list[int]] = {}
    cells = np.floor(points / margin).astype(int)
    for i in np.flatnonzero(~training).tolist():
        held.setdefault((int(cells[i, 0]), int(cells[i, 1])), []).append(i)
    out = set()
    for i in np.flatnonzero(training).tolist():
        x, y = cells[i].tolist()
        others = [j for a in (-1, 0, 1) for b in (-1, 0, 1) for j in held.get((x + a, y + b), ())]
        if others and np.abs(points[others] - points[i]).max(1).min() <= margin:
            out.add(i)
    return out


def _read(file: Path, names: Sequence[str]) -> Division:
    with open(file, encoding="utf-8-sig", newline="") as rows:
        reader = csv.DictReader(rows)
        if not {"image", "split"} <= set(reader.fieldnames or ()):
            raise UserError(f"{file}: a division is a table of image and split.")
        held = [(row["image"], split_word(row["split"])) for row in reader]
    out: dict[str, str] = {}
    for name, split in held:
        if out.setdefault(name, split) != split:
            raise UserError(f"{file}: {name!r} is in {out[name]} and in {split}; it can be in one.")
    lacking = [name for name in names if name not in out]
    if len(lacking) == len(names):
        raise UserError(f"{file} names no image of this data: the first here is {names[0]!r}.")
    notes = [f"divided as {file} says."]
    if lacking:
        notes.append(f"{len(lacking)} image(s) are in no split of it: {listed(lacking)}.")
    return Division({name: out[name] for name in names if name in out}, notes)


def of_column(names: Sequence[str], words: Sequence[object], what: str) -> Division:
    """The division that a table's own column `split` gives.

    Raises:
        UserError: an image in two splits.
    """
    out: dict[str, str] = {}
    for name, word in zip(names, words, strict=True):
        mine = split_word(word)
        if out.setdefault(name, mine) != mine:
            raise UserError(
                f"{what}: the image {name!r} is in the splits {out[name]} and {mine}; what is "
                "measured on it says nothing. Keep its rows in one split."
            )
    counts = Counter(out.values())
    listing = ", ".join(f"{word} {count}" for word, count in counts.items())
    return Division(out, [f"{what} is divided by its column split: {listing}."])
