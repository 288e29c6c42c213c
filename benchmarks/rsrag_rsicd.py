"""RSICD as a base of pictures: what is found for test images, and captions with and without it.

    OMP_NUM_THREADS=1 python benchmarks/rsrag_rsicd.py --data <RSICD> --lm smollm2_135m \
        --out experiments/rsrag/rsicd.json

The 8,734 training images are indexed with their captions; test images are asked. No pretrained
encoder of pictures is at hand, so one is fitted in closed form on the training split: gradients and
colours of a picture, random ReLU features of them, and a ridge regression to its captions' words
(TF-IDF, 128 directions of most variance), which is also the space of texts. Retrieval is counted on
all 1,093 test images: a record of the same scene (30 classes), and a caption that is one of the
image's own, word for word. Captions are measured on the seeded sample of 200: the commonest
training caption, the best record's first caption as it stands, and SmolLM2 135M Instruct (made a
folder by benchmarks/rsmoe_rsicd.py --convert), which has no eyes, asked alone and through RS-RAG.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learn_rsrag import Batch, Collate
from PIL import Image

from rsvlm.data.datasets.cards import RSICD
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Answer, Sample, Turn
from rsvlm.metrics.captions.metric import Captions
from rsvlm.models.base import GenerativeModel
from rsvlm.models.rsrag import RSRAG
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_records import KnowledgeRecord

TESTS, SEED, DIM, FEATURES = 200, 0, 128, 3072
QUESTION = "Describe what this aerial image shows in one short sentence."
WORDS = ("bleu1", "bleu4", "rouge_l", "cider")


def described(picture: Image.Image) -> np.ndarray:
    """Gradients by cell and direction, colours by cell, and a histogram of colours."""
    image = np.asarray(picture.convert("RGB").resize((64, 64)), np.float32) / 255
    grey = image.mean(-1)
    y, x = np.gradient(grey)
    size, angle = np.hypot(x, y), ((np.arctan2(y, x) % np.pi) / np.pi * 8).astype(int) % 8
    cell = (np.arange(64) // 8)[:, None] * 8 + np.arange(64) // 8
    turned = np.bincount((cell * 8 + angle).ravel(), size.ravel(), 512)
    blocks = image.reshape(8, 8, 8, 8, 3)
    colours = [blocks.mean((1, 3)).ravel(), blocks.std((1, 3)).ravel()]
    seen = (image * 5.999).astype(int)
    joint = np.bincount((seen[..., 0] * 36 + seen[..., 1] * 6 + seen[..., 2]).ravel(), None, 216)
    parts = [np.sqrt(turned), *colours, np.sqrt(joint / 4096)]
    return np.concatenate([part / (np.linalg.norm(part) + 1e-6) for part in parts])


class Encoder:
    """See the head of this file; a `KnowledgeEncoder`."""

    name, text_length = "ridge from gradients and colours to caption words", 128

    def __init__(self, described: np.ndarray, captions: Sequence[Sequence[str]]) -> None:
        counts = Counter(w for said in captions for w in {*" ".join(said).split()})
        self.words = {w: n for n, (w, _) in enumerate(counts.most_common(1500))}
        self.rarity = np.log(len(captions) / np.array([counts[w] for w in self.words]))
        told = np.stack([self._bag(" ".join(said)) for said in captions])
        self.away = told.mean(0)
        _, _, turn = np.linalg.svd(told[::3] - self.away, full_matrices=False)
        self.turn = turn[:DIM].T
        self.mean, self.spread = described.mean(0), described.std(0) + 1e-3
        dice = np.random.default_rng(SEED)
        width = described.shape[1]
        self.random = dice.standard_normal((width, FEATURES)) / np.sqrt(width)
        seen = self._lifted(described)
        target = (told - self.away) @ self.turn
        self.centre = target.mean(0)
        left = seen.T @ seen + 0.02 * len(seen) * np.eye(FEATURES)
        self.map = np.linalg.solve(left, seen.T @ (target - self.centre))

    def _bag(self, text: str) -> np.ndarray:
        row = np.zeros(len(self.words))
        for word in set(text.lower().split()):
            if word in self.words:
                row[self.words[word]] = self.rarity[self.words[word]]
        return row / (np.linalg.norm(row) + 1e-6)

    def _lifted(self, described: np.ndarray) -> np.ndarray:
        return np.maximum(((described - self.mean) / self.spread) @ self.random, 0)

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """[N, D]."""
        rows = np.stack([self._bag(text) for text in texts])
        return _unit((rows - self.away) @ self.turn)

    def encode_images(self, images: Sequence[Any]) -> Any:
        """[N, D]."""
        rows = [described(_picture(image)) for image in images]
        return self.of_described(np.stack(rows))

    def of_described(self, rows: np.ndarray) -> Any:
        """[N, D]."""
        return _unit(self._lifted(rows) @ self.map)


def _unit(rows: np.ndarray) -> Any:
    return (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)).astype(np.float32)


def _picture(image: Any) -> Image.Image:
    if isinstance(image, torch.Tensor):
        return Image.fromarray(image.permute(1, 2, 0).numpy())
    return Image.open(image) if isinstance(image, str | Path) else image


class Words(GenerativeModel):
    """A language model that reads the prompt and sees nothing."""

    image_size, tokenizer = 64, None

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.reads = AutoTokenizer.from_pretrained(folder, padding_side="left")

    @property
    def preprocess(self) -> Any:
        """Pictures as they are."""
        return lambda image: torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    def collate(self, training: bool, *, kinds: Any = None, instructions: Any = None) -> Any:
        """Questions alone."""
        return Collate()

    @torch.no_grad()
    def generate(self, batch: Batch, **options: Any) -> list[Answer]:
        """Greedy, the first line."""
        asked = [
            self.reads.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in batch.instructions
        ]
        given = self.reads(asked, return_tensors="pt", padding=True, add_special_tokens=False)
        made = self.lm.generate(**given, max_new_tokens=24, do_sample=False)
        told = self.reads.batch_decode(
            made[:, given["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [Answer((text.strip().splitlines() or [""])[0]) for text in told]


def scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """COCO's metrics."""
    metric = Captions("coco", metrics=list(WORDS))
    metric.update(list(texts), [list(said) for said in references], list(range(len(texts))))
    return {word: round(float(value), 2) for word, value in metric.compute().items()}


def main() -> None:
    """Writes the file after each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="RSICD's folder")
    parser.add_argument("--lm", type=Path, help="SmolLM2's folder; without it, no answers")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tests", type=int, default=TESTS, help="of the sample of 200")
    args = parser.parse_args()
    begun = time.process_time()
    found: dict[str, Any] = {}

    def note(**more: Any) -> None:
        found.update(more, processor_seconds=round(time.process_time() - begun, 1))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(more), flush=True)

    listed = json.loads((args.data / "dataset_rsicd.json").read_text())["images"]
    scene = {one["filename"]: one["scene"] for one in listed}
    train, test = RSICD(args.data, "train"), RSICD(args.data, "test")
    names = [Path(entry.path).name for entry in train.entries]
    rows = np.stack([described(Image.open(entry.path)) for entry in train.entries])
    asked = np.stack([described(Image.open(entry.path)) for entry in test.entries])
    note(described_seconds=round(time.process_time() - begun, 1), train=len(rows), test=len(asked))
    encoder = Encoder(rows, [entry.texts for entry in train.entries])
    note(fitted_seconds=round(time.process_time() - begun, 1))

    # Retrieval on all test images.
    near = encoder.of_described(asked) @ encoder.of_described(rows).T
    order = np.argsort(-near, axis=1)[:, :10]
    classes = np.array([scene[name] for name in names])
    truth = [scene[Path(entry.path).name] for entry in test.entries]
    share = np.array([np.mean(classes == name) for name in truth])
    recall, chance = {}, {}
    for k in (1, 3, 5, 10):
        hits = [truth[i] in classes[order[i, :k]] for i in range(len(truth))]
        own = [set(entry.texts) for entry in test.entries]
        same = [
            any(own[i] & set(train.entries[j].texts) for j in order[i, :k])
            for i in range(len(truth))
        ]
        recall[f"scene_r{k}"] = round(100 * float(np.mean(hits)), 2)
        recall[f"sentence_r{k}"] = round(100 * float(np.mean(same)), 2)
        chance[f"scene_r{k}"] = round(100 * float(np.mean(1 - (1 - share) ** k)), 2)
    note(recall=recall, recall_chance=chance)

    # Captions of the sample.
    sample = sorted(random.Random(SEED).sample(range(len(test)), TESTS))[: args.tests]
    references = [list(test.entries[i].texts) for i in sample]
    common = Counter(t for entry in train.entries for t in entry.texts).most_common(1)[0][0]
    copied = [train.entries[order[i, 0]].texts[0] for i in sample]
    other = [train.entries[random.Random(i).randrange(len(rows))].texts[0] for i in sample]
    captions = {
        "commonest": scores([common] * len(sample), references),
        "any record's": scores(other, references),
        "best record's": scores(copied, references),
    }
    note(captions=captions, tests=len(sample))
    if args.lm is None:
        return
    held = [
        KnowledgeRecord(
            name, category=scene[name], image=str(Path(entry.path)), texts=[*dict.fromkeys(texts)]
        )
        for name, entry, texts in (
            (n, e, e.texts) for n, e in zip(names, train.entries, strict=True)
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        base = KnowledgeBase.build(held, encoder, Path(folder) / "kb", root=args.data)
        note(base={"records": len(base), "chunks": len(base.version)})
        model = Words(args.lm)
        samples = [
            Sample([test[i].images[0]], turns=[Turn("user", QUESTION, (0,), kind="caption")],
                   meta={"id": str(i)})
            for i in sample
        ]  # fmt: skip
        view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
        items = [view[(0, n)] for n in range(len(samples))]
        for row, options in (
            ("SmolLM2, retrieved", {"k": 3, "alpha": 1.0, "prompt": "released", "task": "caption"}),
            ("SmolLM2, without", {"context": "none"}),
        ):
            rag = RSRAG(model, base, **options).eval()
            start, texts = time.process_time(), list[str]()
            for first in range(0, len(items), 20):
                batch = rag.collate(training=False)(items[first : first + 20])
                texts += [answer.text for answer in rag.generate(batch)]
                print(row, len(texts), texts[-1], flush=True)
            captions[row] = scores(texts, references)
            seconds = round(time.process_time() - start, 1)
            note(captions=captions, **{f"{row}, seconds": seconds, f"{row}, first": texts[:10]})


if __name__ == "__main__":
    main()
