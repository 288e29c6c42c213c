"""Visual grounding: boxes against boxes, upright and turned."""

from rsvlm.metrics.grounding.metric import Grounding
from rsvlm.metrics.grounding.polygons import shared_area

__all__ = ["Grounding", "shared_area"]
