"""`rsvlm shards --data rsicd --root <folder> --out shards/rsicd`: a data set as tars.

Pictures are stored as they are, byte for byte, with all captions, label and meta beside them as
JSON; webdataset, open_clip and `data=shards` read them. A finished shard appears under its name
all at once and is not written again, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.files import written_whole

#: How files of `data.folders.EXTENSIONS` begin: JPEG, PNG, TIFF, BMP, GIF, JPEG 2000.
_PICTURES = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"BM",
    b"GIF8",
    b"\0\0\0\x0cjP",
    b"\xff\x4f\xff\x51",
)
_SEVERAL = "{name} has samples of several images; shards hold one each."
_LOST = (
    "{name} has objects, dialogues or maps, which shards would lose: they hold captions, label and "
    "meta. Ask the data set for captions alone, or use it as it is."
)


@dataclass(slots=True)
class Written:
    """What became of a split.

    Attributes:
        shards: how many there are now.
        fresh: how many of them were written in this run.
        samples: how many there are in them.
        unreadable: files that could not be read; their places hold 0 bytes.
    """

    shards: int
    fresh: int = 0
    samples: int = 0
    unreadable: list[str] = field(default_factory=list)


def write(
    dataset: Any, out: str | Path, *, per_shard: int = 1000, size: int | None = None
) -> Written:
    """Writes one split as `<split>-0000.tar` and so on, and what all splits share as shards.json.

    A picture that cannot be read keeps its place with 0 bytes, so that positions, and with them
    the order of training, are those of the source.

    Args:
        dataset: a data set of single images, of files, of shards, or made in memory (as PNG).
        out: the folder to write to.
        per_shard: samples of a shard.
        size: scale pictures whose shorter side is longer than this, in pixels, down to it, and
            store these as JPEG of quality 95; for training only, since it changes pixels.

    Raises:
        UserError: the folder holds shards of something else, or samples have several images,
            objects, dialogues or maps.
    """
    from rsvlm.data.datasets.base import overrides
    from rsvlm.data.datasets.shards import MANIFEST
    from rsvlm.data.protocols import attributes_of

    said = attributes_of(dataset)
    if said.sample_layout not in (None, "single"):
        raise UserError(_SEVERAL.format(name=dataset.name))
    if overrides(dataset, "annotate") or overrides(dataset, "read_maps"):
        raise UserError(_LOST.format(name=dataset.name))
    if per_shard < 1 or (size is not None and size < 1):
        raise UserError("--per-shard and --size are at least 1.")
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    split = dataset.split
    facts = {
        "name": dataset.name,
        "licence": said.licence,
        "paper": said.paper,
        "homepage": said.homepage,
        "classes": said.classes,
        "per_shard": per_shard,
        "size": size,
    }
    shards = -(-len(dataset) // per_shard)
    plan = {"samples": len(dataset), "shards": shards, "source": _fingerprint(dataset)}
    held = _held(out / MANIFEST, facts, split, plan)
    _replace(
        out / MANIFEST,
        json.dumps(
            {**facts, "splits": held | {split: plan}}, indent=1, ensure_ascii=False
        ).encode(),
    )
    done = Written(shards, samples=len(dataset))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number in range(shards):
            path = out / f"{split}-{number:04d}.tar"
            if path.is_file():
                continue
            rows = range(number * per_shard, min(len(dataset), (number + 1) * per_shard))
            _replace(
                path, partial(_shard, dataset=dataset, rows=rows, size=size, pool=pool, done=done)
            )
            done.fresh += 1
    return done


def _held(file: Path, facts: dict[str, Any], split: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The plans of the splits that are there already."""
    if not file.is_file():
        return {}
    from rsvlm.data.text_files import read_json

    old = read_json(file)
    splits = old.get("splits", {})
    for word in ("name", "per_shard", "size"):
        if old.get(word) != facts[word]:
            raise UserError(
                f"{file.parent} holds shards with {word}={old.get(word)}, not {facts[word]}; "
                "choose another --out, or empty it."
            )
    if split in splits and splits[split] != plan:
        raise UserError(
            f"{file.parent} holds split {split!r} of another source ({splits[split]['samples']} "
            f"samples; now {plan['samples']}); choose another --out, or empty it."
        )
    return splits


def _fingerprint(dataset: Any) -> str:
    """A hash of ids, captions and labels at 64 places: other options give another one."""
    from rsvlm.data.protocols import attributes_of

    entries = attributes_of(dataset).entries
    if entries is None or not len(entries):
        return ""
    places = sorted({i * (len(entries) - 1) // 63 for i in range(64)})
    words = [(e.id, list(e.texts), e.label) for e in (entries[i] for i in places)]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _replace(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Writes a file so that it is there whole or not at all."""
    with written_whole(path) as part:
        if callable(content):
            content(part)
        else:
            part.write_bytes(content)


def _shard(
    path: Path,
    *,
    dataset: Any,
    rows: range,
    size: int | None,
    pool: ThreadPoolExecutor,
    done: Written,
) -> None:
    # Nothing of the clock or the user goes in: the same data gives the same bytes.
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        parts = pool.map(lambda i: _sample(dataset, i, size), rows)
        for row, (data, ext, text, name) in zip(rows, parts, strict=True):
            if not data:
                done.unreadable.append(name)
            for ending, content in ((ext, data), ("json", text)):
                info = tarfile.TarInfo(f"{row:08d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _sample(dataset: Any, index: int, size: int | None) -> tuple[bytes, str, bytes, str]:
    """Picture, its ending, the JSON, and the name of a sample."""
    from rsvlm.data.datasets.base import overrides
    from rsvlm.data.images import BrokenImage

    entry = dataset.entries[index] if hasattr(dataset, "entries") else None
    if entry is None:
        sample = dataset[index]
        if sample.layout != "single":
            raise UserError(_SEVERAL.format(name=dataset.name))
        if sample.instances or sample.turns or sample.semantic:
            raise UserError(_LOST.format(name=dataset.name))
        data, ext = _encode(sample.images[0], size, lossless=True)
        texts, label, meta = sample.texts, sample.label, dict(sample.meta)
        id = str(meta.pop("id", index))
    else:
        id, texts, label, meta = entry.id, list(entry.texts), entry.label, entry.meta
        if overrides(dataset, "facts"):
            meta = dataset.facts(index)
        data, ext = _stored(dataset, index, entry)
        if size is not None and data:
            try:
                picture = dataset.image(index)
            except BrokenImage:
                pass  # stays broken, as it is
            else:
                if min(picture.size) > size:
                    data, ext = _encode(picture, size)
    record = {"id": id, "captions": texts, "label": label, "meta": meta}
    text = json.dumps(record, ensure_ascii=False, default=_plain)
    return data, ext, text.encode("utf-8", "surrogatepass"), id


def _stored(dataset: Any, index: int, entry: Any) -> tuple[bytes, str]:
    """The picture's bytes as they are, and its ending; no bytes where it is no picture."""
    from rsvlm.data.images import BrokenImage, read_file
    from rsvlm.data.protocols import StoresFiles

    if isinstance(dataset, StoresFiles):
        data, ext = dataset.stored(index)
        ext = "jpg" if ext == "img_content" else ext
    else:
        ext = Path(entry.path).suffix[1:].lower() or "jpg"
        try:
            data = read_file(entry.path)
        except BrokenImage:
            data = b""
    return (data if _is_picture(data) else b""), ext


def _is_picture(data: bytes) -> bool:
    """Whether bytes begin as a picture's do, damaged or not: nothing else goes into a shard."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith(_PICTURES)


def _encode(picture: Any, size: int | None, lossless: bool = False) -> tuple[bytes, str]:
    from PIL import Image

    from rsvlm.data.transforms import to_pil

    image = to_pil(picture)
    shorter = min(image.size)
    if size is not None and shorter > size:
        wide, high = (max(size, round(side * size / shorter)) for side in image.size)
        image, lossless = image.resize((wide, high), Image.Resampling.BICUBIC), False
    out = io.BytesIO()
    if lossless:
        image.save(out, "PNG")
        return out.getvalue(), "png"
    image.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue(), "jpg"


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def main(argv: list[str]) -> None:
    """Writes the splits of a data option and says what was written."""
    parser = argparse.ArgumentParser(
        prog="rsvlm shards", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--data", required=True, help="a data option of conf/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--split", action="append", help="a split; all of them by default")
    parser.add_argument("--per-shard", type=int, default=1000, help="samples a shard (1000)")
    parser.add_argument("--size", type=int, help="scale pictures down to this shorter side, px")
    parser.add_argument("option", nargs="*", help="key=value for the data set, as name=eurosat")
    args = parser.parse_args(argv)

    from rsvlm.cli.inspect import reader
    from rsvlm.data.datasets.base import listed

    make, splits = reader(args.data, args.root, args.option)
    for split in args.split or splits:
        done = write(make(split=split), args.out, per_shard=args.per_shard, size=args.size)
        were = f", {done.shards - done.fresh} were there" if done.fresh < done.shards else ""
        print(f"{split}: {done.samples} samples in {done.shards} shards{were}")
        if done.unreadable:
            print(f"  {len(done.unreadable)} could not be read: {listed(done.unreadable)}")
    print(f"python train.py data=shards data.root={args.out}")
