"""SkyEye-968k: nineteen JSON files of conversations over the images of eleven data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.skyeye968k import PARTS, SOURCES
from rsvlm.data.sample import Sample, Turn
from rsvlm.synthetic.export.chat import (
    Asked,
    asked,
    box_text,
    description,
    llava,
    turns,
    write_json,
)
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

#: The endings of the sources' images.
_ENDINGS = {"DOTA": ".png", "Sydney": ".tif", "UCM": ".tif", "RSVQA_HR": ".tif", "RSVQA_LR": ".tif"}


def write(out: Path, splits: Splits) -> Expected:
    """Writes the files below `caption/`, `multitask_conversation/`, ... and `images/<source>/`.

    Scenes go to the sources in turn; of fewer scenes than sources, each goes to all.
    """
    scenes = splits["train"]
    records: dict[str, list[dict[str, Any]]] = {word: [] for word in PARTS}
    expected: dict[str, list[Sample]] = {word: [] for word in PARTS}
    for number, sample in enumerate(scenes):
        for turn, source in enumerate(SOURCES):
            if len(scenes) >= len(SOURCES) and number % len(SOURCES) != turn:
                continue
            name = f"{source.lower()}_{number}{_ENDINGS.get(source, '.jpg')}"
            save(sample.images[0], out / "images" / source / name)
            for word, part in PARTS.items():
                if part.source != source:
                    continue
                for said in _dialogues(word, part.kind, sample):
                    id = str(len(records[word]))
                    record = {"id": id, "image": name, "conversations": llava(said)}
                    records[word].append(record)
                    expected[word].append(
                        Sample(sample.images, turns=said, meta={"id": f"{word}/{id}"})
                    )
    for word, part in PARTS.items():
        write_json(out / part.file, records[word])
    return {"train": [sample for samples in expected.values() for sample in samples]}


def _dialogues(word: str, kind: str | None, sample: Sample) -> Iterator[list[Turn]]:
    found = list(asked(sample))
    located = [a for a in found if a.kind == "refer"]
    short = [a for a in found if a.kind not in ("refer", "description")]
    if kind == "caption":
        for text in sample.texts:
            yield turns(("[caption] Briefly describe this image.", text, "caption"))
    elif kind == "vqa":
        for a in short:
            yield turns((f"[vqa] {a.question}", a.answer, "vqa"))
    elif word == "rspg":
        for a in located:
            yield turns((f"[grounding] {a.question}", _phrase(a, sample), "grounding"))
    elif kind == "refer":
        for a in located:
            if len(a.instances) == 1:
                text = box_text(sample, a.instances)
                yield turns((f"[refer] give me the location of {a.question}", text, "refer"))
    else:
        yield turns(
            ("Describe this image in detail.", description(sample), None),
            *((f"[detection] {a.question}", _phrase(a, sample), "detection") for a in located),
            *((f"[vqa] {a.question}", a.answer, "vqa") for a in short),
        )


def _phrase(a: Asked, sample: Sample) -> str:
    return f"<p>{a.question[:1].upper()}{a.question[1:]}</p> {box_text(sample, a.instances)}"


FORMAT = Format(write, parts=("captions", "turns", "references"))
