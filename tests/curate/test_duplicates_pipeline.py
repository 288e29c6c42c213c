"""Data sets that are there: what they share is listed, what they hold becomes records."""

import json

import pytest
from web_pages import picture

from rsvlm.app.curate import curate
from rsvlm.config.compose import compose
from rsvlm.curate.sets import Samples
from rsvlm.data.inspection.faults import read_exclusions
from rsvlm.errors import UserError


def karpathy(folder, name, pictures):
    """A set in the published form: file -> (split, encoded picture)."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number, (file, (split, content)) in enumerate(pictures.items()):
        (folder / "images" / file).write_bytes(content)
        said = [{"raw": f"a picture {file}", "tokens": [], "imgid": number, "sentid": number}]
        images.append({"filename": file, "imgid": number, "split": split, "sentences": said})
    (folder / f"dataset_{name}.json").write_text(json.dumps({"dataset": name, "images": images}))
    return folder


@pytest.fixture
def sets(tmp_path):
    first = {f"{i}.png": ("train", picture(i)) for i in range(4)}
    first["4.png"] = ("val", picture(4))
    first["5.png"] = ("test", picture(5))
    second = {
        "a.png": ("train", picture(5, kind="JPEG")),  # tested on in the first set
        "b.png": ("train", picture(1)),  # trained on there
        "c.png": ("val", picture(8)),
        "d.png": ("test", picture(2)),  # trained on there: the test picture stays
        "e.png": ("train", b"no picture"),
    }
    return {
        "one": {"data": "karpathy", "root": str(karpathy(tmp_path / "1", "one", first))},
        "two": {"data": "karpathy", "root": str(karpathy(tmp_path / "2", "two", second))},
    }


COLOURS = ["~pipeline.encoder", "+pipeline.encoder._target_=curate_stages.Colours"]


@pytest.mark.parametrize(("name", "more"), [("duplicates", []), ("duplicates_by_vectors", COLOURS)])
def test_what_two_sets_share_is_listed_for_training_and_nothing_is_removed(
    sets, tmp_path, capsys, name, more
):
    words = [
        f"+pipeline.source.sets.{word}={{data:{one['data']},root:{one['root']}}}"
        for word, one in sets.items()
    ]
    report = curate(
        compose("curate", [f"pipeline={name}", f"out={tmp_path / 'out'}", *words, *more])
    )
    assert read_exclusions(tmp_path / "out/one.txt") == {"train": {"2.png"}}
    assert read_exclusions(tmp_path / "out/two.txt") == {"train": {"a.png", "b.png"}}
    rows = (tmp_path / "out/duplicates.csv").read_text().splitlines()
    assert rows[1:] == [
        "one,train,2.png,two/test/d.png",
        "two,train,a.png,one/test/5.png",
        "two,train,b.png,one/train/1.png",
    ]
    assert report.manifest["written"]["across"]["two, train, as in one, test"] == 1
    assert report.manifest["stages"][0]["dropped"] == {"not_an_image": 1}
    assert "2 of 2 samples of two, train are duplicates" in capsys.readouterr().out


def test_samples_of_sets_are_records_with_what_is_said_of_them(sets, tmp_path, real_data):
    source = Samples(sets)
    found = list(source)
    assert len(found) == 11 == source.__length_hint__()
    assert found[0] | {"image": b""} == {
        "id": "one/train/0.png",
        "set": "one",
        "split": "train",
        "name": "0.png",
        "licence": found[0]["licence"],
        "image": b"",
        "captions": ["a picture 0.png"],
        "caption": "a picture 0.png",
    }
    assert found[0]["image"] == picture(0)
    before = source.fingerprint()
    (tmp_path / "1/images/0.png").write_bytes(picture(9))
    assert Samples(sets).fingerprint() != before
    folder, options = str(real_data / "dota_sample"), {"missing": "skip"}
    dota = {"data": "dota", "root": folder, "splits": ["all"], "options": options}
    boxes = [one for r in Samples({"dota": dota}) for one in r.get("instances", [])]
    assert boxes and all(one["category"] for one in boxes)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({}, "no data set is named"),
        ({"a": {"data": "rsicdd", "root": "x"}}, "Did you mean rsicd"),
        ({"a": {"data": "rsicd"}}, "root"),
        ({"a": {"data": "rsicd", "root": "x", "split": "train"}}, "Did you mean splits"),
    ],
)
def test_sets_that_are_none_are_refused(sets, words):
    with pytest.raises(UserError, match=words):
        Samples(sets)
