"""Near vectors among many: exactly by blocks, or by an index that looks into a few cells."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError, extra

Floats = npt.NDArray[np.float32]
#: Vectors that are compared exactly where nobody says how: 50,000 squared takes a minute a core.
EXACT_UP_TO = 50_000
_ROWS = 4096
#: Vectors of a cell that its centre is learnt from.
_PER_CELL = 40


def neighbours(
    vectors: Floats,
    k: int,
    *,
    method: Literal["auto", "exact", "ivf"] = "auto",
    probes: int = 8,
    seed: int = 0,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The k nearest others of each vector by cosine.

    Args:
        vectors: [N, D] of unit length.
        k: others.
        method: `exact` compares all with all; `ivf` (faiss, extra `dedup`) puts vectors into some
            2 sqrt(N) cells and looks into `probes` of them; `auto` takes `exact` up to 50,000.
        probes: cells looked into; more find more and take longer.
        seed: of the cells.

    Returns:
        [N, k] positions, -1 where there are fewer, and [N, k] cosines, best first.

    Raises:
        UserError: an unknown method, k below 1, or no faiss.
    """
    if k < 1:
        raise UserError(f"k={k}: at least one neighbour.")
    if method not in ("auto", "exact", "ivf"):
        raise UserError(f"method={method}: auto, exact or ivf.")
    if method == "auto":
        method = "exact" if len(vectors) <= EXACT_UP_TO else "ivf"
    found = _exact(vectors, k) if method == "exact" else _ivf(vectors, k, probes, seed)
    return found


def _exact(vectors: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    count = len(vectors)
    places = np.full((count, k), -1, np.int64)
    scores = np.full((count, k), -np.inf, np.float32)
    most = min(k, count - 1)
    if most < 1:
        return places, scores
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        found = vectors[rows] @ vectors.T
        found[np.arange(rows.stop - start), np.arange(start, rows.stop)] = -np.inf
        top = np.argpartition(-found, most - 1, axis=1)[:, :most] if most < count - 1 else None
        top = np.tile(np.arange(count), (len(found), 1)) if top is None else top
        values = np.take_along_axis(found, top, axis=1)
        # Of equal cosines the earlier position, as argpartition's own order is none.
        order = np.lexsort((top, -values), axis=1)[:, :most]
        places[rows, :most] = np.take_along_axis(top, order, axis=1)
        scores[rows, :most] = np.take_along_axis(values, order, axis=1)
    return places, scores


def _ivf(vectors: Floats, k: int, probes: int, seed: int) -> tuple[npt.NDArray[np.int64], Floats]:
    with extra("dedup", "method=exact needs it not, and compares all with all."):
        import faiss

    count, dim = vectors.shape
    cells = max(1, min(int(2 * math.sqrt(count)), count // 39 or 1))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed + 1
    index.cp.niter = 6
    index.cp.max_points_per_centroid = _PER_CELL
    drawn = np.random.default_rng(seed).choice(count, min(count, _PER_CELL * cells), replace=False)
    index.train(np.ascontiguousarray(vectors[np.sort(drawn)]))
    for start in range(0, count, 65536):
        index.add(np.ascontiguousarray(vectors[start : start + 65536]))
    index.nprobe = min(probes, cells)
    places = np.full((count, k), -1, np.int64)
    scores = np.full((count, k), -np.inf, np.float32)
    for start in range(0, count, _ROWS):
        rows = np.arange(start, min(start + _ROWS, count))
        found, near = index.search(np.ascontiguousarray(vectors[rows]), k + 1)
        found[near == rows[:, None]] = -np.inf
        near[near == rows[:, None]] = -1
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        places[rows] = np.take_along_axis(near, order, axis=1)
        scores[rows] = np.take_along_axis(found, order, axis=1)
    return places, scores


def pairs_above(
    places: npt.NDArray[np.int64], scores: Floats, threshold: float
) -> npt.NDArray[np.int64]:
    """[P, 2] pairs of neighbours whose cosine is at least a threshold, each once."""
    rows, columns = np.nonzero((scores >= threshold) & (places >= 0))
    pairs = np.sort(np.stack([rows, places[rows, columns]], axis=1), axis=1)
    made: npt.NDArray[np.int64] = np.unique(pairs, axis=0)
    return made
