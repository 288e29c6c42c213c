"""Perceptual hashes of pictures, and which of them are near: duplicates within and across sets.

Used by RemoteCLIP (Liu et al., 2024, arXiv 2306.11029, "p-Hash-based block-wise local detection"),
which publishes no code; its authors name xuehuachunsheng/DupImageDetection (fddda7b), whose hash is
imagehash's `phash`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from rsvlm.errors import UserError

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]

BITS = 64
#: RemoteCLIP's paper: a distance below 2.
PUBLISHED_BITS = 1
_SIDE, _LOW = 32, 8
#: Hashes that are compared with all of their block at a time.
_ROWS = 2048


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """The lowest rows of the cosine transform (type II)."""
    k, n = np.arange(_LOW)[:, None], np.arange(_SIDE)[None]
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))


def perceptual_hash(image: Image.Image) -> int:
    """The 64-bit hash of a picture.

    Grey, 32 x 32 by Lanczos, cosine transform on both axes, the 8 x 8 lowest with the constant
    term; a bit is set where a coefficient lies above their median, row by row, the first highest.
    """
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, np.float64)
    low = _cosines() @ pixels @ _cosines().T
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(hashes: Sequence[int] | Hashes, bits: int, blocks: int | None = None) -> Pairs:
    """[P, 2] positions of hashes that differ in at most `bits` bits, each pair once.

    Only hashes that share one of `blocks` equal blocks of bits at the same place are compared.

    Args:
        hashes: [N].
        bits: distance.
        blocks: a divisor of 64; None takes the fewest that lose no pair, above `bits`. Published
            are 4, which lose pairs from 4 bits on.

    Raises:
        UserError: `bits` or `blocks` out of range.
    """
    held = np.asarray(hashes, np.uint64)
    found: list[Pairs] = []
    unique, place = np.unique(held, return_inverse=True)
    # Pictures with one and the same hash, a chain of pairs each: as many as they are, not squared.
    order = np.argsort(place, kind="stable")
    same = place[order][1:] == place[order][:-1]
    found.append(np.stack([order[:-1][same], order[1:][same]], axis=1).astype(np.int64))
    if bits:
        first = np.full(len(unique), len(held), np.int64)
        np.minimum.at(first, place, np.arange(len(held)))
        found += [first[pair] for pair in _near(unique, unique, bits, blocks, itself=True)]
    pairs = np.sort(np.concatenate(found), axis=1)
    made: Pairs = np.unique(pairs, axis=0)
    return made


def near_of(
    asked: Sequence[int] | Hashes,
    base: Sequence[int] | Hashes,
    bits: int,
    blocks: int | None = None,
) -> Pairs:
    """[P, 2] positions in `asked` and in `base` of hashes that differ in at most `bits` bits."""
    left, right = np.asarray(asked, np.uint64), np.asarray(base, np.uint64)
    found = [*_near(left, right, bits, blocks, itself=False), np.zeros((0, 2), np.int64)]
    made: Pairs = np.unique(np.concatenate(found), axis=0)
    return made


def _near(
    left: Hashes, right: Hashes, bits: int, blocks: int | None, itself: bool
) -> Iterator[Pairs]:
    if not 0 <= bits < BITS:
        raise UserError(f"bits={bits}: a distance of {BITS}-bit hashes is 0 to {BITS - 1}.")
    blocks = blocks or next(n for n in (1, 2, 4, 8, 16, 32, 64) if n > bits)
    if BITS % blocks:
        raise UserError(f"blocks={blocks}: {BITS} bits are cut into 1, 2, 4, 8, 16, 32 or 64.")
    wide = BITS // blocks
    mask = np.uint64((1 << wide) - 1) if wide < BITS else np.uint64(2**64 - 1)
    for block in range(blocks):
        shift = np.uint64(block * wide)
        a, b = (left >> shift) & mask, (right >> shift) & mask
        order = np.argsort(b, kind="stable")
        ranked = b[order]
        start, stop = np.searchsorted(ranked, a, "left"), np.searchsorted(ranked, a, "right")
        for at in range(0, len(a), _ROWS):
            some = slice(at, at + _ROWS)
            sizes = stop[some] - start[some]
            rows = np.repeat(np.arange(at, at + len(sizes)), sizes)
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            others = order[np.repeat(start[some], sizes) + within]
            near = np.bitwise_count(left[rows] ^ right[others]) <= bits
            if itself:
                near &= rows < others
            yield np.stack([rows[near], others[near]], axis=1).astype(np.int64)


def groups_of(
    count: int, pairs: Pairs, grouping: Literal["components", "first_come"] = "components"
) -> list[list[int]]:
    """Groups of two and more positions, by the first of each.

    Args:
        count: of positions.
        pairs: [P, 2] near ones.
        grouping: `components`: whatever a chain of near pairs joins, so that the ends of one may be
            further apart; `first_come`: each position not yet in a group takes all near it that
            are in none.

    Raises:
        UserError: an unknown word.
    """
    if grouping == "first_come":
        return _first_come(count, pairs)
    if grouping != "components":
        raise UserError(f"grouping={grouping}: components, or first_come.")
    labels = components(count, pairs)
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [part.tolist() for part in np.split(order, cuts) if len(part) > 1]


def components(count: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """[count] the smallest position that a chain of pairs joins each position with."""
    root = np.arange(count, dtype=np.int64)
    if not len(pairs):
        return root
    a, b = pairs[:, 0], pairs[:, 1]
    while True:
        # Each end takes the smaller root of the two, then roots are followed to their end.
        low = np.minimum(root[a], root[b])
        before = root.copy()
        np.minimum.at(root, root[a], low)
        np.minimum.at(root, root[b], low)
        while not np.array_equal(root, root[root]):
            root = root[root]
        if np.array_equal(before, root):
            return root


def _first_come(count: int, pairs: Pairs) -> list[list[int]]:
    near: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    taken = np.zeros(count, bool)
    found: list[list[int]] = []
    for i in range(count):
        if taken[i]:
            continue
        taken[i] = True
        group = [i, *(j for j in sorted(near.get(i, ())) if not taken[j])]
        taken[group] = True
        if len(group) > 1:
            found.append(group)
    return found


def read_hash(value: Any) -> int:
    """A hash from its 16 hexadecimal digits."""
    return int(str(value), 16)
