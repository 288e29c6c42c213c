import json
import os

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import WHURS19, SceneFolder
from rsvlm.data.datasets.whurs19 import CLASSES
from rsvlm.errors import UserError


def touch(root, *names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 5, 3), i, np.uint8)).save(path)
    return root


FILES = ("football_field/b_1.png", "football_field/deep/a_1.png", "pond/p_1.PNG", "beach/x.jpg")


def test_a_folder_per_class(tmp_path):
    root = touch(tmp_path / "My Scenes", *FILES)
    (root / "pond" / "._p_1.png").write_bytes(b"resource fork")
    (root / "pond" / "notes.txt").write_text("no image")
    (root / ".git").mkdir()
    data = SceneFolder(root)
    assert data.classes == ["beach", "football_field", "pond"]
    assert data.name == "my_scenes"
    assert [e.id for e in data.entries] == [
        "beach/x.jpg",
        "football_field/b_1.png",
        "football_field/deep/a_1.png",
        "pond/p_1.PNG",
    ]
    sample = data[3]
    assert sample.label == 2 and sample.texts == [] and sample.images[0].size == (5, 5)
    assert sample.meta["id"] == "pond/p_1.PNG"


def test_split_folders(tmp_path):
    touch(tmp_path, "train/pond/a.png", "train/beach/b.png", "val/pond/c.png")
    assert len(SceneFolder(tmp_path, "train")) == 2
    assert SceneFolder(tmp_path, "val").classes == ["pond"]
    with pytest.raises(UserError, match=r"'test'.*train \(2\), val \(1\)"):
        SceneFolder(tmp_path, "test")
    flat = touch(tmp_path / "whole", "pond/a.png")
    with pytest.raises(UserError, match=r"split='train' needs split_file="):
        SceneFolder(flat, "train")


def test_class_from_the_file_name(tmp_path):
    touch(tmp_path, "baseball_diamond_007.png", "airplane00.png", "park (12).png", "sea-3.png")
    data = SceneFolder(tmp_path, class_from="file_prefix")
    assert data.classes == ["airplane", "baseball_diamond", "park", "sea"]
    touch(tmp_path, "readme.png")
    with pytest.raises(UserError, match=r"readme\.png: class_from=file_prefix takes names such as"):
        SceneFolder(tmp_path, class_from="file_prefix")


def test_the_wrong_layout_is_recognised(tmp_path):
    flat = touch(tmp_path / "flat", "pond_1.png")
    with pytest.raises(UserError, match="Is it class_from=file_prefix"):
        SceneFolder(flat)
    nested = touch(tmp_path / "nested", "pond/1.png")
    with pytest.raises(UserError, match="Is it class_from=folder"):
        SceneFolder(nested, class_from="file_prefix")
    with pytest.raises(UserError, match=r"no such folder.*Expected:(.|\n)*<class>/<image>"):
        SceneFolder(tmp_path / "gone")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="there is no image in"):
        SceneFolder(tmp_path / "none")
    with pytest.raises(UserError, match="neither folder nor file_prefix"):
        SceneFolder(nested, class_from="name")
    (nested / "empty").mkdir()
    with pytest.raises(UserError, match="no image in empty"):
        SceneFolder(nested)


def test_names_and_class_order(tmp_path):
    touch(tmp_path, *FILES)
    names = {"football_field": "football field"}
    order = ["pond", "football field", "beach"]
    data = SceneFolder(tmp_path, names=names, classes=order, name="mine")
    assert data.classes == order and data.name == "mine"
    assert [e.label for e in data.entries] == [2, 1, 1, 0]
    (tmp_path / "classes.txt").write_text("pond\nfootball field\n\nbeach\n")
    assert SceneFolder(tmp_path, names=names, classes="classes.txt").classes == order
    with pytest.raises(UserError, match=r"names= speaks of foot_field"):
        SceneFolder(tmp_path, names={"foot_field": "football field"})
    merged = SceneFolder(tmp_path, names={"pond": "water", "beach": "water"})
    assert merged.classes == ["football_field", "water"]


def test_a_class_list_that_does_not_match_shows_both_differences(tmp_path):
    touch(tmp_path, *FILES)
    with pytest.raises(UserError) as caught:
        SceneFolder(tmp_path, classes=["beach", "pond", "port", "football field"])
    text = str(caught.value)
    assert "only in the list: football field, port" in text
    assert "only in the files: football_field" in text
    assert "names={" in text
    with pytest.raises(UserError, match="names pond more than once"):
        SceneFolder(tmp_path, classes=["pond", "pond"])
    with pytest.raises(UserError, match="no file"):
        SceneFolder(tmp_path, classes="classes.txt")


def test_split_files(tmp_path):
    touch(tmp_path, *FILES)
    lists = {
        "train": [["pond/p_1.PNG", 1, "pond"], ["elsewhere/x.jpg", 0, "beach"]],
        "test": ["football_field/b_1.png"],
    }
    (tmp_path / "split.json").write_text(json.dumps(lists))
    train = SceneFolder(tmp_path, "train", split_file="split.json")
    assert [e.id for e in train.entries] == ["beach/x.jpg", "pond/p_1.PNG"]
    test = SceneFolder(tmp_path, "test", split_file="split.json")
    # Labels mean the same in every split, also in one that lacks a class.
    assert test.classes == train.classes == ["beach", "football_field", "pond"]
    assert len(SceneFolder(tmp_path, "all", split_file="split.json")) == 4
    with pytest.raises(UserError, match=r"'tests'.*train \(2\), test \(1\).*mean test"):
        SceneFolder(tmp_path, "tests", split_file="split.json")
    (tmp_path / "val.txt").write_text("x.jpg\n\npond/p_1.PNG\n")
    assert len(SceneFolder(tmp_path, "val", split_file="val.txt")) == 2
    (tmp_path / "val.txt").write_text("x.jpg\ny.jpg\n")
    with pytest.raises(UserError, match=r"1 of 2 images.*not in.*y\.jpg"):
        SceneFolder(tmp_path, "val", split_file="val.txt")
    (tmp_path / "bad.json").write_text('{"train": 3}')
    with pytest.raises(UserError, match="a list of images per split"):
        SceneFolder(tmp_path, "train", split_file="bad.json")
    with pytest.raises(UserError, match="there is no file"):
        SceneFolder(tmp_path, "train", split_file="gone.json")


def test_a_file_name_that_is_there_twice_says_nothing(tmp_path):
    touch(tmp_path, "pond/1.png", "beach/1.png")
    (tmp_path / "val.txt").write_text("1.png\n")
    with pytest.raises(UserError, match=r"1 of 1 images"):
        SceneFolder(tmp_path, "val", split_file="val.txt")


def published(name):
    """A class as the archive of WHU-RS19 spells its folder."""
    first, *rest = name.split()
    return first + "".join(w.capitalize() for w in rest) if rest else first.capitalize()


def whu(root, layout):
    for name in CLASSES:
        letters = name.replace(" ", "")
        for i in (1, 2):
            file = f"{letters}_{i:02d}.jpg"
            touch(root, {"folders": f"{published(name)}/{file}", "flat": f"images/{file}"}[layout])
    return root


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_whurs19_reads_both_layouts(tmp_path, layout):
    root = whu(tmp_path, layout)
    data = WHURS19(root)
    assert len(data) == 38 and data.split == "all" and data.name == "whurs19"
    assert data.classes == list(CLASSES)
    assert data.classes[6] == "football field" and data.classes[15] == "railway station"
    for e in data.entries:
        assert os.path.basename(e.id).startswith(CLASSES[e.label].replace(" ", ""))
    with pytest.raises(UserError, match=r"needs .*split\.json.*fewshot_RSVLMs"):
        WHURS19(root, "train")
    rows = [["railwaystation/railwaystation_02.jpg", 15, "railway station"]]
    (root / "split.json").write_text(json.dumps({"train": rows, "val": [], "test": rows}))
    train = WHURS19(root, "train")
    assert [e.label for e in train.entries] == [15]
    assert train[0].meta["split"] == "train"


def test_whurs19_errors(tmp_path):
    with pytest.raises(UserError, match=r"WHU-RS19 is not in .*no such folder(.|\n)*airport_01"):
        WHURS19(tmp_path / "gone")
    root = whu(tmp_path, "flat")
    with pytest.raises(UserError, match="no split 'dev'; it has all, train, val, test"):
        WHURS19(root, "dev")
    touch(root, "images/harbour_01.jpg")
    with pytest.raises(UserError, match="only in the files: harbour"):
        WHURS19(root)


@pytest.mark.skipif("RSVLM_DATA" not in os.environ, reason="RSVLM_DATA is not set")
def test_the_real_whu_rs19_has_its_published_counts():
    root = os.path.join(os.environ["RSVLM_DATA"], "whu_rs19_224")
    ids = {}
    for split, count in WHURS19.published_counts.items():
        data = WHURS19(root, split)
        assert len(data) == count and data.classes is not None and len(data.classes) == 19
        ids[split] = {e.id for e in data.entries}
    assert ids["train"] | ids["val"] | ids["test"] == ids["all"]
    with open(os.path.join(root, "class_changes.txt")) as file:
        assert file.read().split("\n")[:19] == list(CLASSES)
