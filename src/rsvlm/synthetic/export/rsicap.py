"""RSICap and RSIEval: a JSON of annotations each, and a folder of PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.chat import asked, description, turns, write_json
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_INSTRUCTIONS = (
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
    "Describe this image in detail.",
)
#: The scenes' kinds of questions → RSIEval's.
_TYPES = {
    "presence": "presence",
    "count": "quantity",
    "place": "ab_position",
    "colour": "color",
    "scene": "scene",
}


def write_rsicap(out: Path, splits: Splits) -> Expected:
    """Writes `captions.json` and `images/` from the training scenes."""
    records: list[dict[str, str]] = []
    expected: list[Sample] = []
    for number, sample in enumerate(splits["train"]):
        name = f"P{number // 100:04d}_{number % 100:04d}.png"
        save(sample.images[0], out / "images" / name)
        prompt, text = _INSTRUCTIONS[number % len(_INSTRUCTIONS)], description(sample)
        records.append(
            {
                "image_id": str(number),
                "filename": name,
                "text_input": prompt,
                "text_output": text,
            }
        )
        expected.append(
            Sample(
                sample.images,
                texts=[text],
                turns=turns((prompt, text, "caption")),
                meta={"id": str(number), "image": name},
            )
        )
    write_json(out / "captions.json", {"annotations": records}, indent=4)
    return {"train": expected}


def write_rsieval(out: Path, splits: Splits) -> Expected:
    """Writes `annotations.json` and `images/` from the test scenes."""
    records: list[dict[str, Any]] = []
    expected: dict[str, list[Sample]] = {"caption": [], "vqa": []}
    for number, sample in enumerate(splits["test"]):
        name = f"P{number // 100:04d}_{number % 100:04d}.png"
        save(sample.images[0], out / "images" / name)
        text = description(sample)
        expected["caption"].append(
            Sample(
                sample.images,
                texts=[text],
                turns=turns((_INSTRUCTIONS[1], text, "caption")),
                meta={"id": name, "image": name},
            )
        )
        pairs: list[dict[str, str]] = []
        for a in asked(sample):
            if a.kind not in _TYPES:
                continue
            kind, answer = _TYPES[a.kind], f"{a.answer[:1].upper()}{a.answer[1:]}."
            expected["vqa"].append(
                Sample(
                    sample.images,
                    turns=turns((a.question, answer, kind)),
                    meta={"id": f"{name}#{len(pairs)}", "image": name},
                )
            )
            pairs.append({"question": a.question, "answer": answer, "type": kind})
        records.append({"filename": name, "caption": text, "qa_pairs": pairs})
    write_json(out / "annotations.json", {"annotations": records}, indent=4)
    return expected


RSICAP = Format(write_rsicap, parts=("turns",))
RSIEVAL = Format(write_rsieval, parts=("turns",))
