"""Pictures and one self-contained page from what a run leaves in its folder.

`draw_retrieval` and `draw_classification` turn a computed metric and its data set into the
pictures; `write_report` builds the page from config.yaml, metrics.json, metrics.csv and
pictures/*.png. Nothing here needs a model.
"""

from rsvlm.report.curves import loss_curves
from rsvlm.report.examples import draw_classification, draw_retrieval
from rsvlm.report.figures import (
    Answered,
    Prediction,
    confusion_matrix,
    predictions,
    retrieval_sheet,
)
from rsvlm.report.html import write_report

__all__ = [
    "Answered",
    "Prediction",
    "confusion_matrix",
    "draw_classification",
    "draw_retrieval",
    "loss_curves",
    "predictions",
    "retrieval_sheet",
    "write_report",
]
