import json

import numpy as np
import pytest
import torch
from PIL import Image

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
