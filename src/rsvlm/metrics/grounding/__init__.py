"""Visual grounding: one box per expression, upright or turned, several for a question, points."""

from rsvlm.metrics.grounding.metric import Grounding
from rsvlm.metrics.grounding.pointing import Pointing
from rsvlm.metrics.grounding.polygons import shared_area
from rsvlm.metrics.grounding.several import Detection

__all__ = ["Detection", "Grounding", "Pointing", "shared_area"]
