"""Pairs of images with a black and white mask of change: LEVIR-CD, DSIFN and their like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets import change_rules
from rsvlm.data.datasets.base import Entry, FileDataset, metric_word, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import EXTENSIONS, check_names
from rsvlm.data.palette import check_size, read_greys
from rsvlm.data.sample import Layout, Sample
from rsvlm.data.text_files import read_names
from rsvlm.errors import UserError

#: Both ways in which masks are stored: 255 or 1 for change.
GREYS = {0: 0, 1: 1, 255: 1}


class ChangePairs(FileDataset):
    """A/, B/ and label/ with the same file names, as change detection sets are passed around.

    Splits are folders (`train/A/...`) or lists (`list/train.txt`, a file name a line); without
    either there is only `all`. `meta["change_mask"]` is [H, W] uint8, 1 where something changed.
    Sets without label/ give pairs alone.

    Args:
        root: the folder of A/ and B/, or of the splits.
        split: see above; several are joined with `+`.
        missing: what becomes of pairs whose files are not there (`datasets/missing.py`).
        name: word for metric names; by default the folder's name.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.
        instructions: `building` or `region` makes questions and answers from the masks, by the
            rules of `data/datasets/change_rules.py`, which are ours; null makes none.

    Raises:
        UserError: no such folder or split, missing files, or instructions without masks.
    """

    title: ClassVar[str] = "A set of change pairs"
    layout: ClassVar[str] = (
        "  {root}/A/  B/  label/   the same names in each; list/<split>.txt for splits, or\n"
        "  {root}/<split>/A/  B/  label/"
    )
    sample_layout: ClassVar[Layout] = "before_after"

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
        instructions: str | None = None,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if instructions is not None:
            change_rules.known_thing(instructions)
        self.instructions = instructions
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or metric_word(self.root.resolve().name)
        found = self._splits()
        wanted = list(found) if split == "all" and "all" not in found else split.split("+")
        lost: list[str] = []
        total = 0
        for part in wanted:
            if part not in found:
                raise split_error(part, {k: len(v[1]) for k, v in found.items()}, str(self.root))
            folder, names = found[part]
            kinds = [kind for kind in ("A", "B", "label") if (folder / kind).is_dir()]
            held = {kind: set(_images(folder / kind)) for kind in kinds}
            for file in names:
                total += len(kinds)
                lacking = [
                    str((folder / kind / file).relative_to(self.root))
                    for kind in kinds
                    if file not in held[kind]
                ]
                lost += lacking
                if lacking and missing == "skip":
                    continue
                self.entries.append(
                    Entry(
                        id=file if len(wanted) == 1 else f"{part}/{file}",
                        path=str(folder / "A" / file),
                        more=(str(folder / "B" / file),),
                        meta={"split": part},
                    )
                )
        self.labelled = all("label" in os.listdir(found[part][0]) for part in wanted)
        if instructions and not self.labelled:
            raise UserError(
                f"data.dataset.instructions={instructions} reads masks, and {self.root} "
                "has no label/ in every split: leave the option out."
            )
        problem = report_missing(lost, total, str(self.root), missing)
        if problem:
            self.problems.append(problem)
        if not self.entries:
            raise self.not_found(f"no pair of split {split!r} is there.")

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds `change_mask`, and `turns` with `changeflag` where they are to be made from it.

        Raises:
            BrokenImage: the mask cannot be read, has other values than 0, 1 and 255, or another
                size than the images.
        """
        if self.labelled:
            before = Path(self.entries[index].path)
            path = before.parents[1] / "label" / before.name
            mask = read_greys(path, GREYS)
            check_size(path, mask, sample.images[0])
            sample.meta["change_mask"] = mask
            if self.instructions:
                sample.turns = change_rules.instructions(mask, self.instructions)
                sample.meta["changeflag"] = int(sample.turns[1].text == "Yes")

    def _splits(self) -> dict[str, tuple[Path, list[str]]]:
        """Split → its folder and file names."""
        folders = {
            part.name: part
            for part in sorted(self.root.iterdir())
            if (part / "A").is_dir() and (part / "B").is_dir()
        }
        if folders:
            return {name: (folder, _named(folder)) for name, folder in folders.items()}
        if not (self.root / "A").is_dir() or not (self.root / "B").is_dir():
            raise self.not_found("there are no folders A and B.")
        found = {"all": (self.root, _named(self.root))}
        for file in sorted((self.root / "list").glob("*.txt")):
            lines = read_names(file)
            if not lines:
                raise UserError(f"{file} names no pair.")
            check_names(lines, [self.root], str(file))
            found[file.stem] = (self.root, lines)
        return found


def _named(folder: Path) -> list[str]:
    return sorted({*_images(folder / "A"), *_images(folder / "B")})


def _images(folder: Path) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS)
