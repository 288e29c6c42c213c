"""Readers of grounding data sets: the published layouts, and files in which something is wrong."""

import os
from pathlib import Path

import pytest
from PIL import Image

from rsvlm.data.datasets.dior_rsvg import DIORRSVG
from rsvlm.data.inspect import describe
from rsvlm.errors import UserError

DATA = Path(os.environ.get("RSVLM_DATA", "/nowhere"))
LENGTHS = {"train": 3, "val": 2, "test": 2}


def picture(path, size=(40, 30), colour=(90, 120, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


# DIOR-RSVG -------------------------------------------------------------------------------------


def voc(name, objects, size=(40, 30)):
    body = "".join(
        f"<object><name>{kind}</name><pose>Unspecified</pose><bndbox><xmin>{b[0]}</xmin>"
        f"<ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox>"
        f"<description>{said}</description></object>"
        for kind, b, said in objects
    )
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{size[0]}</width><height>"
        f"{size[1]}</height><depth>3</depth></size>{body}</annotation>"
    )


def dior(root, lists=("1\n2\n", "\n", "0\n3\n")):
    (root / "Annotations").mkdir(parents=True)
    files = {
        # Sorted as text: 00010 comes before 0002.
        "0002": [("ship", (1, 2, 9, 8), "The ship on the right"), ("ship", (9, 2, 20, 8), "Two")],
        "00010": [("plane", (0, 0, 5, 5), "A plane"), ("dam", (3, 3, 30, 20), "The dam")],
    }
    for name, objects in files.items():
        (root / "Annotations" / f"{name}.xml").write_text(voc(name, objects))
        picture(root / "JPEGImages" / f"{name}.jpg")
    for split, text in zip(("train", "val", "test"), lists, strict=True):
        (root / f"{split}.txt").write_text(text)
    return root


def test_dior_rsvg_counts_objects_over_all_files(tmp_path):
    root = dior(tmp_path / "DIOR_RSVG")
    data = DIORRSVG(tmp_path, "train")
    assert [e.id for e in data.entries] == ["1", "2"]
    first, second = data[0], data[1]
    assert first.instances[0].phrase == "The dam" and first.meta["image"] == "00010.jpg"
    assert second.instances[0].phrase == "The ship on the right"
    assert second.instances[0].box == (1, 2, 9, 8)
    assert data.categories == ["dam", "plane", "ship"]
    assert second.instances[0].category_id == 2
    assert [(t.role, t.instance_ids) for t in second.turns] == [("user", ()), ("assistant", (0,))]
    assert len(DIORRSVG(root, "val")) == 0 and len(DIORRSVG(root, "all")) == 4
    assert not data.problems


def test_dior_rsvg_refuses_lists_that_do_not_fit_the_objects(tmp_path):
    root = dior(tmp_path)
    (root / "Annotations" / "00010.xml").unlink()
    with pytest.raises(UserError, match=r"name 4 objects .* hold 2"):
        DIORRSVG(root, "train")


def test_dior_rsvg_tells_of_what_is_wrong(tmp_path):
    root = dior(tmp_path)
    file = root / "Annotations" / "0002.xml"
    good = file.read_text()
    file.write_text(good.replace("<xmax>9<", "<xmax>0<").replace("<ymax>8<", "<ymax>31<"))
    data = DIORRSVG(root, "all")
    assert any("1 object(s) have a box without an inside" in p for p in data.problems)
    assert any("beyond their picture" in p and "0002.xml (object 3)" in p for p in data.problems)
    assert data[2].instances[0].box is None and data[3].instances[0].box == (9, 2, 20, 31)
    file.write_text(good.replace("</bndbox>", "", 1))
    with pytest.raises(UserError, match=r"0002.xml, line 1, column \d+: not valid XML"):
        DIORRSVG(root, "all")
    file.write_text(good)
    (root / "val.txt").write_text("four\n")
    with pytest.raises(UserError, match=r"val.txt, line 1: 'four'"):
        DIORRSVG(root, "train")
    (root / "val.txt").unlink()
    with pytest.raises(UserError, match=r"there is no val\.txt"):
        DIORRSVG(root, "train")
    with pytest.raises(UserError, match=r"(?s)Expected:.*17,402"):
        DIORRSVG(tmp_path / "none", "train")


def test_dior_rsvg_without_pictures(tmp_path):
    root = dior(tmp_path)
    (root / "JPEGImages" / "0002.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images.*0002.jpg"):
        DIORRSVG(root, "all")
    assert len(DIORRSVG(root, "all", missing="skip")) == 2
    kept = DIORRSVG(root, "all", missing="keep")
    assert describe(kept)["instances"]["count"] == 4


def test_boxes_follow_a_picture_that_was_scaled(tmp_path):
    root = dior(tmp_path)
    picture(root / "JPEGImages" / "0002.jpg", (20, 60))
    sample = DIORRSVG(root, "all")[2]
    assert sample.instances[0].box == (0.5, 4, 4.5, 16)
    assert sample.meta["annotated_size"] == (30, 40)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published lists are not here")
def test_the_published_lists_name_each_object_once(tmp_path):
    source = DATA / "grounding_text" / "DIOR_RSVG"
    (tmp_path / "Annotations").mkdir()
    for k in range(80):
        said = [("ship", (1, 1, 9, 9), f"object {k * 479 + i}") for i in range(479)]
        (tmp_path / "Annotations" / f"{k:05d}.xml").write_text(voc(f"{k:05d}", said))
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").write_bytes((source / f"{split}.txt").read_bytes())
    data = DIORRSVG(tmp_path, "val", missing="keep")
    assert len(data) == 3829 == DIORRSVG.published_counts["val"]
    assert all(
        r[0].phrase == f"object {e.id}" for e, r in zip(data.entries, data.regions, strict=True)
    )
    assert not [p for p in data.problems if "more than once" in p]
