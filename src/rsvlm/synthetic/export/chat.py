"""What exports of dialogues share: a scene's questions, descriptions, boxes as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsvlm.data.geometry import identity
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.transforms import to_pil


class Asked(NamedTuple):
    """A question about a scene, the words of its answer and what it speaks of."""

    question: str
    answer: str
    kind: str
    instances: list[Instance]


def asked(sample: Sample) -> Iterator[Asked]:
    """The questions of a scene with `turns`, and its phrases where it has `references`."""
    by_id = {instance.id: instance for instance in sample.instances}
    for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
        things = [by_id[i] for i in answer.instance_ids]
        yield Asked(question.text, answer.text, str(question.kind), things)


def description(sample: Sample) -> str:
    """The detailed description of a scene with `turns`."""
    return next(a.answer for a in asked(sample) if a.kind == "description")


def simple_questions(sample: Sample) -> Iterator[Asked]:
    """Presence and number of things, in RSIVQA's words; for scenes with `instances`."""
    counts = Counter(instance.category for instance in sample.instances)
    for name, count in sorted(counts.items()):
        yield Asked(f"how many {name}s are there in this picture?", str(count), "number", [])
        yield Asked(f"does this picture contain {name}?", "yes", "yes/no", [])
    for name in ("plane", "ship"):
        if name not in counts:
            yield Asked(f"does this picture contain {name}?", "no", "yes/no", [])


def box_text(sample: Sample, things: Sequence[Instance], convention: str = "mini0_100") -> str:
    """Boxes of things in a convention of `data.text.box_codecs`, over the picture as stored."""
    width, height = to_pil(sample.images[0]).size
    boxes = [thing.box for thing in things if thing.box is not None]
    angles = [thing.angle for thing in things if thing.box is not None]
    return codec(convention).write_all(boxes, identity(height, width), angles)


def turns(*said: tuple[str, str, str | None]) -> list[Turn]:
    """Questions, answers and kinds as the dialogue that a reader gives; the first shows the image.

    Args:
        said: question, answer and kind of each pair.
    """
    return [
        turn
        for i, (question, answer, kind) in enumerate(said)
        for turn in (
            Turn("user", question, () if i else (0,), kind=kind),
            Turn("assistant", answer, kind=kind),
        )
    ]


def llava(said: list[Turn]) -> list[dict[str, str]]:
    """A dialogue as LLaVA's conversations, with the marker of the image."""
    return [
        {
            "from": "human" if turn.role == "user" else "gpt",
            "value": "<image>\n" * len(turn.image_ids) + turn.text,
        }
        for turn in said
    ]


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Writes JSON and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Writes JSON lines and the folders above them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
