"""How a router used its experts: whether it collapses, and whether it follows the question."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

#: A share of one expert above which routing among several is called a collapse.
COLLAPSE = 0.95


def routing_table(
    routed: Iterable[tuple[str, str, float]],
) -> dict[str, dict[str, float]]:
    """Kind of question -> expert -> how much it was asked.

    Args:
        routed: kind, expert and weight of each asked expert.
    """
    table: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for kind, expert, weight in routed:
        table[kind][expert] += weight
    return {kind: dict(row) for kind, row in table.items()}


def routing_statistics(
    routed: Sequence[tuple[str, str, float]], experts: Sequence[str]
) -> dict[str, float]:
    """How the experts were used.

    Args:
        routed: see `routing_table`.
        experts: all of them, those that nobody asked too.

    Returns:
        `most`, the share of the expert that was asked most; `entropy` of the shares over that of
        equal ones, 0 where one gets all; `information`, the mutual information of kind and expert
        in bits; `collapsed`, 1 where one of several gets more than `COLLAPSE`.
    """
    table = routing_table(routed)
    total = sum(sum(row.values()) for row in table.values())
    shares = dict.fromkeys(experts, 0.0)
    if not total:
        return {"most": 0.0, "entropy": 0.0, "information": 0.0, "collapsed": 0.0}
    kinds: dict[str, float] = defaultdict(float)
    for kind, row in table.items():
        for expert, count in row.items():
            shares[expert] = shares.get(expert, 0.0) + count / total
            kinds[kind] += count / total
    several = len(shares) > 1
    spread = -sum(share * math.log(share) for share in shares.values() if share)
    information = sum(
        count / total * math.log2(count / total / (kinds[kind] * shares[expert]))
        for kind, row in table.items()
        for expert, count in row.items()
        if count
    )
    most = max(shares.values())
    return {
        "most": most,
        "entropy": max(0.0, spread) / math.log(len(shares)) if several else 1.0,
        "information": max(0.0, information),
        "collapsed": float(several and most > COLLAPSE),
    }
