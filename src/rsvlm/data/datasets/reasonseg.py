"""ReasonSeg: questions that take thought, about what polygons outline in everyday pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image, ImageDraw

from rsvlm.data.datasets.base import Entry, split_error
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Region, Regions, bounds
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text_files import parse_json, read_text
from rsvlm.data.transforms import sides
from rsvlm.errors import UserError

Questions = Literal["auto", "first", "all"]

#: Polygons of this label are left out, as the published script leaves them out.
_OLD = "flag"
#: Corners of a polygon further out than this are no picture's.
_FAR = 1e6

Outline = tuple[str, list[tuple[float, float]]]


class ReasonSeg(Regions):
    """ReasonSeg as published: a picture, and beside it a JSON file of labelme's polygons.

    A sample is a picture with its one object, of the class `target`: all its `target` polygons
    together. Pixels of `ignore` polygons count for nothing where masks are measured; they are in
    `meta["ignored"]` [H, W]. Where polygons overlap, the smaller one lies on top. Outlines belong
    to what they enclose, and corners are cut to whole pixels; OpenCV, which the published script
    draws with, may differ by pixels of a slanting edge.

    Each question of the file is a turn of the kind `reason` where it is a whole sentence
    (`is_sentence`), else `refer`, whose text is a phrase. The published evaluation asks the first
    of a picture, and training any of them.

    With `explanations`, a training picture that explanatory/train.json answers in words is asked
    two things more, as in LISA's training: for the mask and the explanation (kind `explain`), and
    its question alone, whose answer is the explanation. How often is not as published, where such a
    picture is asked for words alone one time in ten.

    Args:
        root: folder of train/, val/ and test/, or one in which ReasonSeg/ or reason_seg/ReasonSeg/
            lies.
        split: `train`, `val` or `test`.
        questions: `first` of each picture, `all`, or `auto`: all in training, the first elsewhere.
        explanations: ask training pictures for explanations too.
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged (names the file), or an unknown option.
    """

    name = "reasonseg"
    title: ClassVar[str] = "ReasonSeg"
    layout: ClassVar[str] = (
        "  {root}/train/   also val/, test/\n"
        '    1.jpg  1.json   {{"text": [...], "is_sentence": true, "shapes": [{{"label": "target", '
        '"points": [[x, y], ...]}}]}}'
    )
    licence = "Apache-2.0 (LISA's repository); pictures under the terms of OpenImages and ScanNet"
    paper = (
        "X. Lai et al. LISA: Reasoning segmentation via large language model. CVPR 2024. "
        "arXiv:2308.00692"
    )
    homepage = "https://github.com/dvlab-research/LISA"
    published_counts: ClassVar[dict[str, int]] = {"train": 239, "val": 200, "test": 779}

    def __init__(
        self,
        root: str | Path,
        split: str = "val",
        *,
        questions: Questions = "auto",
        explanations: bool = False,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if split not in self.published_counts:
            raise split_error(split, self.published_counts, self.title)
        if questions not in ("auto", "first", "all"):
            raise UserError(f"questions={questions!r}: it is auto, first or all.")
        inner = ("", "ReasonSeg", "reason_seg/ReasonSeg")
        folder = next((f for i in inner if (f := self.root / i / split).is_dir()), None)
        if folder is None:
            raise self.not_found(f"there is no folder {split}.")
        files = sorted(folder.glob("*.json"))
        if not files:
            raise self.not_found(f"there is no .json in {folder}.")
        self.categories = ["target"]
        self._explained: dict[str, tuple[str, str]] = {}
        if explanations and split == "train":
            self._explained = self._explanations(folder.parent / "explanatory" / "train.json")
        self._asked: list[tuple[bool, list[str]]] = []
        self._outlines: list[list[Outline]] = []
        every = questions == "all" or (questions == "auto" and split == "train")
        names = [f"{file.stem}.jpg" for file in files]
        paths = self.located([folder], names, missing)
        for name, file in zip(names, files, strict=True):
            sentence, texts, outlines = self._read(file)
            if name not in paths:
                continue
            self._asked.append((sentence, texts if every else texts[:1]))
            self._outlines.append(outlines)
            # Drawn as published, not as COCO's tools draw: see `annotate`.
            self.add(Entry(file.stem, paths[name], meta={"image": name}), [Region(0, "target", 0)])
        self.tell()

    def _read(self, file: Path) -> tuple[bool, list[str], list[Outline]]:
        """Whether the questions are sentences, the questions, and the polygons."""
        try:
            found = parse_json(_text(file))
        except ValueError as error:
            raise UserError(
                f"{file} is not valid JSON ({error}); was its download cut short?"
            ) from error
        if not isinstance(found, Mapping):
            raise UserError(f"{file} holds no JSON object.")
        texts = found.get("text")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise UserError(f"{file}: `text` is no list of questions.")
        kept = [text.strip() for text in texts if text.strip()]
        if not kept:
            self.fault("file(s) have no question, and ask nothing", file.name)
        shapes = found.get("shapes")
        if not isinstance(shapes, list) or not all(isinstance(s, Mapping) for s in shapes):
            raise UserError(f"{file}: `shapes` is no list of polygons.")
        outlines = []
        for number, shape in enumerate(shapes):
            label = str(shape.get("label", "")).lower()
            if label == _OLD:
                continue
            points = _points(shape.get("points"))
            if points is None:
                self.fault(
                    "polygon(s) have no corners, or some that are not two numbers, and are left "
                    "out",
                    f"{file.name} (shape {number})",
                )
                continue
            outlines.append(("ignore" if "ignore" in label else "target", points))
        if not any(label == "target" for label, _ in outlines):
            self.fault("file(s) have no target polygon, and an empty mask", file.name)
        return bool(found.get("is_sentence")), kept, outlines

    def _explanations(self, file: Path) -> dict[str, tuple[str, str]]:
        """Picture -> question and the answer in words."""
        if not file.is_file():
            raise UserError(
                f"{file} is not there, which holds the explanations of ReasonSeg: put it there, or "
                "say data.dataset.explanations=false."
            )
        try:
            rows = parse_json(_text(file))
        except ValueError as error:
            raise UserError(
                f"{file} is not valid JSON ({error}); was its download cut short?"
            ) from error
        fields = ("image", "query", "outputs")
        out = {}
        for number, row in enumerate(rows if isinstance(rows, list) else [None]):
            if not isinstance(row, Mapping) or not all(isinstance(row.get(f), str) for f in fields):
                raise UserError(f"{file}: entry {number} has no texts {', '.join(fields)}.")
            out[row["image"]] = row["query"].strip(), row["outputs"].strip()
        return out

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the target with its mask, what is ignored, and the questions."""
        target = Instance(0, "target", 0)
        sample.instances = [target]
        # A picture that is known not to be there can be counted all the same.
        if self.entries[index].path not in self._absent:
            labels = drawn(self._outlines[index], *sides(sample.images[0]))
            target.mask, target.box = labels == 1, bounds(labels == 1)
            if (labels == 2).any():
                sample.meta["ignored"] = labels == 2
        sentence, texts = self._asked[index]
        kind = "reason" if sentence else "refer"
        for text in texts:
            sample.turns += [
                Turn("user", text, (0,), kind=kind),
                Turn("assistant", text, (), (0,), kind=kind),
            ]
        if told := self._explained.get(self.entries[index].meta["image"]):
            asked, words = told
            sample.turns += [
                Turn("user", asked, (0,), kind="explain"),
                Turn("assistant", words, (), (0,), kind="explain"),
                Turn("user", asked, (0,)),
                Turn("assistant", words),
            ]


def drawn(outlines: list[Outline], height: int, width: int) -> np.ndarray:
    """[H, W] uint8: 1 within targets, 2 within what is ignored; larger polygons first.

    Args:
        outlines: (`target` or `ignore`, corners (x, y)).
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    filled = []
    for label, points in outlines:
        picture = Image.new("1", (width, height))
        corners = [(int(x), int(y)) for x, y in points]
        pen = ImageDraw.Draw(picture)
        if len(corners) > 2:
            pen.polygon(corners, fill=1, outline=1)
        else:
            pen.line(corners * 2, fill=1)
        filled.append((label, np.asarray(picture)))
    out = np.zeros((height, width), np.uint8)
    for label, mask in sorted(filled, key=lambda one: -int(one[1].sum())):
        out[mask] = 2 if label == "ignore" else 1
    return out


def _text(file: Path) -> str:
    """The published files are UTF-8 but for some of Windows' code page."""
    try:
        return read_text(file)
    except UserError:
        if not file.is_file():
            raise
        return file.read_bytes().decode("cp1252", errors="replace")


def _points(given: Any) -> list[tuple[float, float]] | None:
    if not isinstance(given, list) or not given:
        return None
    out = []
    for point in given:
        if not isinstance(point, list) or len(point) != 2:
            return None
        if not all(
            isinstance(v, int | float) and math.isfinite(v) and abs(v) < _FAR for v in point
        ):
            return None
        out.append((float(point[0]), float(point[1])))
    return out
