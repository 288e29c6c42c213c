"""`rsvlm knowledge page`: pages of a base's records, to look at what answers rest on.

rsvlm knowledge page kb "Muradiye Complex" --out pages
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError, near


def add_parser(commands: Any) -> None:
    """Its words."""
    parser = commands.add_parser("page", help="a page of each record: picture, fields, texts")
    parser.add_argument("base", help="its folder, or a server's address/name")
    parser.add_argument("id", nargs="*", help="ids of records; all of them without")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pages")
    parser.add_argument("--most", type=int, default=200, help="most pages (200)")
    parser.add_argument("--version", type=int, help="an older version")


def run(args: argparse.Namespace) -> None:
    """Writes the pages and an index of them.

    Raises:
        UserError: no base, or an id that it does not hold.
    """
    from rsvlm.report.knowledge_page import index_page, record_page
    from rsvlm.retrieval.knowledge_base import KnowledgeBase

    base = KnowledgeBase(args.base, version=args.version)
    places = {record.id: n for n, record in enumerate(base.version.records)}
    for id in args.id:
        if id not in places:
            raise UserError(f"{args.base} holds no record {id!r}. {near(id, places)}")
    chosen = [places[id] for id in args.id] or list(range(len(places)))
    if len(chosen) > args.most:
        print(f"{len(chosen) - args.most} of {len(chosen)} records have no page: --most")
        chosen = chosen[: args.most]
    rows: dict[int, list[int]] = {n: [] for n in chosen}
    for row, of in enumerate(base.version.record_of):
        if int(of) in rows:
            rows[int(of)].append(row)
    args.out.mkdir(parents=True, exist_ok=True)
    names = [f"{n + 1}.html" for n in chosen]
    records = [base.version.records[n] for n in chosen]
    for n, record, name in zip(chosen, records, names, strict=True):
        chunks = [base.version.chunk(row) for row in rows[n]]
        root, page = base.facts.get("root"), args.out / name
        record_page(record, chunks, root, page, index="index.html")
    print(f"wrote {len(names)} pages: {index_page(records, names, args.out / 'index.html')}")
