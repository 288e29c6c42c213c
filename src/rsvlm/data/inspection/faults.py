"""What a data set says of a sample that cannot all be true, and samples that it holds twice.

`rsvlm inspect --faults` prints what is found; training leaves out what a list names
(`data.exclude=`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.data.perceptual_hash import PUBLISHED_BITS, groups_of, near_pairs, perceptual_hash
from rsvlm.data.protocols import attributes_of
from rsvlm.data.sample import Instance, Sample, SampleError
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.data.text_files import read_lines
from rsvlm.data.transforms import sides, to_pil
from rsvlm.errors import UserError
from rsvlm.files import write_text

#: Kind -> what it says of a sample.
KINDS = {
    "unreadable": "its picture, mask or text cannot be read",
    "flag_against_mask": "`changeflag` says the contrary of the mask",
    "caption_against_mask": "all captions say that nothing changed, or none does, against the mask",
    "caption_against_flag": "all captions say that nothing changed, or none does, against the flag",
    "box_outside": "a box reaches beyond its picture, or is empty",
    "box_against_mask": "a box and the mask of the same object are apart",
    "empty_mask": "an object has a mask without a pixel",
    "duplicate_across_splits": "its picture is in another split too",
    "duplicate": "its picture is in the split twice",
    "shared_caption": "all its captions are those of many other pictures",
}
#: Pictures from which on a caption is that of many.
MANY = 20
#: Pixels by which a box may pass its picture or its mask: rounding, and counting from 1.
_SLACK = 2.0
_UNCHANGED = frozenset(text.lower() for texts in NO_CHANGE.values() for text in texts)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one sample.

    Attributes:
        kind: a word of `KINDS`.
        split: of the sample.
        id: of the sample.
        detail: what speaks against what.
        index: of the sample in its split.
    """

    kind: str
    split: str
    id: str
    detail: str
    index: int


def faults_of(
    datasets: Sequence[Any], *, bits: int = PUBLISHED_BITS, many: int = MANY
) -> list[Fault]:
    """Reads every sample of some splits of one data set and says what is wrong.

    Args:
        datasets: the splits.
        bits: most bits by which perceptual hashes of duplicates differ.
        many: pictures from which on a caption is that of many.
    """
    found: list[Fault] = []
    hashes: list[int] = []
    places: list[tuple[int, int]] = []
    captions: Counter[str] = Counter()
    shown: list[tuple[int, int, tuple[str, ...]]] = []
    names: dict[tuple[int, int], str] = {}
    splits = [attributes_of(dataset).split or str(n) for n, dataset in enumerate(datasets)]
    for number, dataset in enumerate(datasets):
        entries = attributes_of(dataset).entries
        for index in range(len(dataset)):
            name = str(entries[index].id) if entries is not None else str(index)
            try:
                sample = dataset[index]
            except SampleError as error:
                names[number, index] = name
                found.append(Fault("unreadable", splits[number], name, str(error), index))
                continue
            name = names[number, index] = str(sample.meta.get("id", name))
            found += [
                Fault(kind, splits[number], name, detail, index)
                for kind, detail in _contradictions(sample)
            ]
            hashes.append(_hash(sample))
            places.append((number, index))
            texts = tuple(sorted({" ".join(text.lower().split()) for text in sample.texts}))
            captions.update(texts)
            shown.append((number, index, texts))
    for group in groups_of(len(hashes), near_pairs(hashes, bits)):
        found += _duplicates([places[i] for i in group], splits, names)
    for number, index, texts in shown:
        said = bool(texts) and min(captions[text] for text in texts)
        if texts and said >= many and not all(map(_is_no_change, texts)):
            detail = f"{texts[0]!r} is said of {captions[texts[0]]} pictures"
            found.append(
                Fault("shared_caption", splits[number], names[number, index], detail, index)
            )
    order = {kind: n for n, kind in enumerate(KINDS)}
    return sorted(found, key=lambda fault: (order[fault.kind], splits.index(fault.split)))


def _hash(sample: Sample) -> int:
    """Of all pictures of a sample: a pair is a duplicate where both dates are."""
    hashes = [perceptual_hash(to_pil(image)) for image in sample.images]
    if len(hashes) == 1:
        return hashes[0]
    parts = [value >> (64 - 64 // len(hashes)) for value in hashes]
    joined = 0
    for value in parts:
        joined = (joined << (64 // len(hashes))) | value
    return joined


def _is_no_change(text: str) -> bool:
    return " ".join(text.lower().split()).rstrip(" .") in _UNCHANGED


def _contradictions(sample: Sample) -> Iterator[tuple[str, str]]:
    mask = sample.meta.get("change_mask")
    pixels = int(np.count_nonzero(mask)) if isinstance(mask, np.ndarray) else None
    changed = None if pixels is None else pixels > 0
    flag = sample.meta.get("changeflag")
    if changed is not None and flag is not None and bool(flag) != changed:
        yield "flag_against_mask", f"changeflag {int(flag)}, {pixels} changed pixels in the mask"
    unchanged = [_is_no_change(text) for text in sample.texts]
    said = None if not unchanged else False if all(unchanged) else None if any(unchanged) else True
    pair = len(sample.images) == 2
    if pair and said is not None and changed is not None and said != changed:
        yield "caption_against_mask", f"{sample.texts[0]!r}, {pixels} changed pixels in the mask"
    if pair and said is not None and flag is not None and said != bool(flag):
        yield "caption_against_flag", f"{sample.texts[0]!r}, changeflag {int(flag)}"
    for instance in sample.instances:
        yield from _of_instance(sample, instance)


def _of_instance(sample: Sample, instance: Instance) -> Iterator[tuple[str, str]]:
    high, wide = sides(sample.images[instance.image_id])
    name = instance.phrase or instance.category
    box, mask = instance.box, instance.mask
    if box is not None and not instance.angle:
        x0, y0, x1, y1 = box
        if min(x0, y0) < -_SLACK or x1 > wide + _SLACK or y1 > high + _SLACK:
            yield "box_outside", f"{name}: {_numbers(box)} in {wide} x {high}"
        elif x1 <= x0 or y1 <= y0:
            yield "box_outside", f"{name}: {_numbers(box)} is empty"
    if mask is None:
        return
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        yield "empty_mask", name
    elif box is not None and not instance.angle:
        x0, y0, x1, y1 = box
        left, top, right, low = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        across = min(x1, right) - max(x0, left)
        down = min(y1, low) - max(y0, top)
        if across < -_SLACK or down < -_SLACK:
            detail = f"{name}: box {_numbers(box)}, mask {left} {top} {right} {low}"
            yield "box_against_mask", detail


def _numbers(box: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in box)


def _duplicates(
    group: Sequence[tuple[int, int]],
    splits: Sequence[str],
    names: dict[tuple[int, int], str],
) -> Iterator[Fault]:
    """Of a group in several splits those in the first of them; else all but its first."""
    numbers = {number for number, _ in group}
    for place in group if len(numbers) > 1 else group[1:]:
        number, index = place
        others = [other for other in group if other[0] != number] or [group[0]]
        if others[0] == place:
            continue
        kind = "duplicate_across_splits" if others[0][0] != number else "duplicate"
        other = f"{names[others[0]]} of {splits[others[0][0]]}"
        yield Fault(kind, splits[number], names[place], f"as {other}", index)


def report(faults: Sequence[Fault], shown: int = 3) -> str:
    """Counts by kind and split, each with its first samples."""
    if not faults:
        return "no faults found"
    lines = []
    for kind, meaning in KINDS.items():
        some = [fault for fault in faults if fault.kind == kind]
        if not some:
            continue
        counts = Counter(fault.split for fault in some)
        told = ", ".join(f"{split} {number}" for split, number in counts.items())
        lines.append(f"{kind}: {len(some)} ({told}): {meaning}")
        lines += [f"    {fault.split} {fault.id}: {fault.detail}" for fault in some[:shown]]
        if len(some) > shown:
            lines.append(f"    and {len(some) - shown} more")
    return "\n".join(lines)


#: What is not left out: the picture is fine, and the words may be true.
KEPT = ("shared_caption",)


def write_exclusions(faults: Sequence[Fault], path: str | Path) -> int:
    """Writes the list that `data.exclude=` takes: split, id, kind and detail, with tabs between.

    Returns:
        Samples on it.
    """
    first = {(fault.split, fault.id): fault for fault in reversed(faults) if fault.kind not in KEPT}
    lines = ["# split\tid\twhy; data.exclude=<this file> leaves those of the training split out"]
    for (split, name), fault in reversed(first.items()):
        detail = " ".join(f"{fault.kind}: {fault.detail}".split())
        lines.append(f"{split}\t{name}\t{detail}")
    write_text(path, "\n".join(lines) + "\n")
    return len(first)


def read_exclusions(path: str | Path) -> dict[str, set[str]]:
    """Split -> ids that a list names.

    Raises:
        UserError: there is no such list, or a line of another form.
    """
    file = Path(path).expanduser()
    try:
        lines = read_lines(file)
    except UserError as error:
        raise UserError(
            f"data.exclude={path}: {error} rsvlm inspect --faults --exclude <file> writes one."
        ) from error
    found: dict[str, set[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        split, tab, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if not tab or not name:
            raise UserError(
                f"{path}, line {number}: a line is <split><tab><id>, with a reason behind a "
                f"further tab; this one is {line[:60]!r}."
            )
        found.setdefault(split, set()).add(name)
    return found
