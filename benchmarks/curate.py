"""How fast the stages of curation are, how a run grows, and near-duplicates of a million vectors.

    python benchmarks/curate.py stages --out stages.json
    python benchmarks/curate.py growth --records 10000 100000 1000000 --workers 1 2
    python benchmarks/curate.py neighbours --vectors 1000000 --out near.json

Each measurement is a process of its own, so that its highest memory is its own; seconds are of the
processor, its workers' too. Records are synthetic.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_PLACES = ("a harbour", "an airport", "a forest", "a river bend", "a stadium", "a mine")
_KINDS = ("aerial photo of", "satellite image of", "a drawing of", "my holiday at", "map of")


@dataclass
class Synthetic:
    """Records with an address and a caption, of which some repeat."""

    count: int
    name = "synthetic"
    version = "1"

    def __len__(self):
        return self.count

    def fingerprint(self):
        """See `Source`."""
        return str(self.count)

    def __iter__(self):
        for i in range(self.count):
            place = f"http://host{i % 997}.org/{(i if i % 20 else i // 2)}.jpg"
            words = f"{_KINDS[i % 5]} {_PLACES[i % 6]}, number {i}"
            yield {"id": f"{i:010d}", "url": place, "caption": words, "source": f"set{i % 3}"}


@dataclass
class Hashes:
    """A seeded hash in place of a picture's; one in fifty repeats with a bit turned."""

    name = "synthetic_hash"
    version = "1"

    def __call__(self, record):
        """See `Stage`."""
        number = int(record["id"])
        twin = number - 1 if number % 50 == 1 else number
        value = int(np.random.default_rng(twin).integers(2**63)) ^ (twin != number)
        return {**record, "phash": f"{value:016x}"}


class Count:
    """Counts in place of writing."""

    name = "count"
    version = "1"

    def write(self, records, out):
        """See `Writer`."""
        return {"records": sum(1 for _ in records)}


def _picture(side):
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def stages(seconds=2.0):
    """Stage -> records a second of one core."""
    from rsvlm.curate.dedup.stages import ImageHash
    from rsvlm.curate.images import ImageShapeFilter
    from rsvlm.curate.parts import Part
    from rsvlm.curate.rs5m.meta import location_of, season_of
    from rsvlm.curate.rs5m.pub11 import KeywordFilter, RemoteSensingDetector, fit

    records = list(Synthetic(2000))
    picture = _picture(512)
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "d.npz"
        fit(draw.normal(1, 1, (200, 512)), draw.normal(-1, 1, (200, 512)), weights)
        detector = RemoteSensingDetector(str(weights))
        detector.setup()
        seen = [{**r, "embedding": draw.random(512, np.float32)} for r in records[:256]]
        part = Path(folder) / "part.zip"
        keyword, shape, hashed = KeywordFilter(), ImageShapeFilter(), ImageHash()

        def parts():
            Part(records).save(part)
            Part.read(part)

        runs = {
            "keyword_filter": (2000, lambda: [keyword(dict(r)) for r in records]),
            "image_shape_filter, JPEG 512 px": (1, lambda: shape({"id": "a", "image": picture})),
            "image_hash, JPEG 512 px": (1, lambda: hashed({"id": "a", "image": picture})),
            "remote_sensing_detector": (256, lambda: detector.process(seen)),
            "season and location": (
                1,
                lambda: (season_of(3, 40.0), location_of(512, 512, (9, 9, 99, 99))),
            ),
            "a part written and read": (2000, parts),
        }
        return {name: _rate(number, work, seconds) for name, (number, work) in runs.items()}


def models(seconds=4.0):
    """A CLIP with weights of noise: pictures a second of one core."""
    import torch
    from PIL import Image

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from model_options import build

    from rsvlm.retrieval.knowledge_encoder import ClipEncoder

    torch.set_num_threads(1)
    image = Image.open(io.BytesIO(_picture(512))).convert("RGB")
    found = {}
    for name in ("clip_vitb32",):
        encoder = ClipEncoder(build(name, activation="quick_gelu").eval(), name, batch_size=8)
        found[f"image_embedding, {name}"] = _rate(
            8, lambda encoder=encoder: encoder.encode_images([image] * 8), seconds
        )
    return found


def _rate(number, work, seconds):
    work()
    began, done = time.process_time(), 0
    while time.process_time() - began < seconds:
        work()
        done += number
    return round(done / (time.process_time() - began), 1)


def growth(count, workers):
    """One run: keywords, addresses, hashes, near hashes."""
    from rsvlm.curate.dedup.stages import DocumentDeduplicator, ImageDeduplicator
    from rsvlm.curate.engine import Pipeline, run
    from rsvlm.curate.engines import Local
    from rsvlm.curate.rs5m.pub11 import KeywordFilter

    made = {
        "keywords": KeywordFilter(),
        "urls": DocumentDeduplicator(),
        "hashes": Hashes(),
        "duplicates": ImageDeduplicator(),
    }
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pipeline = Pipeline("growth", Synthetic(count), made, Count(), {})
        report = run(pipeline, Path(folder) / "out", Local(workers=workers, per_part=5000))
        wall = time.perf_counter() - began
    own, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "records": count,
        "workers": workers,
        "kept": report.manifest["records"]["kept"],
        "wall_s": round(wall, 1),
        "cpu_s": round(sum(u.ru_utime + u.ru_stime for u in (own, theirs)), 1),
        "peak_mib": round(own.ru_maxrss / 1024),
        "peak_worker_mib": round(theirs.ru_maxrss / 1024),
    }


def near(count, dim, probes):
    """Near-duplicates of vectors by an index, and its recall on a part done exactly."""
    from rsvlm.curate.dedup.neighbours import neighbours, pairs_above
    from rsvlm.data.perceptual_hash import groups_of

    vectors, twins = _vectors(count, dim)
    began = time.process_time()
    places, scores = neighbours(vectors, 5, method="ivf", probes=probes)
    pairs = pairs_above(places, scores, 0.96)
    groups = groups_of(count, pairs)
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # The neighbours of 500 twins and 500 others among all, exactly.
    draw = np.random.default_rng(1)
    asked = np.r_[draw.choice(twins, 500, False), draw.choice(count, 500, False)]
    asked = np.unique(asked)
    best, right, of = np.full(len(asked), -np.inf), 0, 0
    above = [set() for _ in asked]
    for start in range(0, count, 20000):
        table = vectors[asked] @ vectors[start : start + 20000].T
        inside = (asked >= start) & (asked < start + 20000)
        table[np.flatnonzero(inside), asked[inside] - start] = -np.inf
        best = np.maximum(best, table.max(1))
        for row, column in np.argwhere(table >= 0.96):
            above[row].add(int(column) + start)
    for row, others in zip(asked, above, strict=True):
        found = {int(p) for p, s in zip(places[row], scores[row], strict=True) if s >= 0.96}
        right += len(found & others)
        of += len(others)
    return {
        "vectors": count,
        "dim": dim,
        "probes": probes,
        "cpu_s": round(spent, 1),
        "peak_mib": round(peak),
        "pairs": len(pairs),
        "groups": len(groups),
        "planted_pairs": len(twins),
        "recall_at_0.96": round(right / max(of, 1), 4),
        "exact_pairs_asked": of,
        "recall_of_nearest": round(float((scores[asked, 0] >= best - 1e-5).mean()), 4),
    }


def _vectors(count, dim):
    """[count, dim] of unit length around 2,000 scenes, as a CLIP's; one in fifty has a twin."""
    draw = np.random.default_rng(0)
    scenes = draw.standard_normal((2000, dim)).astype(np.float32)
    made = np.empty((count, dim), np.float32)
    for start in range(0, count, 50000):
        some = made[start : start + 50000]
        which = draw.integers(len(scenes), size=len(some))
        some[:] = scenes[which] + 0.9 * draw.standard_normal(some.shape).astype(np.float32)
    twins = np.arange(1, count, 50)
    for start in range(0, len(twins), 5000):
        rows = twins[start : start + 5000]
        noise = draw.standard_normal((len(rows), dim)).astype(np.float32)
        # Cosines of 0.99 and, just above the threshold, 0.968.
        strength = np.where(draw.random((len(rows), 1)) < 0.5, 0.2, 0.35).astype(np.float32)
        made[rows] = made[rows - 1] + strength * noise
    for start in range(0, count, 50000):
        some = made[start : start + 50000]
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return made, twins


def _apart(function, **words):
    """A measurement in a process of its own."""
    code = (
        f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import curate\n"
        f"print(json.dumps(curate.{function}(**{words!r})))"
    )
    env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measures what is asked for, prints it line by line and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("stages", "models", "growth", "neighbours"))
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--vectors", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--probes", type=int, nargs="+", default=[8])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    if args.what in ("stages", "models"):
        rows.append(_apart(args.what))
    elif args.what == "growth":
        jobs = ((n, w) for n in args.records for w in args.workers)
        jobs = ({"count": n, "workers": w} for n, w in jobs)
    else:
        jobs = ((n, p) for n in args.vectors for p in args.probes)
        jobs = ({"count": n, "dim": args.dim, "probes": p} for n, p in jobs)
    if not rows:
        for job in jobs:
            rows.append(_apart("growth" if args.what == "growth" else "near", **job))
            print(rows[-1], flush=True)
    else:
        print(json.dumps(rows[0], indent=1))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
