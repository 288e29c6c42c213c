"""LEVIR-CC, LEVIR-MCI, SECOND, SECOND-CC, DUBAI-CCD, change pairs: published layouts, bad ones."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli.shards import write
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.cards import LevirCC
from rsvlm.data.datasets.change_pairs import ChangePairs
from rsvlm.data.datasets.dubai_ccd import DubaiCCD
from rsvlm.data.datasets.levir_mci import LevirMCI
from rsvlm.data.datasets.second import SECONDPairs
from rsvlm.data.datasets.second_cc import SecondCC
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.data.palette import NO_CHANGE as WHITE
from rsvlm.data.palette import SECOND, paint, read_palette
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.errors import UserError
from rsvlm.lit.datamodule import DataModule

SETS = ("change_pairs", "dubai_ccd", "levir_cc", "levir_mci", "second", "second_cc")


def picture(path, value=90, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(value, np.uint8)
    if pixels.ndim == 0:
        pixels = np.full((size[1], size[0], 3), value, np.uint8)
    Image.fromarray(pixels).save(path)


def record(name, split, captions, **more):
    sentences = [{"raw": f" {text} .", "tokens": text.split()} for text in captions]
    return {"filename": name, "filepath": split, "split": split, "sentences": sentences} | more


CHANGED = ["a road is built", "some trees are gone"]
SAME = sorted(frozenset(NO_CHANGE["levir_cc"]))


def levir(root, records, *, folder="images", masks=False, nested=True):
    for r in records:
        place = root / folder / (r["split"] if nested else ".")
        for date in "AB":
            picture(place / date / r["filename"])
        if masks:
            picture(place / "label" / r["filename"], np.array([[0, 128], [255, 0]]).repeat(3, 0)
                    .repeat(4, 1))  # fmt: skip
    (root / "LevirCCcaptions.json").write_text(json.dumps({"images": records}))
    return root


@pytest.mark.parametrize("word", SETS)
def test_every_set_says_what_it_is_and_what_it_expects(tmp_path, word):
    kind = DATASETS[word]
    assert kind.sample_layout == "before_after" and kind.title and kind.layout
    if word != "change_pairs":
        assert kind.licence != "unknown" and kind.paper and kind.homepage and kind.published_counts
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"Expected:[\s\S]*data\.root="):
            kind(root, "train")
    with pytest.raises(UserError, match=r"missing='kepe'"):
        kind(tmp_path, "train", missing="kepe")


def test_levir_cc_with_and_without_changeflag(tmp_path):
    flagged = [
        record("train_000001.png", "train", CHANGED, changeflag=1),
        record("train_000004.png", "train", SAME, changeflag=0),
        record("test_000002.png", "test", SAME, changeflag=0),
    ]
    data = LevirCC(levir(tmp_path / "new", flagged), "train")
    assert [e.id for e in data.entries] == ["train_000001.png", "train_000004.png"]
    assert data[0].texts == ["a road is built .", "some trees are gone ."]
    assert data[0].layout == "before_after" and len(data[0].images) == 2
    flags = [(e.meta["changeflag"], e.meta["changeflag_from"]) for e in data.entries]
    assert flags == [(1, "file"), (0, "file")]

    plain = [{k: v for k, v in r.items() if k != "changeflag"} for r in flagged]
    # One sentence that speaks of a change is enough.
    plain.append(record("train_000005.png", "train", [SAME[0], "a road is built"]))
    old = LevirCC(levir(tmp_path / "old", plain), "train")
    flags = [(e.meta["changeflag"], e.meta["changeflag_from"]) for e in old.entries]
    assert flags == [(1, "captions"), (0, "captions"), (1, "captions")]
    assert describe(old)["changed"] == (2, 3)
    with pytest.raises(UserError, match=r"no split 'val'.*train \(3\), test \(1\)"):
        LevirCC(tmp_path / "old", "val")


def test_levir_cc_in_one_folder_and_as_plain_lists(tmp_path):
    rows = [{"filename": "a.png", "split": "train", "sentences": CHANGED}]
    levir(tmp_path, [record("a.png", "train", CHANGED)], folder="pairs", nested=False)
    (tmp_path / "plain.json").write_text(json.dumps(rows))
    data = LevirCC(tmp_path, "train", annotations="plain.json", images="pairs")
    assert data[0].texts == CHANGED and data.entries[0].path.endswith("pairs/A/a.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n{"filename": "a.png",]}', "line 2, column 22"),
        ('{"images": []}', "no list of pairs"),
        ('{"images": [{"split": "train"}]}', r"images\[0\] \(\?\) has no 'filename'"),
        (
            '{"images": [{"filename": "a.png", "split": "train", "sentences": [{"tokens": []}]}]}',
            "sentence without `raw`",
        ),
        (
            '{"images": [{"filename": "a.png", "split": "t", "changeflag": 2,"sentences": ["x"]}]}',
            r"\(a.png\) has changeflag 2",
        ),
    ],
    ids=["syntax", "empty", "no name", "no raw", "flag"],
)
def test_malformed_json_names_file_and_place(tmp_path, content, message):
    levir(tmp_path, [record("a.png", "train", CHANGED)])
    (tmp_path / "LevirCCcaptions.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        LevirCC(tmp_path, "all")
    assert "LevirCCcaptions.json" in str(error.value)


def test_pairs_that_lack_an_image(tmp_path):
    names = [f"train_{i:06d}.png" for i in range(14)]
    levir(tmp_path, [record(name, "train", CHANGED) for name in names])
    for name in names[:12]:
        (tmp_path / "images" / "train" / "B" / name).unlink()
    with pytest.raises(UserError, match=r"12 of 28 images.*B/train_000009\.png and 2 more"):
        LevirCC(tmp_path, "train")
    some = LevirCC(tmp_path, "train", missing="skip")
    assert [e.id for e in some.entries] == names[12:] and "left out" in some.problems[0]
    every = LevirCC(tmp_path, "train", missing="keep")
    assert len(every) == 14 and "captions were kept" in every.problems[0]
    with pytest.raises(BrokenImage, match="cannot be opened"):
        every[0]


def test_two_images_of_different_size(tmp_path):
    levir(tmp_path, [record("a.png", "train", CHANGED), record("b.png", "train", CHANGED)])
    picture(tmp_path / "images" / "train" / "B" / "a.png", size=(9, 6))
    data = LevirCC(tmp_path, "train")
    with pytest.raises(BrokenImage, match=r"B/a\.png: is 9 x 6, the first .* is 8 x 6"):
        data[0]
    assert any("a.png: is 9 x 6" in problem for problem in describe(data, read=True)["problems"])


def test_shards_would_lose_the_second_image(tmp_path):
    levir(tmp_path, [record("a.png", "train", CHANGED)])
    with pytest.raises(UserError, match="levir_cc has samples of several images"):
        write(LevirCC(tmp_path, "train"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_amiss_is_logged_when_training_opens_a_set(tmp_path, caplog):
    names = ("a.png", "b.png")
    levir(tmp_path, [record(name, "train", CHANGED) for name in names])
    (tmp_path / "images" / "train" / "A" / "a.png").unlink()
    data = DataModule(partial(LevirCC, tmp_path, missing="skip"))
    assert len(data.dataset("train")) == 1
    assert "levir_cc, split train: 1 of 4 images are not in" in caplog.text


def test_ids_that_repeat_are_told(tmp_path):
    levir(tmp_path, [record("a.png", "train", CHANGED)] * 2)
    problems = describe(LevirCC(tmp_path, "train"))["problems"]
    assert any("1 sample(s) are listed more than once, the first: a.png" in p for p in problems)


def test_levir_mci_masks(tmp_path):
    names = ("train_000001.png", "train_000003.png")
    levir(tmp_path, [record(name, "train", CHANGED) for name in names], masks=True)
    data = LevirMCI(tmp_path, "train")
    mask = data[0].meta["change_mask"]
    assert mask.shape == (6, 8) and mask.tolist()[0] == [0] * 4 + [1] * 4
    assert mask.tolist()[5] == [2] * 4 + [0] * 4 and mask.dtype == np.uint8
    assert describe(data, read=True)["masks"]["pixels"] == {
        "no change": 0.5,
        "road": 0.25,
        "building": 0.25,
    }
    label = tmp_path / "images" / "train" / "label"
    picture(label / names[0], np.full((6, 8), 127))
    with pytest.raises(BrokenImage, match=r"48 of 48 pixels .* 0, 128, 255; the commonest is 127"):
        data[0]
    picture(label / names[0], np.zeros((6, 9)))
    with pytest.raises(BrokenImage, match="is 9 x 6, its image is 8 x 6"):
        data[0]
    (label / names[1]).unlink()
    with pytest.raises(UserError, match=r"1 of 6 images .*label/train_000003\.png"):
        LevirMCI(tmp_path, "train")
    assert len(LevirMCI(tmp_path, "train", missing="skip")) == 1
    assert len(LevirCC(tmp_path, "train")) == 2


def second_cc(root, ids, names=("train_000000.png",)):
    records = []
    for name in names:
        for date in "AB":
            picture(root / "train" / "rgb" / date / name)
            path = root / "train" / "sem" / date / name
            path.parent.mkdir(parents=True, exist_ok=True)
            paint(ids, SECOND).save(path)
        records.append(record(name, "train", ["no change is occurred"]))
    (root / "SECOND-CC-AUG.json").write_text(json.dumps({"images": records}))
    return root


IDS = np.arange(48).reshape(6, 8) % 7


def test_second_cc_maps_by_exact_colour(tmp_path):
    data = SecondCC(second_cc(tmp_path, IDS), "train")
    sample = data[0]
    assert all((ids == IDS).all() for ids in sample.semantic) and len(sample.semantic) == 2
    assert sample.meta["changeflag"] == 0  # by SECOND-CC's own sentences
    assert data.semantic_classes[WHITE] == "no change"
    facts = describe(data, read=True)
    assert sum(facts["maps"]["pixels"].values()) == pytest.approx(1)
    assert not SecondCC(tmp_path, "train", maps=False)[0].semantic
    (tmp_path / "train" / "sem" / "B" / "train_000000.png").unlink()
    with pytest.raises(UserError, match=r"sem/B/train_000000\.png"):
        SecondCC(tmp_path, "train")
    assert len(SecondCC(tmp_path, "train", maps=False)) == 1


def test_colours_off_the_palette_name_colour_file_and_count(tmp_path):
    data = SecondCC(second_cc(tmp_path, IDS), "train")
    path = tmp_path / "train" / "sem" / "A" / "train_000000.png"
    pixels = np.asarray(paint(IDS, SECOND)).copy()
    pixels[0, :3], pixels[1, 0] = (1, 2, 3), (9, 9, 9)
    Image.fromarray(pixels).save(path)
    message = r"sem/A/train_000000\.png: 4 of 48 pixels .* 2 colours; .* \(1, 2, 3\), 3 times"
    with pytest.raises(BrokenImage, match=message):
        data[0]
    assert any("off the palette" in p for p in describe(data, read=True)["problems"])
    paint(np.zeros((6, 9), int), SECOND).save(path)
    with pytest.raises(BrokenImage, match="is 9 x 6, its image is 8 x 6"):
        data[0]


def test_a_palette_goes_both_ways(tmp_path):
    assert len(set(SECOND.values())) == len(SECOND) == WHITE + 1
    paint(IDS, SECOND).save(tmp_path / "map.png")
    assert (read_palette(tmp_path / "map.png", SECOND) == IDS).all()


def second(root, splits=("train", "val")):
    before, after = IDS.copy(), IDS[::-1].copy()
    before[:2], after[:2] = WHITE, WHITE
    for split in splits:
        for name in ("00003.png", "00013.png"):
            for date, ids in ((1, before), (2, after)):
                picture(root / split / f"im{date}" / name)
                path = root / split / f"label{date}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                paint(ids, SECOND).save(path)
    return root


def test_second_by_split_and_as_one_folder(tmp_path):
    root = second(tmp_path)
    data = SECONDPairs(root, "train")
    assert [e.id for e in data.entries] == ["00003.png", "00013.png"] and not data.problems
    sample = data[0]
    assert not sample.meta["change_mask"][:2].any() and len(sample.semantic) == 2
    every = SECONDPairs(root, "all")
    assert [e.id for e in every.entries][:3] == ["train/00003.png", "train/00013.png",
                                                 "val/00003.png"]  # fmt: skip
    with pytest.raises(UserError, match=r"no split 'test'.*train \(2\), val \(2\)"):
        SECONDPairs(root, "test")
    assert len(SECONDPairs(root / "train", "all")) == 2
    (root / "train" / "label2" / "00013.png").unlink()
    with pytest.raises(UserError, match=r"1 of 8 images.*train/label2/00013\.png"):
        SECONDPairs(root, "train")
    assert len(SECONDPairs(root, "train", missing="skip")) == 1


def test_dubai_ccd_is_a_json_per_split(tmp_path):
    texts = tmp_path / "description_jsontr_te_val"
    texts.mkdir()
    for number, (split, word) in enumerate(
        (("train", "Train"), ("val", "Validation"), ("test", "Test"))
    ):
        name = f"{number}.tif"
        for year in ("2000", "2010"):
            picture(tmp_path / "imgs_tiles" / "RGB" / f"500_{year}" / name, size=(50, 50))
        content = {"images": [record(name, "whatever", [f"{split} caption"])]}
        (texts / f"{word}_Dubai_CC.json").write_text(json.dumps(content))
    for number, split in enumerate(("train", "val", "test")):
        data = DubaiCCD(tmp_path, split)
        assert [e.id for e in data.entries] == [f"{number}.tif"]
        assert data[0].texts == [f"{split} caption ."]
        assert "500_2000" in data.entries[0].path and "500_2010" in data.entries[0].more[0]
        assert "changeflag" not in data.entries[0].meta
    assert len(DubaiCCD(tmp_path, "train+test")) == 2
    (texts / "Test_Dubai_CC.json").unlink()
    with pytest.raises(UserError, match="no JSON of split test"):
        DubaiCCD(tmp_path, "train")


def test_change_pairs_by_folder_by_list_and_whole(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        for date in "AB":
            picture(tmp_path / "flat" / date / name)
        picture(tmp_path / "flat" / "label" / name, np.full((6, 8), 255 * (name == "a.png")))
    root = tmp_path / "flat"
    data = ChangePairs(root)
    assert data.name == "flat" and len(data) == 3 and data[0].meta["change_mask"].all()
    masks = describe(data, read=True)["masks"]
    assert (masks["samples"], masks["empty"]) == (3, 2)
    assert masks["pixels"] == pytest.approx({"no change": 2 / 3, "change": 1 / 3})
    (root / "list").mkdir()
    (root / "list" / "train.txt").write_text("c.png\na.png\n")
    assert [e.id for e in ChangePairs(root, "train").entries] == ["c.png", "a.png"]
    with pytest.raises(UserError, match=r"no split 'val'.*all \(3\), train \(2\)"):
        ChangePairs(root, "val")
    (root / "list" / "train.txt").write_text("d.png\na.png\n")
    with pytest.raises(UserError, match=r"3 of 6 images .*A/d\.png, B/d\.png, label/d\.png"):
        ChangePairs(root, "train")
    picture(root / "label" / "b.png", np.full((6, 8), 100))
    with pytest.raises(BrokenImage, match="commonest is 100, 48 times"):
        ChangePairs(root)[1]
    (root).rename(tmp_path / "train")
    assert len(ChangePairs(tmp_path, "train", name="x")) == 3


def test_the_real_change_pairs(real_data):
    levir = ChangePairs(real_data / "change_pairs" / "levir_cd")
    dsifn = ChangePairs(real_data / "change_pairs" / "dsifn")
    facts = describe(levir, read=True)
    assert (len(levir), len(dsifn)) == (43, 10) and not facts["problems"]
    assert facts["masks"]["samples"] == 43 and facts["sizes"] == {"256 x 256": 43}


def test_the_real_captions_of_levir_cc(real_data):
    options = {
        "annotations": "captions_text/levir_cc_captions.json",
        "images": "change_pairs/levir_cc_examples",
    }
    changed = {}
    for split, count in LevirCC.published_counts.items():
        data = LevirCC(real_data, split, missing="keep", **options)
        facts = describe(data)
        assert facts["images"] == count and facts["captions"]["count"] == 5 * count
        changed[split] = facts["changed"][0]
    # As published, and as counted from the token files of another repository.
    assert changed == {"train": 3407, "val": 667, "test": 964}
    there = LevirCC(real_data, "train", missing="skip", **options)
    assert [e.id for e in there.entries] == [f"train_0000{n}.png" for n in (16, 51, 54)]
    assert there[0].images[1].size == (256, 256)
