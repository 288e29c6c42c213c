"""RSVQA-LR and -HR: three JSON files a split, each with a placeholder for what it does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.cards import RSVQAHR, RSVQALR
from rsvlm.data.datasets.rsvqa import RSVQA
from rsvlm.data.sample import Sample
from rsvlm.synthetic.dataset import Scenes
from rsvlm.synthetic.export.chat import Asked, asked, turns, write_json
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write_lr(out: Path, splits: Splits) -> Expected:
    """Writes `LR_split_<split>_<questions|answers|images>.json` and `Images_LR/`."""
    return _write(out, RSVQALR, "Images_LR", splits)


def write_hr(out: Path, splits: Splits) -> Expected:
    """Writes `USGS_split_...json` and `Data/`.

    The second test set, which stands for a city that training never shows, are scenes of the
    `holdout` split.
    """
    test = splits["test"]
    other = Scenes("holdout", n=len(test), size=test.size, seed=test.seed, parts=test.parts)
    return _write(out, RSVQAHR, "Data", {**splits, "test_phili": other})


def _write(out: Path, reader: type[RSVQA], folder: str, splits: Mapping[str, Scenes]) -> Expected:
    """Ids count over all splits, in their order, as those of the published files do."""
    images: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    owner: dict[str, list[str]] = {"images": [], "questions": [], "answers": []}
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split] = []
        for sample in scenes:
            number = len(images)
            save(sample.images[0], out / folder / f"{number}.tif")
            ids = []
            for a in _fitting(sample, reader.kinds):
                id = len(questions)
                ids.append(id)
                questions.append(
                    {
                        "id": id,
                        "img_id": number,
                        "type": a.kind,
                        "question": a.question,
                        "answers_ids": [id],
                        "active": True,
                    }
                )
                answers.append({"id": id, "question_id": id, "answer": a.answer, "active": True})
                expected[split].append(
                    Sample(
                        sample.images,
                        turns=turns((a.question, a.answer, a.kind)),
                        meta={"id": str(id), "image": f"{number}.tif"},
                    )
                )
                owner["questions"].append(split)
                owner["answers"].append(split)
            images.append({"id": number, "questions_ids": ids, "active": True})
            owner["images"].append(split)
    for what, records in (("images", images), ("questions", questions), ("answers", answers)):
        for split in splits:
            held = [
                record if whose == split else {"id": record["id"], "active": False}
                for record, whose in zip(records, owner[what], strict=True)
            ]
            write_json(out / f"{reader.prefix}_split_{split}_{what}.json", {what: held})
    return expected


def _fitting(sample: Sample, kinds: tuple[str, ...]) -> Iterator[Asked]:
    return (a for a in asked(sample) if a.kind in kinds)


LR = Format(write_lr, parts=("turns",))
HR = Format(write_hr, parts=("turns",))
