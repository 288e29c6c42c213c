"""GeoChat_Instruct: one JSON of conversations, with turned boxes in the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.data.transforms import to_pil
from rsvlm.synthetic.export.chat import Asked, asked, box_text, llava, turns, write_json
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_FOLDER = "images/share/softwares/kartik/GeoChat_finetuning/final_images_llava"
_SHORT = "\nAnswer the question using a single word or phrase."


def write(out: Path, splits: Splits) -> Expected:
    """Writes `GeoChat_Instruct.json` and the images below their published folder.

    A record is a phrase to locate, a box to identify, or the questions of a scene. Boxes are the
    unturned ones, with the angle in whole degrees.
    """
    records: list[dict[str, Any]] = []
    expected: list[Sample] = []
    for number, sample in enumerate(splits["train"]):
        name = f"P{number:04d}.png"
        save(sample.images[0], out / _FOLDER / name)
        found = list(asked(sample))
        dialogues = [said for a in found if a.kind == "refer" for said in _located(a, sample)]
        short = [a for a in found if a.kind not in ("refer", "description")]
        dialogues.append(
            [(a.question + _SHORT * (not i), a.answer, None) for i, a in enumerate(short)]
        )
        for said in dialogues:
            id = f"P{number:04d}_{len(records)}"
            dialogue = turns(*said)
            records.append({"id": id, "image": name, "conversations": llava(dialogue)})
            expected.append(Sample(sample.images, turns=dialogue, meta={"id": id}))
    write_json(out / "GeoChat_Instruct.json", records)
    return {"train": expected}


def _located(a: Asked, sample: Sample) -> list[list[tuple[str, str, str | None]]]:
    side = to_pil(sample.images[0]).width
    if any(not 0 <= v <= side for thing in a.instances for v in thing.box or ()):
        return []  # an unturned box that reaches over the edge has no numbers from 0 to 100
    boxes = box_text(sample, a.instances, "geochat0_100_theta")
    refer = (
        f"[refer] Give me the location of <p> {a.question} </p>",
        f"<p> {a.question} </p> {boxes}",
        "refer",
    )
    identify = (f"[identify] What is {boxes}?", a.instances[0].category, "identify")
    return [[refer], [identify]] if len(a.instances) == 1 else [[refer]]


FORMAT = Format(write, parts=("turns", "references"), options={"oriented": True})
