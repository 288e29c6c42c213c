"""Do the models of single images learn? Against the commonest answer, and themselves unseeing.

Each row trains on the generated world and is tested on seeds that training never saw, and there
on other images too: captions (CIDEr, coco), questions (accuracy of all, and the mean over the
types), places (acc@0.5).

    OMP_NUM_THREADS=1 python benchmarks/learn_captioner.py --rows llava --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/learn_captioner.py --rows skyeyegpt rscapret blip2

Rows with a CLIP's tower train that tower first, once a seed (`tower`); its seconds are in theirs.
A finished row leaves experiments/<paper>/learn/<row>_<seed>.json and is not run again; the table is
printed from the files. Seconds are processor time of the whole row: scenes drawn, tower, training,
and all tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Row -> its paper's folder, recipe, what differs from it, whether it takes the tower, and what is
#: measured.
ROWS: dict[str, tuple[str, str, list[str], bool, tuple[str, ...]]] = {
    "skyeyegpt": ("skyeyegpt", "skyeyegpt_tiny_scenes", [], False, ("captions", "vqa")),
    "llava": ("llava", "llava_tiny_scenes", [], True, ("captions", "vqa")),
    "skyeyegpt_places": ("skyeyegpt", "skyeyegpt_tiny_places", [], False, ("grounding",)),
    "llava_places": ("llava", "llava_tiny_places", [], False, ("grounding",)),
    "rscapret": ("rscapret", "rscapret_tiny_scenes", [], True, ("captions",)),
    "blip2": ("blip2", "blip2_tiny_scenes", [], False, ("captions", "vqa")),
    "hf_vlm": ("hf_vlm", "hf_vlm_tiny_scenes", [], False, ("captions", "vqa")),
}
#: What is measured -> the metric words of the table.
WORDS = {"captions": ("cider",), "vqa": ("oa", "aa"), "grounding": ("acc50",)}
#: A short form of the recipe clip_tiny_scenes.
TOWER = ["trainer.max_epochs=6", "evaluation=none", "callbacks.checkpoints.monitor=null"]


def settings(recipe: str, seed: int, words: list[str]) -> list[str]:
    """Overrides of a run."""
    return [f"experiment={recipe}", "trainer=cpu", "logger=csv", f"seed={seed}", *words]


def tower(seed: int, recipe: str, work: Path) -> tuple[Path, float]:
    """A CLIP that learned the scenes of a recipe: its checkpoint and the seconds that it took."""
    from rsvlm.app import run
    from rsvlm.config.compose import compose

    out = work / f"tower_{seed}"
    told = out / "seconds.json"
    if not told.is_file():
        shutil.rmtree(out, ignore_errors=True)
        begun = time.process_time()
        kept = compose("train", [f"experiment={recipe}"]).data.dataset.classes
        classes = f"data.dataset.classes=[{','.join(kept)}]"
        words = settings("clip_tiny_scenes", seed, [f"+{classes}", *TOWER, "data.workers=0"])
        run.fit(compose("train", words), out, overrides=[])
        told.write_text(json.dumps(time.process_time() - begun))
    return out / "last.ckpt", json.loads(told.read_text())


def run_row(row: str, seed: int, work: Path) -> dict[str, Any]:
    """Trains and tests on the images, and on other images; returns what is written."""
    from omegaconf import OmegaConf

    from rsvlm.app import run
    from rsvlm.config.compose import compose

    _, recipe, words, eyes, measured = ROWS[row]
    begun = time.process_time()
    out = work / f"{row}_{seed}"
    found: dict[str, Any] = {"row": row, "seed": seed, "overrides": words}
    before = 0.0
    if eyes:
        seen = time.process_time()
        file, before = tower(seed, recipe, work)
        begun += time.process_time() - seen
        words = [*words, f"model.vision.weights={file}"]
    fit = compose("train", [*settings(recipe, seed, words), "evaluation=none"])
    run.fit(fit, out, overrides=[])
    found["train_seconds"] = round(time.process_time() - begun, 1)
    for task in measured:
        more = [f"evaluation={task}", f"ckpt={out / 'last.ckpt'}"]
        if task == "captions":
            more.append("evaluation.metrics=[bleu4,rouge_l,cider]")
        cfg = compose("eval", [*settings(recipe, seed, words), *more])
        OmegaConf.set_struct(cfg, False)
        for name in ("seen", "other_image"):
            if name == "other_image":
                wrapped = {
                    "_target_": "rsvlm.data.loading.wrappers.ShuffledImages",
                    "_partial_": True,
                }
                cfg.data.dataset = OmegaConf.create({**wrapped, "dataset": cfg.data.dataset})
            folder = work / f"{row}_{seed}_{task}_{name}"
            run.evaluate(cfg, folder)
            results = json.loads((folder / "metrics.json").read_text())
            found["commit"] = results["git_commit"]
            values = {r["name"].rsplit("/", 1)[-1]: r["value"] for r in results["results"]}
            found.setdefault(task, {})[name] = values
    found["constant"] = constant(recipe, measured)
    found["tower_seconds"] = round(before, 1)
    found["processor_seconds"] = round(time.process_time() - begun + before, 1)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def constant(recipe: str, measured: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Baselines without a model, from the training split, on the recipe's test scenes.

    Captions: the most frequent one. Questions: the most frequent answer to each type; and,
    stricter, to each question's very words. Places: the mean box.
    """
    from hydra.utils import instantiate

    from rsvlm.config.compose import compose
    from rsvlm.metrics.captions.metric import Captions
    from rsvlm.metrics.grounding import Grounding
    from rsvlm.metrics.vqa import VQA

    cfg = compose("train", [f"experiment={recipe}"])
    make = instantiate(cfg.data.dataset)
    train, test = ([*make(split=split)] for split in ("train", "test"))
    out: dict[str, dict[str, float]] = {}
    if "captions" in measured:
        often = Counter(text for sample in train for text in sample.texts).most_common(1)[0][0]
        said = Captions("coco", metrics=["cider"])
        said.update([often] * len(test), [s.texts for s in test], list(range(len(test))))
        out["captions"] = {k: float(v) for k, v in said.compute().items()}
    if "vqa" in measured:
        for name, key in (("vqa", 0), ("vqa_words", 1)):
            counts: dict[str, Counter[str]] = {}
            for row in _asked(train):
                counts.setdefault(row[key], Counter())[row[2]] += 1
                counts.setdefault(row[0], Counter())[row[2]] += 1
            rows = _asked(test)
            told = [counts.get(r[key], counts[r[0]]).most_common(1)[0][0] for r in rows]
            metric = VQA("any")
            metric.update(told, [r[2] for r in rows], [r[0] for r in rows])
            out[name] = {k: float(v) for k, v in metric.compute().items()}
    if "grounding" in measured:
        mean = [statistics.mean(side) for side in zip(*_boxes(train), strict=True)]
        boxes, placed = _boxes(test), Grounding("rsvg")
        placed.update([mean] * len(boxes), boxes)
        out["grounding"] = {k: float(v) for k, v in placed.compute().items()}
    return out


def _asked(samples: list[Any]) -> list[tuple[str, str, str]]:
    """Type, words and answer of each question."""
    from rsvlm.evaluation.question_answering import OTHER_TASKS

    return [
        (asked.kind, asked.text, told.text)
        for sample in samples
        for asked, told in zip(sample.turns[::2], sample.turns[1::2], strict=True)
        if asked.kind not in OTHER_TASKS
    ]


def _boxes(samples: list[Any]) -> list[Any]:
    """The boxes of phrases that mean one thing."""
    return [
        next(i.box for i in sample.instances if i.id == told.instance_ids[0])
        for sample in samples
        for told in sample.turns[1::2]
        if told.kind == "refer" and len(told.instance_ids) == 1
    ]


def table() -> str:
    """All finished rows, mean and spread over seeds."""
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(ROOT.glob("experiments/*/learn/*.json")):
        one = json.loads(path.read_text())
        for task in one.get("constant", {}):
            if task in WORDS:
                held.setdefault((one["row"], task), []).append(one)
    lines = [
        "| row | seeds | measured | model | other images | most frequent | processor s |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for (row, task), ones in held.items():
        for word in WORDS[task]:
            cells = [_spread([one[task][name][word] for one in ones]) for name in NAMES]
            fixed = _spread([one["constant"][task][word] for one in ones])
            if task == "vqa":
                strict = _spread([one["constant"]["vqa_words"][word] for one in ones])
                fixed += f"; by its words {strict}"
            timed = [one["processor_seconds"] for one in ones if one["processor_seconds"]]
            seconds = _spread(timed, digits=0) if timed else "–"
            lines.append(
                f"| {row} | {len(ones)} | {task}, {word} | {' | '.join(cells)} | {fixed} | "
                f"{seconds} |"
            )
    return "\n".join(lines)


NAMES = ("seen", "other_image")


def _spread(values: list[float], digits: int = 1) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[], choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "learn_captioner")
    args = parser.parse_args()
    for row in args.rows:
        for seed in args.seeds:
            out = ROOT / "experiments" / ROWS[row][0] / "learn" / f"{row}_{seed}.json"
            if out.is_file():
                continue
            shutil.rmtree(args.work / f"{row}_{seed}", ignore_errors=True)
            found = run_row(row, seed, args.work)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
