"""Captions of OpenStreetMap's tags by a table of rules.

The paper says: key, a connecting word and value, tags joined by commas or "and", and gives some
examples; its own table is not published. This one is ours, made to give those examples:

- A **noun** key says nothing that its value does not: "natural tree".
- An **of** key is named and takes "of": "landuse of quarry", "cables of 3".
- An **is** key takes "is": "surface is asphalt".
- `highway` is called "road"; its values that stand beside a road (`street_lamp`) go alone.
- "yes" leaves the key alone ("building"), "no" leaves the tag out.
- "_" and ":" are spaces, ";" is "and"; a number keeps the unit that its key has by custom.

The main tag is the first of `MAIN`, else the first that can be seen; the others follow in the
object's order. One object: "landuse of quarry, resource of bauxite". With what surrounds it:
"landuse of quarry with resource of bauxite, surrounded by natural tree; road of footway".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.curate.record import Dropped, Outcome, Record

#: Keys that say what an object is, the more telling first.
MAIN = (
    "power",
    "aeroway",
    "man_made",
    "railway",
    "waterway",
    "leisure",
    "amenity",
    "building",
    "highway",
    "natural",
    "landuse",
    "tourism",
    "historic",
    "barrier",
    "military",
    "emergency",
    "water",
    "place",
)
NOUN = frozenset({"power", "natural", "man_made", "aeroway", "railway", "barrier", "waterway"})
IS = frozenset({"surface", "smoothness", "tracktype", "material", "trail_visibility", "lit"})
#: Values of `highway` that are no roads.
BESIDE_ROADS = frozenset(
    {"street_lamp", "bus_stop", "traffic_signals", "stop", "give_way", "crossing", "milestone"}
)
CALLED = {"highway": "road", "landuse": "landuse", "generator:source": "generator source"}
#: Keys whose number has a unit.
UNITS = {"height": "m", "width": "m", "length": "m", "gauge": "mm"}


def tag_words(key: str, value: str) -> str:
    """A tag in words; empty where it says that something is not."""
    name = CALLED.get(key) or _plain(key)
    if value == "no":
        return ""
    said = _plain(value)
    if value == "yes" or not said:
        return name
    if re.fullmatch(r"\d+([.,]\d+)?", said) and key in UNITS:
        said = f"{said} {UNITS[key]}"
    if key == "highway" and value in BESIDE_ROADS:
        return said
    if key in NOUN:
        return f"{name} {said}"
    return f"{name} {'is' if key in IS else 'of'} {said}"


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_:]", " ", text).replace(";", " and ").split())


def ordered(tags: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tags with the main one first."""
    tags = list(tags)
    ranks = {key: number for number, key in enumerate(MAIN)}
    main = min(range(len(tags)), key=lambda i: (ranks.get(tags[i][0], len(MAIN)), i), default=0)
    return [*tags[main : main + 1], *tags[:main], *tags[main + 1 :]]


def single(tags: Iterable[tuple[str, str]]) -> str:
    """The caption of one object: its tags in words, joined by commas."""
    return ", ".join(words for tag in ordered(tags) if (words := tag_words(*tag)))


def attributed(tags: Iterable[tuple[str, str]]) -> str:
    """An object within a longer caption: the main tag "with" the others."""
    words = [words for tag in ordered(tags) if (words := tag_words(*tag))]
    if len(words) < 2:
        return "".join(words)
    first, *others = words
    return f"{first} with {' and '.join(others)}"


def multiple(center: Iterable[tuple[str, str]], surrounding: Sequence[Mapping[str, str]]) -> str:
    """The caption of an object and of what surrounds it; what repeats is said once.

    Args:
        center: tags of the object.
        surrounding: tags of each of the others, the nearest first.
    """
    own = attributed(center)
    others = list(dict.fromkeys(attributed(tags.items()) for tags in surrounding))
    others = [words for words in others if words and words != own]
    return f"{own}, surrounded by {'; '.join(others)}" if others else own


@dataclass
class TagCaptions:
    """Words the tags of a picture: `title` of its object, `title_multi_objects` of all in it.

    A tag that a picture is too coarse for is left out. Adds `caption`, which is the `title`, for
    filters; `center_tags` and `surrounding_tags` are what was said. `surrounding` of a record,
    where it is there, is a list of tags as `visible` has them.

    Dropped: `no_words` (every tag that the picture is fine enough for says "no").
    """

    name = "osm_caption_mapper"
    version = "1"

    def __call__(self, record: Record) -> Outcome:
        """The record with its captions."""
        center = _fine(record["visible"], record["gsd"])
        around = [_fine(tags, record["gsd"]) for tags in record.get("surrounding", [])]
        title = single(center.items())
        if not title:
            return Dropped("no_words", ", ".join(f"{k}={v}" for k, v, _ in record["visible"]))
        return record | {
            "title": title,
            "title_multi_objects": multiple(center.items(), around),
            "caption": title,
            "center_tags": center,
            "surrounding_tags": [tags for tags in around if tags],
        }


def _fine(visible: Sequence[Sequence[Any]], gsd: float) -> dict[str, str]:
    """The tags that can be seen at a distance."""
    return {key: value for key, value, far in visible if gsd <= far * SLACK}


#: A picture of 0.11 m a pixel passes for one of 0.1.
SLACK = 1.25
