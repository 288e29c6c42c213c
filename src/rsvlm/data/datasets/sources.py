"""Where the table of a split lies in a folder of one's own, and in which form: found, and said.

Tables called after the split or after nothing, a split a folder with `metadata.csv` (imagefolder of
Hugging Face's `datasets`), Parquet in parts, and what its `save_to_disk` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsvlm.data.datasets.base import listed
from rsvlm.data.datasets.tables import ENDINGS, STAGES
from rsvlm.data.folders import check_names
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError

#: In the order in which they are looked for.
_METADATA = tuple(f"metadata{ending}" for ending in ENDINGS)
_DISK = "what datasets' save_to_disk wrote"


@dataclass(frozen=True, slots=True)
class Source:
    """The tables of a split.

    Attributes:
        tables: one or more files, to be read one after another.
        form: what was found, in words.
        whole: whether they hold all splits.
        images: where else than usual the images lie.
    """

    tables: tuple[Path, ...]
    form: str
    whole: bool = False
    images: Path | None = None

    @property
    def note(self) -> str:
        """A sentence for whoever looks at the data."""
        return f"read from {listed((p.name for p in self.tables), 3)}: {self.form}."


def find(root: Path, split: str) -> tuple[Source | None, list[Path]]:
    """The tables of a split in a folder.

    Args:
        root: the folder.
        split: the split's word; its other words are tried too.

    Returns:
        What was found, None where nothing was, and the tables that the folder holds.
    """
    held = sorted(p for p in root.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
    # Beside other tables, JSON is something else as a rule: facts of a data set, a division.
    tables = [path for path in held if path.suffix.lower() != ".json"]
    held = tables or held
    words = STAGES.get(split, (split,))
    for word in words:
        for ending in ENDINGS:
            for path in held:
                if path.name.lower() == f"{word}{ending}".lower():
                    return Source((path,), _form(path)), held
    for word in words:
        parts = saved(root / word)
        if parts:
            return Source(parts, _DISK), held
        for folder in (root / "data", root):
            parts = tuple(sorted(folder.glob(f"{word}-*.parquet")))
            if parts:
                return Source(parts, "Parquet in parts, as on the Hub"), held
        folder = root / word
        for name in _METADATA:
            if (folder / name).is_file():
                form = f"imagefolder of datasets, {word}/{name}"
                return Source((folder / name,), form, images=folder), held
    parts = saved(root)
    if parts:
        return Source(parts, _DISK, whole=True), held
    return None, held


def found(root: Path, split: str, *, divided: bool) -> tuple[Source | None, list[Path]]:
    """As `find`; a folder's only table serves where it is divided, or taken whole.

    Args:
        root: the folder.
        split: the split's word.
        divided: whether a rule divides one table among the splits.
    """
    source, held = find(root, split)
    if source is None and (divided or split in ("train", "all")):
        source = single(held)
    return source, held


def single(held: Sequence[Path]) -> Source | None:
    """The table of a folder that has a single one, which is not called after a split."""
    words = {word for names in STAGES.values() for word in names}
    named = [path for path in held if path.stem.lower() not in words]
    if len(held) == 1 and named:
        return Source((held[0],), _form(held[0]), whole=True)
    return None


def saved(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that `save_to_disk` wrote, in their order; none where it is none.

    Raises:
        UserError: state.json names files that are not there.
    """
    state = folder / "state.json"
    if not state.is_file():
        return ()
    content = read_json(state)
    files = content.get("_data_files") if isinstance(content, dict) else None
    if not isinstance(files, list):
        return ()
    names = [str(each.get("filename")) for each in files if isinstance(each, dict)]
    check_names(names, [folder], str(state))
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise UserError(f"{state} names {listed(lacking)}, which {folder} does not hold.")
    return tuple(folder / name for name in names)


def _form(path: Path) -> str:
    return {
        ".csv": "a table, CSV",
        ".tsv": "a table, TSV",
        ".jsonl": "a table, JSON Lines",
        ".ndjson": "a table, JSON Lines",
        ".json": "a table, JSON",
        ".parquet": "a table, Parquet",
    }.get(path.suffix.lower(), "a table")
