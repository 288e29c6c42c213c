"""Metrics with their protocols: what each published number counts, and under which name."""

from rsvlm.metrics.binary import Binary
from rsvlm.metrics.names import METRICS, PROTOCOLS, SCALARS, metric_name, parse, scalar_name
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
