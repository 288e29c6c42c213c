"""What an evaluation asks of a model, and whether a model or its class has it."""

from __future__ import annotations

import inspect
from typing import Any

from rsvlm.evaluation.base import Evaluation
from rsvlm.models.pixel.model import PixelModel
from rsvlm.models.protocols import is_contrastive, is_generator, is_retriever

#: Word of `Evaluation.needs` -> what a model that lacks it does not do.
NEEDS = {
    "space": "no space of images and texts",
    "search": "finds no images",
    "answers": "writes no answers",
    "boxes": "gives no boxes",
    "masks": "draws no masks",
}


def unable(model: Any, evaluation: Evaluation, pictures: int | None = None) -> str:
    """Why a model cannot be measured so; empty where it can, as far as can be known here.

    Of a class only that is known which does not hang on how its parts are chosen: a bridge of two
    dates, a box convention.

    Args:
        model: a model, or its class before it is built.
        evaluation: not started.
        pictures: of a sample; None where that is not known.
    """
    known: Any = model if inspect.isclass(model) else type(model)
    has = {
        "space": is_contrastive(known),
        "search": is_contrastive(known) or is_retriever(known),
        "answers": is_generator(known),
        # A class's is what its models begin with.
        "boxes": is_generator(known) and (inspect.isclass(model) or model.codec is not None),
        "masks": issubclass(known, PixelModel),
    }
    if not has.get(evaluation.needs, True):
        return NEEDS[evaluation.needs]
    many = several(known)
    if not is_generator(known):
        return "one image at a time" if (pictures or 1) > 1 else ""
    if pictures == 1 and _value(model, "bitemporal", False):
        return "compares two dates"
    if (pictures or 1) > 1 and not (_value(model, "bitemporal", True) or many):
        return "one image at a time"
    asked = evaluation.kinds is None or "caption" not in evaluation.kinds
    if evaluation.needs == "answers" and asked and not _value(model, "takes_prompt", True):
        return "answers no questions"
    return ""


def several(known: type) -> bool:
    """Whether a model of one date takes several pictures in a dialogue."""
    return bool(_value(known, "several_pictures", False))


def _value(model: Any, name: str, unknown: Any) -> Any:
    """An attribute of a model or a class; of a class's property `unknown`."""
    found = inspect.getattr_static(model, name, unknown) if inspect.isclass(model) else None
    if isinstance(found, property):
        return unknown
    return getattr(model, name, unknown)
