"""Tar shards: webdataset's layout, as open_clip, img2dataset and `rsvlm shards` write."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from rsvlm.data.datasets.base import Entry, FileDataset, listed, metric_word, split_error
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.folders import EXTENSIONS
from rsvlm.data.images import BrokenImage, read_image
from rsvlm.data.loading.tar_index import Reader, expand, indices
from rsvlm.data.sample import Sample, SampleError
from rsvlm.data.text_files import parse_json, read_json
from rsvlm.errors import UserError

#: What `rsvlm shards` writes beside its tars.
MANIFEST = "shards.json"


class Shards(FileDataset):
    """Samples in tars, each addressed through an index (`rsvlm.data.loading.tar_index`).

    A sample is an image (`.jpg`, `.png`, `.webp`, ...) and one or more of `.json`, `.txt`, `.cls`.
    Captions are the JSON's list `captions`, else the text, else the JSON's `caption`; the class is
    the JSON's `label` where that is a number, else `.cls`. All other keys of the JSON go to
    `meta`; where the JSON has an object `meta`, as our own shards have, that is taken.

    Samples without an image or without any of the three are left out and told, as is what lies
    behind a cut. A sample whose text cannot be used is an error of its own, as a broken image is.

    Args:
        root: folder of the tars.
        split: `train`, `val`, `test`, or what the names say.
        shards: the split's tars, relative to `root`: a name, a glob or braces
            (`train-{0000..0031}.tar`), several of these, or a mapping from split to them; by
            default `<split>-*.tar`, else the folder `<split>/`.
        cache: folder for indices where they cannot be kept beside the tars.
        missing: `skip` (and `keep`) go on where shards of a range are not there, and tell which.
        name: word for metric names; by default what the shards say, or the folder's name.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        shard_sizes: usable samples of each tar, for `BatchSampler(order="blocked")`.

    Raises:
        UserError: no such tar, a file that is none, or no usable sample.
    """

    title: ClassVar[str] = "A set of shards"
    layout: ClassVar[str] = (
        "  {root}/<split>-0000.tar ...   or <split>/*.tar, or what shards= names; in them\n"
        "    000000.jpg   or .png, .webp, ...\n"
        "    000000.json  and/or .txt, .cls"
    )
    image_fields: ClassVar[tuple[str, ...]] = tuple(
        sorted((ext[1:] for ext in EXTENSIONS), key=lambda ext: (ext not in ("jpg", "png"), ext))
    )
    side_fields: ClassVar[tuple[str, ...]] = ("json", "txt", "cls")
    #: Fields without which a sample is of no use; one of `side_fields`, unless given.
    needed_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        shards: str | Sequence[str] | Mapping[str, Any] | None = None,
        cache: str | Path | None = None,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or self.name or metric_word(self.root.resolve().name)
        self._adopt_manifest(split, name)
        paths, gone = expand(self.root, self._patterns(shards))
        if gone:
            names = listed(os.path.relpath(path, self.root) for path in gone)
            text = (
                f"{len(gone)} of {len(gone) + len(paths)} shards are not in {self.root}: {names}."
            )
            if not paths:
                raise self.not_found(text)
            if missing == "error":
                raise UserError(f"{text} data.dataset.missing=skip goes on without them.")
            self.problems.append(text)
        self._reader = Reader(paths)
        self._indices = indices(paths, Path(cache).expanduser() if cache else None)
        rows = [self._usable(number) for number in range(len(paths))]
        self.shard_sizes = [len(part) for part in rows]
        self._row = np.concatenate(rows).astype(np.int32)
        self._tar = np.repeat(np.arange(len(paths), dtype=np.int32), self.shard_sizes)
        if not len(self._row):
            fields = sorted({field for found in self._indices for field in found.fields})
            raise UserError(
                f"no sample in {listed(str(path) for path in paths)} has an image and a text; "
                f"the fields there are {listed(fields) or 'none'}, expected one of "
                f"{', '.join(self.image_fields)} and of {', '.join(self.side_fields)}."
            )
        self.entries = _Entries(self)  # type: ignore[assignment]

    def patterns(self) -> list[str]:
        """The split's tars where none are given: names, globs or braces below the root."""
        if any(self.root.glob(f"{self.split}-*.tar")):
            return [f"{self.split}-*.tar"]
        if any((self.root / self.split).glob("*.tar")):
            return [self.split]
        if self.split == "all" and any(self.root.glob("*.tar")):
            return ["*.tar"]
        raise self.not_found(f"there is no {self.split}-*.tar and no tar in {self.split}/.")

    def sample_facts(self, parts: dict[str, bytes]) -> Entry:
        """Captions, label and the rest from a sample's text fields; id and path are set later.

        Raises:
            ValueError: a field cannot be used; the text says why.
        """
        content = _json(parts["json"]) if "json" in parts else {}
        texts = caption_list(content.pop("captions", None))
        if not texts and "txt" in parts:
            texts = [parts["txt"].decode("utf-8-sig").strip()]
        caption = content.pop("caption", None)
        if not texts and isinstance(caption, str):
            texts = [caption]
        label = content.pop("label") if isinstance(content.get("label"), int) else None
        if label is None and "cls" in parts:
            label = int(parts["cls"])
        id = content.pop("id", None)
        meta = content["meta"] if isinstance(content.get("meta"), dict) else content
        return Entry(
            id="" if id is None else str(id),
            path="",
            texts=tuple(text for text in texts if text.strip()),
            label=label,
            meta=meta,
        )

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample.

        Raises:
            BrokenImage: its image or its text cannot be used.
        """
        entry, data = self.read(index)
        meta = {
            "id": entry.id,
            "dataset": self.name,
            "split": self.split,
            "licence": self.licence,
            "path": entry.path,
        }
        return Sample(
            images=[read_image(data, self.convert, name=entry.path)],
            texts=list(entry.texts),
            label=entry.label,
            meta=meta | entry.meta,
        )

    def image(self, index: int) -> Image.Image:
        """Reads the image alone."""
        data, _ = self.stored(index)
        return read_image(data, self.convert, name=self._path(index, self._image_field(index)))

    def read(self, index: int) -> tuple[Entry, bytes]:
        """What is known of a sample, and its image's bytes, with one look into the tar.

        Raises:
            BrokenImage: its text cannot be used.
        """
        field, parts = self._read(index, image=True)
        return self._entry(index, field, parts), parts[field]

    def stored(self, index: int) -> tuple[bytes, str]:
        """The image's bytes and their field, as they lie in the tar."""
        field = self._image_field(index)
        return self._bytes(index, [field])[field], field

    def entry(self, index: int) -> Entry:
        """What is known of a sample without its image.

        Raises:
            BrokenImage: its text cannot be used.
        """
        field, parts = self._read(index, image=False)
        return self._entry(index, field, parts)

    def key(self, index: int) -> str:
        """The name that a sample's members share."""
        found = self._indices[self._tar[index]]
        return bytes(found.keys[self._row[index]]).decode("utf-8", "replace")

    def _entry(self, index: int, field: str, parts: dict[str, bytes]) -> Entry:
        path = self._path(index, field)
        try:
            facts = self.sample_facts(parts)
        except (ValueError, SyntaxError) as error:
            raise BrokenImage(path, f"its text cannot be used ({error}).") from error
        if not facts.texts and facts.label is None:
            raise BrokenImage(path, "has neither a caption with a word in it nor a label.")
        id = facts.id or self.key(index)
        return Entry(id, path, facts.texts, facts.label, facts.meta)

    def _path(self, index: int, field: str) -> str:
        return f"{self._reader.paths[self._tar[index]]}/{self.key(index)}.{field}"

    def _image_field(self, index: int) -> str:
        found, row = self._indices[self._tar[index]], self._row[index]
        for field in self.image_fields:
            if field in found.fields and found.offset[row, found.fields.index(field)] >= 0:
                return field
        raise KeyError(index)  # _usable leaves no such sample

    def _read(self, index: int, *, image: bool) -> tuple[str, dict[str, bytes]]:
        field = self._image_field(index)
        found, row = self._indices[self._tar[index]], self._row[index]
        sides = [
            side
            for side in self.side_fields
            if side in found.fields and found.offset[row, found.fields.index(side)] >= 0
        ]
        return field, self._bytes(index, [field, *sides] if image else sides)

    def _bytes(self, index: int, fields: list[str]) -> dict[str, bytes]:
        """The content of fields; members that lie together are read in one go."""
        tar, row = int(self._tar[index]), int(self._row[index])
        found = self._indices[tar]
        spans = {}
        for field in fields:
            column = found.fields.index(field)
            spans[field] = (int(found.offset[row, column]), int(found.size[row, column]))
        first = min((offset for offset, _ in spans.values()), default=0)
        last = max((offset + size for offset, size in spans.values()), default=0)
        if last - first <= 2 * sum(size for _, size in spans.values()) + 8192:
            data = self._reader.read(tar, first, last - first)
            parts = {f: data[o - first : o - first + n] for f, (o, n) in spans.items()}
        else:
            parts = {f: self._reader.read(tar, o, n) for f, (o, n) in spans.items()}
        if any(len(parts[field]) < size for field, (_, size) in spans.items()):
            raise BrokenImage(
                self._path(index, fields[0]), "the tar has become shorter since it was indexed."
            )
        return parts

    def _patterns(self, given: str | Sequence[str] | Mapping[str, Any] | None) -> list[str]:
        if isinstance(given, Mapping):
            if self.split not in given:
                raise UserError(
                    f"shards= names no tars for split {self.split!r}; it has {', '.join(given)}."
                )
            given = given[self.split]
        if given is None:
            return self.patterns()
        return [given] if isinstance(given, str) else list(given)

    def _usable(self, number: int) -> np.ndarray:
        """Rows of a tar's index that are samples; tells of the others and of a cut."""
        found, path = self._indices[number], self._reader.paths[number]
        has = {field: found.offset[:, i] >= 0 for i, field in enumerate(found.fields)}
        none = np.zeros(len(found), bool)
        image = np.logical_or.reduce([none, *(has[f] for f in self.image_fields if f in has)])
        if self.needed_fields:
            text = np.logical_and.reduce([~none, *(has.get(f, none) for f in self.needed_fields)])
        else:
            text = np.logical_or.reduce([none, *(has[f] for f in self.side_fields if f in has)])
        rows = np.flatnonzero(image & text)
        if found.fault:
            self.problems.append(
                f"{path.name} {found.fault}. Its {len(rows)} samples before that are served; fetch "
                "it again for the rest."
            )
        if len(rows) < len(found):
            first = bytes(found.keys[int(np.flatnonzero(~(image & text))[0])]).decode(
                "utf-8", "replace"
            )
            self.problems.append(
                f"{path.name}: {len(found) - len(rows)} of {len(found)} samples lack an image or a "
                f"text and were left out, the first: {first}."
            )
        return rows

    def _adopt_manifest(self, split: str, name: str | None) -> None:
        """Takes over what `rsvlm shards` wrote of the data set."""
        file = self.root / MANIFEST
        if not file.is_file():
            return
        facts = read_json(file)
        splits = facts.get("splits", {})
        if split not in splits and split != "all":
            known = {key: plan["samples"] for key, plan in splits.items()}
            raise split_error(split, known, str(self.root))
        written = len(list(self.root.glob(f"{split}-*.tar")))
        if split in splits and written < splits[split]["shards"]:
            raise UserError(
                f"{self.root} holds {written} of the {splits[split]['shards']} shards of split "
                f"{split!r}: writing them was interrupted. Run rsvlm shards again; it "
                "goes on where it stopped."
            )
        self.name = name or facts["name"]
        self.classes = facts["classes"]
        self.licence, self.paper, self.homepage = (
            facts[key] for key in ("licence", "paper", "homepage")
        )


class _Entries(Sequence[Entry]):
    """A data set's entries, read from the tars when they are asked for."""

    def __init__(self, dataset: Shards) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        """The entry at a position; a bare one where its text cannot be used."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self._dataset.entry(index)
        except BrokenImage as error:
            return Entry(self._dataset.key(index), error.name, meta={"fault": error.reason})


def caption_list(value: Any) -> list[str]:
    """Captions as a list of texts: from a list, one that a tool has written as text, or a text.

    Raises:
        SampleError: it is none of these.
    """
    if value is None:
        return []
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [value]
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except json.JSONDecodeError:
            value = _literal(value)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise SampleError("`captions` is not a list of texts")
    return value


def _literal(text: str) -> Any:
    # Deep brackets end a parser, and large ones the interpreter itself.
    try:
        return ast.literal_eval(text)
    except (RecursionError, MemoryError) as error:
        raise SampleError("`captions` is nested too deep") from error


def _json(data: bytes) -> dict[str, Any]:
    content = parse_json(data.decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise SampleError("the JSON is not an object")
    return content
