"""RSPG: one JSON of conversations whose answers hold phrases and boxes from 0 to 100."""

from __future__ import annotations

import json
from pathlib import Path

from rsvlm.data.geometry import identity
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text.box_codecs import codec
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_ASKED = "[grounding] please describe this image in detail"


def write(out: Path, splits: Splits) -> Expected:
    """Writes `phrasegrounding/diorpg_train.json` and `images/DIOR/`; there is one split."""
    records: list[dict[str, object]] = []
    expected: list[Sample] = []
    words = codec("mini0_100")
    for sample in (s for scenes in splits.values() for s in scenes):
        by_id = {instance.id: instance for instance in sample.instances}
        number = 3 * len(records) + 5
        file = f"{number:05d}.jpg"
        picture = save(sample.images[0], out / "images" / "DIOR" / file)
        frame = identity(picture.height, picture.width)
        said: list[str] = []
        shown: list[Instance] = []
        for turn in sample.turns:
            boxes = [by_id[key].box for key in turn.instance_ids]
            if turn.kind != "refer" or turn.role != "assistant" or len(boxes) > 6:
                continue
            texts = [words.write(box, frame) for box in boxes if box is not None]
            found = [word for text in texts for word in words.parse(text, frame).boxes]
            if len(found) != len(turn.instance_ids):
                continue  # smaller than a hundredth of the picture
            said.append(f"<p>{turn.text}</p> {words.join.join(texts)}")
            phrase = turn.text if len(found) == 1 else None
            for word in found:
                shown.append(Instance(len(shown), turn.text, phrase=phrase, box=word.box))
        if not said:
            continue
        answer = ", ".join(said)
        talk = [
            {"from": "human", "value": f"<image>\n{_ASKED}"},
            {"from": "gpt", "value": answer},
        ]
        records.append({"id": f"pg_{number}", "image": file, "conversations": talk})
        expected.append(
            Sample(
                images=sample.images,
                instances=shown,
                turns=[
                    Turn("user", _ASKED, (0,), kind="grounding"),
                    Turn("assistant", answer, kind="grounding"),
                ],
                meta={"id": f"pg_{number}"},
            )
        )
    path = out / "phrasegrounding" / "diorpg_train.json"
    path.parent.mkdir()
    path.write_text(json.dumps(records), encoding="utf-8")
    return {"train": expected}


FORMAT = Format(write, parts=("references",))
