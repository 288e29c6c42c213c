import json

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.__main__ import main
from rsvlm.data.datasets import RSICD, SceneFolder
from rsvlm.data.inspection.describe import describe
from rsvlm.data.sample import Sample


@pytest.fixture
def rsicd(tmp_path):
    captions = {
        "a.png": ["a pond ."] * 2,
        "b.png": ["a pond .", "two ponds ."],
        "c.png": ["word " * 90, "", "."],
    }
    (tmp_path / "images").mkdir()
    records = []
    for i, (name, texts) in enumerate(captions.items()):
        Image.fromarray(np.zeros((4, 5 + i // 2, 3), np.uint8)).save(tmp_path / "images" / name)
        sentences = [{"raw": text} for text in texts]
        record = {"filename": name, "split": "test", "sentences": sentences}
        records.append(record | ({} if i else {"scene": "pond"}))
    (tmp_path / "images" / "b.png").write_bytes(b"")
    (tmp_path / "dataset_rsicd.json").write_text(json.dumps({"images": records}))
    return RSICD(tmp_path, "test")


def test_counts_captions_and_problems(rsicd):
    facts = describe(rsicd)
    assert (facts["images"], facts["published"]) == (3, 1093)
    captions = facts["captions"]
    assert (captions["count"], captions["distinct"]) == (6, 4)
    assert captions["per_image"] == (2, 2) and captions["words"] == (0, 90)
    assert (captions["shared"], captions["one_sentence_images"]) == (1, 1)
    assert captions["over_context"] == 1
    assert facts["classes"] == {"pond": 1}
    problems = "\n".join(facts["problems"])
    for words in (
        "3 images, 1093 were published",
        "1 empty caption(s)",
        "1 caption(s) are over 77 tokens",
        "1 caption(s) hold no word",
        "2 image(s) have no class",
    ):
        assert words in problems
    assert "sizes" not in facts
    text = str(facts)
    assert (
        "rsicd, split test: 3 images (published: 1093)" in text and problems.split("\n")[0] in text
    )


def test_reading_finds_broken_images_and_sizes(rsicd):
    facts = describe(rsicd, read=True)
    assert facts["sizes"] == {"5 x 4": 1, "6 x 4": 1}
    assert any("b.png: is empty" in problem for problem in facts["problems"])
    assert "sizes      5 x 4 (1), 6 x 4 (1)" in str(facts)


def test_scene_sets_and_plain_sequences(tmp_path):
    for name in ("pond", "beach"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (3, 3)).save(tmp_path / name / "1.png")
    facts = describe(SceneFolder(tmp_path, name="made"), read=True)
    assert facts["classes"] == {"beach": 1, "pond": 1} and not facts["problems"]
    assert "captions" not in facts and "no problems found" in str(facts)
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    plain = [Sample([image], texts=["a", "b"], meta={"id": i}) for i in "xx"]
    facts = describe(plain, read=True)
    assert facts["captions"]["count"] == 4 and facts["sizes"] == {"6 x 4": 2}
    assert facts["problems"] == ["1 image(s) are listed more than once, the first: x."]


def test_a_reader_of_ones_own_is_inspected_and_listed(tmp_path, monkeypatch, capsys):
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/mine_towns.yaml").write_text(
        "# My own towns.\ndefaults:\n  - _files\n  - _self_\nroot: null\n"
        "dataset:\n  _target_: own_towns.Towns\n  suffix: .png\nsplits: {val: null, test: null}\n"
    )
    (tmp_path / "own_towns.py").write_text(
        "from pathlib import Path\n"
        "from rsvlm.data.datasets.base import Entry, FileDataset\n"
        "class Towns(FileDataset):\n"
        "    name = 'towns'\n"
        "    def __init__(self, root, split, *, suffix='.jpg', convert=False):\n"
        "        super().__init__(root, split, convert=convert)\n"
        "        found = sorted(Path(root).glob(f'*{suffix}'))\n"
        "        self.entries = [Entry(p.name, str(p), (p.stem,)) for p in found]\n"
    )
    Image.new("RGB", (8, 6)).save(tmp_path / "oldtown.png")
    monkeypatch.chdir(tmp_path)
    words = ["--data", "mine_towns", "--config-dir", "conf", "--root", str(tmp_path)]
    assert main(["inspect", *words, "--read"]) == 0
    assert "towns, split train: 1 images" in capsys.readouterr().out
    assert main(["list", "data", "mine*", "--config-dir", "conf"]) == 0
    assert "My own towns." in capsys.readouterr().out
