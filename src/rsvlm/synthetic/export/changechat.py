"""ChangeChat-105k: conversations on LEVIR-CC's pairs in the eight published files, two schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.changechat import FILES, PROMPTS
from rsvlm.data.sample import Sample, Turn
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.levir import captions, number

_FOLLOW = (
    "If changes have occurred, count the number of road and building changes separately.",
    "Based on the above analysis, please describe the changes of these two images in detail.",
)
_KINDS = {
    "test_binary": "binary",
    "test_count": "count",
    "test_loc": "location",
    "test_open": "open",
    "test_dialog": "dialogue",
}

#: Question and answer.
Pair = tuple[str, str]


def talk(sample: Sample) -> dict[str, list[Pair]]:
    """What is said of a pair, by kind, with the published prompts and forms of answers."""
    changed = bool(sample.meta["changeflag"])
    built = {"road": 0, "building": 0}
    for edit in sample.meta["edits"]:
        if edit["name"] in built and edit["act"] == "built":
            built[edit["name"]] += edit["count"]
    count = " and ".join(
        f"{n or 'no'} new {name}{'' if n == 1 else 's'}" for name, n in built.items()
    )
    count = f"There are {count}." if changed else "There are no changes in roads or buildings."
    cells = sample.meta["changes"]
    where = f"Roads: {list(cells['road_cells'])} Buildings: {list(cells['building_cells'])}"
    yes = "Yes" if changed else "No"
    asked = [t for t in sample.turns if t.kind == "open"]
    return {
        "caption": [(PROMPTS["caption"], captions(sample)[0])],
        "binary": [(PROMPTS["binary"], yes)],
        "count": [(PROMPTS["count"], count)],
        "location": [(PROMPTS["location"], where if changed else "No change has occurred.")],
        "open": [(asked[0].text, asked[1].text)],
        "dialogue": [
            (PROMPTS["binary"], yes),
            (_FOLLOW[0], count),
            (_FOLLOW[1], captions(sample)[0]),
        ],
    }


def conversation(id: int, images: list[str], flag: int, said: list[Pair]) -> dict[str, Any]:
    """A record of the instruction schema."""
    turns = []
    for position, (question, answer) in enumerate(said):
        lead = "<image> <image> " if position == 0 else ""
        turns += [
            {"from": "human", "value": lead + question},
            {"from": "gpt", "value": answer},
        ]
    return {"id": id, "image": images, "changeflag": flag, "conversations": turns}


def to_turns(kind: str, said: list[Pair]) -> list[Turn]:
    """The same as the reader gives it."""
    out = []
    for position, (question, answer) in enumerate(said):
        out.append(Turn("user", question, (0, 1) if position == 0 else (), kind=kind))
        out.append(Turn("assistant", answer, kind=kind))
    return out


def write(out: Path, splits: Splits) -> Expected:
    """Writes the eight JSON files and `images/`; of the validation split, pictures alone."""
    files: dict[str, list[dict[str, Any]]] = {word: [] for word in FILES}
    expected: dict[str, list[Sample]] = {word: [] for word in FILES}

    def add(word: str, sample: Sample, kind: str, said: list[Pair], names: list[str]) -> None:
        flag = sample.meta["changeflag"]
        id = len(files[word])
        files[word].append(conversation(id, names, flag, said))
        expected[word].append(
            Sample(
                sample.images,
                layout="before_after",
                turns=to_turns(kind, said),
                meta={"id": str(id), "changeflag": flag, "image": Path(names[0]).name},
            )
        )

    for split, scenes in splits.items():
        for index, sample in enumerate(scenes):
            name = f"{split}_{number(index):06d}.png"
            names = [f"{split}/{date}/{name}" for date in "AB"]
            for path, image in zip(names, sample.images, strict=True):
                save(image, out / "images" / path)
            said = talk(sample)
            if split == "train":
                for text in captions(sample):
                    add("train", sample, "caption", [(PROMPTS["caption"], text)], names)
                for kind in ("binary", "count", "location", "open", "dialogue"):
                    add("train", sample, kind, said[kind], names)
            elif split == "test":
                _test(sample, name, names, said, files["test"], expected["test"])
                for word, kind in _KINDS.items():
                    add(word, sample, kind, said[kind], names)
    files["train_loc"], expected["train_loc"] = files["train"], expected["train"]
    for word, records in files.items():
        file = out / f"changechat_105k_{FILES[word]}.json"
        file.write_text(json.dumps(records), encoding="utf-8")
    return {word: samples for word, samples in expected.items() if samples}


def _test(
    sample: Sample,
    name: str,
    names: list[str],
    said: dict[str, list[Pair]],
    records: list[dict[str, Any]],
    expected: list[Sample],
) -> None:
    """A record of the caption schema."""
    flag = sample.meta["changeflag"]
    records.append(
        {
            "image_A": names[0],
            "image_B": names[1],
            "captions": captions(sample),
            "changeflag": flag,
        }
    )
    expected.append(
        Sample(
            sample.images,
            layout="before_after",
            texts=captions(sample),
            turns=to_turns("caption", said["caption"]),
            meta={"id": name, "changeflag": flag, "image": name},
        )
    )


FORMAT = Format(write, layout="before_after", parts=("captions", "semantic", "turns"))
