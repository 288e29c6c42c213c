"""GeoRSCLIP's classification sets: folders of three depths, classes by the published rule."""

import pytest
from PIL import Image

from rsvlm.data.datasets import GeoRSCLIPScenes
from rsvlm.errors import UserError


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path)


def test_classes_are_named_by_the_published_rule(tmp_path):
    put(tmp_path, "AID/Bare Land/a.png", "AID/Center/b.png", "RESISC45/ground_track_field/c.png")
    put(tmp_path, "eurosat-rgb/2750/AnnualCrop/AnnualCrop_1.png", "eurosat-rgb/2750/River/1.png")
    aid = GeoRSCLIPScenes(tmp_path)
    assert (aid.name, aid.split, aid.classes) == ("aid", "aid", ["bare land", "center"])
    assert aid[0].label == 0 and aid[0].meta["dataset"] == "aid"
    eurosat = GeoRSCLIPScenes(tmp_path, "eurosat")
    # As published: capitals inside a word are no blank.
    assert eurosat.classes == ["annualcrop", "river"]
    assert GeoRSCLIPScenes(tmp_path, "resisc45").classes == ["ground track field"]


def test_absent_sets_and_unknown_words_say_what_there_is(tmp_path):
    put(tmp_path, "AID/a/1.png")
    with pytest.raises(UserError, match="Did you mean eurosat"):
        GeoRSCLIPScenes(tmp_path, "eurosatt")
    with pytest.raises(UserError, match="there is no folder RESISC45"):
        GeoRSCLIPScenes(tmp_path, "resisc45")
