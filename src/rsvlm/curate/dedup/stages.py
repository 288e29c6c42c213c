"""De-duplication as stages: exact, by perceptual hash, by vectors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from PIL import Image

from rsvlm.curate.dedup.keep import KeepRule, groups_by
from rsvlm.curate.dedup.neighbours import neighbours, pairs_above
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.data.perceptual_hash import (
    PUBLISHED_BITS,
    groups_of,
    near_pairs,
    perceptual_hash,
    read_hash,
)
from rsvlm.errors import UserError

#: Vectors that are made of unit length at a time.
_ROWS = 65536
Decisions = Sequence[Mapping[str, Any] | Dropped]


@dataclass
class DocumentDeduplicator:
    """Records whose field is the same text, as a URL (Data-Juicer's `document_deduplicator`).

    Args:
        text_key: the field.
        url: hold the text for an address: scheme and host in small letters, no fragment.
        keep: which one stays.
        reason: what the others are dropped for.
    """

    text_key: str = "url"
    url: bool = True
    keep: KeepRule = field(default_factory=KeepRule)
    reason: str = "same_url"
    name = "document_deduplicator"
    version = "1"

    def key(self, record: Record) -> Any:
        """A hash of the text and the rank of its record."""
        text = str(record.get(self.text_key, ""))
        if self.url:
            text = _plain(text)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        word = int.from_bytes(digest, "big")
        return np.array([word, self.keep.rank(record)], np.uint64)

    def decide(self, ids: Sequence[str], keys: Any) -> Decisions:
        """See `Barrier`."""
        groups = groups_by(keys[:, 0])
        return self.keep.decisions(ids, keys[:, 1].tolist(), groups, self.reason)


def _plain(url: str) -> str:
    """An address in one spelling; what is none, as it stands."""
    try:
        parts = urlsplit(url)
    except ValueError:  # as http://[a/b.jpg, of which long lists have some; the download says so
        return url
    return urlunsplit(
        (parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", parts.query, "")
    )


class ImageHash:
    """Adds `phash`, 16 hexadecimal digits (what Data-Juicer's `image_deduplicator` computes)."""

    name = "image_hash"
    version = "1"

    def __call__(self, record: Record) -> Outcome:
        """See `Stage`."""
        with Image.open(io.BytesIO(record["image"])) as image:
            return {**record, "phash": f"{perceptual_hash(image):016x}"}


@dataclass
class ImageDeduplicator:
    """Pictures whose perceptual hashes are near (Data-Juicer's `image_deduplicator`).

    Args:
        bits: most bits by which duplicates differ; RemoteCLIP's paper has a distance below 2.
        grouping: `components` or `first_come`, see `perceptual_hash.groups_of`.
        variant: `paper` finds all pairs; `released` compares hashes that share one of four blocks
            alone, as the code does that RemoteCLIP's authors name, and loses pairs from 4 bits on.
        keep: which one stays.

    Raises:
        UserError: an unknown variant.
    """

    bits: int = PUBLISHED_BITS
    grouping: Literal["components", "first_come"] = "components"
    variant: Literal["paper", "released"] = "paper"
    keep: KeepRule = field(default_factory=KeepRule)
    name = "image_deduplicator"
    version = "1"

    def __post_init__(self) -> None:
        if self.variant not in ("paper", "released"):
            raise UserError(f"variant={self.variant}: paper, or released.")

    def key(self, record: Record) -> Any:
        """The hash and the rank of its record."""
        return np.array([read_hash(record["phash"]), self.keep.rank(record)], np.uint64)

    def decide(self, ids: Sequence[str], keys: Any) -> Decisions:
        """See `Barrier`."""
        blocks = 4 if self.variant == "released" else None
        pairs = near_pairs(keys[:, 0], self.bits, blocks)
        groups = groups_of(len(ids), pairs, self.grouping)
        return self.keep.decisions(ids, keys[:, 1].tolist(), groups, "near_duplicate")


@dataclass
class SemanticDeduplicator:
    """Pictures whose vectors are near (NeMo Curator's `SemanticDeduplication`).

    RS5M (through fastdup): five neighbours by cosine, connected components; its threshold is not
    published, 0.96 is fastdup's for components.

    Args:
        threshold: least cosine of duplicates.
        k: neighbours of each that are looked at.
        method: see `neighbours.neighbours`.
        probes: of `ivf`.
        keep: which one stays.

    Raises:
        UserError: a threshold that is no cosine.
    """

    threshold: float = 0.96
    k: int = 5
    method: Literal["auto", "exact", "ivf"] = "auto"
    probes: int = 8
    keep: KeepRule = field(default_factory=KeepRule)
    name = "semantic_deduplicator"
    version = "1"

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise UserError(f"threshold={self.threshold:g}: a cosine, -1 to 1, as 0.96.")

    def key(self, record: Record) -> Any:
        """The vector, and the rank of its record behind it."""
        return np.append(record["embedding"], self.keep.rank(record)).astype(np.float32)

    def decide(self, ids: Sequence[str], keys: Any) -> Decisions:
        """See `Barrier`."""
        # A view, for there may be gigabytes of them.
        vectors, ranks = keys[:, :-1], keys[:, -1].astype(int).tolist()
        for start in range(0, len(vectors), _ROWS):
            some = vectors[start : start + _ROWS]
            some /= np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12)
        found = neighbours(vectors, self.k, method=self.method, probes=self.probes)
        groups = groups_of(len(ids), pairs_above(*found, self.threshold))
        return self.keep.decisions(ids, ranks, groups, "near_duplicate")
