"""From a place to its names and back, by a Nominatim server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rsvlm.clients.http import EndpointError, HTTPClient
from rsvlm.errors import UserError

#: A public server; its owners ask for one request a second, and none of it in bulk.
PUBLIC = "https://nominatim.openstreetmap.org"
#: What a settlement is called there, the larger first.
_CITY = ("city", "town", "village", "municipality", "hamlet")


@dataclass(frozen=True)
class Place:
    """A place on the earth.

    Attributes:
        longitude: in degrees.
        latitude: in degrees.
        name: all of its names in one line.
        city: the settlement; empty in the open country.
        country: its English name; empty at sea.
        country_code: two letters, lower case.
        address: all that the server says.
    """

    longitude: float
    latitude: float
    name: str = ""
    city: str = ""
    country: str = ""
    country_code: str = ""
    address: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Geocoder:
    """Asks a Nominatim server, in English.

    Args:
        client: with its retries, rate limit (`per_minute=60`), cache and replay.
        url: of the server.
        decimals: coordinates are asked for with so many, so that neighbours share a reply; three
            are some hundred metres.
    """

    client: HTTPClient
    url: str = PUBLIC
    decimals: int = 3

    def reverse(self, longitude: float, latitude: float) -> Place | None:
        """What is at a place; None at sea and where nothing is known.

        Raises:
            UserError: no place on the earth; so `EndpointError`.
        """
        if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
            raise UserError(
                f"longitude {longitude:g}, latitude {latitude:g} is no place on the earth: are the "
                "two the wrong way round, or in metres?"
            )
        asked = {"lat": f"{latitude:.{self.decimals}f}", "lon": f"{longitude:.{self.decimals}f}"}
        more = {"format": "jsonv2", "zoom": 10, "addressdetails": 1, "accept-language": "en"}
        reply = self.client.get(self.url.rstrip("/") + "/reverse", asked | more).json
        if isinstance(reply, dict) and "error" in reply:
            return None
        return self._place(reply)

    def search(self, text: str) -> Place | None:
        """Where a name is; None where the server knows none.

        Raises:
            EndpointError: it cannot be asked.
        """
        asked = {"q": text, "format": "jsonv2", "limit": 1, "addressdetails": 1}
        reply = self.client.get(
            self.url.rstrip("/") + "/search", asked | {"accept-language": "en"}
        ).json
        if not isinstance(reply, list):
            raise EndpointError(f"{self.url} answers with no list: is it a Nominatim server?")
        return self._place(reply[0]) if reply else None

    def _place(self, reply: Any) -> Place:
        try:
            address = dict(reply.get("address") or {})
            return Place(
                float(reply["lon"]),
                float(reply["lat"]),
                str(reply.get("display_name") or ""),
                next((str(address[word]) for word in _CITY if address.get(word)), ""),
                str(address.get("country") or ""),
                str(address.get("country_code") or "").lower(),
                address,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EndpointError(
                f"{self.url} answers with no place ({error!r}): is it a Nominatim server?"
            ) from error
