import pytest

from rsvlm.data.text.class_prompts import TEMPLATES, ZERO_SHOT, fill, georsclip_name, words
from rsvlm.errors import UserError


def test_every_template_takes_a_name():
    assert len(TEMPLATES) >= 8
    for name, templates in TEMPLATES.items():
        assert len(set(templates)) == len(templates), name
        for template in templates:
            assert "harbour" in fill(template, "harbour")
            assert "{" not in fill(template, "harbour")


def test_published_sets():
    assert TEMPLATES["skyscript"] == (
        "a satellite photo of {}.",
        "a satellite image of {}",  # without a full stop
    )
    assert [fill(t, "pond") for t in TEMPLATES["remoteclip"]] == ["a satellite photo of pond."]
    assert fill(TEMPLATES["rs_transclip"][0], "pond") == "a satellite photo of a pond."
    geo = TEMPLATES["georsclip"]
    assert len(geo) == 105
    for noun in ("remote sensing image", "aerial image", "satellite image"):
        assert sum(noun in template for template in geo) == 35
    assert all(template.endswith("{}.") for template in geo)
    assert geo[0] == "a remote sensing image of many {}."
    assert geo[39] == "an aerial image of a hard to see {}."
    assert geo[40] == "a low resolution aerial image of the {}."
    assert geo[-1] == "a satellite image of a cool {}."


def test_protocols_name_templates_and_rule():
    assert {"skyscript", "georsclip", "remoteclip"} <= set(ZERO_SHOT)
    assert ZERO_SHOT["skyscript"].ensemble == "normalised_mean"
    assert ZERO_SHOT["georsclip"].ensemble == "mean"


def test_fill():
    assert fill("a {c} and a {}", r"\1 {x}") == r"a \1 {x} and a \1 {x}"
    with pytest.raises(UserError, match="neither"):
        fill("a photo of a %s", "pond")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AnnualCrop", "annual crop"),
        ("SeaLake", "sea lake"),
        ("football_field", "football field"),
        ("Farm/Land-use", "farm land use"),
        ("RGBImage", "rgb image"),
        ("  dense  residential ", "dense residential"),
        ("airport", "airport"),
    ],
)
def test_words(name, expected):
    assert words(name) == expected


def test_georsclip_name_is_the_published_rule():
    assert georsclip_name("Baseball_Field/A") == "baseball field a"
    assert georsclip_name("AnnualCrop") == "annualcrop"  # as published, not split
