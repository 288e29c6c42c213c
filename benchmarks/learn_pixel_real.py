"""Does the pixel family fit real pictures? Tiles of iSAID, and pictures with masks of buildings.

    RSVLM_DATA=../shared/data python benchmarks/learn_pixel_real.py --out real.json

The small GeoPix of `experiment=geopix_tiny_scenes`, at 64 px, is trained in a plain loop on tiles
of one iSAID picture and on crops of two of LEVIR-CD's second dates, and measured on those and on
pictures that it has not seen. Expressions are made of class and position: all of a class in the
picture, or
in a quarter of it. LEVIR-CD's masks are of buildings that are new, so that the other buildings of a
picture count as background.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from learn_pixel import ROWS, built, mean_boxes, measure, train, viewed
from PIL import Image

from rsvlm.data.datasets.isaid import ISAID
from rsvlm.data.datasets.regions import bounds
from rsvlm.data.sample import Instance, Sample, Turn

#: Side and step of the tiles, pixels; what is less than this share of a tile is not asked for.
TILE, STEP, LEAST = 160, 80, 0.01
NAMES = {
    "Large_Vehicle": ("vehicle", "large vehicles"),
    "Small_Vehicle": ("vehicle", "small vehicles"),
    "building": ("building", "buildings"),
}
PLACES = {
    "": (slice(0, 2), slice(0, 2)),
    "in the upper left": (slice(0, 1), slice(0, 1)),
    "in the upper right": (slice(0, 1), slice(1, 2)),
    "in the lower left": (slice(1, 2), slice(0, 1)),
    "in the lower right": (slice(1, 2), slice(1, 2)),
}
WORDS = ["data.batch_size=8", "model.vision.arch.image_size=64", "model.vision.arch.patch_size=8"]
WORDS += ["model.masks.image_size=64", "model/bridge=mlp2x_pooled", "model.bridge.grid=4"]
WORDS += ["model.bridge.widen=1"]


def asked(image: Image.Image, masks: dict[str, np.ndarray], id: str) -> Sample | None:
    """A picture with an expression for all of a class, and for what lies in each quarter.

    Args:
        image: the picture.
        masks: class -> [H, W] bool.
        id: its name.
    """
    things, turns = [], []
    for name, mask in masks.items():
        category, plural = NAMES[name]
        high, wide = mask.shape
        rows, columns = (0, high // 2, high), (0, wide // 2, wide)
        for place, (across, down) in PLACES.items():
            part = np.zeros_like(mask)
            y, x = (
                slice(edges[s.start], edges[s.stop])
                for edges, s in ((rows, across), (columns, down))
            )
            part[y, x] = mask[y, x]
            if part.mean() < LEAST:
                continue
            phrase = f"the {plural} {place}".strip()
            things.append(Instance(len(things), category, None, phrase, bounds(part), mask=part))
            turns += [
                Turn("user", phrase, (0,), kind="refer"),
                Turn("assistant", phrase, (), (things[-1].id,), kind="refer"),
            ]
    return Sample([image], turns=turns, instances=things, meta={"id": id}) if turns else None


def tiles(root: Path, split: str, step: int) -> list[Sample]:
    """Tiles of the pictures of iSAID's sample, one every `step` pixels."""
    out = []
    for sample in ISAID(root / "isaid_sample", split):
        image = sample.images[0]
        masks = {
            name: np.any([i.mask for i in sample.instances if i.category == name], 0)
            for name in NAMES
            if any(i.category == name for i in sample.instances)
        }
        for top in range(0, image.height - TILE + 1, step):
            for left in range(0, image.width - TILE + 1, step):
                cut = np.s_[top : top + TILE, left : left + TILE]
                made = asked(
                    image.crop((left, top, left + TILE, top + TILE)),
                    {name: mask[cut].copy() for name, mask in masks.items()},
                    f"{sample.meta['id']}_{top}_{left}",
                )
                out += [made] if made else []
    return out


def pictures(root: Path) -> list[Sample]:
    """LEVIR-CD's second dates with the masks of their new buildings."""
    out = []
    for path in sorted((root / "change_pairs" / "levir_cd" / "label").glob("*.png")):
        mask = np.asarray(Image.open(path).convert("L")) > 127
        image = Image.open(path.parents[1] / "B" / path.name).convert("RGB")
        made = asked(image, {"building": mask}, path.stem)
        out += [made] if made else []
    return out


def fitted(sample: Sample) -> bool:
    """Whether a picture is cut from one of the two that training sees."""
    return sample.meta["id"].startswith(("train_1_", "train_2_"))


def main() -> None:
    """Trains and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=ROWS, default="none")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    root = Path(os.environ.get("RSVLM_DATA", "../shared/data"))
    cfg, model = built([*ROWS[given.row], *WORDS], given.seed)
    levir = pictures(root)
    parts = {
        "iSAID P0005, fitted": tiles(root, "train", STEP),
        "LEVIR-CD train_1 and train_2, fitted": [one for one in levir if fitted(one)],
        "iSAID P0003 and P0004, held out": tiles(root, "val", TILE),
        "LEVIR-CD, eleven others, held out": [one for one in levir if not fitted(one)],
    }
    items = {name: viewed(rows, model, len(rows)) for name, rows in parts.items()}
    first, second = list(items.values())[:2]
    seconds = train(cfg, model, first + second, given.steps, given.seed)
    found = {"row": given.row, "steps": given.steps, "train_s": round(seconds)}
    for (name, rows), known in zip(items.items(), (first, second) * 2, strict=True):
        found[name] = {"pictures": len(rows)} | measure(model, rows, mean_boxes(known), 0)
        print(name, json.dumps(found[name]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
