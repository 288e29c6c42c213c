"""Names of the place of a record, by a geocoding server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.clients.geocoding import PUBLIC, Geocoder
from rsvlm.clients.http import HTTPClient
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.errors import UserError


@dataclass
class _Asked:
    """A Nominatim server, as a stage holds it.

    Args:
        url: of a Nominatim server; the public one asks for one request a second, none in bulk.
        cache: a folder where replies are kept; None keeps none.
        replay: answer from the cache alone.
        per_minute: most requests in a minute.
        timeout: seconds for one try.
        batch_size: records at a time.
    """

    url: str = PUBLIC
    cache: str | None = None
    replay: bool = False
    per_minute: float | None = 60.0
    timeout: float = 60.0
    batch_size: int = 32

    def setup(self) -> None:
        """Makes the client."""
        client = HTTPClient(
            cache=self.cache,
            replay=self.replay,
            timeout=self.timeout,
            per_minute=self.per_minute,
            words="pipeline.stages.<label>.",
        )
        self._geocoder = Geocoder(client, self.url)


@dataclass
class ReverseGeocoding(_Asked):
    """Adds `city`, `country` and `country_code` of a record's place; empty where nothing is known.

    RS5M's meta captions put the city before the country (`curate.rs5m.meta`). Options are those of
    the server (`_Asked`).

    Dropped: `no_place`, a record without coordinates; `bad_place`, which are none on the earth.
    """

    name = "reverse_geocoding_mapper"
    version = "1"

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each record with its names."""
        return [self._told(record) for record in records]

    def _told(self, record: Record) -> Outcome:
        at = _place(record)
        if at is None:
            return Dropped("no_place")
        try:
            found = self._geocoder.reverse(*at)
        except UserError as error:
            if error.code == "endpoint":
                raise
            return Dropped("bad_place", str(error))
        names = (found.city, found.country, found.country_code) if found else ("", "", "")
        return record | dict(zip(("city", "country", "country_code"), names, strict=True))


@dataclass
class Geocoding(_Asked):
    """Adds `lonlat` and `country` of the place that a record names, as RSWK does with landmarks.

    Options are those of the server (`_Asked`).

    Dropped: `no_place`, a record that names none; `unknown_place`.

    Args:
        text_key: the field with the name.
    """

    text_key: str = "name"
    name = "geocoding_mapper"
    version = "1"

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each record with its place."""
        return [self._told(record) for record in records]

    def _told(self, record: Record) -> Outcome:
        text = str(record.get(self.text_key) or "").strip()
        found = self._geocoder.search(text) if text else None
        if found is None:
            return Dropped("unknown_place" if text else "no_place", text)
        return record | {"lonlat": [found.longitude, found.latitude], "country": found.country}


def _place(record: Record) -> tuple[float, float] | None:
    """Longitude and latitude, as `lonlat` or by name."""
    given: Any = record.get("lonlat") or (record.get("longitude"), record.get("latitude"))
    try:
        longitude, latitude = given
        return float(longitude), float(latitude)
    except (TypeError, ValueError):
        return None
