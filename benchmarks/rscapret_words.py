"""A start for rscapret_grid's bridge: vectors near the words of captions, with no model run.

    OMP_NUM_THREADS=1 python benchmarks/rscapret_words.py --data <RSICD> --lm <folder of SmolLM2> \
        --vision <EfficientNet-Lite0's file> --out words.ckpt

What costs in training is the language model. It is left out here: each of the bridge's vectors is
held against the frozen word table, a word is scored by the vectors that are near it, and the target
is the share of an image's captions that have the word, times its rarity (as in
benchmarks/rsmoe_rsicd.py). The bridge then says words in the very vectors that the language model
reads. `--out` is an `init=` of experiment=rscapret_grid_smollm2_rsicd. Training split only.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections import Counter
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from rsvlm import checkpoints
from rsvlm.config.compose import compose
from rsvlm.inference.build import build_model

BATCH, SEED = 64, 0


def main() -> None:
    """Learns the bridge and writes the checkpoint."""
    from rsvlm.data.datasets.cards import RSICD

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="RSICD's folder")
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--vision", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    words = [f"model.lm.weights={given.lm}", f"model.vision.weights={given.vision}"]
    cfg = compose("train", ["experiment=rscapret_grid_smollm2_rsicd", *words])
    torch.manual_seed(SEED)
    model = build_model(cfg).train()
    dataset = RSICD(given.data, "train")

    said = [Counter(w for t in e.texts for w in set(_words(t))) for e in dataset.entries]
    counts = Counter(word for row in said for word in row)
    known = sorted(w for w, n in counts.items() if 20 <= n <= 0.3 * len(said))
    place = {word: i for i, word in enumerate(known)}
    targets = torch.zeros(len(said), len(known))
    for row, found in zip(targets, said, strict=True):
        for word, times in found.items():
            if word in place:
                row[place[word]] = times * math.log(len(said) / counts[word])
    table = model.lm.model.get_input_embeddings().weight.detach()
    ids = [model.tokenizer(" " + word, add_special_tokens=False)["input_ids"] for word in known]
    vectors = F.normalize(torch.stack([table[each].mean(0) for each in ids]), dim=-1)

    begun = time.process_time()
    rows = []
    for places in torch.arange(len(dataset)).split(256):
        some = torch.stack([model.preprocess(dataset[i].images[0]) for i in places.tolist()])
        rows.append(model.cache(some, model.frozen_features))
    tokens = model.vision.from_features(torch.cat(rows), 1)
    print(f"{len(known)} words; features after {time.process_time() - begun:.0f} s", flush=True)
    bias, scale = torch.zeros(len(known), requires_grad=True), torch.tensor(3.0, requires_grad=True)
    learned = [*model.bridge.parameters(), bias, scale]
    optimizer = torch.optim.AdamW(learned, lr=2e-3, weight_decay=0.02)
    steps = given.epochs * (len(tokens) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    dice, step = torch.Generator().manual_seed(SEED), 0
    for _ in range(given.epochs):
        for at in torch.randperm(len(tokens), generator=dice).split(BATCH):
            if len(at) < BATCH:
                continue
            near = F.normalize(model.bridge(tokens[at]), dim=-1) @ vectors.T * scale.exp()
            wanted = targets[at] / targets[at].sum(1, keepdim=True).clamp(min=1e-6)
            loss = -(wanted * (near.logsumexp(1) + bias).log_softmax(-1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 1:
                print(f"step {step} of {steps}: {loss.item():.3f}", flush=True)
    with torch.no_grad():  # as long as the words that it stands among
        rms = table[torch.tensor([one for each in ids for one in each])].square().mean().sqrt()
        model.bridge.norm.weight.mul_(rms / model.bridge(tokens[:512]).square().mean().sqrt())
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    towers = {"vision": str(given.vision), "lm": str(given.lm)}
    torch.save(checkpoints.pack(model, {str(k): v for k, v in plain.items()}, towers), given.out)
    print(f"{given.out}: {time.process_time() - begun:.0f} s of processor time")


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


if __name__ == "__main__":
    main()
