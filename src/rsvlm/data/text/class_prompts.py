"""Prompts for zero-shot classification, as published, and the ways class names are spelt in them.

A template holds `{}` (or `{c}`) where the class name goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rsvlm.errors import UserError

_CLOSING = ("many {}", "a {}", "the {}", "the hard to see {}", "a hard to see {}")
_LEADING = (
    "low resolution",
    "bad",
    "cropped",
    "bright",
    "dark",
    "close-up",
    "black and white",
    "jpeg corrupted",
    "blurry",
    "good",
)
_SIZED = ("large", "nice", "small", "weird", "cool")


def _georsclip() -> tuple[str, ...]:
    """Three nouns in 35 phrases each, in the published order.

    Source: om-ai-lab/RS5M, inference/classname_and_prompt (one list for AID, RESISC45, EuroSAT).
    """
    lines = []
    for article, noun in (("a", "remote sensing"), ("an", "aerial"), ("a", "satellite")):
        lines += [f"{article} {noun} image of {rest}." for rest in _CLOSING]
        lines += [
            f"a {word} {noun} image of {which} {{}}." for word in _LEADING for which in ("the", "a")
        ]
        lines += [
            f"{article} {noun} image of {which} {word} {{}}."
            for word in _SIZED
            for which in ("the", "a")
        ]
    return tuple(lines)


#: Sets of templates by name.
TEMPLATES: dict[str, tuple[str, ...]] = {
    # SkyScript: the second has no full stop, as published.
    "skyscript": ("a satellite photo of {}.", "a satellite image of {}"),
    "skyscript_building": (
        "a satellite photo of building, {}.",
        "a satellite image of building, {}",
    ),
    "skyscript_road": ("a satellite photo of road, {}.", "a satellite image of road, {}"),
    "remoteclip": ("a satellite photo of {}.",),
    "georsclip": _georsclip(),
    # RS-TransCLIP's single prompt, under which it compares all models.
    "rs_transclip": ("a satellite photo of a {}.",),
    "generic": ("a photo of a {}.", "an aerial photo of a {}.", "a satellite photo of a {}."),
    "bare": ("{}",),
}


@dataclass(frozen=True)
class Prompting:
    """Templates, and how their embeddings become one (metrics/zeroshot.py)."""

    templates: tuple[str, ...]
    ensemble: Literal["normalised_mean", "mean"]


#: The published protocols; their words are those of metrics/names.py.
ZERO_SHOT: dict[str, Prompting] = {
    "skyscript": Prompting(TEMPLATES["skyscript"], "normalised_mean"),
    "georsclip": Prompting(TEMPLATES["georsclip"], "mean"),
    "remoteclip": Prompting(TEMPLATES["remoteclip"], "normalised_mean"),
}


def fill(template: str, class_name: str) -> str:
    """A template with a class name in it; other braces stay as they are.

    Raises:
        UserError: the template has no place for a name.
    """
    if "{}" not in template and "{c}" not in template:
        raise UserError(f"template {template!r} has neither {{}} nor {{c}} for the class name.")
    return re.sub(r"\{c?\}", lambda _: class_name, template)


def georsclip_name(name: str) -> str:
    """GeoRSCLIP's rule for folder names: `_` and `/` become spaces, lower case, no more."""
    return name.replace("_", " ").replace("/", " ").lower()


def words(name: str) -> str:
    """A class name as words: `AnnualCrop`, `annual_crop`, `annual-crop/` -> `annual crop`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.split(r"[\s_/-]+", name)).strip().lower()
