"""Landmarks: what is known of a generated place beside what its picture shows.

A record has a name, a kind, a position and facts, as RSWK's have (arXiv 2504.04988), so that a
knowledge base can be built, searched and asked without a download. Part of the facts are told
(name, country, year, founder, events, climate): no picture answers them. The others are seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rsvlm.synthetic.caption import description
from rsvlm.synthetic.facts import Facts
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.questions import questions
from rsvlm.synthetic.world import MATERIALS, Scene

_SYLLABLES = tuple(c + v for c in "bdklmnrv" for v in "aeiou")
_NAMES = len(_SYLLABLES) ** 6
_STEP = 2_654_435_761  # odd and no multiple of five, so that no two numbers share a name

_COUNTRIES = (
    "Averland", "Brunia", "Caldoria", "Dornmark", "Estavia", "Farrowland", "Galdor", "Hesperia",
    "Ilmaria", "Jorvania", "Kestria", "Lumeria", "Morvia", "Nordalia", "Ostrania", "Pellinor",
    "Quorland", "Ravenia", "Sundria", "Tolmark", "Ulvenia", "Veldoria", "Westmark", "Zephyria",
)  # fmt: skip
_GIVEN = (
    "Ada", "Boris", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Klara",
    "Linus", "Mara", "Nils", "Olga", "Pavel", "Rosa", "Simon", "Tilda", "Viktor",
)  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_QUANTITIES: dict[str, tuple[str, str]] = {
    "temperature": ("mean temperature", "°C"),
    "precipitation": ("precipitation", "mm"),
    "ndvi": ("NDVI", ""),
}

_WILD = frozenset({"beach", "desert", "forest", "lake", "river"})
_KINDS: dict[str, tuple[str, str]] = {
    "airport": ("Airport", "air traffic"),
    "beach": ("Beach", "recreation by the sea"),
    "bridge": ("Bridge", "carrying traffic across the river"),
    "commercial area": ("Exchange Quarter", "trade and offices"),
    "dense residential area": ("Heights", "housing"),
    "desert": ("Desert", "the protection of nature"),
    "farmland": ("Farms", "growing crops"),
    "forest": ("Forest", "timber and recreation"),
    "golf course": ("Golf Club", "golf"),
    "harbour": ("Harbour", "loading and mooring of ships"),
    "industrial area": ("Works", "manufacturing"),
    "interchange": ("Interchange", "joining motorways"),
    "lake": ("Lake", "fishing and drinking water"),
    "park": ("Park", "recreation"),
    "parking lot": ("Car Park", "parking of vehicles"),
    "playground": ("Sports Ground", "school sports"),
    "railway": ("Station", "rail traffic"),
    "river": ("River", "shipping and drainage"),
    "solar farm": ("Solar Park", "making electricity from sunlight"),
    "sparse residential area": ("Hamlet", "housing"),
    "stadium": ("Stadium", "matches and concerts"),
    "storage tanks": ("Oil Depot", "storing fuel"),
}
_EVENTS = (
    "a flood put half of it under water",
    "a fire broke out and was put out within two days",
    "it was visited by the head of state",
    "a film was shot here",
    "it was placed under protection as a monument",
    "it was closed for a year of repairs",
    "its two hundredth aerial survey was flown",
    "a storm damaged it badly",
)


class Asked(NamedTuple):
    """A question about a landmark.

    Attributes:
        kind: `name`, `country`, `position`, `year`, `founder`, `area`, `function`, `event`,
            `climate`, or of seen facts a kind of `questions.KINDS`.
        seen: whether the picture alone answers it.
    """

    kind: str
    question: str
    answer: str
    seen: bool


@dataclass(frozen=True, slots=True)
class Landmark:
    """One record of a knowledge base.

    Attributes:
        id: unique within a world.
        name: unique within a world.
        kind: the scene class.
        lonlat: degrees, of the middle.
        facts: RSWK's fields of world knowledge that a generated place can have, by their names.
        climate: monthly values of one year by the name of the quantity: `temperature` (degrees
            Celsius), `precipitation` (mm), `ndvi`.
        asked: questions with their answers, told ones first.
    """

    id: str
    name: str
    kind: str
    lonlat: tuple[float, float]
    facts: dict[str, Any]
    climate: dict[str, list[float]]
    asked: list[Asked] = field(default_factory=list)

    def passages(self) -> dict[str, str]:
        """Return the record as texts, by topic: what a knowledge base stores and retrieves."""
        f = self.facts
        events = " ".join(f"In {e['Year']}, {e['Description']}." for e in f["Major_Events"])
        start = "first mapped" if self.kind in _WILD else "opened"
        climate = [
            f"{word} by month: "
            + ", ".join(
                f"{m} {v:g}{unit}" for m, v in zip(_MONTHS, self.climate[name], strict=True)
            )
            for name, (word, unit) in _QUANTITIES.items()
        ]
        return {
            "overview": f"{self.name} is a place of the kind {self.kind} in {f['Location']}, at "
            f"{f['Address']}. Its area is {f['Physical_Area']}. It serves {f['Primary_Function']}.",
            "history": f"{self.name} was {start} in {f['Construction_Period']}. "
            f"{f['Historical_Background']} {events}",
            "appearance": f"{self.name} from the air: {f['Details']}",
            "climate": f"{self.name}: " + "; ".join(climate) + ".",
        }


def landmark(scene: Scene, *, id: str | None = None) -> Landmark:
    """Return the record of a scene's place; the same scene always has the same.

    Args:
        scene: the place as described.
        id: the record's id; `<seed>-<number>` by default.
    """
    dice = stream(scene.seed, scene.number, 206)
    suffix, function = _KINDS[scene.label]
    name = f"{_name(scene.seed, scene.number)} {suffix}"
    lonlat = (round(dice.between(-180, 180), 4), round(dice.between(-60, 72), 4))
    country = _country(*lonlat)
    wild = scene.label in _WILD
    year = dice.whole(1750, 1900) if wild else dice.whole(1930, 2005)
    founder = f"{dice.pick(_GIVEN)} {_word(dice)}"
    events: list[dict[str, Any]] = [
        {"Event": text, "Year": when, "Description": text}
        for when, text in zip(
            sorted(dice.some(range(year + 1, 2021), 2)), dice.some(_EVENTS, 2), strict=True
        )
    ]
    hectares = scene.extent**2 / 10_000
    latitude, longitude = _degrees(lonlat[1], "N", "S"), _degrees(lonlat[0], "E", "W")
    climate = _climate(scene, dice, lonlat[1])
    background = (
        f"{founder} put it on a map for the first time."
        if wild
        else f"{founder} had it built for {function}."
    )
    facts: dict[str, Any] = {
        "Name": name,
        "Category": scene.label,
        "Area": country,
        "Location": country,
        "Address": f"{latitude}, {longitude}",
        "Physical_Area": f"{hectares:.1f} hectares",
        "Construction_Period": str(year),
        "Historical_Background": background,
        "Major_Events": events,
        "Primary_Function": function,
        "Details": description(scene).text,
    }
    verb = "first mapped" if wild else "opened"
    event = dice.pick(events)
    month = dice.whole(0, 11)
    quantity = dice.pick(tuple(_QUANTITIES))
    word, unit = _QUANTITIES[quantity]
    asked = [
        Asked("name", "What is this place called?", name, False),
        Asked("country", f"In which country does {name} lie?", country, False),
        Asked("position", "What are its coordinates?", facts["Address"], False),
        Asked("year", f"In which year was {name} {verb}?", str(year), False),
        Asked("founder", f"Who {'mapped it first' if wild else 'had it built'}?", founder, False),
        Asked("area", f"How large is {name}?", facts["Physical_Area"], False),
        Asked("function", "What does this place serve?", function, False),
        Asked(
            "event",
            f"What happened at {name} in {event['Year']}?",
            f"In {event['Year']}, {event['Description']}.",
            False,
        ),
        Asked(
            "climate",
            f"What is the {word} of {name} in {_MONTHS[month]}?",
            f"{climate[quantity][month]:g}{unit}",
            False,
        ),
    ]
    asked += [Asked(q.kind, q.text, q.answer, True) for q in questions(scene)]
    return Landmark(
        id=id or f"{scene.seed}-{scene.number}",
        name=name,
        kind=scene.label,
        lonlat=lonlat,
        facts=facts,
        climate=climate,
        asked=asked,
    )


def _name(seed: int, number: int) -> str:
    """Return two words that no other number of this world has."""
    code = (number * _STEP + stream(seed, 0, 207).whole(0, _NAMES - 1)) % _NAMES
    letters = []
    for _ in range(6):
        code, digit = divmod(code, len(_SYLLABLES))
        letters.append(_SYLLABLES[digit])
    return f"{''.join(letters[:3]).capitalize()} {''.join(letters[3:]).capitalize()}"


def _word(dice: Dice) -> str:
    return "".join(dice.pick(_SYLLABLES) for _ in range(3)).capitalize()


def _country(longitude: float, latitude: float) -> str:
    """Return the country of a place: six by four of them, so that neighbours share one."""
    column = min(5, int((longitude + 180) / 60))
    row = min(3, int((latitude + 60) / 33))
    return _COUNTRIES[6 * row + column]


def _degrees(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.4f}°{positive if value >= 0 else negative}"


def _climate(scene: Scene, dice: Dice, latitude: float) -> dict[str, list[float]]:
    """Return monthly values: warmth from the latitude, greenness from what grows in the picture."""
    facts = Facts(scene)
    green = sum(
        share
        for region, share in zip(scene.regions, facts.shares, strict=True)
        if MATERIALS[region.material].semantic in ("low vegetation", "tree")
    )
    warmest = 6.5 if latitude >= 0 else 0.5
    swing = abs(latitude) * 0.25
    mean, rain = 28 - 0.42 * abs(latitude) + dice.between(-2, 2), dice.between(20, 110)
    wet = dice.between(0, 12)
    out: dict[str, list[float]] = {"temperature": [], "precipitation": [], "ndvi": []}
    for month in range(12):
        summer = math.cos(2 * math.pi * (month - warmest) / 12)
        out["temperature"].append(round(mean + swing * summer, 1))
        season = 1 + 0.6 * math.cos(2 * math.pi * (month - wet) / 12)
        out["precipitation"].append(round(rain * season, 1))
        out["ndvi"].append(round(0.08 + 0.55 * green * (0.75 + 0.25 * summer), 2))
    return out
