"""Items of a STAC catalogue: what imagery there is of a box and a time, and where its files lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from rsvlm.clients.bounds import Bounds
from rsvlm.clients.http import EndpointError, HTTPClient, Reply
from rsvlm.errors import UserError, near


@dataclass(frozen=True)
class Item:
    """One picture of a catalogue.

    Attributes:
        id: its name there.
        collection: whose it is.
        bounds: west, south, east, north in degrees.
        properties: as the catalogue has them: `datetime`, `gsd`, `eo:cloud_cover`, ...
        assets: name -> `href`, `type`, `roles`.
    """

    id: str
    collection: str
    bounds: Bounds
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]

    def address(self, asset: str) -> str:
        """Where a file of it lies.

        Raises:
            UserError: it has none of that name, or one that cannot be had by http.
        """
        if asset not in self.assets:
            raise UserError(f"{self.id} has no asset {asset!r}. {near(asset, self.assets)}")
        href = str(self.assets[asset].get("href", ""))
        if not href.startswith(("http://", "https://")):
            raise UserError(
                f"{self.id}: its {asset} lies at {href[:200]!r}, which is no address of the web: "
                "take a catalogue that gives https:// (or fetch these files by their own tool)."
            )
        return href


@dataclass
class StacCatalogue:
    """Asks a STAC API (version 1, `/search`).

    Args:
        client: with its retries, rate limit, cache and replay.
        url: of the API, as https://earth-search.aws.element84.com/v1.
        per_page: items of one answer.
    """

    client: HTTPClient
    url: str
    per_page: int = 100

    def items(
        self,
        collections: Sequence[str],
        bounds: Bounds,
        *,
        time: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """The items of a box, page by page, in the catalogue's order.

        Args:
            collections: at least one.
            bounds: west, south, east, north in degrees.
            time: a day or an interval, as 2021-01-01/2021-12-31.
            limit: at most so many; None takes all.

        Raises:
            EndpointError: it cannot be asked, or is no STAC API.
        """
        body: dict[str, Any] = {
            "collections": list(collections),
            "bbox": list(bounds),
            "limit": min(self.per_page, limit or self.per_page),
        }
        if time:
            body["datetime"] = _interval(time)
        address = self.url.rstrip("/") + "/search"
        reply, given, seen = self.client.post(address, body), 0, set[str]()
        while True:
            features = reply.json.get("features") if isinstance(reply.json, dict) else None
            if not isinstance(features, list):
                raise EndpointError(f"{address} answers with no features: is it a STAC API?")
            for one in features:
                item = _item(one, address)
                if item.id in seen:
                    continue  # a catalogue that grew between two pages
                seen.add(item.id)
                yield item
                given += 1
                if limit is not None and given >= limit:
                    return
            following = self._next(reply.json, address, body)
            if following is None or not features:
                return
            reply = following

    def _next(self, page: Mapping[str, Any], address: str, body: dict[str, Any]) -> Reply | None:
        """The page behind one; None behind the last."""
        for link in page.get("links") or ():
            if link.get("rel") != "next" or not link.get("href"):
                continue
            href = urljoin(address, str(link["href"]))
            if str(link.get("method", "GET")).upper() == "POST":
                sent = link.get("body") or {}
                return self.client.post(href, {**body, **sent} if link.get("merge") else sent)
            return self.client.get(href)
        return None


def _interval(time: str) -> str:
    """A day or an interval with the hours that STAC's servers ask for."""
    days = time.split("/")
    if len(days) == 1:
        days *= 2
    ends = ("T00:00:00Z", "T23:59:59Z")
    return "/".join(
        day if "T" in day or day in ("", "..") else day + end
        for day, end in zip(days, ends, strict=True)
    )


def _item(one: Any, address: str) -> Item:
    try:
        west, south, *_ = one["bbox"]
        east, north = one["bbox"][len(one["bbox"]) // 2 :][:2]
        return Item(
            str(one["id"]),
            str(one.get("collection") or ""),
            (float(west), float(south), float(east), float(north)),
            dict(one.get("properties") or {}),
            dict(one["assets"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EndpointError(f"{address}: an item cannot be read ({error!r}).") from error
