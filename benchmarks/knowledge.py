"""Knowledge bases: how fast they are built and searched, beside torch, faiss, LanceDB and Qdrant.

    python benchmarks/knowledge.py build exact                    # a few minutes
    python benchmarks/knowledge.py large --work runs/large        # 1,000,000 vectors; an hour
    python benchmarks/knowledge.py paper                          # 100 million, reckoned

Vectors have the spectrum of real features: a row is the mean of the features, plus sqrt(1/2) times
what one of them, drawn at random, differs from it, plus sqrt(1/2) times noise of their covariance;
then of unit length. The features are --features, an array [N, D] of an .npz file with its name
(default: GeoRSCLIP ViT-B/32 of WHU-RS19's 1,005 pictures in RSVLM_DATA). Questions are drawn alike.

What is told is processor time, which other processes of the machine do not lengthen as they do
the time of the clock (they take caches and memory's bandwidth all the same): the median and the
least of --repeats. On one thread, the default, a machine that does nothing else needs no longer by
the clock. What is not installed (faiss, LanceDB, Qdrant's client) is left out and said.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rsvlm.retrieval import knowledge_search
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_builder import facts_of
from rsvlm.retrieval.knowledge_lance import LanceStore
from rsvlm.retrieval.knowledge_records import CHUNK_TYPES, TASKS, Chunk, KnowledgeRecord
from rsvlm.retrieval.knowledge_search import Filter
from rsvlm.retrieval.knowledge_store import store_of
from rsvlm.retrieval.knowledge_version import Part

#: RS-RAG's landmarks, and its chunks of each: 4 texts, 12 months, a description, a caption.
LANDMARKS = 14_820
KINDS = (*CHUNK_TYPES[:4], *[CHUNK_TYPES[4]] * 12, *CHUNK_TYPES[5:7])
TABLE = "| search | ms | least | recall@10 |\n|---|---|---|---|"
FEATURES = "whu_rs19_features/GeoRSCLIP_ViT-B-32.npz:images"


class Drawn:
    """Vectors with the spectrum of real features; see above."""

    def __init__(self, named: str, seed: int = 0) -> None:
        path, _, key = named.rpartition(":")
        if not Path(path).is_file():
            raise SystemExit(
                f"{path} is not there: set RSVLM_DATA, or give --features file.npz:name"
            )
        held = np.load(path, allow_pickle=False)[key].astype(np.float32)
        held /= np.linalg.norm(held, axis=1, keepdims=True)
        self.mean = held.mean(0)
        self.apart = held - self.mean
        _, values, axes = np.linalg.svd(self.apart, full_matrices=False)
        self.root = (axes.T * (values / np.sqrt(len(held) - 1))).astype(np.float32)
        shares = (values**2).cumsum() / (values**2).sum()
        told = ", ".join(f"{shares[n - 1]:.2f} in {n}" for n in (10, 50, 100))
        print(f"features {named}: {held.shape}, variance {told} dimensions", flush=True)
        self.draw = np.random.default_rng(seed)

    def __call__(self, count: int) -> np.ndarray:
        """[count, D] more of them."""
        out = np.empty((count, len(self.mean)), dtype=np.float32)
        for start in range(0, count, 50_000):
            some = out[start : start + 50_000]
            noise = self.draw.standard_normal((len(some), self.root.shape[1]), dtype=np.float32)
            near = self.apart[self.draw.integers(0, len(self.apart), len(some))]
            some[:] = self.mean + np.sqrt(0.5) * (near + noise @ self.root.T)
            some /= np.linalg.norm(some, axis=1, keepdims=True)
        return out


class Given:
    """An encoder whose vectors are there: question `q3` has the third one."""

    name, text_length = "given", 77

    def __init__(self, questions: np.ndarray) -> None:
        self.questions = questions

    def count_tokens(self, text: str) -> int:
        """Its words."""
        return len(text.split())

    def encode_texts(self, texts: Any) -> np.ndarray:
        """[N, D] of questions by their numbers."""
        return np.stack([self.questions[int(t[1:]) if t[1:].isdigit() else 0] for t in texts])

    def encode_images(self, images: Any) -> np.ndarray:
        """[N, D] of questions by their numbers."""
        return np.stack([self.questions[int(i) % len(self.questions)] for i in images])


def timed(call: Callable[[int], Any], repeats: int) -> tuple[float, float, list[Any]]:
    """Processor time of a call, median and least, in ms; and what it gave."""
    call(0)
    used, made = [], []
    for i in range(repeats):
        start = time.process_time()
        made.append(call(i))
        used.append((time.process_time() - start) * 1e3)
    return median(used), min(used), made


def row(name: str, found: tuple[float, float, list[Any]], exact: np.ndarray | None = None) -> None:
    """Prints a row, with the recall where the exact rows are given."""
    told = f"| {name} | {found[0]:.1f} | {found[1]:.1f} |"
    if exact is not None:
        shared = [
            len({*map(int, a)} & {*b[: len(a)].tolist()}) / len(a)
            for a, b in zip(found[2], exact, strict=False)
        ]
        told += f" {np.mean(shared):.3f} |"
    print(told, flush=True)


def landmarks(count: int) -> list[KnowledgeRecord]:
    """Records with what filters read."""
    return [
        KnowledgeRecord(
            f"p{i}",
            name=f"Place {i}",
            category=f"class {i % 16}",
            location=f"{i % 90}.5, {i % 180}.5",
            date=f"{2000 + i % 25}-05-01",
            split="train",
            image=f"{i}.png",
            world={"Address": f"Street {i}, City {i % 500}, Country {i % 180}"},
        )
        for i in range(count)
    ]


def base_of(args: argparse.Namespace, drawn: Drawn, store: str, count: int) -> KnowledgeBase:
    """A base of so many landmarks, written at once."""
    out = args.work / f"{store}-{count}"
    if args.again and (out / "manifest.json").is_file():
        print(f"{out}: written by a run before")
        return KnowledgeBase(store_of(out), Given(args.questions))
    shutil.rmtree(out, ignore_errors=True)
    # A smaller base than one would index shows what a larger one does.
    kept = LanceStore(out, index_rows=0, exact_rows=0) if store == "lance" else store_of(out, store)
    records = landmarks(count)
    chunks = [Chunk(kind, f"{kind} of {record.name}") for record in records for kind in KINDS]
    owner = np.repeat(np.arange(count), len(KINDS))
    text, image = drawn(len(chunks)), drawn(count)
    part = Part(records, chunks, owner, text, np.arange(count), image)
    encoder = Given(args.questions)
    clock, processor = time.perf_counter(), time.process_time()
    kept.write([part], "benchmark", facts_of(encoder, None))
    used = time.process_time() - processor
    print(
        f"{store}: {len(chunks)} chunks written in {used:.0f} s of processor time "
        f"({time.perf_counter() - clock:.0f} s), {(kept.size() or 0) / 2**20:.0f} MiB, at most "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
        flush=True,
    )
    return KnowledgeBase(kept, encoder)


def build(args: argparse.Namespace, drawn: Drawn) -> None:
    """Records with pictures and texts: the store's own time, and a CLIP's."""
    from PIL import Image

    from rsvlm.config.compose import compose
    from rsvlm.inference.build import build_model
    from rsvlm.retrieval.knowledge_encoder import ClipEncoder

    records = landmarks(args.records)
    for record in records:
        record.world["Historical_Background"] = "it was built long ago beside a river. " * 12
    for store in ("files", "lance", "lance"):  # the first brings LanceDB's import
        out = args.work / f"built-{store}"
        shutil.rmtree(out, ignore_errors=True)
        encoder = Given(args.questions)
        encoder.encode_images = lambda paths: args.questions[np.zeros(len(paths), dtype=int)]
        processor = time.process_time()
        try:
            base = KnowledgeBase.build(records, encoder, out, store=store)
        except ValueError as error:
            print(f"{store}: {error}")
            continue
        used = time.process_time() - processor
        print(
            f"{store}, vectors given: {args.records / used:.0f} records, "
            f"{len(base.version) / used:.0f} chunks a second of one core"
        )
    encoder = ClipEncoder(
        build_model(compose("predict", [f"model={args.model}", "model.activation=quick_gelu"])),
        args.model,
    )
    pictures = [Image.new("RGB", (256, 256), (i, 90, 40)) for i in range(8)]
    texts = [f"a stadium beside road {i} that was built in 19{i}" for i in range(16)]
    for what, call in (
        (f"{args.model}, a picture", lambda _: encoder.encode_images(pictures)),
        (f"{args.model}, a text", lambda _: encoder.encode_texts(texts)),
    ):
        used, _, _ = timed(call, 3)
        count = len(pictures) if "picture" in what else len(texts)
        print(f"{what}: {used / count:.1f} ms of processor time", flush=True)


def exact(args: argparse.Namespace, drawn: Drawn) -> None:
    """14,820 landmarks with 18 chunks: everything is scored."""
    base = base_of(args, drawn, "files", args.landmarks)
    version, asked, k = base.version, torch.from_numpy(args.questions), 10
    text = torch.from_numpy(version.text)
    image = torch.from_numpy(version.image)
    pictures = torch.from_numpy(version.image_of[version.record_of])
    print(f"\n{len(version)} x {text.shape[1]}\n\n{TABLE}")
    truth = timed(lambda i: (text @ asked[i]).topk(k).indices.numpy(), args.repeats)
    best = np.stack(truth[2])
    place = np.argsort(version.order)  # a hit knows its place in the order of the chunks

    def rows(hits: list[Any]) -> list[int]:
        return [int(place[hit.order]) for hit in hits]

    row("torch, text", truth, best)
    found = timed(lambda i: base.search(text=f"q{i}", k=k), args.repeats)
    row("rsvlm, text", (*found[:2], [rows(hits) for hits in found[2]]), best)
    both = timed(
        lambda i: ((image @ asked[i])[pictures] + text @ asked[i]).topk(k).indices.numpy(),
        args.repeats,
    )
    row("torch, picture and text", both, np.stack(both[2]))
    found = timed(lambda i: base.search(i, f"q{i}", k=k, alpha=0.5), args.repeats)
    row("rsvlm, picture and text", (*found[:2], [rows(h) for h in found[2]]), np.stack(both[2]))
    if args.bf16:
        half = text.bfloat16()
        found = timed(lambda i: (half @ asked[i].bfloat16()).topk(k).indices.numpy(), args.repeats)
        row("torch, text, bf16", found, best)
    a, b = version.groups["caption"]
    few = timed(lambda i: (text[a:b] @ asked[i]).topk(k).indices.numpy(), args.repeats)
    row(f"torch, text, {b - a} captions", few)
    row(
        "rsvlm, the same",
        timed(lambda i: base.search(text=f"q{i}", task="caption", k=k), args.repeats),
    )
    row(
        "rsvlm, picture and text",
        timed(lambda i: base.search(i, f"q{i}", task="caption", k=k), args.repeats),
    )
    where = Filter(categories=["class 3"])
    left = int(sum(r.category == "class 3" for r in version.records)) * len(KINDS)
    found = timed(lambda i: base.search(text=f"q{i}", where=where, k=k), args.repeats)
    row(f"rsvlm, text, a class: {left}", found)
    found = timed(
        lambda i: base.search(text=f"q{i}", where=Filter(place="City 3,"), k=k), args.repeats
    )
    row("rsvlm, text, a place", found)
    try:
        import faiss

        faiss.omp_set_num_threads(args.threads)
        flat = faiss.IndexFlatIP(text.shape[1])
        flat.add(version.text)
        found = timed(lambda i: flat.search(args.questions[i : i + 1], k)[1][0], args.repeats)
        row("faiss, IndexFlatIP", found, best)
    except ImportError:
        print("faiss is not installed: left out.")
    lance_scan(args, np.asarray(version.text), best, k)
    qdrant_local(args, np.asarray(version.text), best, k)


def lance_scan(args: argparse.Namespace, vectors: np.ndarray, best: np.ndarray, k: int) -> None:
    """LanceDB without an index."""
    try:
        import lancedb
    except ImportError:
        print("LanceDB is not installed: left out.")
        return
    out = args.work / "scan"
    shutil.rmtree(out, ignore_errors=True)
    table = lance_table(lancedb.connect(str(out)), vectors)
    found = timed(
        lambda i: (
            table.search(args.questions[i])
            .distance_type("dot")
            .select(["row", "_distance"])
            .limit(k)
            .to_arrow()["row"]
            .to_numpy()
        ),
        args.repeats,
    )
    row("LanceDB, scan of all", found, best)
    shutil.rmtree(out)


def lance_table(database: Any, vectors: np.ndarray) -> Any:
    """A table of vectors alone."""
    import pyarrow as pa

    width = vectors.shape[1]
    schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), width))])
    batches = (
        pa.record_batch(
            [
                pa.array(np.arange(start, start + len(some))),
                pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(some).reshape(-1)), width),
            ],
            schema=schema,
        )
        for start in range(0, len(vectors), 50_000)
        for some in [vectors[start : start + 50_000]]
    )
    table = database.create_table("rows", schema=schema)
    table.add(pa.RecordBatchReader.from_batches(schema, batches))
    return table


def qdrant_local(args: argparse.Namespace, vectors: np.ndarray, best: np.ndarray, k: int) -> None:
    """Qdrant's client without a server."""
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        print("Qdrant's client is not installed: left out.")
        return
    client = QdrantClient(":memory:")
    space = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
    client.create_collection("rows", vectors_config=space)
    for start in range(0, len(vectors), 2000):  # all at once become 4 GiB of Python's numbers
        some = vectors[start : start + 2000]
        ids = list(range(start, start + len(some)))
        client.upsert("rows", models.Batch(ids=ids, vectors=some.tolist()))
    found = timed(
        lambda i: [
            point.id
            for point in client.query_points(
                "rows", query=args.questions[i].tolist(), limit=k, with_payload=False
            ).points
        ],
        args.repeats,
    )
    row("Qdrant's local mode", found, best)


def large(args: argparse.Namespace, drawn: Drawn) -> None:
    """A million vectors behind LanceDB's index."""
    from rsvlm.retrieval import knowledge_lance

    count = args.rows // len(KINDS)
    base = base_of(args, drawn, "lance", count)
    version, k = base.version, 10
    asked, text = torch.from_numpy(args.questions), torch.from_numpy(version.text)
    print(f"\n{len(version)} x {text.shape[1]}\n\n{TABLE}")
    truth = timed(lambda i: (text @ asked[i]).topk(k).indices.numpy(), args.repeats)
    best = np.stack(truth[2])
    place = np.argsort(version.order)  # a hit knows its place in the order of the chunks
    row("torch, all", truth, best)
    shipped = knowledge_lance.PROBES
    for probes in args.probes:
        knowledge_lance.PROBES = probes
        found = timed(lambda i: base.search(text=f"q{i}", k=k), args.repeats)
        row(f"rsvlm, {probes} lists", rows_of(found, place), best)
    knowledge_lance.PROBES = shipped
    image, pictures = torch.from_numpy(version.image), torch.from_numpy(version.picture_of)
    few = min(args.repeats, 12)
    for alpha in (0.3, 0.5, 0.7):
        truth = timed(
            lambda i, a=alpha: (
                (a * (image @ asked[i + 7])[pictures] + (1 - a) * (text @ asked[i]))
                .topk(k)
                .indices.numpy()
            ),
            few,
        )
        found = timed(lambda i, a=alpha: base.search(i + 7, f"q{i}", k=k, alpha=a), few)
        name = f"rsvlm, picture and text, alpha {alpha}"
        row(name, rows_of(found, place), np.stack(truth[2]))
    row("torch, the same", truth)
    for name, words in (
        ("task vqa", {"task": "vqa"}),
        ("3 classes of 16", {"where": Filter(categories=["class 1", "class 2", "class 3"])}),
        ("without a record", {"where": Filter(exclude=["p3"])}),
    ):
        left = torch.from_numpy(rows_left(version, words))
        truth = timed(lambda i, r=left: r[(text[r] @ asked[i]).topk(k).indices].numpy(), 6)
        found = timed(lambda i, w=words: base.search(text=f"q{i}", k=k, **w), few)
        row(f"rsvlm, text, {name}: {len(left)}", rows_of(found, place), np.stack(truth[2]))


def rows_of(found: Any, place: np.ndarray) -> Any:
    """What `timed` found, as rows of the base."""
    return *found[:2], [[int(place[hit.order]) for hit in hits] for hits in found[2]]


def rows_left(version: Any, words: dict[str, Any]) -> np.ndarray:
    """The rows that a task or a filter leaves."""
    types = TASKS[words["task"]] if "task" in words else None
    return knowledge_search.rows_of(version, types, words.get("where"))


def paper(args: argparse.Namespace, drawn: Drawn) -> None:
    """What 100 million vectors take, by the sizes of the base that `large` made."""
    count = args.rows // len(KINDS) * len(KINDS)
    root, goal, width = args.work / f"lance-{args.rows // len(KINDS)}", 100_000_000, len(drawn.mean)
    folders = {
        "chunks in LanceDB's table": root / "lance/chunks.lance/data",
        "its index": root / "lance/chunks.lance/_indices",
        "pictures in LanceDB's table": root / "lance/pictures.lance/data",
        "files for exact scores": root / "versions",
    }
    print("\n| 100 million chunks | bytes a chunk | GB |\n|---|---|---|")
    for name, folder in folders.items():
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / count
        print(f"| {name} | {size:.0f} | {size * goal / 1e9:.0f} |")
    # Qdrant's default graph: 2 x 16 links at the bottom, 1/16 of them above, 4 bytes each.
    points = 2 * width * 4 + 1.07 * 2 * 16 * 4
    for name, size in (
        ("Qdrant: points of picture and text, with their graph", points),
        ("the same in int8", 2 * width + 1.07 * 2 * 16 * 4),
    ):
        print(f"| {name} (reckoned) | {size:.0f} | {size * goal / 1e9:.0f} |")


def main() -> None:
    """Runs what is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"build": build, "exact": exact, "large": large, "paper": paper}
    parser.add_argument("parts", nargs="+", choices=parts)
    root = Path(os.environ.get("RSVLM_DATA", "."))
    parser.add_argument("--features", default=str(root / FEATURES), help="file.npz:name")
    parser.add_argument("--work", type=Path, default=Path("runs/knowledge"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--records", type=int, default=1000, help="of build")
    parser.add_argument("--landmarks", type=int, default=LANDMARKS, help="of exact")
    parser.add_argument("--bf16", action="store_true", help="of exact: torch in bf16 too")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of large")
    parser.add_argument("--probes", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--again", action="store_true", help="ask a base that is there")
    parser.add_argument("--model", default="georsclip_vitb32", help="of build; random weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{args.threads} threads, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    )
    drawn = Drawn(args.features)
    args.questions = drawn(max(args.repeats, 32))
    args.work.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        parts[part](args, drawn)


if __name__ == "__main__":
    main()
