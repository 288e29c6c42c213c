"""Near vectors among many: exactly by blocks, or by an index that looks into a few cells."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError, extra

Floats = npt.NDArray[np.float32]
#: Vectors that are compared exactly where nobody says how: 50,000 squared takes a minute a core.
EXACT_UP_TO = 50_000
_ROWS = 2048
#: Cosines that are held at a time, with their places 0.8 GB: where half of a million pictures are
#: one and the same, a cell is as large as the set.
_TABLE = 2**26
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
    every = np.arange(count)
    rows = _rows(count)
    for start in range(0, count, rows):
        asked = every[start : start + rows]
        table = vectors[asked] @ vectors.T
        table[np.arange(len(asked)), asked] = -np.inf
        _keep_best(table, every, asked, places, scores)
    return places, scores


def _ivf(vectors: Floats, k: int, probes: int, seed: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The nearest among the cells nearest to a vector's own.

    All vectors of a cell are asked at once, as one product of matrices: an index that is asked
    vector by vector reads its cells anew for each, which a million times over takes hours.
    """
    with extra("dedup", "method=exact needs it not, and compares all with all."):
        import faiss

    count, dim = vectors.shape
    cells = max(1, min(int(2 * math.sqrt(count)), count // _PER_CELL or 1))
    means: Any = faiss.Kmeans(
        dim, cells, niter=6, seed=seed + 1, spherical=True, max_points_per_centroid=_PER_CELL
    )
    drawn = np.random.default_rng(seed).choice(count, min(count, _PER_CELL * cells), replace=False)
    means.train(np.ascontiguousarray(vectors[np.sort(drawn)]))
    cell_of = np.concatenate(
        [
            means.index.search(np.ascontiguousarray(vectors[start : start + 65536]), 1)[1][:, 0]
            for start in range(0, count, 65536)
        ]
    )
    order = np.argsort(cell_of, kind="stable")
    ends = np.searchsorted(cell_of[order], np.arange(cells + 1))
    inside = [order[ends[i] : ends[i + 1]] for i in range(cells)]
    likeness = means.centroids @ means.centroids.T
    np.fill_diagonal(likeness, np.inf)  # its own cell first, whatever the centres' lengths
    places = np.full((count, k), -1, np.int64)
    scores = np.full((count, k), -np.inf, np.float32)
    for cell, members in enumerate(inside):
        near = np.argsort(-likeness[cell], kind="stable")[: min(probes, cells)]
        others = np.sort(np.concatenate([inside[i] for i in near]))
        there = vectors[others].T
        rows = _rows(len(others))
        for start in range(0, len(members), rows):
            asked = members[start : start + rows]
            table = vectors[asked] @ there
            table[np.arange(len(asked)), np.searchsorted(others, asked)] = -np.inf
            _keep_best(table, others, asked, places, scores)
    return places, scores


def _rows(others: int) -> int:
    """Vectors that are asked about so many others at a time."""
    return min(_ROWS, max(1, _TABLE // max(1, others)))


def _keep_best(
    table: Floats,
    others: npt.NDArray[np.int64],
    asked: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    scores: Floats,
) -> None:
    """Writes the best of a table [Q, C] into rows `asked` of `places` and `scores`."""
    most = min(places.shape[1], table.shape[1] - 1)
    if most < 1:
        return
    top = np.argpartition(table, -most, axis=1)[:, -most:]
    values = np.take_along_axis(table, top, axis=1)
    # Of equal cosines the earlier position, as argpartition's own order is none.
    rank = np.lexsort((top, -values), axis=1)
    places[asked, :most] = others[np.take_along_axis(top, rank, axis=1)]
    scores[asked, :most] = np.take_along_axis(values, rank, axis=1)


def pairs_above(
    places: npt.NDArray[np.int64], scores: Floats, threshold: float
) -> npt.NDArray[np.int64]:
    """[P, 2] pairs of neighbours whose cosine is at least a threshold, each once."""
    rows, columns = np.nonzero((scores >= threshold) & (places >= 0))
    pairs = np.sort(np.stack([rows, places[rows, columns]], axis=1), axis=1)
    made: npt.NDArray[np.int64] = np.unique(pairs, axis=0)
    return made
