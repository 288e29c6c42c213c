"""Do experts help? RS-MoE on the generated world beside dense models of its active and total size.

Descriptions of several sentences are learned and tested on seeds that training never saw: CIDEr
(coco), and how much of what the true description says is found in the text, by theme, objects and
relations, which the world knows (`recall`).

    OMP_NUM_THREADS=1 python benchmarks/learn_moe.py --rows experts3 dense_active --seeds 0

A finished row leaves experiments/rsmoe/learn/<row>_<seed>.json and is not run again; the table is
printed from the files. Seconds are processor time of the whole row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "rsmoe" / "learn"
ONLY = ["model.chat.kinds=[description]", "trainer.max_epochs=4", "evaluation=none"]
FIRST = ["model.stage=first"]
#: The feed-forward width at which a dense model has as many numbers as three experts with theirs.
WIDE = (
    "model.lm.size={model_type: llama, hidden_size: 64, intermediate_size: 232, "
    "num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 512, "
    "initializer_range: 0.1, bos_token_id: 1, eos_token_id: 2, pad_token_id: 0}"
)
#: Row -> what differs from rsmoe_tiny_scenes.
ROWS: dict[str, list[str]] = {
    "experts3": [],
    "dense_active": FIRST,
    "dense_total": [*FIRST, WIDE],
    "no_router": ["model.router=none"],
    "learned": ["model.router=learned"],
    "experts1": ["model.experts.count=1"],
    "experts2": ["model.experts.count=2"],
    "experts4": ["model.experts.count=4"],
    "logits": ["model.combine=logits"],
    "summarised": ["model.combine=summarised"],
}


def settings(row: str, seed: int) -> list[str]:
    """Overrides of a run."""
    words = ["experiment=rsmoe_tiny_scenes", "trainer=cpu", "logger=csv", f"seed={seed}"]
    longest = ["model.generation.max_new_tokens=110"] if row.startswith(("dense", "exp1")) else []
    return [*words, *ONLY, *longest, *ROWS[row]]


def run_row(row: str, seed: int, work: Path, tests: int) -> dict[str, Any]:
    """Trains and tests; returns what is written."""
    import torch

    from rsvlm.app import run
    from rsvlm.config.compose import compose
    from rsvlm.config.instantiate import instantiate
    from rsvlm.data.loading.transformed import TransformedDataset
    from rsvlm.inference.build import build_model

    begun = time.process_time()
    out, words = work / f"{row}_{seed}", settings(row, seed)
    if not (out / "last.ckpt").is_file():
        run.fit(compose("train", words), out, overrides=words)
    trained = time.process_time() - begun
    cfg = compose("eval", [*words, f"ckpt={out / 'last.ckpt'}"])
    model = build_model(cfg).eval()
    dataset = instantiate(cfg.data.dataset)(split="test")
    view = TransformedDataset(dataset, model.preprocess, training=False, caption="all")
    collate = model.collate(training=False, kinds=["description"])
    texts: list[str] = []
    with torch.no_grad():
        for start in range(0, tests, 50):
            batch = collate([view[0, n] for n in range(start, min(tests, start + 50))])
            texts += [answer.text for answer in model.generate(batch)]
    found: dict[str, Any] = {"row": row, "seed": seed, "overrides": ROWS[row], "tests": tests}
    found["parameters"] = sum(p.numel() for p in model.parameters())
    found["model"] = scores(dataset, texts)
    shifted = texts[tests // 2 :] + texts[: tests // 2]
    found["other_images"] = scores(dataset, shifted)
    found["most_frequent"] = scores(dataset, [often(cfg)] * tests)
    found["examples"] = texts[:3]
    found["train_seconds"] = round(trained, 1)
    found["processor_seconds"] = round(time.process_time() - begun, 1)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def often(cfg: Any) -> str:
    """The sentences that stand most often in training descriptions, as many as one has."""
    from rsvlm.config.instantiate import instantiate
    from rsvlm.data.text.subtasks import sentences
    from rsvlm.synthetic.caption import description

    train = instantiate(cfg.data.dataset)(split="train")
    counts: Counter[str] = Counter()
    lengths = []
    for n in range(500):
        said = sentences(description(train.scene(n)).text)
        counts.update(said)
        lengths.append(len(said))
    return " ".join(text for text, _ in counts.most_common(round(statistics.mean(lengths))))


def scores(dataset: Any, texts: list[str]) -> dict[str, float]:
    """CIDEr, and the recall of each aspect, per cent."""
    from rsvlm.metrics.captions.metric import Captions
    from rsvlm.synthetic.caption import description

    told = [description(dataset.scene(n)) for n in range(len(texts))]
    metric = Captions("coco", metrics=["cider"])
    metric.update(texts, [[one.text] for one in told], list(range(len(texts))))
    right: dict[str, list[float]] = defaultdict(list)
    for text, one in zip(texts, told, strict=True):
        for aspect, hit in recalled(text, one.claims):
            right[aspect].append(hit)
    out = {word: float(value) for word, value in metric.compute().items()}
    return out | {name: 100 * statistics.mean(hits) for name, hits in right.items()}


def recalled(text: str, claims: Any) -> list[tuple[str, float]]:
    """For each claim of a true description, its aspect and whether a text makes it too."""
    from rsvlm.data.text.subtasks import sentences
    from rsvlm.synthetic import lexicon

    text, out, seen = text.lower(), [], set()
    for claim in claims:
        if claim.kind == "class":
            words = lexicon.CLASS_WORDS[claim.what[0]]
            out.append(("theme", float(any(word.lower() in text for word in words))))
        elif claim.kind in ("count", "least") and claim.what[0] not in seen:
            seen.add(claim.what[0])
            out.append(("objects", float(bool(_names(claim.what[0]).search(text)))))
        elif claim.kind == "relation":
            subject, other = _names(claim.what[0]), _names(claim.what[2])
            verb = _verbs(claim.what[1])
            out.append(
                (
                    "relations",
                    float(
                        any(
                            subject.search(s) and other.search(s) and verb.search(s)
                            for s in sentences(text)
                        )
                    ),
                )
            )
    return out


def _names(name: str) -> re.Pattern[str]:
    from rsvlm.synthetic import lexicon

    nouns = [*lexicon.NOUNS.get(name, ((name, name),))]
    if name == "building":
        nouns += [pair for row in lexicon.BUILDINGS.values() for pair in row]
    words = {word for pair in nouns for word in pair if word}
    words |= set(lexicon.GROUND_WORDS.get(name, ()))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words)))})\b")


def _verbs(relation: str) -> re.Pattern[str]:
    from rsvlm.synthetic import lexicon

    forms = []
    for pattern in lexicon.RELATIONS[relation]:
        words = re.sub(r"<[so]:([^|]+)\|([^>]+)>", r"(?:\1|\2)", pattern)
        forms.append(re.sub(r"\b[SO]\b", "", words).strip())
    return re.compile("|".join(rf"\b{form}\b" for form in forms))


def table() -> str:
    """All finished rows, means over seeds."""
    held: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        one = json.loads(path.read_text())
        held.setdefault(one["row"], []).append(one)
    lines = [
        "| row | seeds | parameters | CIDEr | theme | objects | relations | processor s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    words = ("cider", "theme", "objects", "relations")
    for row in [*(r for r in ROWS if r in held)]:
        ones = held[row]
        cells = [_mean([one["model"][w] for one in ones]) for w in words]
        seconds = statistics.mean(one["processor_seconds"] for one in ones)
        size = ones[0]["parameters"]
        lines.append(f"| {row} | {len(ones)} | {size:,} | {' | '.join(cells)} | {seconds:.0f} |")
    for name in ("other_images", "most_frequent"):
        ones = held.get("experts3") or next(iter(held.values()), [])
        if ones:
            cells = [_mean([one[name].get(w, 0.0) for one in ones]) for w in words]
            lines.append(f"| {name.replace('_', ' ')} | {len(ones)} | | {' | '.join(cells)} | |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def main() -> None:
    """Runs rows that have no file yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="*", default=[], choices=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("runs/learn_moe"))
    given = parser.parse_args()
    for row in given.rows:
        for seed in given.seeds:
            target = FOLDER / f"{row}_{seed}.json"
            if target.is_file():
                continue
            found = run_row(row, seed, given.work, given.tests)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{row} {seed}: {found['model']}")
    print(table())


if __name__ == "__main__":
    main()
