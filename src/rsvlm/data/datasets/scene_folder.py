"""Scene classification sets: a folder per class, or the class in front of the file name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from rsvlm.data.datasets.base import Entry, FileDataset, listed, metric_word, split_error
from rsvlm.data.datasets.tables import differ_by_case
from rsvlm.data.folders import EXTENSIONS, composed, is_picture, walk
from rsvlm.data.text_files import read_json, read_names
from rsvlm.errors import UserError

#: A number at the end of a file's stem, with what separates it: `beach_07`, `airplane001`.
_NUMBER = re.compile(r"[ _-]*\(?\d+\)?$")


class SceneFolder(FileDataset):
    """Images sorted by scene class, as AID, NWPU-RESISC45, EuroSAT, UCMerced or PatternNet.

    A split is a part of the folder (`root/train/<class>/...`) or is named by a split file: JSON
    with a list per split (`{"train": ["a.jpg" or ["airport/a.jpg", 0, "airport"], ...]}`), or a
    text file with one image a line, which then is the split. Its images are found by their path
    below `root`, else by their file name alone.

    Args:
        root: the images' folder.
        split: which part; None or `all` takes every image.
        classes: names of the classes in the order of the labels, or a text file with one a line,
            relative to `root`; by default those found, sorted.
        class_from: `folder`, or `file_prefix` where images lie in one folder and their names
            begin with the class (`beach_07.jpg`).
        names: from a class as files spell it to its name in prompts; the others stay as they are.
        split_file: see above, relative to `root`.
        name: word for metric names; by default the folder's name.
        convert: turn images that are not 8-bit RGB into it (`read_image`), instead of refusing.

    Raises:
        UserError: nothing is found, the split is unknown, or `classes` and the files differ.
    """

    title: ClassVar[str] = "A set of scene images"
    layout: ClassVar[str] = (
        "  {root}/<class>/<image>           class_from=folder\n"
        "  {root}/<split>/<class>/<image>   class_from=folder split=<split>\n"
        "  {root}/<class>_<number>.<ext>    class_from=file_prefix"
    )

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        classes: Sequence[str] | str | Path | None = None,
        class_from: Literal["folder", "file_prefix"] = "folder",
        names: Mapping[str, str] | None = None,
        split_file: str | Path | None = None,
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split or "all", convert=convert)
        if class_from not in ("folder", "file_prefix"):
            raise UserError(f"class_from={class_from!r} is neither folder nor file_prefix.")
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or self.name or metric_word(self.root.resolve().name)
        self.names = dict(names or {})
        folder = self.images_folder()
        by_folder = self.split != "all" and split_file is None
        if by_folder:
            folder = self._split_folder(folder)
        found = self._by_folder(folder) if class_from == "folder" else self._by_prefix(folder)
        if not found:
            raise self.not_found(self._hint(folder, class_from))
        unused = sorted(set(self.names) - set(found.values()))
        if unused:
            raise UserError(
                f"names= speaks of {listed(unused)}, but {folder} has the classes "
                f"{listed(sorted(set(found.values())), 50)}."
            )
        self.classes = self._classes(classes, {self.class_name(raw) for raw in found.values()})
        if split_file is not None and self.split != "all":
            found = self._select(found, self.root / split_file)
        for pair in differ_by_case(self.classes):
            self.problems.append(
                f"the classes {pair} differ by case alone: give both folders one name."
            )
        labels = {label: i for i, label in enumerate(self.classes)}
        self.entries = [
            Entry(id=id, path=str(folder / id), label=labels[self.class_name(raw)])
            for id, raw in found.items()
        ]

    def images_folder(self) -> Path:
        """The folder that holds the images or the classes' folders."""
        return self.root

    def class_name(self, raw: str) -> str:
        """The name of a class in prompts, from its spelling in folders or file names."""
        return self.names.get(raw, raw)

    def _split_folder(self, folder: Path) -> Path:
        if not (folder / self.split).is_dir():
            parts = {
                e.name: sum(f.is_dir() for f in os.scandir(e))
                for e in sorted(os.scandir(folder), key=lambda e: e.name)
                if e.is_dir() and any(f.is_dir() for f in os.scandir(e))
            }
            if parts:
                raise split_error(self.split, parts, str(folder))
            raise UserError(
                f"{folder} is not divided into splits, so split={self.split!r} needs split_file=; "
                "split=all takes every image."
            )
        return folder / self.split

    def _by_folder(self, folder: Path) -> dict[str, str]:
        """From each image, by its path below the folder, to its class as spelt."""
        found, empty = {}, []
        for part in sorted(e.name for e in os.scandir(folder) if e.is_dir()):
            if part.startswith("."):
                continue
            images = sorted(
                Path(parent, file).relative_to(folder).as_posix()
                for parent, files in walk(folder / part)
                for file in files
                if is_picture(file)
            )
            found.update(dict.fromkeys(images, part))
            if not images:
                empty.append(part)
        if empty and found:
            raise UserError(
                f"{folder}: no image in {listed(empty)}. Was the archive unpacked in full? A "
                "folder that is no class does not belong there."
            )
        return found

    def _by_prefix(self, folder: Path) -> dict[str, str]:
        found = {}
        for file in sorted(e.name for e in os.scandir(folder) if e.is_file()):
            if not is_picture(file):
                continue
            stem = Path(file).stem
            prefix = _NUMBER.sub("", stem)
            if not prefix or prefix == stem:
                raise UserError(
                    f"{folder / file}: class_from=file_prefix takes names such as beach_07.jpg, a "
                    "class and a number."
                )
            found[file] = prefix
        return found

    def _hint(self, folder: Path, class_from: str) -> str:
        if class_from == "folder" and any(is_picture(e.name) for e in os.scandir(folder)):
            return (
                f"the images lie in {folder} itself, not in a folder per class. Is it "
                "class_from=file_prefix?"
            )
        if class_from == "file_prefix" and self._by_folder(folder):
            return f"the images lie in folders below {folder}. Is it class_from=folder?"
        return f"there is no image in {folder} ({', '.join(sorted(EXTENSIONS))})."

    def _classes(self, given: Sequence[str] | str | Path | None, found: set[str]) -> list[str]:
        if given is None:
            return sorted(found)
        where = "classes="
        if isinstance(given, str | Path):
            file = self.root / given
            where = str(file)
            if not file.is_file():
                raise UserError(f"classes={str(given)!r}: there is no file {file}.")
            given = read_names(file)
        twice = [name for name, count in Counter(given).items() if count > 1]
        if twice:
            raise UserError(f"{where} names {listed(twice)} more than once.")
        extra, lacking = sorted(set(given) - found), sorted(found - set(given))
        if extra or lacking:
            raise UserError(
                f"{where} and the files of {self.root} do not name the same classes.\n"
                f"  only in the list: {listed(extra, 100) or 'none'}\n"
                f"  only in the files: {listed(lacking, 100) or 'none'}\n"
                "Mend the list, or map the files' spelling with names={spelling: name}."
            )
        return list(given)

    def _select(self, found: dict[str, str], file: Path) -> dict[str, str]:
        if not file.is_file():
            raise UserError(f"split_file={file.name!r}: there is no file {file}.")
        if file.suffix == ".json":
            lists = read_json(file)
            if not isinstance(lists, dict) or not all(isinstance(v, list) for v in lists.values()):
                raise UserError(f"{file}: expected a list of images per split.")
            if self.split not in lists:
                raise split_error(self.split, {k: len(v) for k, v in lists.items()}, str(file))
            rows = [row[0] if isinstance(row, list) and row else row for row in lists[self.split]]
        else:
            rows = read_names(file)
        bases: dict[str, str] = {}
        for id in found:
            base = composed(id.rsplit("/", 1)[-1])
            bases[base] = "" if base in bases else id  # twice there: says nothing
        ids = {
            row: row if row in found else bases.get(composed(row.rsplit("/", 1)[-1]), "")
            for row in map(str, rows)
        }
        missing = [row for row, id in ids.items() if not id]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(ids)} images that {file} names for {self.split!r} are "
                f"not in {self.root}: {listed(missing)}."
            )
        chosen = set(ids.values())
        return {id: raw for id, raw in found.items() if id in chosen}
