"""Does a knowledge base help, where only it knows the answer and only the picture says which place?

Generated landmarks: the base holds a picture and the facts of each (names, countries, years,
founders, climate by month); asked is another picture of the place (light, season, blur, view), in
questions that do not name it. The model inside RS-RAG is a reader of 0.3 M parameters that never
sees the picture: it has learned, on landmarks of its own, which words of a passage answer a
question, and says the commonest answer of the training questions where it is given none. The
encoder is learned there too (texts), or has nothing to learn (pictures: thumbnails).

    OMP_NUM_THREADS=1 python benchmarks/learn_rsrag.py --seeds 0 1 2
    python benchmarks/learn_rsrag.py --table

Rows, each through `models.rsrag.RSRAG` and `evaluation.rsrag.RSRAGVQA`: without context, with the
published score (alpha 0.7, k 3), with the right record given, text alone (alpha 0), an emptied
base, ten times as many places in it, and the asked places taken out of it, with and without a least
score. A finished seed leaves experiments/rsrag/learn/world_<seed>.json and is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.prediction_records import DatasetFacts
from rsvlm.data.sample import Answer, Sample, Turn
from rsvlm.evaluation.rsrag import RSRAGVQA
from rsvlm.models.base import GenerativeModel
from rsvlm.models.rsrag import RSRAG
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_records import KnowledgeRecord, chunks_of
from rsvlm.synthetic.dataset import Scenes

ROOT = Path(__file__).parents[1]
OUT = ROOT / "experiments" / "rsrag" / "learn"
SIDE, DIM, WORDS = 8, 192, 4096
ASKED, OTHERS, TRAIN = 150, 1350, 200
#: Nothing has changed between the two pictures of a place; what differs is the camera.
VIEWS = {"change": 0.0, "nuisance": 0.6}
KINDS = ("name", "country", "position", "year", "founder", "area", "climate")
#: Row -> options of RSRAG, and which base: `asked` places, `full` (with the others), `absent` (the
#: others alone) or `empty`.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "without": ({"context": "none"}, "asked"),
    "retrieved": ({}, "asked"),
    "right": ({"context": "right"}, "asked"),
    "text alone": ({"alpha": 0.0}, "asked"),
    "emptied base": ({}, "empty"),
    "distractors": ({}, "full"),
    "asked places absent": ({}, "absent"),
    "asked places absent, least score": ({"min_score": None}, "absent"),
    "distractors, least score": ({"min_score": None}, "full"),
}
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_QUOTED = re.compile(r"^\[\d+\] (\".*\")$", re.MULTILINE)
_NAME = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*")


# The world -----------------------------------------------------------------------------------


@dataclass
class Place:
    """A landmark: its record, two pictures, and questions that do not name it."""

    record: KnowledgeRecord
    picture: Image.Image
    seen: Image.Image
    asked: list[tuple[str, str, str]]


def places(count: int, seed: int, split: str) -> list[Place]:
    """Landmarks with their pictures; nothing on the ground differs between the two."""
    world = Scenes(split, n=count, size=64, seed=seed, layout="before_after", **VIEWS)
    found = []
    for i in range(count):
        held, sample = world.landmark(i), world[i]
        monthly = {
            month: {
                "temperature": f"{held.climate['temperature'][m]:g} °C",
                "precipitation": f"{held.climate['precipitation'][m]:g} mm",
                "NDVI": f"{held.climate['ndvi'][m]:g}",
            }
            for m, month in enumerate(MONTHS)
        }
        facts = {key: v for key, v in held.facts.items() if key != "Details"}
        record = KnowledgeRecord(
            f"{split}{seed}-{i}",
            name=held.name,
            category=held.kind,
            image=f"{i}.png",
            world=facts,
            monthly=monthly,
        )
        asked = [
            (one.kind, one.question.replace(held.name, "this place"), _spaced(one.answer))
            for one in held.asked
            if one.kind in KINDS and not one.seen
        ]
        first, second = sample.images
        found.append(Place(record, _picture(first), _picture(second), asked))
    return found


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def _spaced(answer: str) -> str:
    """Units as the base writes them."""
    return re.sub(r"^(-?[\d.]+)(mm|°C)$", r"\1 \2", answer)


def _picture(image: Any) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))


def word_ids(text: str) -> list[int]:
    """Numbers of a text's words; digits share one, since no number says what is asked."""
    words = ["#" if w[0].isdigit() else w for w in _WORD.findall(text.casefold())]
    return [zlib.crc32(word.encode()) % WORDS for word in words] or [0]


def bags(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and offsets of an EmbeddingBag."""
    ids = [word_ids(text) for text in texts]
    starts = np.cumsum([0, *map(len, ids)])[:-1]
    return torch.tensor([i for one in ids for i in one]), torch.tensor(starts)


# The encoder ---------------------------------------------------------------------------------


class Encoder:
    """Thumbnails of pictures, and a learned bag of words; see `KnowledgeEncoder`."""

    text_length = 512

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.name = f"thumbnails and learned words {seed}"
        self.words = nn.EmbeddingBag(WORDS, DIM, mode="mean")

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(_WORD.findall(text))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """[N, D]."""
        with torch.no_grad():
            return nn.functional.normalize(self.words(*bags(texts)), dim=-1).numpy()

    def encode_images(self, images: Sequence[Any]) -> Any:
        """[N, D]: each channel without its mean, at 8 x 8 px."""
        rows = []
        for one in images:
            if isinstance(one, torch.Tensor):
                one = Image.fromarray(one.permute(1, 2, 0).numpy())
            elif isinstance(one, str | Path):
                one = Image.open(one)
            held = np.asarray(one.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
            flat = held.reshape(-1, 3).astype(np.float32)
            flat = (flat - flat.mean(0)) / (flat.std(0) + 4)
            row = flat.reshape(-1)
            rows.append(row / (np.linalg.norm(row) + 1e-6))
        return np.stack(rows)

    def learn(self, train: Sequence[Place], seed: int, steps: int = 300) -> None:
        """Which chunk of a place holds the answer to a question."""
        dice = random.Random(seed)
        best = torch.optim.Adam(self.words.parameters(), lr=0.01)
        for _ in range(steps):
            asked, texts, truth = [], [], []
            for place in dice.sample(list(train), 16):
                chunks = [chunk.text for chunk in chunks_of(place.record)]
                _, question, answer = dice.choice(place.asked)
                right = [i for i, text in enumerate(chunks) if answer in text]
                if right:
                    asked.append(question)
                    truth.append((len(texts), len(texts) + len(chunks), right[0]))
                    texts += chunks
            if not asked:
                continue
            near = nn.functional.normalize(self.words(*bags(asked)), dim=-1)
            all_ = nn.functional.normalize(self.words(*bags(texts)), dim=-1)
            loss = sum(
                nn.functional.cross_entropy(20 * (all_[a:b] @ q)[None], torch.tensor([right]))
                for q, (a, b, right) in zip(near, truth, strict=True)
            )
            best.zero_grad()
            (loss / len(asked)).backward()
            best.step()


# The reader ----------------------------------------------------------------------------------


@dataclass
class Batch:
    """Questions alone: the reader sees no picture."""

    ids: list[str]
    index: torch.Tensor
    instructions: list[str]
    answers: list[str]
    kinds: list[str | None]
    skipped: list[str] = field(default_factory=list)
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any, **options: Any) -> Batch:
        """Itself."""
        return self


class Collate:
    """From samples of one question to a batch."""

    instructions: Any = None

    def __call__(self, items: Sequence[TransformedSample]) -> Batch:
        """A batch."""
        said = [item.sample.turns for item in items]
        users = [[turn for turn in turns if turn.role == "user"][-1] for turns in said]
        return Batch(
            [str(item.sample.meta["id"]) for item in items],
            torch.tensor([item.index for item in items]),
            [turn.text for turn in users],
            [turns[-1].text if turns[-1].role == "assistant" else "" for turns in said],
            [turn.kind for turn in users],
        )


@dataclass
class Span:
    """A piece of a passage that may be the answer."""

    text: str
    about: str
    passage: int


def spans(passages: Sequence[str]) -> list[Span]:
    """Values of fields, and names within longer ones."""
    found = []
    for n, passage in enumerate(passages):
        head = passage.split(":", 1)[0]
        for piece in re.split(r"\n|; ", passage):
            label, _, value = piece.rpartition(": ")
            found.append(Span(value.strip(), f"{label} {head}", n))
            if len(value.split()) > 4:
                for name in _NAME.findall(value):
                    rest = value.replace(name, " ")
                    found.append(Span(name, f"name in {label} {rest}", n))
    return found


class Reader(GenerativeModel):
    """Chooses a span by the words around it and its passage's place."""

    image_size = 64
    tokenizer = None

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.asks = nn.EmbeddingBag(WORDS, 32, mode="mean")
        self.tells = nn.EmbeddingBag(WORDS, 32, mode="mean")
        self.shape = nn.Embedding(3, 32)
        self.place = nn.Parameter(torch.zeros(8))
        self.usual: dict[str, str] = {}

    @property
    def preprocess(self) -> Any:
        """Pictures as they are."""
        return lambda image: torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    def collate(self, training: bool, *, kinds: Any = None, instructions: Any = None) -> Any:
        """See `Collate`."""
        return Collate()

    def logits(self, question: str, held: Sequence[Span]) -> torch.Tensor:
        """Of each span."""
        asked = self.asks(*bags([question]))
        told = self.tells(*bags([span.about for span in held]))
        kinds = [0 if s.text[:1].isdigit() else 1 if len(s.text.split()) < 4 else 2 for s in held]
        told = told + self.shape(torch.tensor(kinds))
        return (told @ asked[0]) + self.place[[min(span.passage, 7) for span in held]]

    def generate(self, batch: Batch, **options: Any) -> list[Answer]:
        """The best span with its citation; the usual answer where there is no passage."""
        out = []
        for text in batch.instructions:
            passages = [
                json.loads(t) for t in re.findall(r"^\[\d+\] (\".*\")$", text, re.MULTILINE)
            ]
            question = text.rpartition("Question: ")[2]
            held = spans(passages)
            if not held:
                out.append(Answer(self.usual.get(question) or self.usual[""]))
                continue
            with torch.no_grad():
                span = held[int(self.logits(question, held).argmax())]
            out.append(Answer(f"{span.text} [{span.passage + 1}]"))
        return out

    def learn(self, base: KnowledgeBase, train: Sequence[Place], seed: int) -> float:
        """From questions with what the base finds for them; returns the accuracy at the end."""
        counts: dict[str, Counter[str]] = {}
        rows = []
        for place in train:
            picture = self.preprocess(place.seen)
            for _, question, answer in place.asked:
                counts.setdefault(question, Counter())[answer] += 1
                counts.setdefault("", Counter())[answer] += 1
                hits = base.search(picture, question, task="vqa", k=3, alpha=0.7)
                held = spans([hit.text for hit in hits])
                right = [i for i, s in enumerate(held) if s.text.lower() == answer.lower()]
                if right:
                    rows.append((question, held, right))
        self.usual = {question: found.most_common(1)[0][0] for question, found in counts.items()}
        dice = random.Random(seed)
        best = torch.optim.Adam(self.parameters(), lr=0.02)
        hits_at_end = 0
        for epoch in range(4):
            dice.shuffle(rows)
            for start in range(0, len(rows), 16):
                some, loss = rows[start : start + 16], torch.zeros(())
                for question, held, right in some:
                    logits = self.logits(question, held)
                    loss = loss + logits.logsumexp(0) - logits[right].logsumexp(0)
                    hits_at_end += epoch == 3 and int(logits.argmax()) in right
                best.zero_grad()
                (loss / len(some)).backward()
                best.step()
        return hits_at_end / max(1, len(rows))


# Rows ----------------------------------------------------------------------------------------


def build(held: Sequence[Place], encoder: Encoder, folder: Path) -> KnowledgeBase:
    """A base of places, whose pictures are written beside it."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    records = []
    for place in held:
        name = f"{place.record.id}.png"
        place.picture.save(pictures / name)
        place.record.image = name
        records.append(place.record)
    return KnowledgeBase.build(records, encoder, folder / "kb", root=pictures)


def least_score(base: KnowledgeBase, reader: Reader, train: Sequence[Place]) -> float:
    """Parts a training place's own best score from that of another place, as well as it can."""
    own, other = [], []
    for place in train[:120]:
        picture, question = reader.preprocess(place.seen), place.asked[0][1]
        hits = base.search(picture, question, task="vqa", k=40, alpha=0.7)
        own += [h.score for h in hits if h.record.id == place.record.id][:1]
        other += [h.score for h in hits if h.record.id != place.record.id][:1]
    cuts = sorted(own + other)
    right = [sum(s >= c for s in own) + sum(s < c for s in other) for c in cuts]
    return float(cuts[int(np.argmax(right))])


def run(seed: int, bootstrap: int) -> dict[str, Any]:
    """All rows of a seed."""
    begun = time.process_time()
    train = places(TRAIN, seed, "train")
    asked = places(ASKED, seed, "test")
    encoder = Encoder(seed)
    encoder.learn(train, seed)
    found: dict[str, Any] = {"seed": seed, "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        school = build(train, encoder, work / "train")
        reader = Reader(seed)
        found["reader_training_accuracy"] = round(100 * reader.learn(school, train, seed), 1)
        found["parameters"] = sum(p.numel() for p in reader.parameters())
        cut = least_score(school, reader, train)
        found["least_score"] = round(cut, 3)
        others = places(OTHERS, seed + 1000, "test")
        bases = {
            "asked": build(asked, encoder, work / "asked"),
            "full": build([*asked, *others], encoder, work / "full"),
            "absent": build(others, encoder, work / "absent"),
            "empty": build(asked, encoder, work / "empty"),
        }
        bases["empty"].remove([place.record.id for place in asked])
        view = questions(asked, reader)
        found["questions"] = len(view)
        found["prepare_seconds"] = round(time.process_time() - begun, 1)
        for row, (options, which) in ROWS.items():
            start = time.process_time()
            options = {k: cut if k == "min_score" else v for k, v in options.items()}
            rag = RSRAG(reader, bases[which], task="vqa", **options).eval()
            evaluation = RSRAGVQA(metrics=["bleu1"], bootstrap=bootstrap)
            collate, records = rag.collate(training=False), []
            for first in range(0, len(view), 64):
                records += evaluation.predict(rag, collate(view[first : first + 64]))
            facts = DatasetFacts("scenes", "test", len(view))
            measured = evaluation.measure(records, facts)
            row_facts = {w: measured.facts[w] for w in measured.values}
            found["rows"][row] = {
                "options": {"alpha": 0.7, "k": 3, **options},
                "base": which,
                "records": len(bases[which]),
                "values": {w: round(v, 2) for w, v in measured.values.items()},
                "intervals": {
                    w: [round(f["low"], 2), round(f["high"], 2)]
                    for w, f in row_facts.items()
                    if "low" in f
                },
                "chance": round(measured.facts["oa"]["chance"], 2),
                "seconds": round(time.process_time() - start, 1),
            }
            print(seed, row, found["rows"][row]["values"], flush=True)
    found["processor_seconds"] = round(time.process_time() - begun, 1)
    found["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def questions(asked: Sequence[Place], reader: Reader) -> list[TransformedSample]:
    """One sample a question, with the picture that the base does not hold."""
    samples = [
        Sample(
            [place.seen],
            turns=[Turn("user", text, (0,), kind=kind), Turn("assistant", answer, kind=kind)],
            meta={"id": f"{place.record.id}#{n}", "record": place.record.id},
        )
        for place in asked
        for n, (kind, text, answer) in enumerate(place.asked)
    ]
    view = TransformedDataset(samples, reader.preprocess, training=False, caption="all")
    return [view[(0, i)] for i in range(len(samples))]


def table() -> str:
    """Mean and spread over the seeds that are there."""
    held = [json.loads(p.read_text()) for p in sorted(OUT.glob("world_*.json"))]
    words = ("oa", "context_r1", "context_recall", "has_answer", "answer_support", "context_misled")
    lines = ["| row | records | " + " | ".join(words) + " |", "|---" * (len(words) + 2) + "|"]
    for row in ROWS:
        cells = []
        for word in words:
            values = [h["rows"][row]["values"].get(word) for h in held]
            values = [v for v in values if v is not None]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "–")
        count = held[0]["rows"][row]["records"] if held else "–"
        lines.append(f"| {row} | {count} | " + " | ".join(cells) + " |")
    chance = [h["rows"]["without"]["chance"] for h in held]
    lines.append(f"\nseeds {[h['seed'] for h in held]}, chance {statistics.mean(chance):.1f}")
    return "\n".join(lines)


def main() -> None:
    """Runs the seeds that are not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for seed in [] if args.table else args.seeds:
        path = OUT / f"world_{seed}.json"
        if not path.is_file():
            path.write_text(json.dumps(run(seed, args.bootstrap), indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
