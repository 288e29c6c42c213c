"""A built set in MLCommons' Croissant 1.0: files with their hashes, and the fields in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.curate.plan import DRY, WORK

#: The context that the format's specification prints (docs.mlcommons.org/croissant).
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
}
#: Kinds of files in tars, by the reader that takes them: name, pattern, format.
_WITHIN = {
    "shards": (
        ("pictures", "*.jpg", "image/jpeg"),
        ("texts", "*.json", "application/json"),
    ),
    "rs5m": (
        ("pictures", "*.img_content", "image/*"),
        ("captions", "*.caption", "text/plain"),
        ("names", "*.img_name", "text/plain"),
    ),
}
#: A sample's name without its ending.
_KEY = r"^(?:.*/)?([^/]+)\.[^.]+$"
#: What a run writes beside the set.
_BESIDE = frozenset({"card.html", "card.json", "croissant.json", "manifest.json", "dropped.jsonl"})


def croissant(
    out: Path, facts: Mapping[str, Any], reader: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The description of a folder.

    Args:
        out: the folder.
        facts: of the card.
        reader: `data` and `options`, as the writer says.
    """
    # In the order of their names; nothing of the work, or of a dry run in the same folder.
    files = sorted(
        path
        for path in out.rglob("*")
        if path.is_file()
        and path.suffix in _FORMATS
        and path.relative_to(out).parts[0] not in {*_BESIDE, WORK, DRY}
    )
    samples = sum(split["samples"] for split in facts["splits"].values())
    stages = ", ".join(stage["name"] for stage in facts["stages"])
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts["name"],
        "description": f"{samples} samples, built by rsvlm curate pipeline={facts['pipeline']} "
        f"({stages}).",
        "license": "; ".join(f"{k}: {v}" for k, v in facts["licences"].items()) or "unknown",
        "version": "1.0.0",
        "distribution": [_file(path, out) for path in files],
    }
    tars = [path.relative_to(out).as_posix() for path in files if path.suffix == ".tar"]
    records = _records(files, reader)
    if tars and reader and reader["data"] in _WITHIN:
        kinds = _WITHIN[reader["data"]]
        found["distribution"] += [_within(tars, *kind) for kind in kinds]
        records += [_members(name, encoding) for name, _, encoding in kinds]
    return found | ({"recordSet": records} if records else {})


def _within(tars: list[str], name: str, pattern: str, encoding: str) -> dict[str, Any]:
    """The files of one kind within tars."""
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": [{"@id": tar} for tar in tars],
        "encodingFormat": encoding,
        "includes": pattern,
    }


def _members(within: str, encoding: str) -> dict[str, Any]:
    """The files of one kind within tars as records: a sample's key, and what the file holds.

    The key is one for all files of a sample. No reference joins them: readers do that by it.
    """
    kind = "sc:ImageObject" if encoding.startswith("image") else "sc:Text"
    name = f"{within}_of_samples"

    def field(word: str, kind: str, prop: str, **more: Any) -> dict[str, Any]:
        source = {"fileSet": {"@id": within}, "extract": {"fileProperty": prop}, **more}
        named = {"@id": f"{name}/{word}", "name": f"{name}/{word}"}
        return {"@type": "cr:Field", **named, "dataType": kind, "source": source}

    fields = [
        field("key", "sc:Text", "filename", transform={"regex": _KEY}),
        field("content", kind, "content"),
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _file(path: Path, out: Path) -> dict[str, Any]:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return {
        "@type": "cr:FileObject",
        "@id": path.relative_to(out).as_posix(),
        "name": path.relative_to(out).as_posix(),
        "contentUrl": path.relative_to(out).as_posix(),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.suffix],
        "sha256": total.hexdigest(),
    }


def _records(files: list[Path], reader: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The fields of a record, where the files are of one kind that Croissant can take apart."""
    if not reader or reader["data"] != "changechat":
        return []
    sets = []
    for path in files:
        keys = {"id": "sc:Integer", "changeflag": "sc:Integer", "image": "sc:Text"}
        if path.stem in ("test", "contradictions"):
            continue
        fields = [
            {
                "@type": "cr:Field",
                "@id": f"{path.stem}/{key}",
                "name": f"{path.stem}/{key}",
                "dataType": kind,
                "repeated": key == "image",
                "source": {
                    "fileObject": {"@id": path.name},
                    "extract": {"jsonPath": f"$[*].{key}"},
                },
            }
            for key, kind in keys.items()
        ]
        sets.append({"@type": "cr:RecordSet", "@id": path.stem, "name": path.stem, "field": fields})
    return sets
