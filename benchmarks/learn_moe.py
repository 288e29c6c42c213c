"""Do experts help? RS-MoE on the generated world beside dense models of its active and total size.

Descriptions of several sentences are learned and tested on seeds that training never saw: CIDEr
(coco), and how much of what the true description says is found in the text, by theme, objects and
relations, which the world knows (`recall`). All rows see as many pictures: a row of two stages
`FIRST_STEPS` and `SECOND_STEPS` batches, a row of one stage as many as both together. Rows of the
same first stage and seed share it, and its seconds stand in a line of its own.

    OMP_NUM_THREADS=1 python benchmarks/learn_moe.py --rows experts3 dense_active --seeds 0
    OMP_NUM_THREADS=1 python benchmarks/learn_moe.py            # the table of what has run

A finished row leaves experiments/rsmoe/learn/<row>_<seed>.json and is not run again; the table is
printed from the files. `val` are scores on the validation split, by which defaults are chosen.
Seconds are processor time of a row: training, and both splits' texts; drawing the scenes, which
all rows share, is not in them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import random
import re
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "rsmoe" / "learn"
FIRST_STEPS, SECOND_STEPS = 300, 200
#: Test, and as many validation, pictures.
TESTS = 200
#: A whole description is longer than the parts that the model's own limit is for.
COMMON = [
    "experiment=rsmoe_tiny_scenes",
    "optimizer.lr=2.0e-3",
    "model.generation.max_new_tokens=110",
]
DENSE = ["model.stage=first"]
MIXTURE = "rsvlm.models.rsmoe.token_mixture.TokenMixture"
#: The feed-forward width at which a dense model has as many numbers as three experts with theirs.
WIDE = (
    "model.lm.size={model_type: llama, hidden_size: 64, intermediate_size: 232, "
    "num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 512, "
    "initializer_range: 0.1, bos_token_id: 1, eos_token_id: 2, pad_token_id: 0}"
)


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        words: overrides of its model.
        first: overrides of the first stage that it starts from; None is one stage alone.
        steps: of the second stage.
    """

    words: list[str]
    first: list[str] | None = None
    steps: int = SECOND_STEPS


def experts(*words: str) -> Row:
    """A second stage on the plain first one."""
    return Row(["model.stage=second", "model.combine=concatenated", *words], [])


ROWS: dict[str, Row] = {
    "dense_active": Row(DENSE),
    "dense_total": Row([*DENSE, WIDE]),
    "first_stage": Row(DENSE, [], 0),
    "experts3": experts(),
    "experts3_lr8": experts("optimizer.lr=8.0e-3"),
    "no_router": experts("model.router=none"),
    "learned": experts("model.router=learned"),
    "experts1": experts("model.experts.count=1"),
    "experts2": experts("model.experts.count=2"),
    "experts4": experts("model.experts.count=4"),
    "logits": experts("model.combine=logits"),
    "summarised": Row(
        ["model.stage=second", "model.combine=summarised"], ["model.combine=summarised"]
    ),
    "one_stage": Row(["model.stage=joint", "model.combine=concatenated"]),
    "token_mixture": Row([*DENSE, f"model.token_mixture={{_target_: {MIXTURE}, _partial_: true}}"]),
    "token_mixture_released": Row(
        [
            *DENSE,
            f"model.token_mixture={{_target_: {MIXTURE}, _partial_: true, variant: released}}",
        ]
    ),
}

#: What the table calls them.
TOLD = {
    "dense_active": "dense, the active size",
    "dense_total": "dense, the total size",
    "first_stage": "dense, the first stage alone (300 batches)",
    "experts3": "**3 experts, template router, concatenated**",
    "experts3_lr8": "the same, second stage at four times the rate",
    "no_router": "router none",
    "learned": "router learned",
    "experts1": "1 expert (the whole description)",
    "experts2": "2 experts",
    "experts4": "4 experts",
    "logits": "combined as mixed logits",
    "summarised": "combined as summarised by the LLM block",
    "one_stage": "one stage in place of two",
    "token_mixture": "dense with the mixture of tokens, residual",
    "token_mixture_released": "dense with the mixture of tokens, released",
}
#: Rows between which the validation split chooses a default.
CHOICES = ("experts3", "experts3_lr8", "logits", "summarised")


class World:
    """The scenes that all rows share, drawn once and kept in a file."""

    def __init__(self, cfg: Any, work: Path) -> None:
        from rsvlm.config.instantiate import instantiate

        make = instantiate(cfg.data.dataset)
        self.sets = {split: make(split=split) for split in ("train", "val", "test")}
        path = work / "scenes.pkl"
        if not path.is_file():
            counts = {"train": len(self.sets["train"]), "val": TESTS, "test": TESTS}
            drawn = {s: [self.sets[s][n] for n in range(c)] for s, c in counts.items()}
            work.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(drawn))
        self.drawn: dict[str, list[Any]] = pickle.loads(path.read_bytes())  # our own file

    def view(self, split: str, model: Any, *, training: bool) -> Any:
        """A split as a model takes it."""
        from rsvlm.data.loading.transformed import TransformedDataset

        return TransformedDataset(
            self.drawn[split], model.preprocess, training=training, caption="all"
        )


def settings(seed: int, words: list[str]) -> list[str]:
    """Overrides of a run."""
    return [*COMMON, f"seed={seed}", "model.chat.kinds=[description]", *words]


def train(cfg: Any, model: Any, world: World, steps: int) -> list[float]:
    """The recipe's loss, optimizer and schedule for so many steps; the losses.

    Modules alone, without the trainer: rows are short, and its start would be a tenth of one.
    """
    import torch

    from rsvlm.config.instantiate import instantiate

    loss = instantiate(cfg.loss)
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=steps)
    view, collate = world.view("train", model, training=True), model.collate(training=True)
    dice, order, told = random.Random(int(cfg.seed)), [], []
    model.train()
    for _ in range(steps):
        if len(order) < cfg.data.batch_size:
            order = dice.sample(range(len(view)), len(view))
        batch = collate([view[0, order.pop()] for _ in range(cfg.data.batch_size)])
        total = sum(loss(model(batch), batch).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        schedule.step()
        told.append(float(total.detach()))
    return told


def first_stage(words: list[str], seed: int, world: World, work: Path) -> Path:
    """A first stage's checkpoint, trained where there is none yet; a file tells its seconds."""
    import torch

    from rsvlm.checkpoints import pack
    from rsvlm.config.compose import compose
    from rsvlm.inference.build import build_model

    name = "first" + "".join(f"_{word.rpartition('=')[2]}" for word in words)
    path = work / f"{name}_{seed}.ckpt"
    if not path.is_file():
        begun = time.process_time()
        cfg = compose("train", settings(seed, [*DENSE, *words]))
        torch.manual_seed(seed)
        model = build_model(cfg)
        losses = train(cfg, model, world, FIRST_STEPS)
        seconds = round(time.process_time() - begun, 1)
        torch.save(pack(model), path)
        told = {"seed": seed, "loss": statistics.mean(losses[-20:]), "processor_seconds": seconds}
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"_{name}_{seed}.json").write_text(json.dumps(told, indent=1) + "\n")
    return path


def run_row(row: str, seed: int, world: World, work: Path) -> dict[str, Any]:
    """Trains and tests; returns what is written."""
    import torch

    from rsvlm.checkpoints import load
    from rsvlm.config.compose import compose
    from rsvlm.inference.build import build_model

    words, first, second_steps = ROWS[row]
    start = None if first is None else first_stage(first, seed, world, work)
    begun = time.process_time()
    cfg = compose("train", settings(seed, words))
    torch.manual_seed(seed)
    model = build_model(cfg)
    if start is not None:
        load(model, start, new=model.adapter_parts)
    steps = FIRST_STEPS + SECOND_STEPS if start is None else second_steps
    losses = train(cfg, model, world, steps) if steps else [0.0]
    trained = time.process_time() - begun
    model.eval()
    found: dict[str, Any] = {"row": row, "seed": seed, "overrides": words, "tests": TESTS}
    found["parameters"] = sum(p.numel() for p in model.parameters())
    found["trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    found["steps"], found["loss"] = steps, statistics.mean(losses[-20:])
    splits = ("val", "test") if row in CHOICES else ("test",)
    texts = {split: write(model, world, split) for split in splits}
    said = [answer.text for answer in texts["test"]]
    if row in CHOICES:
        found["val"] = scores(world.sets["val"], [answer.text for answer in texts["val"]])
    found["model"] = scores(world.sets["test"], said)
    found["other_images"] = scores(world.sets["test"], said[TESTS // 2 :] + said[: TESTS // 2])
    found["most_frequent"] = scores(world.sets["test"], [often(world)] * TESTS)
    found["different"] = len(set(said))
    if model.experts is not None:
        found["routing"] = routing_of(model, world)
    found["examples"] = [
        {"text": each.text, "parts": {p.expert: p.text for p in each.parts or []}}
        for each in texts["test"][:3]
    ]
    found["train_seconds"] = round(trained, 1)
    found["processor_seconds"] = round(time.process_time() - begun, 1)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def write(model: Any, world: World, split: str) -> list[Any]:
    """The model's answer to each picture of a split."""
    view = world.view(split, model, training=False)
    collate = model.collate(training=False, kinds=["description"])
    answers = []
    for start in range(0, TESTS, 50):
        answers += model.generate(collate([view[0, n] for n in range(start, start + 50)]))
    return answers


def routing_of(model: Any, world: World) -> dict[str, Any]:
    """How often each expert was asked, or, of a learned router, its mean shares by task."""
    import torch

    from rsvlm.metrics.routing import routing_statistics

    view = world.view("test", model, training=False)
    batch = model.collate(training=False, kinds=["description"])([view[0, n] for n in range(100)])
    with torch.no_grad():
        found = model.route(batch, model.find(batch, model.tokens(batch, None)))
    routed = []
    for each, updates in zip(found.asked, found.updates.tolist(), strict=True):
        task = model.tasks[each.task]
        routed += [(task, name, share) for name, share in zip(model.tasks, updates, strict=True)]
    told: dict[str, Any] = routing_statistics(routed, model.tasks)
    if found.shares is not None:
        shares = found.shares.mean(0).tolist()
        told["shares"] = {
            task: {name: round(share, 3) for name, share in zip(model.tasks, line, strict=True)}
            for task, line in zip(model.tasks, shares, strict=True)
        }
    return told


def often(world: World) -> str:
    """The sentences that stand most often in training descriptions, as many as one has."""
    from rsvlm.data.text.subtasks import sentences
    from rsvlm.synthetic.caption import description

    train = world.sets["train"]
    counts: Counter[str] = Counter()
    lengths = []
    for n in range(300):
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
    for path in sorted(FOLDER.glob("[a-z]*.json")):
        one = json.loads(path.read_text())
        held.setdefault(one["row"], []).append(one)
    words = ("cider", "theme", "objects", "relations")
    lines = [
        "| row | seeds | parameters | trained | CIDEr, val "
        + "| CIDEr | theme | objects | relations | processor s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in [*(r for r in ROWS if r in held)]:
        ones = held[row]
        vals = [one["val"]["cider"] for one in ones if "val" in one]
        cells = [_mean(vals) if vals else ""]
        cells += [_mean([one["model"][w] for one in ones]) for w in words]
        seconds = statistics.mean(one["processor_seconds"] for one in ones)
        size, trained = ones[0]["parameters"], ones[0]["trained"]
        lines.append(
            f"| {TOLD[row]} | {len(ones)} | {size:,} | {trained:,} | {' | '.join(cells)} "
            f"| {seconds:.0f} |"
        )
    for name in ("other_images", "most_frequent"):
        ones = held.get("experts3") or next(iter(held.values()), [])
        if ones:
            cells = [_mean([one[name].get(w, 0.0) for one in ones]) for w in words]
            lines.append(
                f"| {name.replace('_', ' ')} | {len(ones)} | | | | {' | '.join(cells)} | |"
            )
    for path in sorted(FOLDER.glob("_first*.json")):
        one = json.loads(path.read_text())
        told = path.stem[1:].replace("_", " ")
        lines.append(f"| training of {told} | | | | | | | | | {one['processor_seconds']:.0f} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def main() -> None:
    """Runs rows that have no file yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="*", default=[], choices=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=Path("runs/learn_moe"))
    given = parser.parse_args()
    if given.rows:
        from rsvlm.config.compose import compose

        world = World(compose("train", settings(0, [])), given.work)
    for row in given.rows:
        for seed in given.seeds:
            target = FOLDER / f"{row}_{seed}.json"
            if target.is_file():
                continue
            found = run_row(row, seed, world, given.work)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{row} {seed}: {found['model']}", flush=True)
    print(table())


if __name__ == "__main__":
    main()
