"""Fine-tuning a CLIP of our own with each kind of adapter: parameters, memory, retrieval.

    RSVLM_DATA=... python benchmarks/adapters.py --out runs/peft

RSICD's training images are cut in two by their place in the file. A CLIP is trained on the even
ones; from its best checkpoint, each kind is tuned on the odd ones, at a few learning rates of which
validation chooses. The test split is RSICD's own for all rows. Every run is `train.py` with the
options that its line shows, and a run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from rsvlm.encoders.clip.model import clip
from rsvlm.losses.contrastive import ClipLoss
from rsvlm.nn.adapter_settings import PRESETS
from rsvlm.nn.adapters import counts

ROOT = Path(__file__).parents[1]
# The base was trained at 1e-3: less than that for its own weights, that and more for what is added.
RATES = {"none": (3e-4, 1e-4)}
PEFT_RATES = (3e-3, 1e-3)
WORDS = [
    "experiment=clip_mini_rsicd",
    "trainer=cpu",
    "logger=csv",
    "data.workers=0",
    "data.batch_size=128",
]


def halve(rsicd: Path, out: Path) -> dict[str, Path]:
    """Two roots whose training splits are the even and the odd images of RSICD's."""
    content = json.loads((rsicd / "dataset_rsicd.json").read_text(encoding="utf-8"))
    train = [image for image in content["images"] if image["split"] == "train"]
    others = [image for image in content["images"] if image["split"] != "train"]
    roots = {}
    for start, name in enumerate(("even", "odd")):
        root = roots[name] = out / f"rsicd_{name}"
        root.mkdir(parents=True, exist_ok=True)
        half = content | {"images": train[start::2] + others}
        (root / "dataset_rsicd.json").write_text(json.dumps(half), encoding="utf-8")
        if not (root / "images").exists():
            folder = next(f for f in (rsicd / "RSICD_images", rsicd / "images") if f.is_dir())
            (root / "images").symlink_to(folder.resolve(), target_is_directory=True)
    return roots


def train(folder: Path, words: list[str]) -> dict[str, Any]:
    """One run of train.py; its metrics.json with processor seconds and peak memory of the process.

    The numbers of the process are kept beside the run.
    """
    cost = folder / "cost.json"
    if not (folder / "metrics.json").is_file() or not cost.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "train.py", *WORDS, *words, f"hydra.run.dir={folder}"]
        print(" ".join(command), flush=True)
        with (folder / "log.txt").open("w") as log:
            child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            _, status, used = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"failed; see {folder / 'log.txt'}")
        seconds = used.ru_utime + used.ru_stime
        cost.write_text(json.dumps({"seconds": seconds, "rss": used.ru_maxrss * 1024}))
    results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["results"]
    values = {row["name"].rpartition("/")[2]: row["value"] for row in results}
    checkpoint = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    best = next(s["best"] for s in checkpoint["callbacks"].values() if "best" in s)
    return values | json.loads(cost.read_text()) | {"val": best}


def kept(arch: str, kind: str) -> int:
    """Bytes that autograd keeps for one pair of a training step, captions of 24 tokens."""
    torch.manual_seed(0)
    model = clip(arch, activation="gelu", peft=kind).train()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    totals = []
    for pairs in (8, 16):  # the difference leaves out what does not grow with the batch
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        side = model.image_size
        ids = torch.randint(1, 49000, (pairs, 24))
        ids[:, 23] = 49407
        batch = SimpleNamespace(images=torch.rand(pairs, 3, side, side), input_ids=ids)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = ClipLoss()(model(batch))["contrastive"]
        totals.append(sum(held.values()))
        del loss
    return (totals[1] - totals[0]) // 8


def _best(runs: dict[float, dict[str, Any]]) -> float:
    """The rate that validation chooses."""
    return max(runs, key=lambda lr: runs[lr]["val"])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/peft"))
    parser.add_argument("--rsicd", type=Path, help="by default rsicd_160 of RSVLM_DATA")
    parser.add_argument("--arch", default="tiny", choices=("tiny", "mini"))
    parser.add_argument("--base-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    out = args.out.resolve()
    rsicd = args.rsicd or Path(os.environ["RSVLM_DATA"]) / "rsicd_160"
    roots = halve(rsicd, out)
    model = f"model=clip_{args.arch}"
    base = train(
        out / "base",
        [model, f"data.root={roots['even']}", f"trainer.max_epochs={args.base_epochs}"],
    )
    start = out / "base" / "best.ckpt"

    columns = "tuned|trained|of all|kept a pair, MB|states, MB|peak, MiB|CPU s|lr|val mR"
    columns += "|i2t R@1 / 5 / 10|t2i R@1 / 5 / 10|test mR"
    lines = ["| " + columns.replace("|", " | ") + " |", "|---" * 12 + "|"]

    def line(name: str, kind: str | None, lr: float | None, got: dict[str, Any]) -> str:
        number = counts(clip(args.arch, activation="gelu", peft=kind or "none"))
        recalls = [" / ".join(f"{got[f'{way}_r{k}']:.2f}" for k in (1, 5, 10)) for way in _WAYS]
        cells = [name, "-", "-", "-", "-"]
        if kind is not None:
            share = 100 * number["trained"] / number["all"]
            # Gradient and two moments in float32.
            states = 12 * number["trained"] / 1e6
            kept_mb = kept(args.arch, kind) / 1e6
            cells = [name, f"{number['trained']:,}", f"{share:.2f} %", f"{kept_mb:.2f}"]
            cells.append(f"{states:.1f}")
        cells += [f"{got['rss'] / 2**20:.0f}", f"{got['seconds']:.0f}"]
        cells += ["-" if lr is None else f"{lr:g}", f"{got['val']:.2f}", *recalls]
        return "| " + " | ".join([*cells, f"{got['mean_recall']:.2f}"]) + " |"

    head = [*lines, line("the base", None, None, base)]
    runs: dict[str, dict[float, dict[str, Any]]] = {kind: {} for kind in PRESETS}
    for turn in range(len(PEFT_RATES)):
        for kind in PRESETS:
            lr = RATES.get(kind, PEFT_RATES)[turn]
            words = [model, f"init={start}", f"model.peft={kind}", f"data.root={roots['odd']}"]
            words += [f"optimizer.lr={lr}", f"trainer.max_epochs={args.epochs}"]
            runs[kind][lr] = train(out / f"{kind}_{lr:g}", words)
        chosen = {kind: _best(found) for kind, found in runs.items()}
        rows = [line(kind, kind, lr, runs[kind][lr]) for kind, lr in chosen.items()]
        print("\n".join([*head, *rows]), flush=True)


_WAYS = ("i2t", "t2i")

if __name__ == "__main__":
    main()
