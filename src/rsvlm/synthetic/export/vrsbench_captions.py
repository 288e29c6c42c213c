"""VRSBench: conversations for training with captions among them, a JSON of captions to evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_PROMPT = "[caption] Could you describe the contents of this image for me?"


def write(out: Path, splits: Splits) -> Expected:
    """Writes `VRSBench_train.json`, `VRSBench_EVAL_Cap.json`, `Images_train/`, `Images_val/`."""
    expected: dict[str, list[Sample]] = {}
    for split, folder in (("train", "Images_train"), ("test", "Images_val")):
        records: list[dict[str, Any]] = []
        expected[split] = []
        for number, sample in enumerate(splits[split]):
            name = f"{number:05d}_0000.png"
            save(sample.images[0], out / folder / name)
            text = next(t.text for t in sample.turns[::-1] if t.kind == "description")
            if split == "train":
                question, answer = sample.turns[0].text, sample.turns[1].text
                for said in ((_PROMPT, text), (f"[vqa] {question}", answer)):
                    turns = [
                        {"from": "human", "value": f"<image>\n{said[0]}"},
                        {"from": "gpt", "value": said[1]},
                    ]
                    records.append({"id": len(records), "image": name, "conversations": turns})
            else:
                records.append(
                    {
                        "image_id": name,
                        "question": "Describe the image in detail",
                        "ground_truth": text,
                        "question_id": number,
                        "type": "caption",
                    }
                )
            expected[split].append(Sample(sample.images, texts=[text], meta={"id": name}))
        file = "VRSBench_train.json" if split == "train" else "VRSBench_EVAL_Cap.json"
        (out / file).write_text(json.dumps(records), encoding="utf-8")
    return expected


FORMAT = Format(write, parts=("captions", "turns"))
