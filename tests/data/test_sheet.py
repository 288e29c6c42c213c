"""The sheet of samples, and what inspect counts of dialogues, instances, pairs and maps."""

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli import inspect
from rsvlm.data.datasets.base import Entry, FileDataset
from rsvlm.data.inspection.contact_sheet import drawn, sheet
from rsvlm.data.inspection.describe import describe
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes


class Chat(FileDataset):
    """Two pictures, three dialogues; the boxes of an image fill its upper half."""

    name = "chat"
    semantic_classes = ("land", "water")

    def __init__(self, root):
        super().__init__(root, "test")
        self.entries = [
            Entry(str(i), str(root / name)) for i, name in enumerate(("a.png", "a.png", "b.png"))
        ]
        self.maps_read = 0

    def annotate(self, sample, index):
        sample.turns = [Turn("user", "?", (0,), kind="vqa"), Turn("assistant", "yes")]
        if index == 2:
            width, height = sample.images[0].size
            mask = np.zeros((height, width), bool)
            sample.instances = [
                Instance(0, "ship", box=(0, 0, width, height / 2), mask=mask),
                Instance(1, "ship", box=(0, 0, width, height / 2), angle=30.0, phrase="the ship"),
            ]

    def read_maps(self, sample, index):
        self.maps_read += 1
        ids = np.zeros(sample.images[0].size[::-1], np.uint8)
        ids[:1] = 1
        sample.semantic = [ids]


@pytest.fixture
def chat(tmp_path):
    for name, size in (("a.png", (8, 4)), ("b.png", (6, 4))):
        Image.new("RGB", size, (90, 90, 90)).save(tmp_path / name)
    return Chat(tmp_path)


def test_annotations_are_counted_without_decoding(chat):
    facts = describe(chat)
    assert facts["turns"] == {
        "count": 6,
        "samples": 3,
        "per_sample": (2, 2),
        "kinds": {"vqa": 3},
    }
    assert facts["instances"]["categories"] == {"ship": 2}
    assert facts["instances"]["parts"] == {"box": 1, "mask": 1, "oriented box": 1, "phrase": 1}
    assert chat.maps_read == 0 and "maps" not in facts
    text = str(facts)
    assert "chat, split test: 3 samples, 2 pictures" in text
    assert "maps       of land, water" in text and "1 with oriented box" in text


def test_reading_counts_the_pixels_of_maps(chat):
    facts = describe(chat, read=True)
    assert facts["maps"] == {
        "samples": 3,
        "per_sample": (1, 1),
        "pixels": {"land": 0.75, "water": 0.25},
    }
    assert facts["sizes"] == {"8 x 4": 2, "6 x 4": 1}


def test_annotations_that_need_a_picture_which_is_not_there_are_told(chat, tmp_path):
    (tmp_path / "b.png").unlink()
    facts = describe(chat)
    assert any("annotations of 1 sample(s)" in p and "b.png" in p for p in facts["problems"])
    assert facts["turns"]["samples"] == 2


def test_pairs_of_another_size_are_told(tmp_path):
    class Pairs(FileDataset):
        name = "pairs"
        sample_layout = "before_after"

    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    data = Pairs(tmp_path, "test")
    data.entries = [
        Entry("0", str(tmp_path / "a.png"), more=(str(tmp_path / "b.png"),), meta={"changeflag": 1})
    ]
    facts = describe(data, read=True)
    assert facts["changed"] == (1, 1)
    assert any("b.png: is 4 x 4, the first picture of its pair is 8 x 4" in p
               for p in facts["problems"])  # fmt: skip
    assert "pairs, split test: 1 pairs" in str(facts)


def test_boxes_and_masks_are_drawn():
    mask = np.zeros((40, 40), bool)
    mask[30:] = True
    image = Image.new("RGB", (40, 40))
    box = Instance(0, "ship", box=(4, 4, 20, 20))
    area = Instance(1, "tank", mask=mask)
    other = Instance(2, "tank", box=(0, 0, 39, 39), image_id=1)
    picture = np.asarray(drawn(Sample([image], instances=[box, area, other]), 0, 80))
    assert picture[8, 8:38].any(1).all() and not picture[20:30, 20:30].any()
    assert picture[60:].any(2).all() and not picture[45:59].any()
    turned = Instance(0, "ship", box=(10, 15, 30, 25), angle=90.0)
    picture = np.asarray(drawn(Sample([image], instances=[turned]), 0, 40)).any(2)
    rows, columns = picture.any(1).nonzero()[0], picture.any(0).nonzero()[0]
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 15, 24)


def test_a_sheet_of_all_splits_and_of_what_cannot_be_read(chat, tmp_path):
    (tmp_path / "a.png").unlink()
    parts = ("captions", "masks", "semantic", "turns")
    pairs = Scenes("test", n=3, size=48, layout="before_after", parts=parts)
    page = sheet([chat, Scenes("train", n=5, size=48, parts=parts), pairs], 5, size=64)
    # Two pictures, two maps and the mask of change in the widest row.
    assert page.size == (5 * 70 + 460 + 6, 5 * 70 + 6)
    assert len(np.unique(np.asarray(page).reshape(-1, 3), axis=0)) > 500


def test_the_command_writes_the_sheet(tmp_path, capsys):
    out = tmp_path / "new" / "sheet.png"
    words = ["n=4", "size=32", "parts=[captions,turns]"]
    inspect.main(["--data", "scenes", "--split", "val", "--out", str(out), "--count", "2", *words])
    text = capsys.readouterr().out
    assert "questions by kind" in text and f"wrote {out}" in text
    assert Image.open(out).height == 2 * 262 + 6
    with pytest.raises(UserError, match=r"\.png or \.jpg"):
        inspect.main(["--data", "scenes", "--out", "sheet.pdf"])
