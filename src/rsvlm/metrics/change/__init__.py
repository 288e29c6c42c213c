"""Change between two dates: captions, yes or no, counts, places, open questions."""

from rsvlm.metrics.change.captions import ChangeCaptions, OpenQuestions
from rsvlm.metrics.change.counts import ChangeCounts
from rsvlm.metrics.change.flags import ChangeFlags
from rsvlm.metrics.change.locations import ChangeLocations
from rsvlm.metrics.change.templates import TEMPLATES

__all__ = [
    "TEMPLATES",
    "ChangeCaptions",
    "ChangeCounts",
    "ChangeFlags",
    "ChangeLocations",
    "OpenQuestions",
]
