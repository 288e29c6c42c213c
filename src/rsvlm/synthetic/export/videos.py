"""CapERA and ERA-VQA: a scene seen from a moving camera, as a folder of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from rsvlm.data.sample import Sample, Turn
from rsvlm.data.transforms import to_pil
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_FRAMES = 4
_FOLDERS = {"train": "Train", "test": "Test"}


def flight(sample: Sample) -> list[Image.Image]:
    """Frames of a camera that moves over a scene, each half as wide as it."""
    image = to_pil(sample.images[0])
    half = image.width // 2
    steps = [half * k // (_FRAMES - 1) for k in range(_FRAMES)]
    return [image.crop((x, x // 2, x + half, x // 2 + half)) for x in steps]


def _frames(out: Path, split: str, name: str, sample: Sample) -> list[Image.Image]:
    """Writes the frames of a video where the reader looks for them."""
    frames = flight(sample)
    folder = out / "frames" / _FOLDERS[split] / name.split("_")[0] / name
    for number, frame in enumerate(frames, start=1):
        save(frame, folder / f"{number:03d}.jpg")
    return frames


def write_captions(out: Path, splits: Splits) -> Expected:
    """Writes `CapERA_DATASET_<split>.json` and `frames/`. File names repeat between the splits."""
    expected: dict[str, list[Sample]] = {}
    events: dict[str, list[str]] = {}
    for split in _FOLDERS:
        if split not in splits:
            continue
        records: list[dict[str, Any]] = []
        expected[split], events[split] = [], []
        counts: dict[str, int] = {}
        for sample in splits[split]:
            event = splits[split].classes[sample.label or 0].title().replace(" ", "")
            counts[event] = counts.get(event, 0) + 1
            name = f"{event}_{counts[event]:03d}"
            frames = _frames(out, split, name, sample)
            records.append(
                {
                    "video_id": f"{name}.mp4",
                    "annotation": {"English_caption": list(sample.texts)},
                }
            )
            events[split].append(event)
            expected[split].append(
                Sample(
                    list(frames),
                    layout="frames",
                    texts=list(sample.texts),
                    meta={"id": f"{name}.mp4"},
                )
            )
        path = out / f"CapERA_DATASET_{split}.json"
        path.write_text(json.dumps({"ERA_caption": records}), encoding="utf-8")
    known = sorted({event for found in events.values() for event in found})
    for split, samples in expected.items():
        for sample, event in zip(samples, events[split], strict=True):
            sample.label = known.index(event)
    return expected


def write_questions(out: Path, splits: Splits) -> Expected:
    """Writes `vqa/EARVqa.json`, spelt so, and `frames/Train/`: two questions a video."""
    scenes = splits["train"]
    records: list[dict[str, Any]] = []
    expected: list[Sample] = []
    for number, sample in enumerate(scenes):
        event = scenes.classes[sample.label or 0].title().replace(" ", "")
        name = f"{event}_{number:03d}"
        frames = _frames(out, "train", name, sample)
        shown = tuple(range(len(frames)))
        turns = [t for t in sample.turns if t.kind in ("presence", "scene")]
        for question, answer in list(zip(turns[::2], turns[1::2], strict=True))[:2]:
            records.append(
                {
                    "id": len(records),
                    "image": f"{name}.mp4",
                    "conversations": [
                        {"from": "human", "value": f"<image>\n{question.text}"},
                        {"from": "gpt", "value": answer.text},
                    ],
                }
            )
            expected.append(
                Sample(
                    list(frames),
                    layout="frames",
                    turns=[
                        Turn("user", question.text, shown, kind="vqa"),
                        Turn("assistant", answer.text, kind="vqa"),
                    ],
                    meta={"id": str(len(expected)), "video": f"{name}.mp4"},
                )
            )
    path = out / "vqa" / "EARVqa.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records), encoding="utf-8")
    return {"train": expected}


CAPERA = Format(write_captions)
ERA_VQA = Format(write_questions, parts=("turns",))
