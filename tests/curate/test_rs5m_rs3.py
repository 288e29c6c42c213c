"""RS3's captions and meta captions; the published meta captions and their defects."""

import json
import sys
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from web_pages import picture

from rsvlm.app.curate import curate
from rsvlm.config.compose import compose
from rsvlm.curate.record import Dropped
from rsvlm.curate.rs5m.meta import (
    MetaCaption,
    MetaPlace,
    bigearthnet_facts,
    filled,
    fmow_facts,
    location_of,
    season_of,
    tags_of,
    utc_time,
    yfcc_time,
)
from rsvlm.curate.rs5m.rs3 import CaptionRanking, ImageCaptioning, RotationInvariantCaption
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError

CASE = pytest.mark.parity("rs5m_meta")


@pytest.fixture
def case(golden):
    return json.loads((golden / "rs5m_meta/case.json").read_text())


def names_of(case):
    """What the published code's package calls each country."""
    known = {code: told["result"] for code, told in case["countries"] if "result" in told}
    return {code: name for code, name in known.items() if name != "Unknown country code"}


@CASE
def test_rs5m_meta_captions_of_fmow(case):
    countries = names_of(case)
    for one in case["fmow"]:
        facts = fmow_facts(one["row"], countries, one["city"], "released")
        assert filled(case["templates"]["fmow"][one["template"]], facts.words) == one["caption"]
        assert dict(facts.more) == {k: one[k] for k in facts.more}


@CASE
def test_rs5m_meta_rows_that_the_published_code_ends_at(case):
    for one in case["fmow_fails"]:
        row = json.loads(json.dumps(case["fmow"][0]["row"]))
        if one["change"].get("bounding_boxes"):
            row["bounding_boxes"] = row["bounding_boxes"][:1]
        else:
            row |= one["change"]
        with pytest.raises((ValueError, LookupError, TypeError, AttributeError)) as error:
            facts = fmow_facts(row, names_of(case), "Paris", "released")
            filled(case["templates"]["fmow"][0], facts.words)
        assert type(error.value).__name__ == one["result"]["raises"]
        found = MetaCaption(variant="released")({"id": "a", "meta": row})
        assert isinstance(found, Dropped) and found.reason == "bad_metadata"


@CASE
def test_rs5m_meta_locations_seasons_times_and_tags(case):
    for one in case["locations"]:
        assert location_of(one["width"], one["height"], one["box"], "released") == one["result"]
    for text, told in case["yfcc_times"]:
        if "raises" in told:
            with pytest.raises(ValueError, match="match"):
                yfcc_time(text)
        else:
            assert list(yfcc_time(text)) == told["result"]
    for one in case["utc_times"]:
        zone = UTC if one["timezone"] == "UTC" else ZoneInfo(one["timezone"])
        assert list(utc_time(one["seconds"], zone)) == one["result"]
    for one in case["cc3m_tags"]:
        assert tags_of(one["tags"], one["probs"]) == one["result"]


@CASE
def test_rs5m_meta_captions_of_bigearthnet(case):
    import ast

    for one in case["ben"]:
        labels = ast.literal_eval(one["labels"])
        facts = bigearthnet_facts(labels, one["projection"], one["acquisition_time"], "released")
        assert filled(case["templates"]["ben"][one["template"]], facts.words) == one["caption"]
        assert facts.more == {"month": one["month"], "utm": one["utm"]}


@pytest.mark.parametrize(
    ("month", "latitude", "season"),
    [(1, 48.0, "Winter"), (1, -33.9, "Summer"), (7, -33.9, "Winter"), (4, -40, "Fall"), (4, 5, "")],
)
def test_seasons_are_those_of_the_hemisphere(month, latitude, season):
    assert season_of(month, latitude) == season
    assert season_of(month, latitude, "released") == season_of(month)


@pytest.mark.parametrize(
    ("box", "where"),
    [
        ([75, 50, 100, 66], "Top-left block"),
        ([375, 250, 100, 66], "Center block"),
        ([250, 50, 150, 66], "Top-center and Top-left blocks"),
        ([-50, -50, 10, 10], ""),
    ],
)
def test_only_cells_that_a_box_touches_are_named(box, where):
    assert location_of(900, 600, box) == where


def row(**changes):
    box = {"category": "Crop_Field", "box": [75, 50, 100, 66]}
    place = {"category": "false", "raw_location": "POLYGON ((151.21 -33.87, 151.3 -33.87))"}
    return {
        "country_code": "AUS",
        "timestamp": "2016-01-03T23:00:00Z",
        "img_width": 900,
        "img_height": 600,
        "utm": "56H",
        "cloud_cover": 4,
        "scan_direction": "Forward",
        "multi_resolution_dbl": 0.5,
        "target_azimuth_dbl": 10.0,
        "off_nadir_angle_dbl": 3.0,
        "bounding_boxes": [place, box],
        **changes,
    }


def test_a_sentence_whose_words_are_not_known_is_not_drawn():
    templates = [
        "{class_label} in {season}",
        "{country}: {class_label}",
        "Clouds {cloud_cover_rate}",
    ]
    stage = MetaCaption(templates=templates, countries={"AUS": "Australia"})
    found = {
        stage({"id": str(i), "meta": row(), "caption": "a field."})["caption"] for i in range(20)
    }
    assert found == {
        "Crop field in summer a field.",
        "Australia: crop field a field.",
        "Clouds 4 a field.",
    }
    stage = MetaCaption(templates=templates)
    found = {stage({"id": str(i), "meta": row(cloud_cover=None)})["caption"] for i in range(20)}
    assert found == {"Crop field in summer"}
    assert (
        MetaCaption(templates=templates[1:2])({"id": "a", "meta": row()}).reason == "nothing_known"
    )
    assert MetaCaption()({"id": "a"}).reason == "no_metadata"
    with pytest.raises(UserError):
        MetaCaption(kind="yfcc")


def test_geocoding_stands_before_meta_captions_and_is_told_in_them():
    words = "{_target_:rsvlm.curate.geocoding.ReverseGeocoding,cache:places}"
    given = ["pipeline=rs5m_rs3", "out=x", f"pipeline.stages.geocoding={words}"]
    assert list(compose("curate", given).pipeline.stages)[-3:] == ["place", "geocoding", "meta"]
    record = MetaPlace()({"id": "a", "meta": row()})
    assert record["lonlat"] == [151.21, -33.87]
    assert MetaPlace()({"id": "a"}) == {"id": "a"}
    record |= {"city": "Sydney", "country": "Australia"}
    found = MetaCaption(templates=["{country}: {class_label}"])(record)
    assert found["caption"] == "Sydney, Australia: crop field"
    assert found["country"] == "Australia"
    found = MetaCaption(templates=["{country}"], countries={"AUS": "Oz"})(record)
    assert found["caption"] == "Sydney, Oz"


class Firm:
    """The first number of a vector turns with the picture, the second does not."""

    def load(self):
        pass

    def images(self, images):
        found = []
        for image in images:
            if isinstance(image, bytes):
                found.append([0.8, 0.6])
                continue
            half = np.asarray(image.convert("L"), float)[: image.height // 2].mean() / 255
            found.append([half, 0.6])
        return np.array(found, np.float32)

    def texts(self, texts):
        known = {"turns": [1, 0], "firm": [0, 1], "neither": [0.1, 0.1]}
        return np.array([known[text] for text in texts], np.float32)


def test_candidates_are_ranked_and_the_one_that_turning_changes_least_is_told(tmp_path):
    image = Image.new("L", (64, 64))
    image.paste(255, (0, 0, 64, 32))
    image.save(tmp_path / "a.png")
    record = {
        "id": "a",
        "image": (tmp_path / "a.png").read_bytes(),
        "candidates": ["neither", "firm", "turns"],
    }
    (ranked,) = CaptionRanking(Firm(), keep=2).process([record])
    assert ranked["candidates"] == ["turns", "firm"] and ranked["scores"][0] > ranked["scores"][1]
    (found,) = RotationInvariantCaption(Firm(), use="ssl_cap").process([ranked])
    assert (found["top_cap"], found["ssl_cap"], found["caption"]) == ("turns", "firm", "firm")
    for odd in (lambda: CaptionRanking(Firm(), 0), lambda: RotationInvariantCaption(Firm(), 1)):
        with pytest.raises(UserError):
            odd()


def test_candidates_are_told_once_each_and_a_picture_without_words_is_dropped():
    stage = ImageCaptioning()
    drawn = Answer("a", candidates=[("a  lake", -1.0), ("a lake", -2.0), ("", -3.0), ("b", -4.0)])
    assert stage._outcome({"id": "x"}, drawn)["candidates"] == ["a lake", "b"]
    assert stage._outcome({"id": "x"}, Answer("")).reason == "no_caption"
    assert stage._outcome({"id": "x"}, "no picture").reason == "damaged"


@pytest.mark.slow
def test_a_folder_of_pictures_is_captioned_by_a_small_blip2_and_read_back(tmp_path, monkeypatch):
    from model_options import build

    from rsvlm.curate.rs5m import rs3
    from rsvlm.data.datasets.rs5m import RS5M

    model = build("blip2_tiny", candidates=3).eval()
    monkeypatch.setattr(rs3, "_captioner", lambda *_: model)
    folder = tmp_path / "fmow"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(picture(i))
        (folder / f"{i}.json").write_text(json.dumps(row()))
    coder = "_target_=curate_stages.Colours"
    words = ["pipeline=rs5m_rs3", f"input={folder}", f"out={tmp_path / 'out'}"]
    for name in ("first", "second"):
        words += [f"~pipeline.{name}", f"+pipeline.{name}.{coder}"]
    report = curate(compose("curate", [*words, "pipeline.stages.turned.angles=4"]))
    assert report.manifest["records"] == {"read": 3, "kept": 3}
    read = RS5M(tmp_path / "out", "train", missing="skip")
    assert len(read) + report.manifest["written"]["splits"]["val"] == 3
    assert read[0].meta["subset"] == "rs3"
