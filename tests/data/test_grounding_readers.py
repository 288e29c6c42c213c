"""Readers of grounding data sets: the published layouts, and files in which something is wrong."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.cards import VHR10
from rsvlm.data.datasets.coco import SSDD, Coco
from rsvlm.data.datasets.dior_rsvg import DIORRSVG
from rsvlm.data.datasets.dota import DOTA, rectangle
from rsvlm.data.datasets.geopixinstruct import GeoPixInstruct
from rsvlm.data.datasets.isaid import ISAID, PALETTE
from rsvlm.data.datasets.refsegrs import RefSegRS, write_mask
from rsvlm.data.datasets.regions import Regions
from rsvlm.data.datasets.rrsis_d import RRSISD
from rsvlm.data.datasets.rspg import RSPG
from rsvlm.data.datasets.rsvg import RSVG
from rsvlm.data.geometry import turned
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError
from rsvlm.synthetic.export import FORMATS

DATA = Path(os.environ.get("RSVLM_DATA", "/nowhere"))


def picture(path, size=(40, 30), colour=(90, 120, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_every_reader_of_regions_says_where_it_comes_from():
    found = {word: kind for word, kind in DATASETS.items() if issubclass(kind, Regions)}
    assert len(found) >= 10 and set(found) - {"mask_folder"} <= set(FORMATS)
    for word, kind in found.items():
        assert kind.title and "{root}" in kind.layout, word
        if word not in ("coco", "mask_folder"):
            assert kind.name == word and kind.licence != "unknown" and kind.paper, word
            assert kind.homepage.startswith("https://") and kind.published_counts, word


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
    picture(root / "JPEGImages" / "0002.jpg", (20, 15))
    sample = DIORRSVG(root, "all")[2]
    assert sample.instances[0].box == (0.5, 1, 4.5, 4)
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
    picture(root / "images" / "0.jpg", (80, 60))
    found = Coco(root, "train")[0].instances[0]
    assert found.box == (4, 6, 24, 16)
    assert found.mask.shape == (60, 80) and found.mask[6:16, 4:24].all()
    assert found.mask.sum() == 200
    picture(root / "images" / "0.jpg", (20, 60))
    with pytest.raises(BrokenImage, match="is 20 x 60, its annotations are of 40 x 30"):
        Coco(root, "train")[0]


def test_a_picture_is_turned_as_its_annotations_mean_it(tmp_path):
    # Stored 40 x 30 with orientation 6; annotated as a camera's viewer shows it, 30 x 40.
    objects = [(0, {"bbox": [20, 5, 8, 10], "segmentation": [[20, 5, 28, 5, 28, 15, 20, 15]]})]
    root = coco(tmp_path, images=1, objects=objects)
    file = next(root.rglob("*.json"))
    content = json.loads(file.read_text())
    content["images"][0] |= {"width": 30, "height": 40}
    file.write_text(json.dumps(content))
    shown = np.full((40, 30, 3), 20, np.uint8)
    shown[5:15, 20:28] = 255
    exif = Image.Exif()
    exif[274] = 6
    stored = Image.fromarray(shown).transpose(Image.Transpose.ROTATE_90)
    stored.save(root / "images" / "0.jpg", exif=exif, quality=95)
    sample = Coco(root, "train")[0]
    assert sample.images[0].size == (30, 40) and "annotated_size" not in sample.meta
    x0, y0, x1, y1 = map(int, sample.instances[0].box)
    assert np.asarray(sample.images[0])[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 200
    assert np.asarray(sample.images[0])[sample.instances[0].mask].mean() > 200
    assert describe(Coco(root, "train"), read=True)["sizes"] == {"30 x 40": 1}


def test_ids_of_coco_may_be_texts(tmp_path):
    root = coco(tmp_path, images=2, objects=[(0, {}), (1, {})])
    file = next(root.rglob("*.json"))
    content = json.loads(file.read_text())
    whole = [[i.category for i in s.instances] for s in Coco(root, "train")]
    for image in content["images"]:
        image["id"] = f"img-{image['id']}"
    for k, found in enumerate(content["annotations"]):
        found |= {"id": f"a{k}", "image_id": f"img-{found['image_id']}"}
        found["category_id"] = str(found["category_id"])
    file.write_text(json.dumps(content))
    data = Coco(root, "train")
    assert [[i.category for i in s.instances] for s in data] == whole and not data.problems


def test_boxes_outside_of_their_picture_are_told_by_every_reader(tmp_path):
    folder = tmp_path / "train"
    (folder / "labelTxt").mkdir(parents=True)
    picture(folder / "images" / "P1.png", (60, 40))
    (folder / "labelTxt" / "P1.txt").write_text(
        "1000 900 1040 900 1040 930 1000 930 ship 0\n"
        "40 10 70 10 70 30 40 30 ship 0\n"
        "5 5 20 5 20 20 5 20 ship 0\n"
    )
    told = describe(DOTA(tmp_path, "train"))["problems"]
    assert "1 box(es) lie outside of their picture: object 1 of P1.png." in told
    assert "1 box(es) reach beyond their picture: object 2 of P1.png." in told


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


# iSAID -----------------------------------------------------------------------------------------


def masks(folder, stem, ids, classes):
    channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    Image.fromarray(channels).save(folder / f"{stem}_instance_id_RGB.png")
    colours = np.array(list(PALETTE.values()), np.uint8)[classes]
    Image.fromarray(colours).save(folder / f"{stem}_instance_color_RGB.png")


def isaid(root, ids=None, classes=None):
    picture(root / "val" / "images" / "P0003.png")
    if ids is None:
        ids, classes = np.zeros((30, 40), int), np.zeros((30, 40), int)
        ids[2:5, 3:9], classes[2:5, 3:9] = 15753155, 1
        ids[20:, 39:], classes[20:, 39:] = 300, 15
    masks(root / "val" / "images", "P0003", ids, classes)
    return root


def test_isaid_reads_objects_and_classes_from_their_colours(tmp_path):
    sample = ISAID(isaid(tmp_path), "val")[0]
    assert [(i.id, i.category, i.category_id) for i in sample.instances] == [
        (300, "Harbor", 14),
        (15753155, "ship", 0),
    ]
    assert sample.instances[1].box == (3, 2, 9, 5)
    assert sample.instances[1].mask[2:5, 3:9].all() and sample.instances[1].mask.sum() == 18
    assert ISAID(tmp_path, "val", masks=False)[0].instances[0].mask is None


def test_isaid_in_json(tmp_path):
    picture(tmp_path / "train" / "images" / "P0005.png")
    record = {"id": 4, "image_id": 0, "bbox": [1, 2, 10, 4], "iscrowd": 0}
    record |= {"category_id": 1, "segmentation": [[1, 2, 11, 2, 11, 6, 1, 6]]}
    content = {
        "images": [{"id": 0, "file_name": "P0005.png", "height": 30, "width": 40}],
        "categories": [{"id": 1, "name": "plane"}],
        "annotations": [record],
    }
    file = tmp_path / "train" / "Annotations" / "iSAID_train.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    found = ISAID(tmp_path, "train")[0].instances[0]
    assert (found.category, found.category_id, found.box) == ("plane", 13, (1, 2, 11, 6))
    assert found.mask.sum() == 40
    file.write_text(json.dumps(content).replace('"plane"', '"kite"'))
    with pytest.raises(UserError, match="not iSAID's: kite"):
        ISAID(tmp_path, "train")
    with pytest.raises(UserError, match=r"no \*_instance_id_RGB.png in train/"):
        ISAID(tmp_path, "train", source="masks")


def test_isaid_tells_of_what_is_wrong(tmp_path):
    root = isaid(tmp_path)
    folder = root / "val" / "images"
    colours = folder / "P0003_instance_color_RGB.png"
    good = colours.read_bytes()
    image = Image.open(colours)
    image.putpixel((4, 3), (0, 0, 64))
    image.save(colours)
    with pytest.raises(BrokenImage, match=r"P0003_instance_color_RGB.png.*\(0, 0, 64\), 1 times"):
        ISAID(root, "val")[0]
    image.putpixel((4, 3), (0, 63, 63))
    image.save(colours)
    mixed = ISAID(root, "val")[0]
    assert mixed.meta["mixed"] == [15753155] and mixed.instances[1].category == "ship"
    Image.new("RGB", (40, 30)).save(colours)
    with pytest.raises(BrokenImage, match="object 300 lies where nothing has a class"):
        ISAID(root, "val")[0]
    image.resize((20, 15), Image.Resampling.NEAREST).save(colours)
    with pytest.raises(BrokenImage, match="is 20 x 15, its picture"):
        ISAID(root, "val")[0]
    colours.write_bytes(good)
    picture(folder / "P0004.png")
    assert "1 of 2 pictures have no masks: P0004.png" in ISAID(root, "val").problems[0]
    (folder / "P0003.png").unlink()
    with pytest.raises(UserError, match=r"1 of 1 pictures that have masks are not in"):
        ISAID(root, "val")
    colours.unlink()
    with pytest.raises(UserError, match="none of classes beside them: P0003_instance_color"):
        ISAID(root, "val")
    with pytest.raises(UserError, match="Expected:"):
        ISAID(root, "train")


@pytest.mark.skipif(not DATA.is_dir(), reason="the published pictures are not here")
def test_isaid_sample_has_its_306_objects():
    counts = {}
    for split in ("train", "val"):
        data = ISAID(DATA / "isaid_sample", split)
        for sample in data:
            counts[sample.meta["id"]] = len(sample.instances)
            assert "mixed" not in sample.meta
            drawn = np.zeros(sample.instances[0].mask.shape, np.uint8)
            for instance in sample.instances:
                drawn += instance.mask
            assert drawn.max() == 1
    assert counts == {"P0005.png": 131, "P0003.png": 59, "P0004.png": 116}


# DOTA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [-90, -63.5, -30, 0, 12.25, 45, 89.5])
def test_a_rectangle_is_known_by_its_corners(angle):
    box = (3.0, 10.0, 43.0, 22.0)
    corners = turned(box, angle)
    found, turn, off = rectangle(corners)
    np.testing.assert_allclose(found, box, atol=1e-9)
    assert turn == pytest.approx(angle, abs=1e-9) and off < 1e-9
    # Whole pixels move a corner by 0.5 each way; the mean of four is off by no more.
    found, turn, off = rectangle(corners.round())
    np.testing.assert_allclose(found, box, atol=1)
    assert off <= 1 and abs((turn - angle + 90) % 180 - 90) < 3
    corners[0, 0] += 4
    assert rectangle(corners)[2] >= 1


def test_dota_reads_corners(tmp_path):
    picture(tmp_path / "train" / "images" / "P0001.png")
    labels = tmp_path / "train" / "labelTxt"
    labels.mkdir()
    (labels / "P0001.txt").write_text(
        "imagesource:GoogleEarth\ngsd:0.25\n"
        "10 10 30 10 30 20 10 20 ship 0\n"
        "10.0 10.0 30.0 10.0 38.0 28.0 10.0 20.0 plane 1\n"
        "20 5 20 25 15 25 15 5 small-vehicle 0\n"
    )
    data = DOTA(tmp_path, "train")
    sample = data[0]
    ship, plane, car = sample.instances
    assert (ship.box, ship.angle, ship.category_id) == ((10, 10, 30, 20), 0, 1)
    assert (plane.box, plane.angle) == ((10, 10, 38, 28), None)
    assert car.angle == -90 and car.box == (7.5, 12.5, 27.5, 17.5)
    assert sample.meta["corners"][ship.id] == ((10, 10), (30, 10), (30, 20), (10, 20))
    assert sample.meta["difficult"] == [plane.id]
    assert (sample.meta["gsd"], sample.meta["sensor"]) == (0.25, "GoogleEarth")
    assert DOTA(tmp_path, "train", tolerance=20)[0].instances[1].angle is not None
    assert not data.problems


def test_dota_tells_of_what_is_wrong(tmp_path):
    picture(tmp_path / "images" / "P1.png")
    (tmp_path / "labelTxt").mkdir()
    file = tmp_path / "labelTxt" / "P1.txt"
    file.write_text("gsd:null\n1 1 2 1 2 2 1 2 kite 0\n3 3 3 3 3 3 3 3 ship 7\n")
    with pytest.raises(UserError, match="read it with split=all"):
        DOTA(tmp_path, "train")
    data = DOTA(tmp_path, "all")
    told = "\n".join(data.problems)
    assert "not DOTA's (kite): P1.txt line 2." in told and "without an inside" in told
    assert "mark of difficulty" in told
    assert [i.box is None for i in data[0].instances] == [False, True]
    assert "gsd" not in data[0].meta
    file.write_text("1 1 2 1 2 2 1 2\n")
    with pytest.raises(UserError, match=r"P1.txt, line 1: .* is not `x1 y1"):
        DOTA(tmp_path, "all")
    file.write_text("1 1 2 1 2 x 1 2 ship 0\n")
    with pytest.raises(UserError, match=r"P1.txt, line 1: .* not all numbers"):
        DOTA(tmp_path, "all")


@pytest.mark.skipif(not DATA.is_dir(), reason="the published pictures are not here")
def test_dota_sample_has_its_984_objects():
    root = DATA / "dota_sample"
    with pytest.raises(UserError, match="5 of 7 images"):
        DOTA(root, "all")
    data = DOTA(root, "all", missing="keep")
    objects = [region for regions in data.regions for region in regions]
    assert len(data) == 7 and len(objects) == 984
    assert sum(region.angle is not None for region in objects) == 898
    seen = DOTA(root, "all", missing="skip")
    assert [len(s.instances) for s in seen] == [536, 64]
    assert seen[1].meta["gsd"] == 0.266170468393


# RefCOCO's format: RRSIS-D and RSVG --------------------------------------------------------------


class Harm:
    """What a pickle can do to who opens it."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def rrsis(root, refs=None, size=(30, 40), runs=None):
    runs = runs or [30 * 5 + 3, 4, 30 * 40 - 30 * 5 - 7]
    objects = [
        {"id": 11, "image_id": 3, "category_id": 2, "bbox": [5, 3, 1, 4], "iscrowd": 0},
        {"id": 12, "image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0},
    ]
    for entry in objects:
        entry["segmentation"] = [{"size": list(size), "counts": runs}]
    content = {
        "images": [{"id": 3, "file_name": "00003.jpg", "height": 30, "width": 40}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "dam"}, {"id": 2, "name": "ship"}],
    }
    if refs is None:
        refs = [
            {"ref_id": 7, "ann_id": 11, "image_id": 3, "split": "train"},
            {"ref_id": 8, "ann_id": 12, "image_id": 3, "split": "train"},
            {"ref_id": 9, "ann_id": 12, "image_id": 3, "split": "val"},
        ]
        refs[0]["sentences"] = [{"sent_id": 0, "raw": "The ship", "tokens": ["the", "ship"]}]
        refs[1]["sentences"] = [{"sent_id": 1, "raw": "A dam"}, {"sent_id": 2, "sent": "the dam"}]
        refs[2]["sentences"] = [{"sent_id": 3, "raw": "Dam"}]
    (root / "rrsisd").mkdir(parents=True, exist_ok=True)
    (root / "rrsisd" / "instances.json").write_text(json.dumps(content))
    (root / "rrsisd" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    picture(root / "images" / "rrsisd" / "JPEGImages" / "00003.jpg")
    return root


def test_rrsis_d_serves_a_sentence_with_its_mask(tmp_path):
    data = RRSISD(rrsis(tmp_path), "train")
    assert [e.id for e in data.entries] == ["7", "8_0", "8_1"]
    assert [s.instances[0].phrase for s in data] == ["The ship", "A dam", "the dam"]
    found = data[0].instances[0]
    assert (found.category, found.category_id, found.box) == ("ship", 1, (5, 3, 6, 7))
    assert found.mask[3:7, 5].all() and found.mask.sum() == 4
    assert data[0].meta["ref_id"] == 7 and data[0].meta["image"] == "00003.jpg"
    assert len(RRSISD(tmp_path, "val")) == 1 and len(RRSISD(tmp_path, "all")) == 4
    assert not data.problems
    with pytest.raises(UserError, match=r"no split 'test'; it has train \(2\), val \(1\)"):
        RRSISD(tmp_path, "test")


def test_rrsis_d_brings_masks_to_the_size_of_their_picture(tmp_path):
    data = RRSISD(
        rrsis(tmp_path, size=(15, 40), runs=[15 * 5 + 2, 3, 15 * 40 - 15 * 5 - 5]), "train"
    )
    assert data.problems[0].startswith("2 mask(s) are of another size than their picture")
    mask = data[0].instances[0].mask
    assert mask.shape == (30, 40) and mask[4:10, 5].all() and mask.sum() == 6


def test_rrsis_d_opens_no_pickle_that_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = rrsis(tmp_path / "data", refs=[Harm()])
    with pytest.raises(UserError, match=r"refs\(unc\).p was refused: it wants to use \w+.mkdir"):
        RRSISD(root, "train")
    assert not (tmp_path / "harm").exists()
    file = root / "rrsisd" / "refs(unc).p"
    file.write_bytes(pickle.dumps([{"split": "train"}])[:-4])
    with pytest.raises(UserError, match="not a whole pickle"):
        RRSISD(root, "train")


def test_rrsis_d_tells_of_references_that_fit_nothing(tmp_path):
    words = {"sentences": [{"raw": "x"}], "split": "train"}
    refs = [
        {"ref_id": 1, "ann_id": 11, "image_id": 4, **words},
        {"ref_id": 1, "ann_id": 12, "image_id": 3, **words},
        {"ref_id": 2, "ann_id": 99, "image_id": 3, **words},
        {"ref_id": 3, "ann_id": 12, "image_id": 3, "split": "train", "sentences": [{"raw": " "}]},
    ]
    data = RRSISD(rrsis(tmp_path, refs), "train")
    told = "\n".join(data.problems)
    assert "name another picture than their object does: reference 1" in told
    assert "have an id that repeats" in told
    assert "mean an object that is not there, and are left out: reference 2" in told
    assert "have no words, and are left out: reference 3" in told
    assert len(data) == 2 and len({e.id for e in data.entries}) == 2


def rsvg(root, rows):
    picture(root / "images" / "a.jpg")
    torch.save(rows, root / "rsvg_val.pth")
    return root


def test_rsvg_finds_out_which_boxes_it_has(tmp_path):
    rows = [("a.jpg", [5.0, 6.0, 25.0, 16.0], "the plane", "x"), ("a.jpg", (1, 1, 9, 9), "a ship")]
    data = RSVG(rsvg(tmp_path / "two", rows), "val")
    assert data[0].instances[0].box == (5, 6, 25, 16) and data[1].instances[0].phrase == "a ship"
    assert data.notes == ["boxes were read as xyxy."] and not data.problems
    rows = [("a.jpg", torch.tensor([25.0, 16.0, 10.0, 12.0]), "the plane")] * 9
    data = RSVG(rsvg(tmp_path / "size", rows), "val")
    assert data[0].instances[0].box == (25, 16, 35, 28)
    assert RSVG(tmp_path / "two", "val", boxes="xywh")[0].instances[0].box == (5, 6, 30, 22)


def test_rsvg_tells_of_what_is_wrong(tmp_path, monkeypatch):
    rows = [("a.jpg", [5, 6, 7], ""), *[("a.jpg", [1, 1, 9, 9], "a ship")] * 30]
    data = RSVG(rsvg(tmp_path, rows), "val")
    told = "\n".join(data.problems)
    assert "not four numbers" in told and "no expression: [0] (a.jpg)" in told
    assert data[0].instances[0].box is None and not data[0].turns
    rsvg(tmp_path, [("a.jpg",)])
    with pytest.raises(UserError, match=r"rsvg_val.pth: \[0\] is not \(picture"):
        RSVG(tmp_path, "val")
    monkeypatch.chdir(tmp_path)
    rsvg(tmp_path, [Harm()])
    with pytest.raises(UserError, match=r"rsvg_val.pth cannot be read safely"):
        RSVG(tmp_path, "val")
    assert not (tmp_path / "harm").exists()
    with pytest.raises(UserError, match=r"there is no rsvg_train.pth"):
        RSVG(tmp_path, "train")


def test_rsvg_in_refcoco_format(tmp_path):
    root = rrsis(tmp_path)
    picture(root / "images" / "00003.jpg")
    (root / "rrsisd" / "refs(unc).p").rename(root / "refs_rsvg.p")
    (root / "rrsisd" / "instances.json").rename(root / "instances_rsvg.json")
    sample = RSVG(root, "val")[0]
    assert sample.instances[0].phrase == "Dam" and sample.instances[0].box == (1, 1, 10, 10)
    assert sample.instances[0].mask is None


# RefSegRS --------------------------------------------------------------------------------------


def refsegrs(root, lines="3 the road\n3 cars on the road\n12 all  the trees\n"):
    for name, box in (("3", (2, 1, 9, 5)), ("12", (0, 0, 40, 10))):
        picture(root / "images" / f"{name}.tif")
        mask = np.zeros((30, 40), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        write_mask(mask, root / "masks" / f"{name}.tif")
    (root / "output_phrase_val.txt").write_text(lines)
    return root


def test_refsegrs_serves_a_phrase_with_its_mask(tmp_path):
    data = RefSegRS(refsegrs(tmp_path), "val")
    assert [e.id for e in data.entries] == ["3_0", "3_1", "12"] and not data.problems
    found = [sample.instances[0] for sample in data]
    assert [f.phrase for f in found] == ["the road", "cars on the road", "all  the trees"]
    assert found[0].box == (2, 1, 9, 5) and found[0].mask.sum() == 28
    assert found[2].box == (0, 0, 40, 10)
    assert [t.text for t in data[1].turns] == ["cars on the road"] * 2


def test_refsegrs_tells_of_what_is_wrong(tmp_path):
    root = refsegrs(tmp_path, "3 the road\n3 the road\n12 trees\n")
    write_mask(np.zeros((30, 40), bool), root / "masks" / "3.tif")
    data = RefSegRS(root, "val")
    assert "1 mask(s) are empty: 3.tif." in data.problems
    assert "1 line(s) repeat another one close before: line 2." in data.problems
    assert data[0].instances[0].box is None and not data[0].instances[0].mask.any()
    assert len(RefSegRS(root, "val", check=False).problems) == 1
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(root / "masks" / "3.tif")
    assert any("other values than 0, 1 and 255" in p for p in RefSegRS(root, "val").problems)
    (root / "masks" / "3.tif").write_bytes(b"II*\0")
    assert any("cannot be read" in p for p in RefSegRS(root, "val").problems)
    (root / "masks" / "3.tif").unlink()
    data = RefSegRS(root, "val")
    assert any("2 phrase(s) have no file in masks/" in p for p in data.problems)
    assert data[0].instances[0].mask is None
    write_mask(np.ones((15, 40), bool), root / "masks" / "12.tif")
    with pytest.raises(BrokenImage, match=r"12.tif: is 40 x 15, its picture 40 x 30"):
        data[2]
    (root / "output_phrase_val.txt").write_text("3 road\nroad\n")
    with pytest.raises(UserError, match=r"output_phrase_val.txt, line 2: 'road'"):
        RefSegRS(root, "val")
    with pytest.raises(UserError, match=r"there is no output_phrase_test.txt"):
        RefSegRS(root, "test")


# GeoPixInstruct --------------------------------------------------------------------------------


def geopix(root, boxes, part="valid.SIOR_T", **more):
    """One image; each object a box of pixels, stored as `boxes` writes it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    objects = []
    for number, box in enumerate(((3, 4, 13, 9), (20, 10, 38, 29), (1, 1, 5, 20))):
        mask = np.zeros((30, 40), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        entry = {"bbox": list(boxes(*box)), "category": f"kind {number}", "category_id": number * 5}
        entry |= {"description": f"object {number}", "instance_id": f"i{number}"}
        objects.append(entry | {"mask": rle.encode(mask)} | more.get(f"object{number}", {}))
    row = {"image_id": "00001", "image_path": "SIOR/00001.jpg", "instances": objects}
    (root / "data").mkdir(parents=True, exist_ok=True)
    rows = [row | more.get("row", {})] * more.get("rows", 1)
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, root / "data" / f"{part}-00000-of-00001.parquet")
    picture(root / "images" / "SIOR" / "00001.jpg")
    return root


CONVENTIONS = {
    "xyxy": lambda x0, y0, x1, y1: (x0, y0, x1, y1),
    "xywh": lambda x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0),
}


@pytest.mark.parametrize("word", CONVENTIONS)
def test_geopixinstruct_finds_out_which_boxes_it_has(tmp_path, word):
    data = GeoPixInstruct(geopix(tmp_path, CONVENTIONS[word]), "valid.SIOR_T")
    assert data.notes == [f"boxes were read as {word}."] and not data.problems
    sample = data[0]
    assert [i.box for i in sample.instances] == [(3, 4, 13, 9), (20, 10, 38, 29), (1, 1, 5, 20)]
    assert [i.category_id for i in sample.instances] == [0, 5, 10]
    assert data.categories[5] == "kind 1" and data.categories[4] == ""
    assert [i.mask.sum() for i in sample.instances] == [50, 18 * 19, 4 * 19]
    assert sample.meta["box_convention"] == word
    assert sample.meta["instance_ids"] == ["i0", "i1", "i2"]
    assert [t.instance_ids for t in sample.turns][1::2] == [(0,), (1,), (2,)]
    assert f"note       boxes were read as {word}." in str(describe(data))


def test_geopixinstruct_tells_of_what_is_wrong(tmp_path):
    root = geopix(
        tmp_path,
        CONVENTIONS["xyxy"],
        rows=2,
        object0={"mask": {"counts": "5", "size": [30, 40]}, "description": " "},
        object1={"category_id": 0},
        object2={"bbox": [1, 1, 41, 20]},
    )
    data = GeoPixInstruct(root, "valid.SIOR_T")
    told = "\n".join(data.problems)
    assert "cover 5 pixels" in told and "no description: 00001[0]" in told
    assert "share a class number with 'kind 0': 00001[1]" in told
    assert "beyond their picture" in told and "1 image id(s) repeat: 00001" in told
    assert data[0].instances[0].mask is None and data[0].instances[0].phrase is None
    with pytest.raises(UserError, match=r"no split 'test'; it has train \(54694\), val \(3649\)"):
        GeoPixInstruct(root, "test")
    with pytest.raises(UserError, match=r"there is no valid.FAST_T-\*.parquet"):
        GeoPixInstruct(root, "val")
    file = root / "data" / "valid.SIOR_T-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="no whole parquet file"):
        GeoPixInstruct(root, "valid.SIOR_T")
    geopix(root, CONVENTIONS["xyxy"], row={"image_path": ""})
    with pytest.raises(UserError, match="row 0 has no image_path"):
        GeoPixInstruct(root, "valid.SIOR_T")


def test_geopixinstruct_says_where_boxes_and_masks_disagree(tmp_path):
    mixed = {"object1": {"bbox": [20, 10, 18, 19]}}
    data = GeoPixInstruct(geopix(tmp_path, CONVENTIONS["xyxy"], **mixed), "valid.SIOR_T")
    assert "as two corners in 2 of 3 objects" in data.problems[0]
    assert GeoPixInstruct(tmp_path, "valid.SIOR_T", boxes="xywh").box_convention == "xywh"


# RSPG ------------------------------------------------------------------------------------------


def rspg(root, answer, name="00011.jpg"):
    record = {"image": name, "text": "[grounding] describe the image", "ground_truth": answer}
    (root / "phrasegrounding").mkdir(parents=True, exist_ok=True)
    (root / "phrasegrounding" / "diorpg_train.json").write_text(json.dumps([record]))
    picture(root / "images" / "DIOR" / "00011.jpg")
    return root


def test_rspg_makes_objects_of_the_boxes_in_an_answer(tmp_path):
    answer = (
        "<p>Two planes</p> {<10><20><30><50>}<delim>{<0><0><5><10>} near <p>a hangar</p> "
        "{<50><50><100><100>}"
    )
    data = RSPG(rspg(tmp_path, answer), "train")
    sample = data[0]
    assert [(i.category, i.phrase) for i in sample.instances] == [
        ("Two planes", None),
        ("Two planes", None),
        ("a hangar", "a hangar"),
    ]
    assert sample.instances[0].box == (4, 6, 12, 15) and sample.instances[2].box == (20, 15, 40, 30)
    assert sample.turns[1].instance_ids == (0, 1, 2) and sample.turns[1].text == answer
    assert sample.turns[0].kind == "grounding" and not data.problems


def test_rspg_tells_of_answers_whose_boxes_cannot_be_read(tmp_path):
    data = RSPG(rspg(tmp_path, "<p>a ship</p> {<10><20><30>} {<90><90><120><99>}"), "train")
    told = "\n".join(data.problems)
    assert "1 answer(s) hold a box that cannot be read" in told
    assert "1 answer(s) hold a box beyond its picture" in told
    assert [i.box for i in data[0].instances] == [(36, 27, 40, 29.7)]
    assert "hold no box" in RSPG(rspg(tmp_path, "a ship"), "train").problems[0]
    kept = RSPG(rspg(tmp_path, "{<1><1><9><9>}", "gone.jpg"), "train", missing="keep")
    assert describe(kept)["turns"]["count"] == 2
    with pytest.raises(UserError, match="no split 'val'"):
        RSPG(tmp_path, "val")


# Damage ----------------------------------------------------------------------------------------

JUNK = (None, True, -1, 0, 1e400, float("nan"), "", "x", [], {}, [1, 2], [[1]], 10**30, [None] * 4)


def spoilt(content, rng):
    """A copy in which some values are junk, or gone."""
    content = json.loads(json.dumps(content))
    places = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(content)
    for _ in range(rng.integers(1, 4)):
        node, key = places[rng.integers(len(places))]
        if isinstance(node, dict) and rng.random() < 0.2:
            node.pop(key, None)
        elif isinstance(node, dict) or key < len(node):
            node[key] = JUNK[rng.integers(len(JUNK))]
    return content


def opened(read):
    """Reads everything; damage may be told of or refused, and nothing else."""
    try:
        data = read()
        for index in range(len(data)):
            data[index]
    except UserError as error:
        return str(error)
    return "\n".join(data.problems)


@pytest.mark.filterwarnings("error")
def test_damage_is_told_or_refused_and_no_other_error(tmp_path):
    rng = np.random.default_rng(5)
    runs = {"size": [30, 40], "counts": [1195, 5]}
    objects = [
        (0, {"segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]}),
        (0, {"segmentation": runs, "iscrowd": 1}),
        (1, {"segmentation": [{"size": [30, 40], "counts": "P00"}]}),
    ]
    root = coco(tmp_path / "coco", objects=objects)
    good = json.loads((root / "train.json").read_text())
    told = []
    for _ in range(300):
        (root / "train.json").write_text(json.dumps(spoilt(good, rng)))
        told.append(opened(lambda: Coco(root, "train", missing="skip")))
    root = rrsis(tmp_path / "rrsis")
    files = root / "rrsisd" / "refs(unc).p", root / "rrsisd" / "instances.json"
    refs, instances = pickle.loads(files[0].read_bytes()), json.loads(files[1].read_text())
    for _ in range(200):
        files[0].write_bytes(pickle.dumps(spoilt(refs, rng)))
        files[1].write_text(json.dumps(spoilt(instances, rng)))
        told.append(opened(lambda: RRSISD(root, "train", missing="skip")))
    root = rsvg(tmp_path / "rsvg", [])
    rows = [["a.jpg", [5.0, 6.0, 25.0, 16.0], "the plane", "x"], ["a.jpg", [1, 1, 9, 9], "a ship"]]
    for _ in range(100):
        torch.save(spoilt(rows, rng), root / "rsvg_val.pth")
        told.append(opened(lambda: RSVG(root, "val", missing="skip")))
    # Some junk lands where nothing reads it.
    assert sum(map(bool, told)) > 0.7 * len(told)
