"""Pairs of pictures with a mask of change, as they lie on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rsvlm.curate.record import Record
from rsvlm.data.datasets.base import Entry, FileDataset
from rsvlm.data.datasets.change_pairs import ChangePairs
from rsvlm.data.datasets.levir_mci import LevirMCI
from rsvlm.data.datasets.missing import Missing
from rsvlm.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass
class MaskPairs:
    """The pairs of LEVIR-MCI, or of any folder of A/, B/ and label/.

    A record has `before`, `after` and `mask` (paths), `images` (both pictures as the published
    files name them, below `image_root`), `split`, `captions`, and `changeflag` (0, 1, or None where
    no file says it). With LevirCCcaptions.json the folder is LEVIR-MCI's; without, the pairs have
    no captions, and a folder without splits is all `train`.

    Args:
        root: the folder.
        split: the part to take, several joined with `+`, or `all`.
        missing: what becomes of pairs whose files are not there: `error`; `keep`, so that the stage
            that reads masks drops them with its reason; `skip`.
        as_split: `train`, `val` or `test` for all that is taken, where the folder's own splits have
            other words.

    Raises:
        UserError: no folder, no masks, splits of other words, missing pictures, or captions that
            cannot be read.
    """

    root: str | None
    split: str = "all"
    as_split: str | None = None
    missing: Missing = "error"

    name = "mask_pairs"
    version = "1"

    def fingerprint(self) -> str:
        """A hash of the annotations, and of the names and sizes of pictures and masks."""
        found = self._dataset()
        total = hashlib.sha256()
        annotations = getattr(found, "file", None)
        if annotations is not None:
            total.update(Path(annotations).read_bytes())
        for entry in found.entries:
            for path in (*entry.paths, str(_mask(entry))):
                size = os.path.getsize(path) if os.path.isfile(path) else -1
                total.update(f"{os.path.relpath(path, found.root)}\0{size}\n".encode())
        return total.hexdigest()

    def __iter__(self) -> Iterator[Record]:
        """The pairs in the order of the annotations, or of their names."""
        found = self._dataset()
        folder = found.root / "images" if isinstance(found, LevirMCI) else found.root
        for entry in found.entries:
            split = str(entry.meta["split"])
            from_file = entry.meta.get("changeflag_from") == "file"
            yield {
                "id": f"{split}/{Path(entry.path).name}",
                "split": self._split(split),
                "before": entry.path,
                "after": entry.more[0],
                "mask": str(_mask(entry)),
                "images": [Path(os.path.relpath(p, folder)).as_posix() for p in entry.paths],
                "image_root": str(folder.absolute()),
                "captions": list(entry.texts),
                "changeflag": entry.meta["changeflag"] if from_file else None,
            }

    def _split(self, found: str) -> str:
        split = self.as_split or ("train" if found == "all" else found)
        if split not in SPLITS:
            raise UserError(
                f"{self.root} has a split {split!r}; ChangeChat's files are of train, val and "
                "test: pipeline.source.as_split=train puts all pairs there."
            )
        return split

    def _dataset(self) -> FileDataset:
        if self.root is None:
            raise UserError(
                "masks= names the folder of pairs and masks: LEVIR-MCI's "
                "(LevirCCcaptions.json, images/), or one of A/, B/ and label/."
            )
        root = Path(self.root).expanduser()
        try:
            if any((root / name).is_file() for name in LevirMCI.file_names):
                return LevirMCI(root, self.split, missing=self.missing)
            found = ChangePairs(root, self.split, missing=self.missing)
        except UserError as error:
            # What it advises are words of data=; here the options have another place.
            text = str(error).replace(
                "missing=skip goes on without them (data.dataset.missing=skip)",
                "pipeline.source.missing=keep drops such pairs, and lists them",
            )
            raise UserError(text.replace("data.dataset.", "pipeline.source.")) from error
        if not found.labelled:
            raise UserError(
                f"{root} has no label/ beside A/ and B/: without masks there is no rule."
            )
        return found


def _mask(entry: Entry) -> Path:
    """Where the mask of a pair lies."""
    before = Path(entry.path)
    return before.parents[1] / "label" / before.name
