"""RSITMD, UCM-Captions, Sydney-Captions, NWPU-Captions and AMFMN's text files."""

import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import (
    DATASETS,
    RSITMD,
    NWPUCaptions,
    Precomp,
    SydneyCaptions,
    UCMCaptions,
)
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError

SETS = [
    (RSITMD, "dataset_RSITMD.json", "images", "tif"),
    (UCMCaptions, "dataset.json", "imgs", "tif"),
    (SydneyCaptions, "dataset.json", "images", "tif"),
]


def picture(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)


def write(root, file, folder, names, *, captions=("a pond .", "two ponds ."), leave_out=()):
    records = []
    for i, (name, split) in enumerate(names.items()):
        sentences = [{"raw": text, "tokens": text.split(), "sentid": i} for text in captions]
        records.append({"filename": name, "imgid": i, "split": split, "sentences": sentences})
        if name not in leave_out:
            picture(root / folder / name, i)
    (root / file).write_text(json.dumps({"images": records, "dataset": "x"}))
    return root


@pytest.mark.parametrize(("kind", "file", "folder", "ext"), SETS)
def test_published_json_and_folders(tmp_path, kind, file, folder, ext):
    names = {f"1.{ext}": "train", f"2.{ext}": "test", f"3.{ext}": "train"}
    root = write(tmp_path, file, folder, names)
    data = kind(root, "train")
    assert [e.id for e in data.entries] == [f"1.{ext}", f"3.{ext}"]
    assert data[1].texts == ["a pond .", "two ponds ."] and data[1].images[0].size == (8, 6)
    assert data[0].meta["dataset"] == kind.name and not data.problems
    assert len(kind(root, "all")) == 3
    with pytest.raises(UserError, match=r"no split 'tset'.*train \(2\), test \(1\)"):
        kind(root, "tset")
    with pytest.raises(UserError, match=r"data\.root="):
        kind(tmp_path / "nowhere", "test")


@pytest.mark.parametrize(("kind", "file", "folder", "ext"), SETS)
def test_images_that_are_not_there(tmp_path, kind, file, folder, ext):
    names = {f"{i}.{ext}": "test" for i in range(4)}
    root = write(tmp_path, file, folder, names, leave_out=[f"0.{ext}", f"2.{ext}"])
    with pytest.raises(UserError, match="2 of 4 images"):
        kind(root, "test")
    some = kind(root, "test", missing="skip")
    assert [e.id for e in some.entries] == [f"1.{ext}", f"3.{ext}"]
    assert "2 of 4 images are not in" in some.problems[0] and "left out" in some.problems[0]
    every = kind(root, "test", missing="keep")
    assert len(every) == 4 and every[1].texts and "captions were kept" in every.problems[0]
    with pytest.raises(BrokenImage, match="cannot be opened"):
        every[0]
    with pytest.raises(UserError, match=r"missing='kepe'.*keep"):
        kind(root, "test", missing="kepe")


def test_captions_without_pixels_can_be_inspected(tmp_path):
    root = write(tmp_path, "dataset.json", "elsewhere", {"1.tif": "test", "2.tif": "test"})
    with pytest.raises(UserError, match="no folder imgs or images"):
        UCMCaptions(root, "test")
    facts = describe(UCMCaptions(root, "test", missing="keep"))
    assert facts["captions"]["count"] == 4 and "2 of 2 images" in facts["problems"][0]


def test_an_image_without_a_caption_is_left_out_and_told(tmp_path):
    root = write(tmp_path, "dataset_RSITMD.json", "images", {"1.tif": "train", "2.tif": "train"})
    content = json.loads((root / "dataset_RSITMD.json").read_text())
    content["images"][0]["sentences"] = [{"raw": ""}, {"raw": " "}]
    (root / "dataset_RSITMD.json").write_text(json.dumps(content))
    data = RSITMD(root, "train")
    assert [e.id for e in data.entries] == ["2.tif"] and data.empty_captions == 2
    assert any("1 image(s) have no caption" in p and "1.tif" in p for p in data.problems)


def nwpu_row(name, split, **more):
    keys = ("raw", "raw_1", "raw_2", "raw_3", "raw_4")
    row = {"filename": name, "imgid": 0, "split": split, "sentids": 0}
    return row | {key: f"{name} {i} ." for i, key in enumerate(keys)} | more


def nwpu(root, content, *, folder="NWPU_images", leave_out=()):
    for scene, rows in content.items():
        for row in rows:
            if isinstance(row, dict) and row.get("filename") not in leave_out:
                picture(root / folder / scene / str(row.get("filename", "x.jpg")))
    (root / "dataset_nwpu.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("folder", ["NWPU_images", "images"])
def test_nwpu_captions(tmp_path, folder):
    content = {
        "ground_track_field": [nwpu_row("ground_track_field_001.jpg", "train")],
        "airplane": [
            nwpu_row("airplane_001.jpg", "test"),
            nwpu_row("airplane_002.jpg", "train", raw_2=" "),
        ],
    }
    root = nwpu(tmp_path, content, folder=folder)
    data = NWPUCaptions(root, "train")
    assert [e.id for e in data.entries] == [
        "ground_track_field/ground_track_field_001.jpg",
        "airplane/airplane_002.jpg",
    ]
    assert data.classes == ["airplane", "ground track field"] == NWPUCaptions(root, "test").classes
    assert [data[0].label, data[1].label] == [1, 0]
    assert len(data[0].texts) == 5 and len(data[1].texts) == 4 and data.empty_captions == 1
    assert len(NWPUCaptions(root, "train+test")) == 3 == len(NWPUCaptions(root, "all"))
    with pytest.raises(UserError, match=r"no split 'val'.*train \(2\), test \(1\)"):
        NWPUCaptions(root, "val")


@pytest.mark.parametrize("fault", ["no image", "no caption", "empty captions"])
def test_the_known_bad_row_of_nwpu_is_told_and_left_out(tmp_path, fault):
    more = {}
    if fault == "no caption":
        more = {"raw_3": None}
    elif fault == "empty captions":
        more = dict.fromkeys(("raw", "raw_1", "raw_2", "raw_3", "raw_4"), " ")
    rows = [nwpu_row("airplane_110.jpg", "train"), nwpu_row("airplane_111.jpg", "train", **more)]
    leave_out = ["airplane_111.jpg"] if fault == "no image" else []
    data = NWPUCaptions(nwpu(tmp_path, {"airplane": rows}, leave_out=leave_out), "train")
    assert [e.id for e in data.entries] == ["airplane/airplane_110.jpg"]
    assert any("airplane_111.jpg was left out" in problem for problem in data.problems)


def test_the_same_in_another_row_of_nwpu_is_an_error(tmp_path):
    good = nwpu_row("a_1.jpg", "train")
    root = nwpu(tmp_path, {"a": [good, nwpu_row("a_2.jpg", "train", raw_3=None)]})
    with pytest.raises(UserError, match=r"a\[1\] \(a_2\.jpg\) has no 'raw_3'"):
        NWPUCaptions(root, "train")
    nwpu(tmp_path, {"a": [good, {"filename": "b.jpg"}]})
    with pytest.raises(UserError, match=r"a\[1\] \(b\.jpg\) has no 'split'"):
        NWPUCaptions(root, "train")
    nwpu(tmp_path, {"a": [good, nwpu_row("gone.jpg", "train")]}, leave_out=["gone.jpg"])
    with pytest.raises(UserError, match=r"1 of 2 images are not in .*gone\.jpg"):
        NWPUCaptions(root, "train")
    assert len(NWPUCaptions(root, "train", missing="skip")) == 1
    assert len(NWPUCaptions(root, "train", missing="keep")) == 2
    (root / "dataset_nwpu.json").write_text("[]")
    with pytest.raises(UserError, match="list of images per class"):
        NWPUCaptions(root, "train")


def precomp(root, split, names, captions):
    root.mkdir(exist_ok=True)
    (root / f"{split}_filename.txt").write_text("".join(f"{name}\n" for name in names))
    (root / f"{split}_caps.txt").write_text("".join(f"{text}\n" for text in captions))
    return root


def test_precomp_names_once_an_image_or_once_a_caption(tmp_path):
    root = tmp_path / "rsitmd_precomp"
    precomp(root, "train", ["a.tif", "b.tif"], ["1", "2", "3", "4", "5", "6"])
    precomp(root, "test", ["c.tif", "c.tif", "d.tif"], ["7", "8", "9"])
    train, test = Precomp(root, "train"), Precomp(root, "test")
    assert train.name == "rsitmd"
    assert [e.texts for e in train.entries] == [("1", "2", "3"), ("4", "5", "6")]
    assert [(e.id, e.texts) for e in test.entries] == [("c.tif", ("7", "8")), ("d.tif", ("9",))]
    facts = describe(train)
    assert facts["captions"]["count"] == 6 and "2 of 2 images" in facts["problems"][0]
    picture(root / "images" / "b.tif")
    assert [e.id for e in Precomp(root, "train", missing="skip").entries] == ["b.tif"]
    with pytest.raises(UserError, match="1 of 2 images"):
        Precomp(root, "train", missing="error")


def test_precomp_faults(tmp_path):
    root = precomp(tmp_path / "x", "train", ["a", "b"], ["1", "2", "3"])
    with pytest.raises(UserError, match=r"train_caps\.txt has 3 captions and .* 2 lines"):
        Precomp(root, "train")
    with pytest.raises(UserError, match=r"no split 'trian'; it has train \(3\)"):
        Precomp(root, "trian")
    precomp(root, "train", ["a", "b"], ["1", "2", "", " "])
    data = Precomp(root, "train")
    assert len(data) == 1 and data.empty_captions == 2
    assert "1 image(s) have no caption and were left out: b" in data.problems[0]
    (root / "train_filename.txt").unlink()
    with pytest.raises(UserError, match=r"there is no train_filename\.txt"):
        Precomp(root, "train")
    with pytest.raises(UserError, match=r"no \*_caps\.txt"):
        Precomp(tmp_path, "train")


def test_real_captions(real_data):
    folder = real_data / "captions_text"
    for split, images, distinct in (("train", 4287, None), ("test", 452, 2119)):
        facts = describe(Precomp(folder / "rsitmd_precomp", split))
        assert facts["images"] == images and facts["captions"]["per_image"] == (5, 5)
        assert distinct in (None, facts["captions"]["distinct"])
    file = "sydney_captions_dataset.json"
    for split, count in SydneyCaptions.published_counts.items():
        data = SydneyCaptions(folder, split, annotations=file, missing="keep")
        assert len(data) == count and all(len(e.texts) == 5 for e in data.entries)


GENERIC = {
    "change_pairs",
    "change_table",
    "class_table",
    "coco",
    "conversations",
    "karpathy",
    "mask_folder",
    "pairs",
    "precomp",
    "scene_folder",
    "shards",
}


def test_every_published_reader_says_where_its_data_come_from():
    assert len(DATASETS) >= 20 and set(DATASETS) >= GENERIC
    for word in set(DATASETS) - GENERIC:
        kind = DATASETS[word]
        assert kind.name and kind.licence != "unknown" and kind.paper, word
        assert kind.homepage.startswith("https://"), word
