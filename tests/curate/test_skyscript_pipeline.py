"""SkyScript's pipeline on the generated world: its map, its imagery, and what is known of both."""

import csv
import io
import json
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rsvlm.curate.record import Dropped
from rsvlm.curate.skyscript.captions import TagCaptions, multiple, single, tag_words
from rsvlm.curate.skyscript.embeddings import HashedWords
from rsvlm.curate.skyscript.frames import frames
from rsvlm.curate.skyscript.imagery import CutImages, ImageryCoverage
from rsvlm.curate.skyscript.osm import OsmObjects
from rsvlm.curate.skyscript.select import GridSelection
from rsvlm.curate.skyscript.surroundings import Surroundings
from rsvlm.curate.skyscript.tags import LABELS, VisibleTags, evaluate, read_labels
from rsvlm.curate.skyscript.writer import SkyScriptShards
from rsvlm.data.datasets.shards import Shards
from rsvlm.data.datasets.skyscript import name_meta
from rsvlm.errors import UserError
from rsvlm.synthetic.region import UNSEEN, write_region

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("osmium")


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    out = tmp_path_factory.mktemp("region")
    labels = ["sparse residential area", "storage tanks", "lake"]
    return out, write_region(out, 3, size=512, labels=labels)


@pytest.fixture(scope="module")
def tags():
    stage = VisibleTags()
    stage.setup()
    return stage


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"landuse": "quarry", "resource": "bauxite"}, "landuse of quarry, resource of bauxite"),
        ({"power": "pole"}, "power pole"),
        ({"building": " "}, "building"),
        ({"natural": "tree"}, "natural tree"),
        ({"amenity": "fountain"}, "amenity of fountain"),
        ({"highway": "footway"}, "road of footway"),
        (
            {"plant:source": "solar", "power": "plant", "plant:output:electricity": "19.9 MW"},
            "power plant, plant source of solar, plant output electricity of 19.9 MW",
        ),
        ({"building": "yes", "roof:shape": "flat"}, "building, roof shape of flat"),
        ({"highway": "street_lamp"}, "street lamp"),
        ({"highway": "track", "surface": "gravel"}, "road of track, surface is gravel"),
        ({"leisure": "pitch", "sport": "tennis;basketball", "lit": "no"},
         "leisure of pitch, sport of tennis and basketball"),
        ({"man_made": "tower", "height": "12"}, "man made tower, height of 12 m"),
    ],
)  # fmt: skip
def test_tags_are_worded_as_the_paper_shows(tags, words):
    assert single(tags.items()) == words


def test_several_objects_are_worded_as_the_paper_shows():
    center = {"landuse": "quarry", "resource": "bauxite"}
    assert multiple(center.items(), []) == "landuse of quarry with resource of bauxite"
    line = {"power": "minor_line", "cables": "3", "voltage": "16000"}
    assert multiple({"power": "pole"}.items(), [line, line]) == (
        "power pole, surrounded by power minor line with cables of 3 and voltage of 16000"
    )
    around = [{"natural": "tree"}, {"highway": "footway"}, {"amenity": "fountain"}]
    assert multiple({"amenity": "fountain"}.items(), around) == (
        "amenity of fountain, surrounded by natural tree; road of footway"
    )
    assert tag_words("bridge", "no") == ""


def test_what_a_picture_is_too_coarse_for_is_not_said():
    seen = [["building", "house", 0.6], ["roof:shape", "hipped", 0.2]]
    words = {g: TagCaptions()({"visible": seen, "gsd": g})["title"] for g in (0.1, 0.6)}
    assert words == {0.1: "building of house, roof shape of hipped", 0.6: "building of house"}
    assert TagCaptions()({"visible": [["lit", "no", 1]], "gsd": 1}).reason == "no_words"


def test_the_tag_classifiers_beat_the_commoner_answer(tags, tmp_path):
    found = evaluate(HashedWords(), read_labels(), folds=3)
    assert found["visible_accuracy"] > found["visible_majority"] + 15
    assert found["distance_accuracy"] > found["distance_majority"] + 10
    assert found["distance_within_one"] > 75
    known, other = read_labels(), {"building": "barn", "name": "barn", "addr:floor": "3"}
    assert tags.visible([{"power": "pole"}])[0] == [["power", "pole", known["power", "pole"]]]
    assert [key for key, _, _ in tags.visible([other])[0]] == ["building"]
    for text, words in (
        ("key,value\n", "no columns"),
        ("key,value,max_gsd\na,b,0.3\n", "line 2"),
        ("key,value,max_gsd\na,b,1\n", "cannot"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(UserError, match=words):
            read_labels(tmp_path / "t.csv")
    assert LABELS.is_file()


def record(i, lon, tag):
    return {"id": f"n{i}", "lonlat": [lon, 0.0], "visible": [[*tag.split("="), 1.0]]}


def test_objects_are_drawn_on_a_grid():
    rows = [record(i, 0.001, "building=yes") for i in range(30)]
    rows += [record(100 + i, 0.015, "natural=tree") for i in range(30)]
    rows += [record(200, 0.002, "man_made=pier"), record(300, 5.0, "power=plant")]
    stage = GridSelection(per_cell=5, rare=3)
    out = stage.decide([r["id"] for r in rows], [stage.key(r) for r in rows])
    assert {o["split"] for o in out[-2:]} <= {"train", "val", "test"}
    reasons = Counter(o.reason if isinstance(o, Dropped) else o["rare"] for o in out)
    assert reasons == {"cell_full": 50, False: 10, True: 2}
    stage = GridSelection(cells=1, per_cell=100, rare=1)
    out = stage.decide([r["id"] for r in rows], [stage.key(r) for r in rows])
    assert {o.reason for o in out if isinstance(o, Dropped)} == {"cell_not_drawn"}
    again = stage.decide([r["id"] for r in rows], [stage.key(r) for r in rows])
    assert again == out
    # Of a cell, every main tag has its turn.
    mixed = [record(i, 0.001, "building=yes") for i in range(40)] + [
        record(50 + i, 0.002, "natural=tree") for i in range(2)
    ]
    stage = GridSelection(per_cell=4, rare=0)
    out = stage.decide([r["id"] for r in mixed], [stage.key(r) for r in mixed])
    assert sum(not isinstance(o, Dropped) for o in out[-2:]) == 2
    stage = GridSelection(cell=1, rare=0, per_cell=100)
    many = [record(i, i % 9, "building=yes") for i in range(90)]
    out = stage.decide([r["id"] for r in many], [stage.key(r) for r in many])
    assert Counter(o["split"] for o in out) == {"train": 70, "val": 10, "test": 10}
    assert len({(o["cell"], o["split"]) for o in out}) == 9
    with pytest.raises(UserError, match="add up"):
        GridSelection(shares={"train": 0.5})
    with pytest.raises(UserError, match="per_cell"):
        GridSelection(per_cell=0)


def test_the_map_is_read_as_it_was_written(region):
    out, mapped = region
    found = {r["id"]: r for r in OsmObjects(str(out / "region.osm.pbf"))}
    for one in mapped:
        assert found[one.id]["tags"] == one.tags
    assert len(found) == len(mapped) + len(UNSEEN)
    assert OsmObjects(str(out / "region.osm.pbf"), str(out / "imagery")).fingerprint() != (
        OsmObjects(str(out / "region.osm.pbf")).fingerprint()
    )


def test_maps_that_are_none_are_refused(region, tmp_path):
    whole = (region[0] / "region.osm.pbf").read_bytes()
    for name, content in (
        ("cut", whole[: len(whole) // 2]),
        ("empty", b""),
        ("page", b"<html>" * 9),
    ):
        (tmp_path / f"{name}.osm.pbf").write_bytes(content)
        with pytest.raises(UserError, match="cut short"):
            list(OsmObjects(str(tmp_path / f"{name}.osm.pbf")))
    with pytest.raises(UserError, match="osm="):
        OsmObjects(None).fingerprint()
    with pytest.raises(UserError, match="no such file"):
        list(OsmObjects(str(tmp_path / "nowhere.pbf")))


def cut(region, tags, **options):
    out, _ = region
    objects = tags.process(list(OsmObjects(str(out / "region.osm.pbf"))))
    stage = CutImages(**{"root": str(out / "imagery"), "pixels": 64, "min_pixels": 32, **options})
    stage.setup()
    seen = [o for o in objects if not isinstance(o, Dropped)]
    return objects, stage.process(seen)


def test_pictures_show_their_objects(region, tags):
    out, mapped = region
    objects, made = cut(region, tags)
    assert Counter(o.reason for o in objects if isinstance(o, Dropped)) == {"no_visible_tag": 3}
    known = {one.id: one for one in mapped}
    kept = [m for m in made if not isinstance(m, Dropped)]
    assert len(kept) > 15
    scenes = {f.name: f for f in frames(out / "imagery")[0]}
    for one in kept:
        picture = Image.open(io.BytesIO(one["image"]))
        col, row, side = one["window"]
        frame = scenes[one["raster"]]
        assert picture.size == (side, side) and one["gsd"] == pytest.approx(frame.gsd, abs=1e-3)
        assert one["raster"].startswith(f"{known[one['id']].scene:02d}_2019-07-")
        assert one["time"][:2] == [2019, 7]
        with rasterio.open(frame.path) as file:
            truth = np.moveaxis(file.read(window=((row, row + side), (col, col + side))), 0, -1)
            at = [(~file.transform) * point for point in known[one["id"]].points]
        assert np.abs(np.asarray(picture).astype(int) - truth).mean() < 6
        inside = [col <= x <= col + side and row <= y <= row + side for x, y in at]
        assert all(inside) if known[one["id"]].closed else any(inside)
    # The same seed cuts the same, another one does not.
    again = cut(region, tags)[1]
    assert [getattr(a, "reason", None) or a["window"] for a in again] == [
        getattr(m, "reason", None) or m["window"] for m in made
    ]
    assert cut(region, tags, seed=1)[1] != made


def test_pictures_that_do_not_do_are_dropped_with_a_reason(region, tags, tmp_path):
    out, mapped = region
    stage = CutImages(root=str(out / "imagery"), pixels=64, min_pixels=32)
    stage.setup()
    one = next(r for r in OsmObjects(str(out / "region.osm.pbf")) if r["id"] == mapped[-1].id)
    one |= {"max_gsd": 10.0}
    whole = stage.cut(one)
    assert whole["image"].startswith(b"\xff\xd8")
    assert stage.cut(one | {"max_gsd": 0.01}).reason == "too_coarse"
    assert stage.cut(one | {"lonlat": [0.0, 0.0]}).reason == "no_imagery"
    wide = CutImages(root=str(out / "imagery"), pixels=600, min_pixels=600)
    wide.setup()
    assert wide.cut(one).reason == "beyond_raster"
    small = CutImages(
        root=str(out / "imagery"), pixels=250, min_pixels=200, max_pixels=250, jitter=0
    )
    small.setup()
    small.max_pixels = 16
    assert small.cut(one | {"max_gsd": whole["gsd"] * 1.01}).reason == "too_large"


def write_raster(path, crs="EPSG:32632", nodata=None, dtype="uint8", value=9, count=3):
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=80, height=80, count=count, dtype=dtype, crs=crs,
        transform=rasterio.transform.from_origin(500_000, 5_250_000, 1, 1), nodata=nodata,
        photometric="RGB" if count == 3 else "MINISBLACK",
    ) as file:  # fmt: skip
        file.write(np.full((count, 80, 80), value, dtype))


def test_rasters_that_do_not_do_are_told(region, tags, tmp_path):
    with pytest.raises(UserError, match="imagery="):
        frames(None)
    with pytest.raises(UserError, match="no raster"):
        frames(tmp_path)
    write_raster(tmp_path / "a.tif", crs=None)
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    write_raster(tmp_path / "c.tif")
    with pytest.raises(UserError, match=r"2 of 3 rasters.*a\.tif: it has no CRS.*unusable=skip"):
        frames(tmp_path)
    found, wrong = frames(tmp_path, "skip")
    assert [f.name for f in found] == ["c.tif"] and len(wrong) == 2
    point = next(r for r in OsmObjects(str(region[0] / "region.osm.pbf")) if r["id"][0] == "n")
    lon, lat = _lonlat(40, 40)
    from shapely import Point

    point |= {"max_gsd": 1.0, "lonlat": [lon, lat], "geometry": Point(lon, lat).wkb_hex}

    def one(folder, **options):
        stage = CutImages(root=str(folder), pixels=40, min_pixels=20, jitter=0, **options)
        stage.setup()
        return stage.cut(point)

    write_raster(tmp_path / "empty" / "a.tif", nodata=9)
    assert one(tmp_path / "empty").reason == "no_data"
    write_raster(tmp_path / "deep" / "a.tif", dtype="uint16", value=900)
    with pytest.raises(UserError, match=r"pipeline\.stages\.images\.raster\.range"):
        one(tmp_path / "deep")
    assert one(tmp_path / "deep", unusable="skip").reason == "unusable_raster"
    assert "image" in one(tmp_path / "deep", raster={"range": [0, 1000]})


def test_the_nearest_things_are_those_on_the_ground():
    from shapely import STRtree, points

    stage = Surroundings(None)
    # At 60 degrees: 78 m to the north, 56 m to the east.
    stage._shapes = list(points([[10, 60.0007], [10.001, 60]]))
    stage._ids, stage._seen = ["n1", "n2"], ["north", "east"]
    stage._tree = STRtree(stage._shapes)
    record = {"id": "a1", "bounds": [9.99, 59.99, 10.01, 60.01], "lonlat": [10.0, 60.0]}
    assert stage.around(record) == ["east", "north"]


def placed(folder, crs, place, size=400):
    """A raster of noise at a place, and the stage that cuts from its folder."""
    folder.mkdir(exist_ok=True)
    count = len([*folder.iterdir()])
    with rasterio.open(
        folder / f"{count}.tif", "w", driver="GTiff", width=size, height=size, count=3,
        dtype="uint8", crs=crs, transform=place, photometric="RGB",
    ) as file:  # fmt: skip
        pixels = np.random.default_rng(0).integers(1, 255, (3, size, size), dtype=np.uint8)
        file.write(pixels)
    stage = CutImages(root=str(folder), pixels=64, min_pixels=32, jitter=0)
    stage.setup()
    return stage


def thing(place, crs, pixels, kind="polygon"):
    """An object by columns and rows of a raster."""
    from rasterio.warp import transform
    from shapely import LineString, Point, Polygon

    xs, ys = zip(*(place * at for at in pixels), strict=True)
    at = list(zip(*transform(crs, "EPSG:4326", xs, ys), strict=True))
    shape = {"polygon": Polygon, "line": LineString, "point": lambda a: Point(a[0])}[kind](at)
    on = shape.representative_point()
    return {"id": "a1", "lonlat": [on.x, on.y], "max_gsd": 10.0, "geometry": shape.wkb_hex}


def test_a_pixels_metres_are_those_of_the_ground(tmp_path):
    from rasterio.warp import transform

    def gsd(crs, lon, lat, step):
        (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
        place = rasterio.transform.from_origin(x, y, step, step)
        placed(tmp_path / crs.replace(":", ""), crs, place)
        return frames(tmp_path / crs.replace(":", ""))[0][0].gsd

    assert gsd("EPSG:3857", 10, 60, 1) == pytest.approx(0.5, rel=0.01)
    assert gsd("EPSG:32632", 10, 60, 0.5) == 0.5
    assert gsd("EPSG:2263", -74, 40.7, 1) == pytest.approx(0.3048, rel=1e-3)  # feet
    assert gsd("EPSG:4326", 10, 60, 1e-5) == pytest.approx(0.789, rel=0.01)


def test_an_object_over_the_rim_is_not_shown_in_part(tmp_path):
    crs, place = "EPSG:32632", rasterio.transform.from_origin(500_000, 6_650_000, 1, 1)
    stage = placed(tmp_path / "a", crs, place)
    over = thing(place, crs, [(-60, 100), (100, 100), (100, 200), (-60, 200)])
    assert stage.cut(over).reason == "beyond_raster"
    # A line is shown at a node that is there, whichever is drawn.
    line = thing(place, crs, [(-900, 50), (50, 50), (300, 50), (900, 50)], "line")
    for i in range(8):
        col, row, side = stage.cut(line | {"id": f"w{i}"})["window"]
        assert any(col <= x <= col + side for x in (50, 300)) and row <= 50 <= row + side
    # Another raster that has the whole of it is taken, whichever is drawn.
    beside = rasterio.transform.from_origin(499_800, 6_650_000, 1, 1)
    stage = placed(tmp_path / "a", crs, beside)
    assert {stage.cut(over | {"id": f"a{i}"})["raster"] for i in range(8)} == {"1.tif"}


def test_imagery_across_180_degrees_has_both_sides(tmp_path):
    crs, place = "EPSG:32760", rasterio.transform.from_origin(815_000, 8_000_000, 10, 10)
    stage = placed(tmp_path / "fiji", crs, place, size=600)
    west, _, east, _ = frames(tmp_path / "fiji")[0][0].bounds
    assert west > 179 and east < -179
    cover = ImageryCoverage(str(tmp_path / "fiji"))
    cover.setup()
    sides = [thing(place, crs, [(x, 200)], "point") for x in (100, 500)]
    assert [one["lonlat"][0] > 0 for one in sides] == [True, False]
    assert all(not isinstance(one, Dropped) for one in cover.process(sides))
    for one in sides:
        west, _, east, _ = stage.cut(one)["bounds"]
        assert west < one["lonlat"][0] < east < west + 0.1
    middle = next(
        x for x in range(100, 500) if thing(place, crs, [(x, 200)], "point")["lonlat"][0] < 0
    )
    assert stage.cut(thing(place, crs, [(middle, 200)], "point")).reason == "across_180"


def _lonlat(x, y):
    from rasterio.warp import transform

    (lon,), (lat,) = transform("EPSG:32632", "EPSG:4326", [500_000 + x], [5_250_000 - y])
    return lon, lat


def test_the_whole_way_to_shards_that_are_read_back(region, tmp_path):
    from rsvlm.curate.engine import Pipeline, run

    out, mapped = region
    osm = str(out / "region.osm.pbf")
    images = CutImages(root=str(out / "imagery"), pixels=64, min_pixels=32)
    stages = {
        "tags": VisibleTags(),
        "coverage": ImageryCoverage(str(out / "imagery")),
        "select": GridSelection(per_cell=40, rare=3, shares={"train": 0.5, "test": 0.5}),
        "images": images,
        "surroundings": Surroundings(osm),
        "captions": TagCaptions(),
    }
    # As they go to other processes.
    stages = pickle.loads(pickle.dumps(stages))
    pipeline = Pipeline("skyscript", OsmObjects(osm), stages, SkyScriptShards(20))
    report = run(pipeline, tmp_path / "a")
    written = report.manifest["written"]
    assert sum(written["splits"].values()) == report.manifest["records"]["kept"] > 15
    known, seen = {one.id: one for one in mapped}, 0
    for split, count in written["splits"].items():
        read = Shards(tmp_path / "a", split)
        assert len(read) == count and not read.problems
        for sample in read:
            own = known[sample.meta["id"].split("_")[0]]
            assert name_meta(f"{sample.meta['id']}.jpg")["year"] == 2019
            assert sample.meta["center_tags"].items() <= own.tags.items()
            assert sample.texts[0] == single(sample.meta["center_tags"].items())
            west, south, east, north = sample.meta["bounds"]
            lon, lat = sample.meta["lonlat"]
            assert (
                west < east and south < north and abs(lon - west) < 0.02 and abs(lat - south) < 0.02
            )
            others = [t for o in mapped if o.scene == own.scene for t in [o.tags]]
            assert all(any(t.items() <= o.items() for o in others)
                       for t in sample.meta["surrounding_tags"])  # fmt: skip
            seen += bool(sample.meta["surrounding_tags"])
    assert seen > 5
    run(pipeline, tmp_path / "b")
    for file in sorted((tmp_path / "a").glob("*.tar")):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["pipeline"] == "skyscript"


def test_real_rasters_give_pictures_of_hand_drawn_trees(real_data):
    from rasterio.warp import transform
    from shapely import Point

    folder = real_data / "geotiff"
    found, wrong = frames(folder)
    assert not wrong and {round(f.gsd, 1) for f in found} == {0.1, 5.0, 30.0, 120.0}
    assert [f.date for f in found] == [None] * 6
    stage = CutImages(root=str(folder), pixels=48, min_pixels=32, unusable="skip")
    stage.setup()
    with rasterio.open(folder / "OSBS_029.tif") as file:
        crs, place = file.crs, file.transform
    with (folder / "OSBS_029.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = 0
    for i, row in enumerate(rows):
        x = (float(row["xmin"]) + float(row["xmax"])) / 2
        y = (float(row["ymin"]) + float(row["ymax"])) / 2
        (lon,), (lat,) = transform(crs, "EPSG:4326", *([v] for v in place * (x, y)))
        shape = Point(lon, lat).wkb_hex
        tree = {"id": f"n{i}", "lonlat": [lon, lat], "geometry": shape, "max_gsd": 0.2}
        made = stage.cut(tree)
        if isinstance(made, Dropped):
            assert made.reason == "no_data"
            continue
        kept += 1
        col, row_, side = made["window"]
        assert col <= x <= col + side and row_ <= y <= row_ + side
        west, south, east, north = made["bounds"]
        assert west < lon < east and south < lat < north
        assert side * 0.1 == pytest.approx((north - south) * 111_000, rel=0.05)
    assert kept > 50
    # Sixteen bits in blue, green, red: the bands and the range are said.
    far = found[[f.name for f in found].index("landsat8_bgr_uint16.tif")]
    lon, lat = (far.bounds[0] + far.bounds[2]) / 2, (far.bounds[1] + far.bounds[3]) / 2
    spot = {"id": "n0", "lonlat": [lon, lat], "geometry": Point(lon, lat).wkb_hex, "max_gsd": 30.0}
    assert stage.cut(spot).reason == "unusable_raster"
    said = CutImages(root=str(folder), raster={"bands": [3, 2, 1], "range": [0, 20000]})
    said.setup()
    assert said.cut(spot)["gsd"] == 30.0
