import json
import os

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import DATASETS, RSICD, Karpathy
from rsvlm.data.images import BrokenImage
from rsvlm.errors import UserError


def entry(name, split, captions=("a pond .", "some trees ."), **more):
    sentences = [{"raw": text, "tokens": text.split()} for text in captions]
    return {"filename": name, "imgid": 0, "split": split, "sentences": sentences, **more}


ENTRIES = [
    entry("pond_1.jpg", "train", scene="pond"),
    entry("pond_2.jpg", "val", scene="pond"),
    entry("beach_1.jpg", "train", ("sand",), scene="beach"),
    entry("beach_2.jpg", "test", scene="beach"),
    entry("odd.jpg", "train"),
]


def write(root, entries=ENTRIES, *, folder="RSICD_images", file="dataset_rsicd.json", leave_out=()):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for i, record in enumerate(entries):
        path = root / folder / record["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if record["filename"] not in leave_out:
            Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(path)
    (root / file).write_text(json.dumps({"dataset": "rsicd", "images": entries}))
    return root


@pytest.mark.parametrize("folder", ["RSICD_images", "images"])
def test_splits_captions_and_labels(tmp_path, folder):
    root = write(tmp_path, folder=folder)
    train = RSICD(root, "train")
    assert [e.id for e in train.entries] == ["pond_1.jpg", "beach_1.jpg", "odd.jpg"]
    assert train.classes == RSICD(root, "test").classes == ["beach", "pond"]
    sample = train[0]
    assert sample.texts == ["a pond .", "some trees ."]
    assert sample.label == 1 and train[1].label == 0 and train[2].label is None
    assert sample.images[0].size == (8, 6)
    assert sample.meta["id"] == "pond_1.jpg" and sample.meta["split"] == "train"
    assert sample.meta["dataset"] == train.name == "rsicd"
    assert sample.meta["path"].endswith(os.path.join(folder, "pond_1.jpg"))
    assert "research" in sample.meta["licence"]
    assert len(RSICD(root, "train+val")) == 4
    assert len(RSICD(root, "all")) == 5
    assert train.published_counts == {"train": 8734, "val": 1094, "test": 1093}


def test_without_scenes_there_are_no_classes(tmp_path):
    data = RSICD(write(tmp_path, [entry("a.jpg", "test")]), "test")
    assert data.classes is None and data[0].label is None


def test_karpathy_finds_file_folder_and_name(tmp_path):
    entries = [entry("sub/a.jpg", "train"), entry("b.jpg", "restval")]
    root = write(tmp_path, entries, folder="imgs", file="dataset_My-Set.json")
    text = (root / "dataset_My-Set.json").read_text().replace('"rsicd"', '"My-Set 2"')
    (root / "dataset_My-Set.json").write_text(text)
    data = Karpathy(root, "train+restval")
    assert len(data) == 2 and data.name == "my_set_2"
    assert data[0].meta["split"] == "train" and data[1].meta["split"] == "restval"
    assert Karpathy(root, "train", name="mine").name == "mine"
    (root / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="choose one with annotations="):
        Karpathy(root, "train")
    assert len(Karpathy(root, "train", annotations="dataset_My-Set.json", images="imgs")) == 1


def test_an_absent_data_set_shows_the_expected_layout(tmp_path):
    with pytest.raises(UserError) as caught:
        RSICD(tmp_path / "nowhere", "test")
    text = str(caught.value)
    assert "nowhere" in text and "dataset_rsicd.json" in text and "RSICD_images" in text
    assert "data.root=" in text and "https://" in text
    with pytest.raises(UserError, match=r"no dataset_rsicd\.json"):
        RSICD(tmp_path, "test")
    (tmp_path / "dataset_rsicd.json").write_text(json.dumps({"images": ENTRIES}))
    with pytest.raises(UserError, match="no folder RSICD_images or images"):
        RSICD(tmp_path, "test")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"images": [\n {"filename": "a.jpg",\n', r"dataset_rsicd\.json, line 3, column 1"),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
        (b"[1, 2]", "no list under `images`"),
        (b'{"images": []}', "no list under `images`"),
        (b'{"images": [{"filename": "a.jpg"}]}', r"images\[0\] \(a\.jpg\) has no 'split'"),
        (b'{"images": [3]}', r"images\[0\] \(\?\) has no 'split'"),
        (b'{"images": [{"split": "test"}]}', "has no 'filename' that is a str"),
    ],
)
def test_malformed_json_names_file_and_place(tmp_path, content, words):
    write(tmp_path)
    (tmp_path / "dataset_rsicd.json").write_bytes(content)
    with pytest.raises(UserError, match=words):
        RSICD(tmp_path, "test")


@pytest.mark.parametrize("sentences", [None, "text", [{"tokens": ["a"]}], [{"raw": 3}], ["a"]])
def test_malformed_sentences_name_the_image(tmp_path, sentences):
    root = write(tmp_path, [{"filename": "a.jpg", "split": "test", "sentences": sentences}])
    with pytest.raises(UserError, match=r"images\[0\] \(a\.jpg\) has "):
        RSICD(root, "test")


def test_an_unknown_split_lists_the_known_ones(tmp_path):
    root = write(tmp_path)
    with pytest.raises(UserError, match=r"'tset'.*train \(3\), val \(1\), test \(1\).*mean test"):
        RSICD(root, "tset")
    with pytest.raises(UserError, match="'restval'"):
        RSICD(root, "train+restval")


def test_missing_images_are_counted_and_the_first_ten_named(tmp_path):
    entries = [entry(f"a_{i:02d}.jpg", "train" if i < 15 else "test") for i in range(16)]
    root = write(tmp_path, entries, leave_out={f"a_{i:02d}.jpg" for i in range(2, 15)})
    with pytest.raises(UserError, match="13 of 15 images") as caught:
        RSICD(root, "train")
    text = str(caught.value)
    assert "a_02.jpg" in text and "a_11.jpg" in text and "and 3 more" in text
    assert "a_12.jpg" not in text
    assert len(RSICD(root, "test")) == 1  # another split is not concerned


def test_missing_images_are_found_without_touching_files(tmp_path, monkeypatch):
    root = write(tmp_path)

    def forbidden(path, *args, **kwargs):
        raise AssertionError(f"a file was looked at: {path}")

    monkeypatch.setattr(os.path, "exists", forbidden)
    monkeypatch.setattr(os.path, "isfile", forbidden)
    assert len(RSICD(root, "all")) == 5


def test_the_folder_that_holds_the_images_is_taken(tmp_path):
    root = write(tmp_path, folder="images")
    (root / "RSICD_images").mkdir()
    assert len(RSICD(root, "train")) == 3


def test_empty_captions_are_counted_and_left_out(tmp_path):
    root = write(tmp_path, [entry("a.jpg", "test", ("", "a pond .", " \n"))])
    data = RSICD(root, "test")
    assert data[0].texts == ["a pond ."]
    assert data.empty_captions == 2
    assert data.problems == ["2 empty caption(s) were left out."]


def test_an_image_without_any_caption_is_named(tmp_path):
    root = write(tmp_path, [entry("a.jpg", "test", ("", " ")), entry("b.jpg", "test", ())])
    with pytest.raises(UserError, match=r"2 image\(s\) have no caption.*a\.jpg, b\.jpg"):
        RSICD(root, "test")


def test_a_broken_image_is_an_error_of_its_sample_alone(tmp_path):
    root = write(tmp_path)
    (root / "RSICD_images" / "beach_1.jpg").write_bytes(b"")
    Image.new("L", (4, 4)).save(root / "RSICD_images" / "odd.jpg")
    data = RSICD(root, "train")
    assert data[0].label == 1
    with pytest.raises(BrokenImage, match=r"beach_1\.jpg: is empty"):
        data[1]
    with pytest.raises(BrokenImage, match=r"odd\.jpg: has 1 band"):
        data[2]
    assert RSICD(root, "train", convert=True)[2].images[0].mode == "RGB"


def test_every_data_set_says_where_it_comes_from():
    assert len(DATASETS) >= 4
    for name, kind in DATASETS.items():
        assert "{root}" in kind.layout and kind.title
        if kind.published_counts:
            assert kind.name == name
            assert kind.licence != "unknown" and kind.paper and kind.homepage.startswith("https://")


@pytest.mark.skipif("RSVLM_DATA" not in os.environ, reason="RSVLM_DATA is not set")
def test_the_real_rsicd_has_its_published_counts():
    root = os.path.join(os.environ["RSVLM_DATA"], "rsicd_160")
    total = 0
    for split, count in RSICD.published_counts.items():
        data = RSICD(root, split)
        assert len(data) == count
        assert all(len(e.texts) == 5 for e in data.entries)
        assert data.empty_captions == 0 and not data.problems
        assert data.classes is not None and len(data.classes) == 30
        total += sum(len(e.texts) for e in data.entries)
    assert total == 54605
    sample = data[len(data) - 1]
    assert sample.images[0].mode == "RGB" and sample.label is not None
