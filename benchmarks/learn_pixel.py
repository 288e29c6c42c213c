"""Does the pixel family learn? GeoPix' recipe on the generated world, with its memory's variants.

    OMP_NUM_THREADS=1 python benchmarks/learn_pixel.py --rows none released paper --out learn.json
    python benchmarks/learn_pixel.py --run <run of lisa_tiny_scenes> --out lisa.json

A row trains `experiment=geopix_tiny_scenes`'s model for some steps in a plain loop and measures
mIoU on scenes of seeds that training never saw: teacher-forced (the true answer's words) on all of
them, and with the model's own words on some. Beside it, on the same questions: the mean box of the
class in training, the whole image, the same model asked for "it" in place of each phrase, and the
same model shown another question's image. Questions for what `HELD_OUT` names are left out of
training and measured apart. `--run` measures what a recipe of the family has trained, on all of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

import rsvlm
from rsvlm.config.compose import compose
from rsvlm.config.instantiate import instantiate
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance
from rsvlm.models.pixel.teacher_forcing import teacher_forced
from rsvlm.synthetic import Scenes

ROWS = {
    "none": ["model.memory.variant=none"],
    "released": ["model.memory.variant=released"],
    "paper": ["model.memory.variant=paper"],
    # Every number of the bank larger: 16 maps of 16 x 16 in place of 4 of 4 x 4.
    "paper_large": ["model.memory.variant=paper", "model.memory.length=16", "model.memory.grid=16"],
}
#: Combinations of class and quarter of the picture that training never asks for.
HELD_OUT = {
    ("building", "upper left"),
    ("tank", "lower right"),
    ("court", "lower left"),
    ("soccer field", "upper right"),
}


def iou(told: np.ndarray, true: np.ndarray) -> float:
    """Of two masks."""
    union = int((told | true).sum())
    return int((told & true).sum()) / union if union else 1.0


def built(words: list[str], seed: int):
    """Configuration and model of a row."""
    cfg = compose("train", ["experiment=geopix_tiny_scenes", f"seed={seed}", *words])
    torch.manual_seed(seed)
    return cfg, instantiate(cfg.model)


def viewed(dataset, model, count: int):
    """Samples as the model sees them."""
    view = TransformedDataset(dataset, model.preprocess, training=False, caption="all")
    return [view[(0, i)] for i in range(count)]


def items_of(cfg, model, split: str, count: int, seed: int | None, **changes):
    """Scenes as the model sees them; without a seed, those of the configuration."""
    options = {k: v for k, v in cfg.data.dataset.items() if not k.startswith("_")}
    changes |= {} if seed is None else {"seed": seed}
    return viewed(Scenes(split, **{**options, "n": count, **changes}), model, count)


def combination(instance, side: tuple[int, int]) -> tuple[str, str]:
    """Class and quarter of the picture of an object."""
    x0, y0, x1, y1 = instance.box
    rows = "upper" if y0 + y1 < side[0] else "lower"
    return instance.category, f"{rows} {'left' if x0 + x1 < side[1] else 'right'}"


def without(items, held: set[tuple[str, str]]):
    """The items without questions for what is held out; none without a question."""
    out = []
    for item in items:
        side = item.geometry[0].source
        gone = {one.id for one in item.stored if combination(one, side) in held}
        turns, pairs = [], item.sample.turns
        for asked, said in zip(pairs[::2], pairs[1::2], strict=True):
            if not gone & set(said.instance_ids):
                turns += [asked, said]
        if turns:
            sample = dataclasses.replace(item.sample, turns=turns)
            out.append(dataclasses.replace(item, sample=sample))
    return out


def train(cfg, model, items, steps: int, seed: int) -> float:
    """Trains; gives processor seconds."""
    collate, loss = model.collate(training=True), instantiate(cfg.loss)
    lr, size = cfg.optimizer.lr, min(cfg.data.batch_size, len(items))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=cfg.optimizer.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    draws, start = np.random.default_rng(seed), time.process_time()
    model.train()
    for step in range(steps):
        rows = []
        for i in draws.choice(len(items), size, replace=False):
            rows.append(dataclasses.replace(items[i], key=(seed, step, int(i))))
        batch = collate(rows)
        total = sum(loss(model(batch), batch).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.process_time() - start


def measured_run(run: Path, test: int, generated: int) -> dict:
    """Of a run's last checkpoint, on its test split."""
    cfg = OmegaConf.load(run / "config.yaml")
    model = rsvlm.load(str(run / "last.ckpt")).eval()
    boxes = mean_boxes(items_of(cfg, model, "train", cfg.data.dataset.n, None))
    with torch.no_grad():
        found = measure(model, items_of(cfg, model, "test", test, None), boxes, generated)
    return {"run": str(cfg.name), "seed": cfg.seed, **found}


def mean_boxes(items) -> dict[str, np.ndarray]:
    """The mean box of each class in training, as a mask."""
    held, size = defaultdict(list), items[0].geometry[0].source
    for item in items:
        for one in item.stored:
            held[one.category].append(one.box)
    out = {}
    for name, boxes in held.items():
        x0, y0, x1, y1 = np.mean(boxes, axis=0)
        mask = np.zeros(size, bool)
        mask[
            round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)
        ] = True
        out[name] = mask
    return out


def measure(model, items, boxes, generated: int, held=frozenset()) -> dict[str, float]:
    """Mean IoU in per cent of all questions about single objects; those held out apart."""
    collate = model.collate(training=False)
    found = defaultdict(list)
    for start in range(0, len(items), 16):
        batch = collate(items[start : start + 16])
        keep = [i for i in range(len(batch)) if len(batch.masks[i]) == 1]
        if not keep:
            continue
        forced = teacher_forced(model, batch)
        count = len(batch.images)
        turned = dataclasses.replace(batch, images=batch.images.roll(1, 0)) if count > 1 else None
        other = teacher_forced(model, turned) if turned is not None else forced
        asked = without_text(items[start : start + 16], collate)
        blind = teacher_forced(model, asked)
        written = model.generate(batch) if start < generated else None
        for i in keep:
            true = batch.masks[i][0].numpy()
            place = Instance(0, batch.classes[i][0], box=tuple(batch.boxes[i][0].tolist()))
            apart = "held_out_" if combination(place, true.shape) in held else ""
            found[f"{apart}teacher_forced"].append(iou(forced[i].masks[0], true))
            found[f"{apart}without_text"].append(iou(blind[i].masks[0], true))
            if apart:
                continue
            found["other_images"].append(iou(other[i].masks[0], true))
            found["whole_image"].append(iou(np.ones_like(true), true))
            box = boxes.get(batch.classes[i][0])
            found["mean_box"].append(iou(box, true) if box is not None else 0.0)
            if written is not None:
                masks = written[i].masks
                found["generated"].append(iou(masks[0], true) if masks else 0.0)
                found["no_mask"].append(float(not masks))
    out = {name: round(100 * float(np.mean(rows)), 2) for name, rows in found.items()}
    counts = {"questions": "teacher_forced", "asked": "generated"}
    counts["held_out_questions"] = "held_out_teacher_forced"
    return out | {word: len(found[name]) for word, name in counts.items() if found[name]}


def without_text(items, collate):
    """The same questions, each about "it"."""
    rows = []
    for item in items:
        turns = [
            dataclasses.replace(turn, text="it") if turn.role == "user" else turn
            for turn in item.sample.turns
        ]
        rows.append(dataclasses.replace(item, sample=dataclasses.replace(item.sample, turns=turns)))
    return collate(rows)


def main() -> None:
    """Trains and measures the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["paper"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--generated", type=int, default=48)
    parser.add_argument("--words", nargs="*", default=[], help="further overrides of the recipe")
    parser.add_argument("--run", type=Path, help="measure this run, and train nothing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = []
    if given.run:
        results.append(measured_run(given.run, given.test, given.generated))
        print(json.dumps(results[0]), flush=True)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n")
        return
    for seed in given.seeds:
        items = test = None
        for row in given.rows:
            cfg, model = built([*ROWS[row], *given.words], seed)
            if items is None:
                items = without(items_of(cfg, model, "train", cfg.data.dataset.n, seed), HELD_OUT)
                test = items_of(cfg, model, "test", given.test, seed)
            seconds = train(cfg, model, items, given.steps, seed)
            found = {"row": row, "seed": seed, "steps": given.steps, "train_s": round(seconds)}
            memory = model.masks.memory
            found["memory"] = sum(p.numel() for p in memory.parameters())
            found |= {"words": given.words} if given.words else {}
            found |= measure(model, test, mean_boxes(items), given.generated, HELD_OUT)
            results.append(found)
            print(json.dumps(found), flush=True)
            if given.out:
                given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
