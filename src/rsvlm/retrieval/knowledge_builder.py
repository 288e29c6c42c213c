"""From records to parts with vectors, each written when whole, so that a build may be stopped."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsvlm.errors import UserError
from rsvlm.files import numbered, write_text
from rsvlm.retrieval.knowledge_records import Chunk, KnowledgeRecord, chunks_of, windows
from rsvlm.retrieval.knowledge_version import Floats, Part, fingerprint

log = logging.getLogger(__name__)

#: A text by whose vector a base knows its encoder.
PROBE = "an airport with two runways beside a river"
#: Cosine of an encoder's own vectors of one text, on any device and in half precision.
_SAME = 0.99
#: Marks at the ends of a text.
_MARKS = 2


@dataclass(frozen=True)
class Options:
    """How a base is made.

    Attributes:
        long: what becomes of a text that is longer than the encoder reads: `windows` makes
            overlapping ones, `cut` embeds its beginning alone, as published (77 tokens).
        overlap: tokens that a window repeats of the one before.
        per_part: records that are encoded and written at a time.

    Raises:
        UserError: an unknown word, or a number out of range.
    """

    long: Literal["windows", "cut"] = "windows"
    overlap: int = 16
    per_part: int = 64

    def __post_init__(self) -> None:
        if self.long not in ("windows", "cut"):
            raise UserError(f"--long {self.long}: windows, or cut.")
        if self.overlap < 0 or self.per_part < 1:
            raise UserError("--overlap is at least 0, and --per-part at least 1.")

    def words(self) -> dict[str, Any]:
        """What the vectors rest on, for a fingerprint."""
        return asdict(self)


def make(
    records: Sequence[KnowledgeRecord],
    encoder: Any,
    folder: Path,
    root: str | Path | None,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> list[Part]:
    """The parts of some records; those that are in the folder already are read.

    Args:
        records: all of them.
        encoder: see `knowledge_base.KnowledgeEncoder`.
        folder: of the parts.
        root: of the pictures.
        options: see `Options`.
        progress: called with records done and all.
    """
    if options.overlap >= encoder.text_length - _MARKS and options.long == "windows":
        raise UserError(
            f"--overlap {options.overlap}: {encoder.name} reads {encoder.text_length} tokens, so a "
            f"window can repeat {encoder.text_length - _MARKS - 1} at most."
        )
    _of_this_encoder(folder, encoder)
    parts = []
    for number, start in enumerate(range(0, len(records), options.per_part)):
        path = numbered(folder, number, ".npz")
        if not path.is_file():
            some = records[start : start + options.per_part]
            _part(some, encoder, root, options).save(path)
        parts.append(Part.read(path))
        if progress is not None:
            progress(min(start + options.per_part, len(records)), len(records))
    return parts


def _of_this_encoder(folder: Path, encoder: Any) -> None:
    """Drops parts that other weights of the same name have made, as of a run that went on."""
    path, mine = folder / "probes.json", probes_of(encoder)
    if path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if not _alike(theirs, mine):
            log.warning(
                "%s: %s has other weights now: its parts are made anew.", folder, encoder.name
            )
            for part in folder.glob("*.npz"):
                part.unlink()
    write_text(path, json.dumps(mine))


def _part(
    records: Sequence[KnowledgeRecord], encoder: Any, root: str | Path | None, options: Options
) -> Part:
    kept: list[KnowledgeRecord] = []
    chunks: list[Chunk] = []
    record_of: list[int] = []
    images: list[Floats] = []
    image_of: list[int] = []
    left_out: list[str] = []
    for record, found in zip(records, _pictures(records, encoder, root), strict=True):
        pieces = _pieces(record, encoder, options)
        if isinstance(found, str):
            left_out.append(f"{record.id}: {found}")
        if not pieces and not isinstance(found, np.ndarray):
            left_out.append(f"{record.id}: it has neither a text nor a picture that can be used.")
            continue
        if not pieces:
            # A picture alone is found by it; its row has nothing to read but the id.
            pieces = [Chunk("image_description", record.id, (0, len(record.id)))]
        image_of.append(len(images) if isinstance(found, np.ndarray) else -1)
        images += [found] if isinstance(found, np.ndarray) else []
        record_of += [len(kept)] * len(pieces)
        chunks += pieces
        kept.append(record)
    text = unit(encoder.encode_texts([chunk.text for chunk in chunks])) if chunks else None
    dim = text.shape[1] if text is not None else 0
    return Part(
        kept,
        chunks,
        np.array(record_of, dtype=np.int64),
        np.zeros((0, dim), dtype=np.float32) if text is None else text,
        np.array(image_of, dtype=np.int64),
        np.stack(images) if images else np.zeros((0, dim), dtype=np.float32),
        left_out,
    )


def _pieces(record: KnowledgeRecord, encoder: Any, options: Options) -> list[Chunk]:
    whole = chunks_of(record)
    if options.long == "cut":
        return whole
    count = functools.lru_cache(maxsize=4096)(encoder.count_tokens)
    limit = encoder.text_length - _MARKS
    return [w for chunk in whole for w in windows(chunk, count, limit, options.overlap)]


def _pictures(
    records: Sequence[KnowledgeRecord], encoder: Any, root: str | Path | None
) -> list[Floats | str | None]:
    """Of each record its picture's vector, why there is none, or None where none is named."""
    top = Path(root) if root is not None else Path()
    named = [top / record.image if record.image else None for record in records]
    paths = [path for path in named if path is not None]
    found: dict[Path, Floats | str] = {}
    try:
        if paths:
            found = dict(zip(paths, unit(encoder.encode_images(paths)), strict=True))
    except (UserError, OSError):
        for path in paths:  # one by one, to tell which
            try:
                found[path] = unit(encoder.encode_images([path]))[0]
            except (UserError, OSError) as error:
                found[path] = str(error)
    return [None if path is None else found[path] for path in named]


def unit(vectors: Any) -> Floats:
    """Vectors [N, D] as float32 of unit length.

    Raises:
        UserError: one is no number, as of a model that diverged.
    """
    held = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(held).all():
        raise UserError(
            "the encoder gave vectors with NaN or infinite numbers: are its weights ok?"
        )
    norms = np.linalg.norm(held, axis=-1, keepdims=True)
    # Vectors that are of unit length already stay as they are, bit by bit.
    norms = np.where(np.abs(norms - 1) < 1e-6, 1, np.maximum(norms, 1e-12))
    made: Floats = (held / norms).astype(np.float32)
    return made


def probes_of(encoder: Any) -> dict[str, list[float]]:
    """Vectors by which a base knows its encoder: of a text, and of a picture where it has one."""
    made = {"probe": unit(encoder.encode_texts([PROBE]))[0]}
    if hasattr(encoder, "probe_picture"):
        made["probe_picture"] = unit(encoder.probe_picture())
    return {key: [round(float(value), 6) for value in vector] for key, vector in made.items()}


def _alike(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    for key in ("probe", "probe_picture"):
        one, other = (np.array(held.get(key) or [], dtype=np.float32) for held in (theirs, mine))
        if len(one) and len(other) and (len(one) != len(other) or float(one @ other) < _SAME):
            return False
    return True


def facts_of(encoder: Any, root: str | Path | None) -> dict[str, Any]:
    """What a base says of itself beside its version."""
    probes = probes_of(encoder)
    return {
        "encoder": encoder.name,
        "loaded_by": getattr(encoder, "loaded_by", None),
        "dim": len(probes["probe"]),
        **probes,
        "root": str(Path(root).resolve()) if root else "",
    }


def check_encoder(facts: dict[str, Any], encoder: Any, root: Path | str) -> None:
    """Holds a base against the encoder of its questions, by a text and a picture.

    Raises:
        UserError: it was made by another one, or with other weights.
    """
    mine = probes_of(encoder)
    if not _alike(facts, mine):
        raise UserError(
            f"{root} was made by {facts['encoder']} ({facts['dim']} numbers a vector), not by "
            f"{encoder.name} ({len(mine['probe'])}), or with other weights: vectors of two "
            "encoders cannot be compared. Give the encoder that made it, or build the base anew.",
            code="other_encoder",
        )


def distinct(records: Sequence[KnowledgeRecord]) -> None:
    """Refuses two records of one id.

    Raises:
        UserError: there are two.
    """
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise UserError(f"two records have the id {record.id!r}: ids are unique in a base.")
        seen.add(record.id)


def plan_of(
    records: Sequence[KnowledgeRecord],
    encoder: Any,
    options: Options,
    root: str | Path | None,
    number: int,
) -> str:
    """The fingerprint of what is to be made of records, onto the version of a number."""
    where = str(Path(root).resolve()) if root else ""
    lines = [record.line() for record in records]
    return fingerprint(lines, encoder.name, options.words(), where, number)
