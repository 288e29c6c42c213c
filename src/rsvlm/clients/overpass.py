"""OpenStreetMap's objects of a box by their tags, from an Overpass server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.clients.bounds import Bounds
from rsvlm.clients.http import EndpointError, HTTPClient
from rsvlm.errors import UserError

#: A public server; its owners ask for few requests of small boxes.
PUBLIC = "https://overpass-api.de/api/interpreter"

_PLAIN = re.compile(r"[^\"\\\n\r\x00]+")


@dataclass
class Overpass:
    """Asks an Overpass server.

    Args:
        client: with its retries, rate limit, cache and replay.
        url: of the interpreter.
        timeout: seconds that the server may take.
    """

    client: HTTPClient
    url: str = PUBLIC
    timeout: int = 180

    def objects(self, bounds: Bounds, tags: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Nodes, ways and relations with any of the tags, and all that they are made of.

        Args:
            bounds: west, south, east, north in degrees.
            tags: `key=value`, or `key` with any value; none takes all that have a tag.

        Returns:
            Overpass' elements: `type`, `id`, `tags`, and `lat` and `lon`, `nodes` or `members`.

        Raises:
            UserError: a tag that cannot be asked for; so `EndpointError`, also where the server
                gave up on its way, which it says in an answer that looks whole.
        """
        west, south, east, north = bounds
        box = f"({south},{west},{north},{east})"
        wanted = "".join(f"nwr{_filter(tag)}{box};" for tag in tags) or f"nwr[~'.'~'.']{box};"
        query = f"[out:json][timeout:{self.timeout}];({wanted});(._;>;);out body qt;"
        reply = self.client.get(self.url, {"data": query}).json
        if not isinstance(reply, dict) or not isinstance(reply.get("elements"), list):
            raise EndpointError(f"{self.url} answers with no elements: is it an Overpass server?")
        if "error" in str(reply.get("remark", "")).lower():
            raise EndpointError(
                f"{self.url} gave up: {str(reply['remark'])[:300]} Ask for a smaller box or fewer "
                "tags."
            )
        return list(reply["elements"])


def _filter(tag: str) -> str:
    key, mark, value = tag.partition("=")
    if not _PLAIN.fullmatch(key) or (mark and not _PLAIN.fullmatch(value)):
        raise UserError(f"{tag!r} is no tag: give key=value, or a key alone (leisure=stadium).")
    return f'["{key}"="{value}"]' if mark else f'["{key}"]'
