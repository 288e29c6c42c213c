"""Change between two dates: captions, yes or no, counts, places, open questions."""

from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.metrics.change.captions import ChangeCaptions, OpenQuestions
from rsvlm.metrics.change.counts import ChangeCounts
from rsvlm.metrics.change.flags import ChangeFlags
from rsvlm.metrics.change.locations import ChangeLocations

__all__ = [
    "NO_CHANGE",
    "ChangeCaptions",
    "ChangeCounts",
    "ChangeFlags",
    "ChangeLocations",
    "OpenQuestions",
]
