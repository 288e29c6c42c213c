"""What a data set holds, against what was published; `rsvlm inspect` prints it."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from PIL import ExifTags

from rsvlm.data.datasets.base import overrides
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection import statistics
from rsvlm.data.protocols import ReadsImages, attributes_of

_CONTEXT = 77


class Description(dict[str, Any]):
    """Facts of a data set by name; `str` of it is a report."""

    def __str__(self) -> str:
        published = self["published"]
        lines = [
            f"{self['dataset']}, split {self['split']}: {self['images']} {self['unit']}"
            + (f" (published: {published})" if published is not None else "")
            + (f", {self['pictures']} pictures" if "pictures" in self else "")
        ]
        captions = self.get("captions")
        if captions:
            lines.append(
                f"  captions   {captions['count']}, {captions['distinct']} distinct; "
                f"{_range(captions['per_image'])} an image"
            )
            lines.append(
                f"             {_range(captions['words'])} words, {captions['mean_words']:.1f} on "
                f"average; {captions['over_context']} over {_CONTEXT} tokens"
            )
            lines.append(
                f"             {captions['shared']} sentences belong to several images; "
                f"{captions['one_sentence_images']} images have one sentence only"
            )
        if self.get("classes"):
            counts = self["classes"]
            lines.append(
                f"  classes    {len(counts)}, {_range(_ends(counts.values()))} images each"
            )
            lines += [f"             {count:6d}  {name}" for name, count in counts.items()]
        lines += statistics.lines(self)
        if self.get("semantic_classes") and "maps" not in self:
            lines.append(f"  maps       of {', '.join(self['semantic_classes'])}")
        if self.get("sizes"):
            shown = [f"{size} ({count})" for size, count in list(self["sizes"].items())[:5]]
            more = len(self["sizes"]) - len(shown)
            lines.append("  sizes      " + ", ".join(shown) + (f", {more} more" if more else ""))
        lines.append(f"  licence    {self['licence']}")
        lines += [f"  note       {note}" for note in self.get("notes", ())]
        lines += [f"  problem    {problem}" for problem in self["problems"]]
        if not self["problems"]:
            lines.append(
                "  no problems found" + ("" if "sizes" in self else "; --read decodes all")
            )
        return "\n".join(lines)


def describe(dataset: Any, *, read: bool = False, tokenizer: Any = None) -> Description:
    """Counts, captions, classes, dialogues, instances and faults of a data set.

    Args:
        dataset: a sequence of samples; one with `entries` is described without reading images.
        read: decode every image and map, to find the broken ones, the sizes and the share of each
            class of the maps.
        tokenizer: counts captions over 77 tokens; open_clip's, unless given.
    """
    said = attributes_of(dataset)
    entries: Any = said.entries
    found = statistics.DatasetStatistics(said.semantic_classes, said.change_classes)
    unread = ""
    if entries is None:
        entries = []
        for i in range(len(dataset)):
            sample = dataset[i]
            found.add(sample)
            found.add_maps(sample)
            entries.append(_Plain(sample))
    elif hasattr(dataset, "annotate"):
        unread = _annotations(dataset, found)
    split, counts = said.split, said.published_counts
    published = counts.get(split, sum(counts.values()) if split == "all" and counts else None)
    problems = list(said.problems)
    unit, pictures = _unit(dataset, entries)
    if published is not None and published != len(dataset):
        problems.append(f"{len(dataset)} {unit}, {published} were published.")
    twice = [id for id, count in Counter(e.id for e in entries).items() if count > 1]
    if twice:
        problems.append(
            f"{len(twice)} {unit[:-1]}(s) are listed more than once, the first: {twice[0]}."
        )
    if unread:
        problems.append(unread)
    problems += found.problems()
    facts = Description(
        dataset=said.name or type(dataset).__name__,
        split=split,
        images=len(dataset),
        unit=unit,
        published=published,
        licence=said.licence or "unknown",
        problems=problems,
    )
    if pictures is not None:
        facts["pictures"] = pictures
    if said.notes:
        facts["notes"] = list(said.notes)
    if said.semantic_classes:
        facts["semantic_classes"] = list(said.semantic_classes)
    if any(e.texts for e in entries):
        facts["captions"] = _captions([tuple(e.texts) for e in entries], tokenizer)
        over = facts["captions"]["over_context"]
        if over:
            problems.append(f"{over} caption(s) are over {_CONTEXT} tokens and will be cut.")
        if facts["captions"]["wordless"]:
            problems.append(f"{facts['captions']['wordless']} caption(s) hold no word.")
        bare = [e.id for e in entries if not e.texts]
        if bare:
            problems.append(f"{len(bare)} {unit[:-1]}(s) have no caption, the first: {bare[0]}.")
    if classes := said.classes:
        labels = Counter(e.label for e in entries)
        facts["classes"] = {name: labels[i] for i, name in enumerate(classes)}
        if labels[None]:
            problems.append(f"{labels[None]} image(s) have no class.")
    if read:
        _read(dataset, facts, found)
    facts.update(found.facts())
    return facts


class _Plain:
    """The part of a sample that `describe` looks at."""

    def __init__(self, sample: Any) -> None:
        self.id = str(sample.meta.get("id", id(sample)))
        self.texts, self.label = sample.texts, sample.label


def _captions(captions: list[tuple[str, ...]], tokenizer: Any) -> dict[str, Any]:
    flat = [text for texts in captions for text in texts]
    owners = Counter(text for texts in captions for text in set(texts))
    lengths = [len(re.findall(r"\w+", text)) for text in flat]
    # A token is a byte at least, and two of the 77 mark start and end.
    long = [text for text in owners if len(text.encode()) > _CONTEXT - 2]
    over = set()
    if long:
        if tokenizer is None:
            from open_clip.tokenizer import SimpleTokenizer

            tokenizer = SimpleTokenizer()
        ids = tokenizer(long, context_length=_CONTEXT + 1)
        over = {text for text, row in zip(long, ids, strict=True) if row[_CONTEXT] != 0}
    return {
        "count": len(flat),
        "distinct": len(owners),
        "per_image": _ends(map(len, captions)),
        "words": _ends(lengths),
        "wordless": lengths.count(0),
        "mean_words": sum(lengths) / len(lengths),
        "over_context": sum(text in over for text in flat),
        "shared": sum(count > 1 for count in owners.values()),
        "one_sentence_images": sum(len(t) > 1 and len(set(t)) == 1 for t in captions),
    }


def _unit(dataset: Any, entries: Any) -> tuple[str, int | None]:
    """What its samples are called, and the number of picture files where that is another one."""
    layout = attributes_of(dataset).sample_layout
    if layout is None or not len(entries) or not hasattr(entries[0], "paths"):
        return "images", None
    if layout == "single" and not overrides(dataset, "annotate"):
        return "images", None
    files = {path for entry in entries for path in entry.paths}
    if layout == "before_after" and len(files) == 2 * len(entries):
        return "pairs", None
    if layout == "single" and len(files) == len(entries):
        return "images", None
    return "samples", len(files)


def _annotations(dataset: Any, found: statistics.DatasetStatistics) -> str:
    """Counts the annotations without decoding images; tells of those that need one."""
    flagged = len(dataset) and "changeflag" in dataset.entries[0].meta
    if not flagged and not overrides(dataset, "annotate"):
        return ""
    unread = []
    for index in range(len(dataset)):
        try:
            found.add(statistics.annotations_only(dataset, index))
        except BrokenImage as error:
            unread.append(error)
    if not unread:
        return ""
    return f"the annotations of {len(unread)} sample(s) could not be read, the first: {unread[0]}"


def _read(dataset: Any, facts: Description, found: statistics.DatasetStatistics) -> None:
    said = attributes_of(dataset)
    whole = overrides(dataset, "read_maps") or said.sample_layout not in (None, "single")

    def one(index: int) -> Any:
        try:
            if whole:
                sample = dataset[index]
                with lock:
                    found.add_maps(sample)
                image = sample.images[0]
            elif isinstance(dataset, ReadsImages):
                image = dataset.image(index)
            else:
                image = dataset[index].images[0]
        except BrokenImage as error:
            return error
        if not isinstance(image.size, tuple):
            return image.shape[2], image.shape[1]
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            with lock:
                turned.append(said.entries[index].id if said.entries is not None else index)
        return image.size

    lock = Lock()
    turned: list[Any] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        sizes = list(pool.map(one, range(len(dataset))))
    counts = Counter(f"{f[0]} x {f[1]}" for f in sizes if isinstance(f, tuple))
    facts["sizes"] = dict(counts.most_common())
    facts["problems"].extend(str(f) for f in sizes if isinstance(f, BrokenImage))
    if turned:
        facts["problems"].append(
            f"{len(turned)} picture(s) have a camera's orientation tag, which is not applied, the "
            f"first: {min(map(str, turned))}. Save them upright if they lie on their side."
        )


def _ends(values: Any) -> tuple[int, int]:
    values = list(values)
    return min(values), max(values)


def _range(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
