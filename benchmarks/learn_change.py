"""Do the models of two dates learn? Against a constant, and against themselves without eyes.

Each row trains on the generated world and is tested on seeds that training never saw, beside the
constant "nothing has changed" and the same model shown the first date twice.

    OMP_NUM_THREADS=1 python benchmarks/learn_change.py --rows deltavlm mmodalcc --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/learn_change.py --rows deltavlm_bypass mmodalcc_no_maps

A finished row leaves experiments/<paper>/learn/<row>_<seed>.json and is not run again;
the table is printed from the files. Seconds are processor time of the whole row: scenes drawn,
training, validation and both tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Row -> its paper's folder, and what differs from the recipe.
ROWS: dict[str, tuple[str, list[str]]] = {
    "deltavlm": ("deltavlm", []),
    "deltavlm_paper": ("deltavlm", ["model.bridge.variant=paper"]),
    "deltavlm_bypass": ("deltavlm", ["model.bridge.variant=bypass"]),
    "mmodalcc": ("mmodalcc", []),
    "mmodalcc_no_maps": ("mmodalcc", ["model.semantic=null"]),
    "mmodalcc_no_cmca": ("mmodalcc", ["model.cmca=false"]),
    "mmodalcc_no_mgca": ("mmodalcc", ["model.mgca=false"]),
}
WORDS = ("cider", "change_cider", "no_change_cider", "change_accuracy")


def run_row(row: str, seed: int, epochs: int | None, work: Path) -> dict[str, Any]:
    """Trains, tests and tests blind; returns what is written."""
    from omegaconf import OmegaConf

    from rsvlm.app import run
    from rsvlm.checkpoints.resolve import checkpoint_of
    from rsvlm.config.compose import compose

    paper, words = ROWS[row]
    recipe = f"experiment={paper}_tiny_scenes"
    shared = [recipe, "trainer=cpu", "logger=csv", f"seed={seed}", *words]
    shared += ["evaluation.metrics=[bleu4,rouge_l,cider]"]
    if epochs is not None:
        shared.append(f"trainer.max_epochs={epochs}")
    begun = time.process_time()
    out = work / f"{row}_{seed}"
    run.fit(compose("train", shared), out, overrides=[])
    blind = compose("eval", [*shared, f"ckpt={checkpoint_of(str(out))}"])
    OmegaConf.set_struct(blind, False)
    wrapped = {"_target_": "rsvlm.data.loading.wrappers.UnchangedPair", "_partial_": True}
    blind.data.dataset = OmegaConf.create({**wrapped, "dataset": blind.data.dataset})
    run.evaluate(blind, work / f"{row}_{seed}_blind")
    found: dict[str, Any] = {"row": row, "seed": seed, "overrides": shared[1:]}
    for name, folder in (("seen", out), ("blind", work / f"{row}_{seed}_blind")):
        results = json.loads((folder / "metrics.json").read_text())
        found["commit"] = results["git_commit"]
        found[name] = {r["name"].rsplit("/", 1)[-1]: r["value"] for r in results["results"]}
    with (out / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    found["validation"] = [
        [int(step), name, float(value)]
        for step, name, value in rows
        if name.startswith("val/") and name.rsplit("/", 1)[-1] in WORDS
    ]
    found["processor_seconds"] = round(time.process_time() - begun, 1)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def constant() -> dict[str, float]:
    """The baseline without a model, on the recipe's test pairs."""
    from hydra.utils import instantiate

    from rsvlm.config.compose import compose
    from rsvlm.metrics.change import ChangeCaptions, ChangeFlags

    cfg = compose("train", ["experiment=mmodalcc_tiny_scenes"])
    data = instantiate(cfg.data.dataset)(split="test")
    both = [data._both(data._number(i)) for i in range(len(data))]
    flags = [int(bool(pair.edits)) for pair in both]
    said = ["Nothing has changed."] * len(data)
    captions, told = ChangeCaptions("coco", data="scenes", metrics=["cider"]), ChangeFlags("scenes")
    captions.update(said, [data.captions(i) for i in range(len(data))], range(len(data)), flags)
    told.update(said, flags, range(len(data)))
    return {k: float(v) for k, v in (captions.compute() | told.compute()).items()}


def table() -> str:
    """All finished rows, mean and spread over seeds."""
    held: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(ROOT.glob("experiments/*/learn/*.json")):
        one = json.loads(path.read_text())
        held.setdefault(one["row"], []).append(one)
    lines = ["| row | seeds | " + " | ".join(WORDS) + " | first date twice: change_cider, accuracy"]
    lines[0] += " | processor s |"
    lines.append("|---|---:|" + "---:|" * (len(WORDS) + 2))
    always = constant()
    cells = " | ".join(f"{always[word]:.1f}" for word in WORDS)
    lines.append(f"| constant | – | {cells} | – | – |")
    for row, ones in held.items():
        cells = " | ".join(_spread([one["seen"][word] for one in ones]) for word in WORDS)
        blind = ", ".join(_spread([one["blind"][w] for one in ones]) for w in WORDS[1::2])
        timed = [one["processor_seconds"] for one in ones if one["processor_seconds"]]
        seconds = _spread(timed, digits=0) if timed else "–"
        lines.append(f"| {row} | {len(ones)} | {cells} | {blind} | {seconds} |")
    return "\n".join(lines)


def _spread(values: list[float], digits: int = 1) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    """Runs what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[], choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "learn_change")
    args = parser.parse_args()
    for row in args.rows:
        for seed in args.seeds:
            out = ROOT / "experiments" / ROWS[row][0] / "learn" / f"{row}_{seed}.json"
            if out.is_file():
                continue
            shutil.rmtree(args.work / f"{row}_{seed}", ignore_errors=True)
            found = run_row(row, seed, args.epochs, args.work)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
