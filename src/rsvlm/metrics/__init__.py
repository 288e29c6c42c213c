"""Metrics with their protocols: what each published number counts, and under which name.

The classes are imported when they are used: torchmetrics takes seconds, and the names need none
of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rsvlm.metrics.names import METRICS, PROTOCOLS, SCALARS, metric_name, parse, scalar_name

if TYPE_CHECKING:
    from rsvlm.metrics.binary import Binary
    from rsvlm.metrics.probe import Probe
    from rsvlm.metrics.ranking import chance_recall
    from rsvlm.metrics.remotecount import RemoteCount
    from rsvlm.metrics.retrieval import Retrieval, text_keys
    from rsvlm.metrics.selo import SeLo
    from rsvlm.metrics.zeroshot import Accuracy, ZeroShot, class_embeddings

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "SCALARS",
    "Accuracy",
    "Binary",
    "Probe",
    "RemoteCount",
    "Retrieval",
    "SeLo",
    "ZeroShot",
    "chance_recall",
    "class_embeddings",
    "metric_name",
    "parse",
    "scalar_name",
    "text_keys",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rsvlm.metrics' has no attribute {name!r}")
    from rsvlm.metrics import binary, probe, ranking, remotecount, retrieval, selo, zeroshot

    homes = (binary, probe, ranking, remotecount, retrieval, selo, zeroshot)
    return next(getattr(home, name) for home in homes if hasattr(home, name))
