"""RS-GPT4V: a JSON of LLaVA conversations a split, and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.chat import asked, llava, turns, write_json
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `train.json`, `test.json` and `images/`; the data set has no validation split.

    Of a scene there are two conversations: all its questions one after the other, and its
    description alone.
    """
    expected: dict[str, list[Sample]] = {}
    for split in ("train", "test"):
        records: list[dict[str, Any]] = []
        expected[split] = []
        for number, sample in enumerate(splits[split]):
            name = f"{split}_{number:06d}.jpg"
            save(sample.images[0], out / "images" / name)
            said = [(a.question, a.answer, None) for a in asked(sample)]
            for id, chosen in (("chat", said[:-1]), ("detail", said[-1:])):
                dialogue = turns(*chosen)
                record = {"id": f"{split}_{number:06d}_{id}", "image": name}
                records.append(record | {"conversations": llava(dialogue)})
                expected[split].append(
                    Sample(sample.images, turns=dialogue, meta={"id": record["id"]})
                )
        write_json(out / f"{split}.json", records)
    return expected


FORMAT = Format(write, parts=("turns",))
