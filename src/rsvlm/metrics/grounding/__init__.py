"""Visual grounding: one box per expression, upright or turned, and several for a question."""

from rsvlm.metrics.grounding.metric import Grounding
from rsvlm.metrics.grounding.polygons import shared_area
from rsvlm.metrics.grounding.several import Detection

__all__ = ["Detection", "Grounding", "shared_area"]
