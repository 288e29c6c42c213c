"""DIOR-RSVG: 38,320 expressions, each for one object in an aerial picture of DIOR."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from rsvlm.data.datasets.base import Entry, listed, split_error
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Region, Regions
from rsvlm.data.text_files import read_lines
from rsvlm.errors import UserError

_SPLITS = ("train", "val", "test")


class DIORRSVG(Regions):
    """DIOR-RSVG as published: XML like VOC's, and lists of numbers; a sample is an expression.

    The numbers in the lists are not names of pictures: they count the objects of all XML files, in
    the order of the files' names. So one missing file moves all that come after it, which is why
    it is an error when the lists and the objects do not fit together. The splits share pictures.

    Args:
        root: folder of Annotations/, JPEGImages/ and the three lists (or of DIOR_RSVG/ with them).
        split: `train`, `val`, `test` or `all`.
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged, or lists and objects do not fit together.
    """

    name = "dior_rsvg"
    title: ClassVar[str] = "DIOR-RSVG"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    Annotations/   00001.xml ... 17,402 files\n"
        "    JPEGImages/    00001.jpg ...\n"
        "    train.txt  val.txt  test.txt   numbers of objects"
    )
    licence = "no licence text; for research (DIOR)"
    paper = (
        "Y. Zhan, Z. Xiong, Y. Yuan. RSVG: Exploring data and models for visual grounding on "
        "remote sensing data. IEEE TGRS 61, 2023. arXiv:2210.12634"
    )
    homepage = "https://github.com/ZhanYang-nwpu/RSVG-pytorch"
    #: Expressions, each of which is a sample.
    published_counts: ClassVar[dict[str, int]] = {"train": 26991, "val": 3829, "test": 7500}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if (self.root / "DIOR_RSVG").is_dir():
            self.root = self.root / "DIOR_RSVG"
        files = sorted((self.root / "Annotations").glob("*.xml"))
        if not files:
            raise self.not_found("there are no XML files in Annotations/.")
        lists = {name: self._numbers(self.root / f"{name}.txt") for name in _SPLITS}
        if split != "all" and split not in lists:
            raise split_error(split, {k: len(v) for k, v in lists.items()}, self.title)
        objects = [(file, *found) for file in files for found in self._objects(file)]
        self._fit(lists, len(objects))
        self.categories = sorted({region.category for _, _, region, _ in objects})
        number = {name: i for i, name in enumerate(self.categories)}
        wanted = set(range(len(objects))) if split == "all" else set(lists[split])
        chosen = [(i, *found) for i, found in enumerate(objects) if i in wanted]
        paths = self.located([self.root / "JPEGImages"], [c[2] for c in chosen], missing)
        for index, file, picture, region, frame in chosen:
            if picture not in paths:
                continue
            who = f"{file.name} (object {index})"
            if not region.phrase:
                self.fault("object(s) have no expression", who)
            self.add(
                Entry(id=str(index), path=paths[picture], meta={"image": picture}),
                [
                    Region(
                        0,
                        region.category,
                        number[region.category],
                        region.phrase or None,
                        self.box(region.box, who, frame),
                    )
                ],
                frame,
            )
        self.tell()

    def _numbers(self, path: Path) -> list[int]:
        if not path.is_file():
            raise self.not_found(f"there is no {path.name}.")
        numbers = []
        for line, text in enumerate(read_lines(path), 1):
            if not text.strip():
                continue
            if not text.strip().isdecimal():
                raise UserError(
                    f"{path}, line {line}: {text.strip()!r} is not the number of an object."
                )
            numbers.append(int(text))
        return numbers

    def _objects(self, file: Path) -> list[tuple[str, Region, tuple[int, int] | None]]:
        """The objects of a file: its picture, the object as found, the annotated height, width."""
        try:
            root = ElementTree.parse(file).getroot()
        except ElementTree.ParseError as error:
            line, column = error.position
            raise UserError(
                f"{file}, line {line}, column {column}: not valid XML ({error.msg}). Was its "
                "download cut short?"
            ) from error
        picture = (root.findtext("filename") or "").strip() or f"{file.stem}.jpg"
        size = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
        frame = (int(size[0]), int(size[1])) if all(s.isdecimal() for s in size) else None
        found = []
        for k, node in enumerate(root.iter("object")):
            corners = [node.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
            region = Region(
                k,
                (node.findtext("name") or "").strip(),
                phrase=(node.findtext("description") or "").strip(),
                box=tuple(corners),  # type: ignore[arg-type]  # checked when it is chosen
            )
            found.append((picture, region, frame))
        return found

    def _fit(self, lists: dict[str, list[int]], objects: int) -> None:
        """Holds the lists against the number of objects.

        Raises:
            UserError: they do not fit together.
        """
        named = [number for numbers in lists.values() for number in numbers]
        if len(named) != objects or (named and max(named) >= objects):
            counts = ", ".join(f"{name} {len(numbers)}" for name, numbers in lists.items())
            raise UserError(
                f"{self.root}: the lists name {len(named)} objects ({counts}), up to number "
                f"{max(named, default=0)}, and the XML files hold {objects}. They count objects "
                "over all files, so a missing file would give every later expression to another "
                "object. Are all 17,402 XML files there, and no others?"
            )
        if len(set(named)) != len(named):
            seen: set[int] = set()
            twice = [str(n) for n in named if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
            self.problems.append(
                f"{len(twice)} object(s) stand in the lists more than once: {listed(twice)}."
            )
