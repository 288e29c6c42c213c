"""A built set in MLCommons' Croissant 1.0: files with their hashes, and the fields in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
#: Kinds of files in our tars: name, pattern, format.
_WITHIN = (
    ("pictures", "*.jpg", "image/jpeg"),
    ("texts", "*.json", "application/json"),
)
_PICTURES: dict[str, Any] = {
    "@type": "cr:RecordSet",
    "@id": "samples",
    "name": "samples",
    "description": "Pictures; the texts of one are in the JSON of its name.",
    "field": [
        {
            "@type": "cr:Field",
            "@id": f"samples/{word}",
            "name": f"samples/{word}",
            "dataType": kind,
            "source": {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": prop}},
        }
        for word, kind, prop in (
            ("name", "sc:Text", "filename"),
            ("image", "sc:ImageObject", "content"),
        )
    ],
}
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
    files = sorted(
        path
        for path in out.iterdir()
        if path.is_file() and path.suffix in _FORMATS and path.name not in _BESIDE
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
        "distribution": [_file(path) for path in files],
    }
    tars = [path.name for path in files if path.suffix == ".tar"]
    if tars:
        found["distribution"] += [_within(tars, *kind) for kind in _WITHIN]
    records = _records(files, reader) + ([_PICTURES] if tars else [])
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


def _file(path: Path) -> dict[str, Any]:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
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
