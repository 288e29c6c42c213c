"""Tars of samples: RS5M's, GAIA's as img2dataset rebuilds them, and open_clip's."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.gaia import record_meta
from rsvlm.data.sample import Picture, Sample
from rsvlm.data.transforms import to_pil
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

#: Samples of a tar; small ones, so that an export of a few thousand scenes has several.
_SHARD = 512


def write_tar(path: Path, samples: Sequence[Mapping[str, bytes]], first: int = 0) -> None:
    """Writes samples as members `<key>.<field>`, keys of nine digits as img2dataset has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i, fields in enumerate(samples, start=first):
            for field, content in fields.items():
                info = tarfile.TarInfo(f"{i:09d}.{field}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


def encoded(image: Picture, kind: str) -> bytes:
    """A picture as the content of a file."""
    out = io.BytesIO()
    if kind == "JPEG":
        to_pil(image).save(out, kind, quality=95, subsampling=0)
    else:
        to_pil(image).save(out, kind)
    return out.getvalue()


def write_rs5m(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/{pub11,rs3}-<split>-0000.tar`; of the 128 published tars, these."""
    expected: dict[str, list[Sample]] = {}
    for split in ("train", "val"):
        if split not in splits:
            continue
        expected[split] = []
        scenes = list(splits[split])
        for k, subset in enumerate(("pub11", "rs3")):
            samples = []
            for i, sample in enumerate(scenes[k::2] or scenes[:1]):
                name = f"{subset}_{split}_{i}"
                samples.append(
                    {
                        "img_content": encoded(sample.images[0], "PNG"),
                        "img_name": name.encode(),
                        "caption": sample.texts[0].encode(),
                    }
                )
                expected[split].append(
                    Sample(
                        sample.images,
                        texts=sample.texts[:1],
                        meta={"id": name, "subset": subset},
                    )
                )
            write_tar(out / split / f"{subset}-{split}-0000.tar", samples)
    return expected


def gaia_record(sample: Sample, id: int, split: str) -> dict[str, Any]:
    """A record of GAIA's JSON."""
    return {
        "id": id,
        "image_src": f"https://example.org/{split}/{id}.png",
        "image_alt": "a picture from a page",
        "captions": [f"The image showcases: {text}" for text in sample.texts],
        "credits": "rsvlm",
        "location": "nowhere",
        "lat": 47.3 + id / 1000,
        "lon": 8.5,
        "tag": ["land"],
        "resolution": "Very High",
        "satellite": ["none"],
        "sensor": ["none"],
        "modalities": ["RGB"],
    }


def _gaia(sample: Sample, record: dict[str, Any]) -> Sample:
    meta = {"id": str(record["id"])} | record_meta(record)
    return Sample(sample.images, texts=list(record["captions"]), meta=meta)


def write_gaia(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/00000.tar` with the page's text in `txt` and the captions in `json`."""
    expected: dict[str, list[Sample]] = {}
    id = 0
    for split, scenes in splits.items():
        members: list[dict[str, bytes]] = []
        expected[split] = []
        for sample in scenes:
            record = gaia_record(sample, id, split)
            members.append(
                {
                    "png": encoded(sample.images[0], "PNG"),
                    "txt": record["image_alt"].encode(),
                    "json": json.dumps(record).encode(),
                }
            )
            expected[split].append(_gaia(sample, record))
            id += 1
        for number, first in enumerate(range(0, len(members), _SHARD)):
            write_tar(out / split / f"{number:05d}.tar", members[first : first + _SHARD])
    return expected


def write_gaia_json(out: Path, splits: Splits) -> Expected:
    """Writes `<split>_data.json` and `images/<id>.png`; one address of each file is dead."""
    expected: dict[str, list[Sample]] = {}
    id = 0
    for split, scenes in splits.items():
        records = []
        expected[split] = []
        for sample in scenes:
            record = gaia_record(sample, id, split)
            save(sample.images[0], out / "images" / f"{id}.png")
            records.append(record)
            expected[split].append(_gaia(sample, record))
            id += 1
        records.append(records[-1] | {"id": id})
        id += 1
        (out / f"{split}_data.json").write_text(json.dumps(records), encoding="utf-8")
    return expected


def write_shards(out: Path, splits: Splits) -> Expected:
    """Writes open_clip's `<split>-0000.tar`: a JPEG, its caption, a class, and further captions."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        members: list[dict[str, bytes]] = []
        expected[split] = []
        for i, sample in enumerate(scenes):
            facts = {"captions": list(sample.texts), "gsd": sample.meta["gsd"]}
            members.append(
                {
                    "jpg": encoded(sample.images[0], "JPEG"),
                    "txt": sample.texts[0].encode(),
                    "cls": str(sample.label).encode(),
                    "json": json.dumps(facts).encode(),
                }
            )
            meta = {"id": f"{i:09d}", "gsd": sample.meta["gsd"]}
            expected[split].append(
                Sample(sample.images, texts=list(sample.texts), label=sample.label, meta=meta)
            )
        for number, first in enumerate(range(0, len(members), _SHARD)):
            path = out / f"{split}-{number:04d}.tar"
            write_tar(path, members[first : first + _SHARD], first)
    return expected


RS5M = Format(write_rs5m, reader={"missing": "skip"}, told=(r"of 64 shards are not in",))
GAIA = Format(write_gaia)
GAIA_JSON = Format(write_gaia_json, told=(r"1 of \d+ images are not in .* left out",))
SHARDS = Format(write_shards)
