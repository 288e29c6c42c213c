"""Classes of the memory by the names that published data sets give them."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from rsvlm.config import config_dir
from rsvlm.errors import UserError
from rsvlm.models.pixel.classes import ClassNames

#: As DOTA, DIOR and FAIR1M write the classes of SAMRS' three parts.
SOTA = (
    "plane ship storage-tank baseball-diamond tennis-court basketball-court ground-track-field "
    "harbor bridge large-vehicle small-vehicle helicopter roundabout soccer-ball-field "
    "swimming-pool container-crane airport helipad"
)
SIOR = (
    "airplane airport baseballfield basketballcourt bridge chimney dam Expressway-Service-area "
    "Expressway-toll-station golffield groundtrackfield harbor overpass ship stadium storagetank "
    "tenniscourt trainstation vehicle windmill"
)
FAST = (
    "A220 A321 A330 A350 ARJ21 Boeing737 Boeing747 Boeing777 Boeing787 C919 other-airplane "
    "Passenger_Ship Motorboat Fishing_Boat Tugboat Engineering_Ship Liquid_Cargo_Ship "
    "Dry_Cargo_Ship Warship other-ship Small_Car Bus Cargo_Truck Dump_Truck Van Trailer Tractor "
    "Truck_Tractor Excavator other-vehicle Baseball_Field Basketball_Court Football_Field "
    "Tennis_Court Roundabout Intersection Bridge"
)


def test_geopixs_memory_knows_every_class_of_its_training_set():
    option = OmegaConf.load(config_dir() / "model" / "geopix.yaml")
    names = ClassNames(option.classes)
    assert len(names) == option.memory.classes and names.names[names.fallback] == "other"
    published = [name for part in (SOTA, SIOR, FAST) for name in part.split()]
    assert len(published) == 75
    assert names.fallback not in {names.annotated(name) for name in published}


def test_a_class_is_known_however_it_is_joined():
    names = ClassNames(["track", "ground track field", "tank", "other"])
    spellings = ("Ground Track Field", "ground-track_field", "groundtrackfield")
    assert {names.annotated(name) for name in spellings} == {1}
    assert names.mentioned("two groundtrackfields and a track") == [1, 0]
    assert names.choose("the other tank", 1) == [(2, "text")]
    with pytest.raises(UserError, match="no class 'tonk'"):
        names.annotated("tonk", "the tank")


def test_an_object_of_no_class_has_that_of_its_phrase():
    names = ClassNames(["road", "tank", "other"])
    assert names.annotated("target", "the tank by the road") == 1
    assert names.annotated("target", "something red") == names.annotated("") == names.fallback
