"""Readers of grounding data sets: the published layouts, and files in which something is wrong."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from rsvlm.data.datasets.coco import SSDD, VHR10, Coco
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


# COCO's JSON -----------------------------------------------------------------------------------


def coco(root, images=2, objects=(), **more):
    """A JSON of small pictures; `objects` are (image, further keys)."""
    names = [f"{k}.jpg" for k in range(images)]
    content = {
        "images": [
            {"id": k, "file_name": n, "height": 30, "width": 40} for k, n in enumerate(names)
        ],
        "annotations": [
            {"id": k, "image_id": image, "category_id": 7, "bbox": [2, 3, 10, 5], **keys}
            for k, (image, keys) in enumerate(objects)
        ],
        "categories": [{"id": 9, "name": "ship"}, {"id": 7, "name": "plane"}],
        **more,
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.json").write_text(json.dumps(content))
    for name in names:
        picture(root / "images" / name)
    return root


def test_coco_serves_an_image_with_all_its_objects(tmp_path):
    square = [[2, 3, 12, 3, 12, 8, 2, 8]]
    runs = {"size": [30, 40], "counts": [30 * 40 - 5, 5]}
    objects = [
        (0, {"segmentation": square}),
        (0, {"segmentation": runs, "category_id": 9, "iscrowd": 1}),
        (0, {"segmentation": square[0]}),
        (0, {}),
    ]
    data = Coco(coco(tmp_path, objects=objects), "train")
    assert len(data) == 2 and not data.problems
    assert data.categories == ["plane", "ship"]
    sample = data[0]
    assert [i.category_id for i in sample.instances] == [0, 1, 0, 0]
    assert sample.instances[0].box == (2, 3, 12, 8)
    assert sample.instances[0].mask.sum() == 50 == sample.instances[0].mask[3:8, 2:12].sum()
    assert sample.instances[1].mask[-5:, -1].all() and sample.instances[1].mask.sum() == 5
    assert (sample.instances[2].mask == sample.instances[0].mask).all()
    assert sample.instances[3].mask is None
    assert sample.meta["crowd"] == [1]
    assert not data[1].instances
    assert Coco(tmp_path, "train", masks=False)[0].instances[0].mask is None


def test_masks_follow_a_picture_that_was_scaled(tmp_path):
    root = coco(tmp_path, objects=[(0, {"segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]})])
    picture(root / "images" / "0.jpg", (20, 60))
    found = Coco(root, "train")[0].instances[0]
    assert found.box == (1, 6, 6, 16)
    assert found.mask.shape == (60, 20) and found.mask[6:16, 1:6].all() and found.mask.sum() == 50


def test_coco_tells_of_what_is_wrong(tmp_path):
    objects = [
        (0, {"bbox": [2, 3, 0, 5]}),
        (0, {"bbox": [2, 3, 10]}),
        (0, {"bbox": [35, 3, 10, 5]}),
        (5, {}),
        (1, {"category_id": 1}),
        (1, {"id": 0}),
        (1, {"segmentation": []}),
        (1, {"segmentation": [[1, 2, 3, 4]]}),
        (1, {"segmentation": {"size": [30, 40], "counts": [1200]}}),
        (1, {"segmentation": {"size": [30, 40], "counts": [7, 7]}}),
        (1, {"segmentation": {"size": [30, 30], "counts": [890, 10]}}),
    ]
    data = Coco(coco(tmp_path, objects=objects), "train")
    told = "\n".join(data.problems)
    assert "1 object(s) have a box without an inside, and are without one: annotation 0." in told
    assert "1 object(s) have a box that is not four numbers" in told
    assert "1 box(es) reach beyond their picture" in told
    assert "1 object(s) belong to an image that is not listed" in told
    assert "1 object(s) are of a class that is not listed: annotation 4" in told
    assert "1 object(s) have an id that repeats" in told
    assert "2 mask(s) are empty: annotation 6, annotation 8" in told
    assert "three corners or more" in told and "cover 14 pixels" in told
    assert "1 mask(s) are of another size" in told
    assert sum(len(data[k].instances) for k in range(2)) == 10
    assert data[1].instances[-1].mask.shape == (30, 40)


def test_coco_refuses_what_it_cannot_read(tmp_path):
    root = coco(tmp_path / "a", annotations=None)
    with pytest.raises(UserError, match="no list under 'annotations'"):
        Coco(root, "train")
    root = coco(tmp_path / "b")
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text[:1] + "\n" + text[1:-9])
    with pytest.raises(UserError, match=r"train.json, line 2, column \d+"):
        Coco(root, "train")
    (root / "train.json").write_text(text.replace('"id": 1, "file_name"', '"id": 0, "file_name"'))
    with pytest.raises(UserError, match="two images have the id 0"):
        Coco(root, "train")
    with pytest.raises(UserError, match=r"no annotations/instances_val.json or"):
        Coco(root, "val")


@pytest.mark.skipif(not DATA.is_dir(), reason="the published annotations are not here")
def test_published_coco_files_hold_what_their_papers_say():
    root = DATA / "grounding_text" / "vhr10_coco"
    data = VHR10(root, missing="keep")
    assert (
        len(data) == 650 and sum(len(r.mask) > 0 for found in data.regions for r in found) == 3921
    )
    found = describe(VHR10(root, masks=False, missing="keep"))["instances"]
    assert (found["count"], found["samples"], len(found["categories"])) == (3921, 650, 10)
    assert [len(SSDD(root, s, missing="keep")) for s in ("train", "test", "all")] == [
        928,
        232,
        1160,
    ]
    ships = describe(SSDD(root, "all", masks=False, missing="keep"))["instances"]
    assert ships["categories"] == {"ship": 2586}
    # Polygons lie within their boxes, but for the pixel that rounding adds.
    for regions, frame in list(zip(data.regions, data.frames, strict=True))[:20]:
        for region in regions:
            rows, columns = data.drawn(region, frame, "").nonzero()
            x0, y0, x1, y1 = region.box
            assert x0 - 1 <= columns.min() and columns.max() < x1 + 1
            assert y0 - 1 <= rows.min() and rows.max() < y1 + 1
