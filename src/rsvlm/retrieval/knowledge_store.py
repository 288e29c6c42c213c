"""Where a knowledge base is kept: what a store does, and one that is a folder of files.

    kb/manifest.json            which version opens, whose vectors these are, and the store's kind
    kb/versions/000001/         the files of a version (`knowledge_version`)
    kb/building/<plan>/         parts of a build that has not ended, each renamed into place whole

A version is written beside the others and then named in the manifest, in one step, so that a base
that is killed while being written opens as it was. No torch here: a build may be all numpy.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rsvlm.errors import UserError, near
from rsvlm.files import write_text
from rsvlm.retrieval.knowledge_lock import one_writer
from rsvlm.retrieval.knowledge_version import (
    Floats,
    Ints,
    Part,
    Version,
    read_files,
    write_files,
)

if TYPE_CHECKING:
    from rsvlm.retrieval.knowledge_search import Filter

log = logging.getLogger(__name__)

#: Kinds of stores, as `--store` has them.
STORES = ("files", "lance", "qdrant")
#: Cosine of a picture with itself, encoded twice.
SAME_PICTURE = 0.9999
_FORMAT = 1
_KEPT = 3  # versions that stay on disk


@dataclass(frozen=True)
class Asked:
    """What a search asks of a store that has an index.

    Attributes:
        image: [D] of the question's picture, of unit length; None without one.
        text: [D] of its text.
        alpha: weight of the picture, where both are given.
        types: chunk types; None takes all.
        where: which records may be found.
        count: rows that are wanted at least.
        exclude_self: leave out rows whose picture is the question's.
    """

    image: Floats | None
    text: Floats | None
    alpha: float
    types: Sequence[str] | None
    where: Filter | None
    count: int
    exclude_self: bool = False


class Store(Protocol):
    """What a knowledge base asks of the place that keeps it.

    Attributes:
        kind: a word of `STORES`.
        root: a folder, or a server's address with the base's name.
    """

    kind: str

    @property
    def root(self) -> Path | str:
        """See above."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """What the base says of itself; empty where there is none."""
        ...

    def open(self, number: int | None = None) -> Version:
        """A version, None the last that is whole.

        Raises:
            UserError: there is no base or no such version, or it is damaged.
        """
        ...

    def versions(self) -> list[int]:
        """Numbers of the versions that can be opened, oldest first."""
        ...

    def parts(self, fingerprint: str) -> Path:
        """The folder of a plan's parts; what other plans left is removed."""
        ...

    def write(
        self,
        parts: Sequence[Part],
        fingerprint: str,
        facts: dict[str, Any],
        *,
        of: Version | None = None,
        gone: Collection[str] = (),
    ) -> int:
        """Writes a new version; its number.

        Args:
            parts: what is new.
            fingerprint: of the plan that made them.
            facts: what the manifest says beside the version.
            of: the version that stays otherwise.
            gone: ids of its records that do not.
        """
        ...

    def clean(self) -> None:
        """Removes parts of ended builds, and the oldest versions."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Holds the base for this process until the block ends, however it ends.

        Raises:
            UserError: another process writes it; says which.
        """
        ...

    def size(self) -> int | None:
        """Bytes on disk, of all versions; None where nobody says."""
        ...

    def narrow(self, version: Version, asked: Asked) -> tuple[Version, Ints] | None:
        """Rows that an index finds, of the version or of a small one that holds them alone.

        None where every row that the filters leave is to be scored, which finds the same and more.
        """
        ...


def store_of(where: str | Path, kind: str | None = None) -> Store:
    """The store at a place.

    Args:
        where: a folder, or a server's address with the base's name, http://host:6333/places.
        kind: a word of `STORES`; None takes the base's own, `files` for a new folder.

    Raises:
        UserError: an unknown kind, or one that is not the base's or does not fit the place.
    """
    if kind is not None and kind not in STORES:
        raise UserError(f"--store {kind} is not known. {near(kind, STORES)}")
    if is_address(where):
        if kind not in (None, "qdrant"):
            raise UserError(
                f"--store {kind} is a folder's, and {where} a server's: --store qdrant."
            )
        from rsvlm.retrieval.knowledge_qdrant import QdrantStore

        return QdrantStore(str(where))
    if kind == "qdrant":
        raise UserError(
            f"--store qdrant is a server's, and {where} a folder: give its address with a name for "
            "the base, as --out http://localhost:6333/places."
        )
    plain = FileStore(where)
    held = plain.manifest.get("store", "files") if plain.manifest else None
    if held and kind and held != kind:
        raise UserError(f"{where} is a base in --store {held}: for --store {kind} name another.")
    if (held or kind) == "lance":
        from rsvlm.retrieval.knowledge_lance import LanceStore

        return LanceStore(where)
    return plain


def is_address(where: str | Path) -> bool:
    """Whether a base is a server's."""
    return str(where).startswith(("http://", "https://"))


def parts_folder(building: Path, fingerprint: str) -> Path:
    """The folder of a plan's parts; what other plans left beside it is removed, and said."""
    folder = building / fingerprint
    for other in building.glob("*"):
        if other != folder:
            log.warning("%s: an unfinished build of other records was dropped.", building.parent)
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class FileStore:
    """A folder of files, all that the base install needs.

    Args:
        root: the folder.
    """

    kind = "files"
    kept = _KEPT

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the base says of itself; empty where there is none.

        Raises:
            UserError: the file is damaged, or of a later rsvlm.
        """
        path = self.root / "manifest.json"
        if not path.is_file():
            return {}
        try:
            held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            later = int(held["format"]) > _FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): build the base anew.") from error
        if later:
            raise UserError(f"{path} is of a later rsvlm: open it with that one, or build it anew.")
        return held

    def open(self, number: int | None = None) -> Version:
        """A version of the base.

        Args:
            number: which; None opens the one that the manifest names.

        Raises:
            UserError: there is no base or no such version, or files of it are damaged.
        """
        manifest = self.manifest
        if not manifest:
            begun = (
                " A build was begun there and has not ended: give the same rsvlm knowledge build "
                "again, and it goes on."
                if (self.root / "building").is_dir()
                else " Make one: rsvlm knowledge build --source folder --root <pictures> "
                "--records <.jsonl> --out <folder>."
            )
            raise UserError(f"{self.root} is no knowledge base.{begun}", code="no_knowledge_base")
        number = manifest["version"] if number is None else number
        folder = self._folder(number)
        if not folder.is_dir():
            there = ", ".join(map(str, self.versions()))
            raise UserError(f"{self.root} has no version {number}; there are {there}.")
        try:
            return self._read(folder, number)
        except (OSError, ValueError, KeyError, EOFError) as error:
            others = [n for n in self.versions() if n != number]
            or_else = f" Or open an older one: --version {others[-1]}." if others else ""
            raise UserError(
                f"{folder} is damaged ({error}): build the base anew.{or_else}"
            ) from error

    def versions(self) -> list[int]:
        """Numbers of the versions on disk, oldest first."""
        found = (int(path.name) for path in (self.root / "versions").glob("[0-9]" * 6))
        # One that the manifest does not name was killed before it was whole.
        return sorted(number for number in found if number <= self.manifest.get("version", 0))

    def parts(self, fingerprint: str) -> Path:
        """The folder of a plan's parts; what other plans left is removed.

        Raises:
            OSError: it cannot be written.
        """
        return parts_folder(self.root / "building", fingerprint)

    def write(
        self,
        parts: Sequence[Part],
        fingerprint: str,
        facts: dict[str, Any],
        *,
        of: Version | None = None,
        gone: Collection[str] = (),
    ) -> int:
        """See `Store`."""
        number = 1 + int(self.manifest.get("version", 0))
        folder = self._folder(number)
        beside = folder.with_name(f"{folder.name}.part")
        for left in (folder, beside):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
        self._fill(beside, parts, fingerprint, of, gone)
        beside.rename(folder)
        held = {"format": _FORMAT, "version": number, "store": self.kind, **facts}
        write_text(self.root / "manifest.json", json.dumps(held, indent=1, sort_keys=True))
        self.clean()
        return number

    def clean(self) -> None:
        """Removes parts of ended builds, and the oldest versions."""
        shutil.rmtree(self.root / "building", ignore_errors=True)
        for old in self.versions()[: -self.kept]:
            shutil.rmtree(self._folder(old), ignore_errors=True)
        for half in (self.root / "versions").glob("*.part"):
            shutil.rmtree(half, ignore_errors=True)

    def locked(self) -> AbstractContextManager[None]:
        """Holds the folder for this process until the block ends, however it ends.

        Raises:
            UserError: another process writes the base; says which.
        """
        return one_writer(self.root)

    def size(self) -> int | None:
        """Bytes on disk, of all versions."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def narrow(self, version: Version, asked: Asked) -> tuple[Version, Ints] | None:
        """None: files have no index."""
        return None

    def _folder(self, number: int) -> Path:
        return self.root / "versions" / f"{number:06d}"

    def _fill(
        self,
        folder: Path,
        parts: Sequence[Part],
        fingerprint: str,
        of: Version | None,
        gone: Collection[str],
    ) -> None:
        stays = [] if of is None else [of.without(gone)]
        write_files(folder, [*stays, *parts], fingerprint)

    def _read(self, folder: Path, number: int) -> Version:
        return read_files(folder, number)
