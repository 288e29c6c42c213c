"""Meta captions: sentences from what a set knows of a picture's place, time and sensor.

After om-ai-lab/RS5M 084cdd9, `geometa_extraction_tool/helper.py`. Two variants:

- `released`: what that code computes. Seasons are the northern hemisphere's everywhere; the place
  in the picture always names two cells, a box within one cell gets the first cell that it does not
  touch; an unknown country is the words "Unknown country code", a missing cloud cover "None".
- `paper`: what is meant. Seasons by the latitude's hemisphere, none within the tropics; one or two
  cells, those that the box touches; a sentence whose place, season or value is not known is left
  out.

The published templates are not in the repository; `FMOW` and `BIGEARTHNET` are ours.
"""

from __future__ import annotations

import ast
import calendar
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from rsvlm.curate.record import Dropped, Outcome, Record, rng
from rsvlm.errors import UserError

Variant = Literal["paper", "released"]

FMOW = (
    "{class_label} in {country}, {season}, in the {relative_location} of the picture.",
    "Taken {timestamp} over {country}, with {cloud_cover_rate} per cent of clouds.",
    "At {ground_sample_distance} m a pixel, {class_label} in the {relative_location}.",
    "{season} in {country}: {class_label}, UTM zone {utm_zone}, {off_nadir} degrees off nadir.",
    "The sensor scanned {scan_direction} at an azimuth of {target_azimuth} degrees; {class_label}.",
)
BIGEARTHNET = (
    "{class_labels}, UTM zone {utm_zone}, in {season}.",
    "Sentinel-2 at {timestamp}: {class_labels}.",
    "In {season}, {class_labels}.",
)
_UNKNOWN = "Unknown country code"
_ROWS, _COLUMNS = ("Top", "Center", "Bottom"), ("left", "center", "right")
_CELLS = tuple(
    "Center" if (r, c) == ("Center", "center") else f"{r}-{c}" for r in _ROWS for c in _COLUMNS
)
_SEASONS = ("Winter", "Spring", "Summer", "Fall")
#: Degrees of latitude between which there are no four seasons.
TROPICS = 23.44


def season_of(month: int, latitude: float | None = None, variant: Variant = "paper") -> str:
    """The season of a month: `Winter Spring Summer Fall`, or nothing within the tropics.

    Args:
        month: 1 to 12.
        latitude: in degrees; None takes the northern hemisphere.
        variant: `released` takes it always.
    """
    number = month % 12 // 3
    if variant == "released" or latitude is None:
        return _SEASONS[number]
    if abs(latitude) < TROPICS:
        return ""
    return _SEASONS[(number + (2 if latitude < 0 else 0)) % 4]


def location_of(
    width: float, height: float, box: Sequence[float], variant: Variant = "paper"
) -> str:
    """Where a box lies in a 3 x 3 grid, as "Center and Top-left blocks".

    Args:
        width: of the picture in pixels.
        height: of it.
        box: x, y, width, height in pixels.
        variant: `released` names the two cells of the largest overlap, of which the second may be
            none; `paper` those among them that the box touches, "" where it touches none.
    """
    x, y, wide, high = box
    overlap = []
    for row in range(3):
        for column in range(3):
            left, top = column * width / 3, row * height / 3
            across = min(x + wide, left + width / 3) - max(x, left)
            down = min(y + high, top + height / 3) - max(y, top)
            overlap.append(max(0.0, across) * max(0.0, down))
    order = sorted(range(9), key=lambda i: -overlap[i])[:2]
    if variant == "released":
        return f"{_CELLS[order[0]]} and {_CELLS[order[1]]} blocks"
    names = [_CELLS[i] for i in order if overlap[i] > 0]
    return f"{' and '.join(names)} block{'s' if len(names) > 1 else ''}" if names else ""


def timestamp_of(moment: datetime) -> str:
    """As "7 o'clock, March 5, 2016"."""
    return f"{moment.hour} o'clock, {_month(moment)} {moment.day}, {moment.year}"


def yfcc_time(text: str) -> tuple[str, str, str, str, str]:
    """Season, day, month, year and hour of YFCC's words, `2014-01-09 16:05:12.5`.

    Raises:
        ValueError: it is written otherwise.
    """
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f")
    month = season_of(moment.month, None, "released")
    return month, str(moment.day), _month(moment), str(moment.year), str(moment.hour)


def utc_time(seconds: float, zone: Any = UTC) -> tuple[str, str, str, str]:
    """Season, day, month and year of RedCaps' seconds.

    Args:
        seconds: since 1970, UTC.
        zone: in which they are read; the published code takes that of its machine.
    """
    moment = datetime.fromtimestamp(seconds, zone)
    season = season_of(moment.month, None, "released")
    return season, str(moment.day), _month(moment), str(moment.year)


def tags_of(tags: Sequence[str], chances: Sequence[float]) -> list[str]:
    """CC3M's tags of 0.9 and more, the first three; where none is, the most likely."""
    import numpy as np

    held = np.asarray(chances, np.float32)
    sure = [tag for tag, chance in zip(tags, held, strict=True) if chance >= np.float32(0.9)]
    return sure[:3] or [tags[int(np.argmax(held))]]


@dataclass(frozen=True)
class Facts:
    """What is known of a picture.

    Attributes:
        words: placeholder -> text; empty where nothing is known.
        more: `country month latitude longitude utm`, as RS5M's tables hold them.
    """

    words: Mapping[str, str]
    more: Mapping[str, Any] = field(default_factory=dict)


def corner_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Longitude and latitude of fMoW's first box's first corner; errors as of `fmow_facts`."""
    numbers = re.findall(r"-?[\d.]+", row["bounding_boxes"][0]["raw_location"])
    longitude, latitude = map(float, numbers[:2])
    return longitude, latitude


def fmow_facts(
    row: Mapping[str, Any],
    countries: Mapping[str, str],
    city: str = "",
    variant: Variant = "paper",
) -> Facts:
    """The facts of fMoW's ground truth.

    Args:
        row: of its JSON. The second box is read, and the first box's first corner for the place.
        countries: ISO code of three letters -> name.
        city: the nearest, where it is known.
        variant: see the head of this file.

    Raises:
        ValueError: a value that cannot be read; so KeyError, IndexError, TypeError.
    """
    box = row["bounding_boxes"][1]
    parts = "%S.%fZ" if "." in row["timestamp"] else "%SZ"
    moment = datetime.strptime(row["timestamp"], f"%Y-%m-%dT%H:%M:{parts}")
    longitude, latitude = corner_of(row)
    code = row["country_code"]
    if variant == "released" and code is None:
        raise LookupError("no country code")
    country = countries.get(code or "", _UNKNOWN)
    known = country if variant == "released" or country != _UNKNOWN else ""
    season = season_of(moment.month, latitude, variant)
    cell = location_of(row["img_width"], row["img_height"], box["box"], variant)
    cloud = row["cloud_cover"]
    label = box["category"].lower()
    words = {
        "country": ", ".join(filter(None, (city, known))),
        "season": season if variant == "released" else season.lower(),
        "class_label": label if variant == "released" else label.replace("_", " "),
        "relative_location": cell.lower(),
        "ground_sample_distance": f"{row['multi_resolution_dbl']:.2f}",
        "utm_zone": row["utm"] if variant == "released" else str(row["utm"]),
        "timestamp": timestamp_of(moment),
        "cloud_cover_rate": str(cloud) if variant == "released" or cloud is not None else "",
        "scan_direction": row["scan_direction"].lower(),
        "target_azimuth": f"{row['target_azimuth_dbl']:.2f}",
        "off_nadir": f"{row['off_nadir_angle_dbl']:.2f}",
    }
    more = {
        "country": country,
        "month": _month(moment),
        "latitude": latitude,
        "longitude": longitude,
        "utm": row["utm"],
    }
    return Facts(words, more)


def bigearthnet_facts(
    labels: Sequence[str], projection: str, acquired: str, variant: Variant = "paper"
) -> Facts:
    """The facts of BigEarthNet's patches, which lie in Europe.

    Args:
        labels: of its classes.
        projection: well-known text, with the words "UTM zone 33N".
        acquired: `2017-06-13 10:10:31`.
        variant: see the head of this file.

    Raises:
        ValueError: a value that cannot be read; so IndexError.
    """
    moment = datetime.strptime(acquired, "%Y-%m-%d %H:%M:%S")
    zone = projection.split("UTM zone ")[1].split('"')[0]
    names = [label.lower().replace("_", "-") for label in labels]
    season = season_of(moment.month, None, variant)
    words = {
        "class_labels": ", ".join(names),
        "utm_zone": zone,
        "season": season if variant == "released" else season.lower(),
        "timestamp": timestamp_of(moment),
    }
    return Facts(words, {"month": _month(moment), "utm": zone})


def filled(template: str, words: Mapping[str, str]) -> str:
    """A template with its placeholders filled; unknown ones stay."""
    for name, text in words.items():
        template = template.replace("{" + name + "}", text)
    return template


class MetaPlace:
    """Adds `lonlat`, the place that fMoW's JSON names, so that geocoding can ask what is there."""

    name = "metadata_place_mapper"
    version = "1"

    def __call__(self, record: Record) -> Outcome:
        """See `Stage`; a record without a place stays as it is."""
        try:
            return {**record, "lonlat": list(corner_of(record["meta"]))}
        except (LookupError, ValueError, TypeError):
            return record


@dataclass
class MetaCaption:
    """Puts a sentence on place, time and sensor before the caption; adds `meta_caption`.

    `city` and `country` of a record, which geocoding gives, are told too.

    Args:
        kind: `fmow` or `bigearthnet`, in whose form `meta` is written.
        variant: see the head of this file.
        templates: one is drawn for each record; `paper` draws among those whose words are all
            known. Empty takes ours.
        countries: ISO code of three letters -> name; of others, `paper` takes the record's
            `country`, where there is one.
        seed: of the draw.

    Raises:
        UserError: an unknown word.
    """

    kind: Literal["fmow", "bigearthnet"] = "fmow"
    variant: Variant = "paper"
    templates: Sequence[str] = ()
    countries: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    name = "meta_caption_mapper"
    version = "1"

    def __post_init__(self) -> None:
        if self.kind not in ("fmow", "bigearthnet") or self.variant not in ("paper", "released"):
            raise UserError(
                f"kind={self.kind} variant={self.variant}: fmow or bigearthnet, paper or released."
            )

    def __call__(self, record: Record) -> Outcome:
        """See `Stage`."""
        if not isinstance(record.get("meta"), dict):
            return Dropped("no_metadata")
        try:
            return self._told(record, self._facts(record["meta"], record))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            return Dropped("bad_metadata", f"{type(error).__name__}: {error}")

    def _told(self, record: Record, facts: Facts) -> Outcome:
        templates = self.templates or (FMOW if self.kind == "fmow" else BIGEARTHNET)
        if self.variant == "paper":
            missing = {"{" + name + "}" for name, text in facts.words.items() if not text}
            templates = [one for one in templates if not any(name in one for name in missing)]
        if not templates:
            return Dropped("nothing_known")
        drawn = int(rng(self.seed, "meta_caption", record["id"]).integers(len(templates)))
        text = filled(templates[drawn], facts.words)
        if self.variant == "paper":
            text = text[:1].upper() + text[1:]
        whole = " ".join(filter(None, (text, record.get("caption", ""))))
        return {**record, **facts.more, "meta_caption": text, "caption": whole}

    def _facts(self, meta: Mapping[str, Any], record: Record) -> Facts:
        if self.kind == "fmow":
            known, city = dict(self.countries), str(record.get("city") or "")
            if self.variant == "paper" and record.get("country"):
                known.setdefault(str(meta["country_code"] or ""), str(record["country"]))
            return fmow_facts(meta, known, city, self.variant)
        labels = meta["labels"]
        labels = ast.literal_eval(labels) if isinstance(labels, str) else labels
        acquired = meta.get("acquisition_date", meta.get("acquisition_time"))
        return bigearthnet_facts(labels, meta["projection"], acquired, self.variant)


def _month(moment: datetime) -> str:
    return calendar.month_name[moment.month]
