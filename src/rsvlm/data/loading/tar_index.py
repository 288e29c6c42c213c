"""Tar shards as ordinary data: an index of a tar makes each of its samples addressable.

A stream of shards cannot keep the order contract: what a worker sees next depends on which shards
it was dealt. So a tar is walked once, header by header, and where its members lie is kept in a
small file beside it. After that a sample is read with one call, shards are a sequence like any
other data set, and order, workers, ranks and resuming work as for image files. Shards therefore
are files that can be sought in (a local disk, a mounted share or bucket), not URLs.

The layout is webdataset's: members whose names agree up to the first dot of the base name are one
sample (`000012.jpg`, `000012.json`), and what follows that dot is the field.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.data.images import BrokenImage
from rsvlm.errors import UserError
from rsvlm.files import written_whole

log = logging.getLogger(__name__)

_BLOCK = 512
_PADDING = 1 << 20
_VERSION = 1
_KEPT_OPEN = 512


@dataclass(frozen=True, slots=True)
class Index:
    """Where the samples of one tar lie.

    Attributes:
        fields: the fields that occur in it.
        keys: [n] the samples' names, as bytes.
        offset: [n, fields] byte at which a member's content begins, -1 where a sample lacks it.
        size: [n, fields] its length in bytes.
        fault: what is wrong with the file from some byte on; empty where nothing is.
    """

    fields: tuple[str, ...]
    keys: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    fault: str = ""

    def __len__(self) -> int:
        return len(self.keys)


class Cut(Exception):
    """A tar that ends early or is damaged; the text says where."""


def members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file in a tar, in order; headers alone are read.

    Understands what tar programs write for plain files: ustar, GNU's and pax's long names, and
    sizes past 8 GiB. (`tarfile` ends in silence at a damaged header and takes five times as long.)

    Raises:
        UserError: the file is no tar.
        Cut: it ends early or is damaged; what came before is whole.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        yield from _members(path, file, os.fstat(file).st_size)
    finally:
        os.close(file)


def _members(path: Path, file: int, end: int) -> Iterator[tuple[str, int, int]]:
    at, long_name = 0, ""
    pax: dict[str, str] = {}
    while True:
        header = os.pread(file, _BLOCK, at)
        if len(header) < _BLOCK:
            if at == 0:
                raise _no_tar(path, header)
            raise Cut(f"ends at byte {end} without the mark of an archive's end")
        if not any(header):
            # Tars are padded to 10 KiB, some to a little more.
            if at == 0 or end - at > _PADDING:
                raise Cut(f"is empty from byte {at} to {end}, as an unfinished download is")
            return
        start, content = at, at + _BLOCK
        try:
            name, size, kind = _header(header)
            size = int(pax.get("size", size))
            at = content + -(-size // _BLOCK) * _BLOCK
            if content + size > end:
                raise Cut(f"is cut short at byte {end}, {content + size - end} before {name} ends")
            if kind == b"L":
                long_name = _text(os.pread(file, size, content).rstrip(b"\0"))
                continue
            if kind == b"x":
                pax = _pax(os.pread(file, size, content))
                continue
        except ValueError as error:
            if start == 0:
                raise _no_tar(path, header) from error
            raise Cut(f"is damaged at byte {start} ({error})") from error
        if kind in (b"0", b"\0"):
            yield pax.get("path") or long_name or name, content, size
        if kind != b"g":
            long_name, pax = "", {}


def _header(header: bytes) -> tuple[str, int, bytes]:
    """Name, size and kind of a member.

    Raises:
        ValueError: it is no header.
    """
    if sum(header[:148]) + sum(header[156:]) + 256 != _number(header[148:156]):
        raise ValueError("a header's checksum is wrong")
    name = _text(header[:100].split(b"\0", 1)[0])
    if header[257:263] == b"ustar\0" and header[345]:
        name = _text(header[345:500].split(b"\0", 1)[0]) + "/" + name
    return name, _number(header[124:136]), header[156:157]


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header, each a line `<length> <key>=<value>`."""
    records = {}
    while data:
        length = int(data.split(b" ", 1)[0])
        if length < 5:
            raise ValueError("a pax record has no length")
        key, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        records[_text(key)] = _text(value)
        data = data[length:]
    return records


def _no_tar(path: Path, start: bytes) -> UserError:
    if not start:
        why = "it is empty"
    elif start[:2] == b"\x1f\x8b" or start[:4] in (b"\x28\xb5\x2f\xfd", b"\xfd7zX"):
        why = "it is compressed, so that nothing in it can be addressed; unpack it to a plain .tar"
    elif start[:12].lstrip().lower().startswith((b"<!doctype", b"<html", b"{", b"<?xml")):
        why = "it is a text file (an error page of a download?)"
    elif start.startswith(b"version https://git-lfs"):
        why = "it is a Git LFS pointer; run git lfs pull"
    else:
        why = "it does not begin with a tar header"
    return UserError(f"{path} is not a tar: {why}.")


def build(path: Path) -> Index:
    """Walks a tar; `fault` tells of a cut or of damage, and a sample torn by it is left out.

    Raises:
        UserError: the file is no tar.
    """
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    fault = ""
    try:
        for name, offset, size in members(path):
            folder, base = os.path.split(name)
            stem, dot, field = base.partition(".")
            if not dot or not stem:
                continue
            key, field = os.path.join(folder, stem), field.lower()
            if not samples or samples[-1][0] != key or field in samples[-1][1]:
                samples.append((key, {}))
            samples[-1][1][field] = (offset, size)
    except Cut as cut:
        fault = str(cut)
        # Torn where it lacks what the sample before it has.
        if len(samples) > 1 and not set(samples[-2][1]) <= set(samples[-1][1]):
            samples.pop()
    fields = tuple(sorted({field for _, parts in samples for field in parts}))
    places = np.full((len(samples), len(fields), 2), -1, np.int64)
    for i, (_, parts) in enumerate(samples):
        for field, place in parts.items():
            places[i, fields.index(field)] = place
    keys = np.array([key.encode("utf-8", "surrogateescape") for key, _ in samples], np.bytes_)
    return Index(fields, keys, places[:, :, 0].copy(), places[:, :, 1].copy(), fault)


def index(path: Path, cache: Path | None = None) -> Index:
    """The index of a tar, from its file where that is of the tar's present size and time.

    It is kept beside the tar as `<name>.tar.index.npz`, or in `cache` where that folder cannot be
    written to. Tars are indexed one by one, so an interrupted run goes on with the next tar.

    Args:
        path: the tar.
        cache: folder for indices; by default `rsvlm/shards` in the user's cache folder.

    Raises:
        UserError: the file is no tar.
    """
    state = path.stat()
    stamp = np.array([_VERSION, state.st_size, state.st_mtime_ns], np.int64)
    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rsvlm/shards"
    word = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    places = [path.with_name(path.name + ".index.npz"), cache / f"{word}-{path.name}.index.npz"]
    for place in places:
        found = _load(place, stamp)
        if found is not None:
            return found
    made = build(path)
    for place in places:
        if _save(place, made, stamp):
            return made
    log.warning("the index of %s can be kept nowhere (%s); each run walks it again", path, places)
    return made


def _load(place: Path, stamp: np.ndarray) -> Index | None:
    try:
        with np.load(place, allow_pickle=False) as held:
            if not np.array_equal(held["stamp"], stamp):
                return None
            fields = tuple(str(field) for field in held["fields"])
            arrays = (held["keys"], held["offset"], held["size"])
            return Index(fields, *arrays, str(held["fault"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        log.info("%s is made again (%s)", place, error)
        return None


def _save(place: Path, made: Index, stamp: np.ndarray) -> bool:
    # Ranks may do this at once: each writes its own file, and the last one stays.
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(place) as part, part.open("wb") as file:
            np.savez(
                file,
                stamp=stamp,
                fields=np.array(made.fields, np.str_),
                keys=made.keys,
                offset=made.offset,
                size=made.size,
                fault=np.array(made.fault),
            )
    except OSError:
        return False
    return True


def indices(paths: Sequence[Path], cache: Path | None = None) -> list[Index]:
    """The indices of many tars, eight at a time: on a network most of the time is waiting.

    Raises:
        UserError: a file is no tar.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda path: index(path, cache), paths))


def expand(root: Path, patterns: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """Files that patterns name, in order, and those that are not there.

    Braces are opened from left to right (`{pub11,rs3}-train-{0000..0031}.tar`), globs are sorted,
    a folder stands for its `*.tar`.

    Args:
        root: what relative patterns start from.
        patterns: see above.

    Raises:
        UserError: a pattern is a URL or a command, its braces cannot be read, or it finds nothing.
    """
    found: dict[Path, None] = {}
    missing = []
    for pattern in patterns:
        if re.match(r"[a-z0-9]+://|pipe:", pattern):
            raise UserError(
                f"shards={pattern!r}: shards are read from files, so that the order of samples can "
                "be kept and resumed. Download them, or mount the bucket, and name the files."
            )
        for name in _braces(pattern):
            path = root / name
            if path.is_file():
                found[path] = None
            elif path.is_dir() or glob.has_magic(name):
                if path.is_dir():
                    name = os.path.join(glob.escape(name), "*.tar")
                hits = sorted(glob.glob(os.path.join(glob.escape(str(root)), name)))
                if not hits:
                    raise UserError(f"shards={pattern!r}: there is no {root / name}.")
                found.update(dict.fromkeys(map(Path, hits)))
            else:
                missing.append(path)
    return list(found), missing


def _braces(pattern: str) -> list[str]:
    start = pattern.find("{")
    if start < 0 and "}" not in pattern:
        return [pattern]
    pieces, begin, depth = [], start + 1, 0
    for at in range(max(start, 0), len(pattern)):
        depth += (pattern[at] == "{") - (pattern[at] == "}")
        if depth == 0 or (depth == 1 and pattern[at] == ","):
            pieces.append(pattern[begin:at])
            begin = at + 1
        if depth <= 0:
            break
    if start < 0 or depth:
        raise UserError(f"shards={pattern!r}: a brace is not closed, or not opened.")
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", pieces[0]) if len(pieces) == 1 else None
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        wide = len(numbers[1]) if numbers[1].startswith("0") else 1
        words = [f"{i:0{wide}d}" for i in range(first, last + 1)]
    else:
        words = [word for piece in pieces for word in _braces(piece)]
    if not words or (len(pieces) == 1 and not numbers):
        raise UserError(
            f"shards={pattern!r}: {{{pieces[0]}}} is neither a range such as {{0000..0031}} nor a "
            "list such as {a,b}."
        )
    return [pattern[:start] + word + rest for word in words for rest in _braces(pattern[begin:])]


class Reader:
    """Reads parts of tars. Files stay open, and threads and forked workers may share them.

    Args:
        paths: the tars.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._open: dict[int, int] = {}

    def read(self, tar: int, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer where the file has become shorter.

        Raises:
            BrokenImage: the tar cannot be read.
        """
        try:
            file = self._open.get(tar)
            if file is None:
                file = os.open(self.paths[tar], os.O_RDONLY)
                # setdefault decides which file stays, should two threads open it at once.
                if len(self._open) >= _KEPT_OPEN or self._open.setdefault(tar, file) != file:
                    try:
                        return os.pread(file, size, offset)
                    finally:
                        os.close(file)
            return os.pread(file, size, offset)
        except OSError as error:
            name = str(self.paths[tar])
            raise BrokenImage(name, f"cannot be read ({error.strerror or error}).") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_open": {}}

    def __del__(self) -> None:
        for file in getattr(self, "_open", {}).values():
            os.close(file)
