"""`rsvlm gather osm|imagery`: what pipelines start from, fetched once into files.

    rsvlm gather osm --bbox=-122.42,37.77,-122.40,37.79 --tag leisure=stadium --tag building --out region.osm.pbf
    rsvlm gather imagery --stac https://earth-search.aws.element84.com/v1 --collection naip --asset image --bbox=-122.42,37.77,-122.40,37.79 --out naip
    rsvlm curate pipeline=skyscript_unfiltered osm=region.osm.pbf imagery=naip out=shards

Replies are kept with --cache (`--replay` answers from it alone, without network); `gather imagery`
goes on where it was stopped. Public servers have rules: few requests, small boxes; whole regions are
extracts of https://download.geofabrik.de.
"""  # noqa: E501

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.clients.http import HTTPClient
from rsvlm.errors import UserError


def main(argv: list[str]) -> None:
    """Fetches an extract or imagery."""
    from rsvlm.clients.overpass import PUBLIC

    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="rsvlm gather", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    osm = commands.add_parser("osm", help="OpenStreetMap's objects of a box, by Overpass")
    osm.add_argument("--tag", action="append", default=[], help="key=value or key; several times")
    osm.add_argument("--url", default=PUBLIC, help="of an Overpass server")
    osm.add_argument("--out", type=Path, required=True, help="the file, .osm.pbf or .osm")
    imagery = commands.add_parser("imagery", help="imagery of a box, from a STAC catalogue")
    imagery.add_argument("--stac", required=True, help="address of the STAC API")
    imagery.add_argument("--collection", action="append", required=True, help="several times")
    imagery.add_argument("--asset", required=True, help="the GeoTIFF among an item's assets")
    imagery.add_argument("--time", help="a day, or an interval as 2021-01-01/2021-12-31")
    imagery.add_argument("--limit", type=int, help="most items")
    imagery.add_argument("--most-clouds", type=float, help="per cent")
    imagery.add_argument("--largest", type=float, default=2000, help="MB of a file (2000)")
    imagery.add_argument("--out", type=Path, required=True, help="the folder")
    for one in (osm, imagery):
        one.add_argument("--bbox", required=True, help="=west,south,east,north in degrees")
        one.add_argument("--cache", type=Path, help="folder where replies are kept")
        one.add_argument("--replay", action="store_true", help="answer from the cache alone")
        one.add_argument("--timeout", type=float, default=180.0, help="seconds of a reply (180)")
        one.add_argument("--per_minute", type=float, default=60.0, help="most requests (60)")
        one.add_argument("--allow-private", action="store_true", help="servers of this network")
    args = parser.parse_args(argv)
    if getattr(args, "limit", None) is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: give 1 or more.")
    (_osm if args.command == "osm" else _imagery)(args)


def _osm(args: argparse.Namespace) -> None:
    from rsvlm.clients.bounds import bounds_of
    from rsvlm.clients.overpass import Overpass
    from rsvlm.curate.gather import gather_osm

    server = Overpass(_client(args), args.url, timeout=max(1, int(args.timeout)))
    counts = gather_osm(server, bounds_of(args.bbox), args.tag, args.out)
    print(f"{args.out}: " + ", ".join(f"{n:,} {kind}s" for kind, n in counts.items()))


def _imagery(args: argparse.Namespace) -> None:
    from rsvlm.clients.bounds import bounds_of
    from rsvlm.clients.stac import StacCatalogue
    from rsvlm.clients.web import WebFiles
    from rsvlm.curate.gather import gather_imagery

    files = WebFiles(
        timeout=max(args.timeout, 1800.0),
        largest=int(args.largest * 1e6),
        obey_opt_out=False,  # a catalogue's own files
        allow_private=args.allow_private,
    )
    counts = gather_imagery(
        StacCatalogue(_client(args), args.stac),
        files,
        args.out,
        collections=args.collection,
        bounds=bounds_of(args.bbox),
        asset=args.asset,
        time=args.time,
        limit=args.limit,
        most_clouds=args.most_clouds,
    )
    print(f"{args.out}: " + ", ".join(f"{n:,} {word}" for word, n in counts.items()))
    if counts["failed"]:
        raise UserError(
            f"{counts['failed']} files could not be fetched (above): the same command tries them "
            "again and leaves the others as they are."
        )


def _client(args: argparse.Namespace) -> HTTPClient:
    return HTTPClient(
        cache=args.cache,
        replay=args.replay,
        timeout=args.timeout,
        per_minute=args.per_minute,
        words="--",
    )
