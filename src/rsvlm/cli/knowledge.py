"""`rsvlm knowledge build|search|add|remove|info`: a base of places that models answer with.

  rsvlm knowledge build --source folder --root my_images --records my.jsonl --out kb
  rsvlm knowledge build --source rswk --root /data/RSWK --out kb
  rsvlm knowledge search kb --image a.png --text "which stadium is this?" -k 5 --sheet found.png
  rsvlm knowledge add kb --root more_images --records more.jsonl
  rsvlm knowledge remove kb p17 p18
  rsvlm knowledge info kb
  rsvlm knowledge contexts kb --data rswk --root /data/RSWK --out contexts.jsonl   # to train with
  rsvlm knowledge page kb --out pages                                  # a page of each record
  rsvlm knowledge build ... --store lance --out kb                        # LanceDB's tables
  rsvlm knowledge build ... --store qdrant --out http://localhost:6333/places   # on a server

A record is a line of JSON: id, name, category, location ("lat, lon"), date, split, image (relative
to --root), world (fields of world knowledge), expert and monthly (measured fields, with units),
description, texts. A build that was stopped goes on when it is given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rsvlm.cli import knowledge_contexts, knowledge_page
from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_builder import Options
from rsvlm.retrieval.knowledge_store import STORES, store_of


def main(argv: list[str]) -> None:
    """Runs one of the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("rsvlm knowledge", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a base, or go on with making it")
    build.add_argument("--out", required=True, help="the base's folder, or a server's address/name")
    build.add_argument(
        "--store",
        choices=STORES,
        help="files (all that the base install needs); lance: LanceDB, with an index for large "
        "bases; qdrant: a server, for many users (files, or what the folder holds)",
    )
    build.add_argument("--model", help="a CLIP of the zoo (georsclip_vitb32.rs5m), or a run's own")
    build.add_argument("--ckpt", help="a run's folder, a file, zoo:… or hf://…")
    build.add_argument("word", nargs="*", help="key=value of the encoder, as after predict")
    _sources(build)
    add = commands.add_parser("add", help="add records; those of a known id take its place")
    add.add_argument("base", help="its folder, or a server's address/name")
    _sources(add)
    remove = commands.add_parser("remove", help="remove records")
    remove.add_argument("base", help="its folder, or a server's address/name")
    remove.add_argument("id", nargs="+", help="ids of records")
    info = commands.add_parser("info", help="what a base holds")
    info.add_argument("base", help="its folder, or a server's address/name")
    info.add_argument("--version", type=int, help="an older version")
    search = commands.add_parser("search", help="what a base holds on a picture or a text")
    search.add_argument("base", help="its folder, or a server's address/name")
    search.add_argument("--image", type=Path, help="a picture")
    search.add_argument("--text", help="a question")
    search.add_argument("-k", type=int, default=3, help="most chunks (3)")
    search.add_argument("--alpha", type=float, default=0.7, help="weight of the picture (0.7)")
    search.add_argument("--task", help="caption, vqa or classification: the chunk types of a task")
    search.add_argument("--category", action="append", help="only records of this class")
    search.add_argument("--place", help="only records whose name, place or address holds this")
    search.add_argument("--lexical", action="store_true", help="fuse with BM25 by reciprocal rank")
    search.add_argument("--mmr", type=float, help="weight of the score against likeness, 0 to 1")
    search.add_argument("--exclude-self", action="store_true", help="not the picture's own record")
    search.add_argument("--variant", help="released: the published search")
    search.add_argument("--version", type=int, help="an older version")
    search.add_argument("--sheet", type=Path, help="a picture of what was found")
    search.add_argument("--json", action="store_true", help="a line of JSON for each chunk")
    more = {"contexts": knowledge_contexts, "page": knowledge_page}
    for command in more.values():
        command.add_parser(commands)
    args = parser.parse_args(argv)
    if args.command in more:
        more[args.command].run(args)
        return
    {"build": _build, "add": _add, "remove": _remove, "info": _info, "search": _search}[
        args.command
    ](args)


def _sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", choices=("folder", "rswk"), default="folder")
    parser.add_argument("--root", type=Path, required=True, help="folder of pictures, or RSWK's")
    parser.add_argument("--records", type=Path, help="of a folder: .jsonl of records")
    parser.add_argument("--split", default="train", help="of rswk: train, or several with +")
    parser.add_argument("--long", default="windows", help="windows, or cut (at the encoder's end)")
    parser.add_argument("--overlap", type=int, default=16, help="tokens of windows (16)")
    parser.add_argument("--per-part", type=int, default=64, help="records written at a time (64)")
    parser.add_argument("--batch-size", type=int, default=64, help="encoded at a time (64)")


def _records(args: argparse.Namespace) -> Any:
    from rsvlm.retrieval.knowledge_sources import folder_records, rswk_records

    if args.batch_size < 1:
        raise UserError("--batch-size is at least 1.")
    if args.source == "rswk":
        if args.records:
            raise UserError("--records belongs to --source folder; RSWK has its own.")
        found, told = rswk_records(args.root, args.split)
    else:
        found, told = folder_records(args.root, args.records)
    for text in told:
        print(text)
    return found


def _progress(done: int, count: int) -> None:
    line = f"{done} of {count} records"
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if done == count else "", file=sys.stderr, flush=True)
    elif done == count:
        print(line, file=sys.stderr)


def _build(args: argparse.Namespace) -> None:
    options = Options(args.long, args.overlap, args.per_part)
    store_of(args.out, args.store)  # before pictures are read: whether it can be had
    records = _records(args)

    from rsvlm.inference.knowledge import encoder_of
    from rsvlm.retrieval.knowledge_base import KnowledgeBase

    encoder = encoder_of(args.model, args.ckpt, args.word, batch=args.batch_size)
    base = KnowledgeBase.build(
        records,
        encoder,
        args.out,
        root=args.root,
        options=options,
        progress=_progress,
        store=args.store,
    )
    _tell(base)
    print(f"wrote {args.out}")


def _add(args: argparse.Namespace) -> None:
    from rsvlm.inference.knowledge import open_base

    options = Options(args.long, args.overlap, args.per_part)
    records = _records(args)
    base = open_base(args.base)
    replaced = base.add(records, root=args.root, options=options, progress=_progress)
    print(f"{len(records)} records given, {replaced} of which took the place of older ones")
    _tell(base)


def _remove(args: argparse.Namespace) -> None:
    from rsvlm.retrieval.knowledge_base import KnowledgeBase

    base = KnowledgeBase(args.base)
    print(f"removed {base.remove(args.id)} records")
    _tell(base)


def _info(args: argparse.Namespace) -> None:
    from rsvlm.retrieval.knowledge_base import KnowledgeBase

    _tell(KnowledgeBase(args.base, version=args.version))


def _tell(base: Any) -> None:
    held = base.version
    for text in held.left_out:
        print(f"left out: {text}")
    counts, size = held.counts(), base.store.size()
    print(f"version {held.number} of {', '.join(map(str, base.store.versions()))}")
    print(f"store: {base.store.kind}" + (f", {size / 2**20:.1f} MiB in all" if size else ""))
    print(f"{counts.records} records, {counts.pictures} pictures, {len(held)} chunks")
    for kind, count in counts.chunks.items():
        print(f"  {count:8d} {kind}")
    print(f"encoder: {base.facts['encoder']}, {base.facts['dim']} numbers a vector")


def _search(args: argparse.Namespace) -> None:
    from rsvlm.inference.knowledge import open_base
    from rsvlm.retrieval.knowledge_search import Filter

    if args.image is None and not (args.text or "").strip():
        raise UserError("a search needs a picture or a text: give --image, --text, or both.")
    base = open_base(args.base, version=args.version)
    hits = base.search(
        args.image,
        args.text,
        task=args.task,
        where=Filter(categories=args.category, place=args.place),
        k=args.k,
        alpha=args.alpha,
        lexical=args.lexical,
        mmr=args.mmr,
        exclude_self=args.exclude_self,
        variant=args.variant,
    )
    if not hits:
        print("nothing was found.")
    for place, hit in enumerate(hits, 1):
        if args.json:
            told = {"id": hit.record.id, "type": hit.type, "score": hit.score, "span": hit.span}
            print(json.dumps(told | {"text": hit.text}, ensure_ascii=False))
        else:
            print(f"{place}. {hit.score:.4f}  {hit.record.id}  [{hit.type}]")
            print("   " + hit.text.replace("\n", "\n   "))
    if args.sheet:
        _sheet(base, hits, args)


def _sheet(base: Any, hits: Any, args: argparse.Namespace) -> None:
    from rsvlm.data.images import read_any
    from rsvlm.report.retrieval_sheet import found_sheet

    found = []
    for hit in {hit.record.id: hit for hit in reversed(hits)}.values():
        try:
            picture, _ = read_any(Path(base.facts["root"], hit.record.image))
            found.append((picture, hit.record.name or hit.record.id, hit.score))
        except (UserError, OSError) as error:
            print(f"not on the sheet: {error}")
    if found:
        found = sorted(found, key=lambda one: -one[2])
        asked = args.text or str(args.image)
        print(f"wrote {found_sheet(found, asked, args.sheet)}")
