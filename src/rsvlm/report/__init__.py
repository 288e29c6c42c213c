"""Pictures and one self-contained page from what a run leaves in its folder.

`draw_retrieval` and `draw_classification` turn a computed metric and its data set into the
pictures; `write_report` builds the page from config.yaml, metrics.json, metrics.csv and
pictures/*.png. Nothing here needs a model. What draws is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsvlm.report.curves import loss_curves
    from rsvlm.report.examples import draw_classification, draw_retrieval
    from rsvlm.report.figures import Answered, Prediction, confusion_matrix, predictions
    from rsvlm.report.html import write_report

__all__ = [
    "Answered",
    "Prediction",
    "confusion_matrix",
    "draw_classification",
    "draw_retrieval",
    "loss_curves",
    "predictions",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rsvlm.report' has no attribute {name!r}")
    from rsvlm.report import curves, examples, figures, html

    homes = (figures, curves, examples, html)
    return next(getattr(home, name) for home in homes if hasattr(home, name))
