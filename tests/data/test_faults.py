"""What a data set says that cannot all be true, and training without it."""

import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli.inspect import main
from rsvlm.data.datasets.levir_mci import LevirMCI
from rsvlm.data.inspection.faults import (
    faults_of,
    read_exclusions,
    report,
    write_exclusions,
)
from rsvlm.data.loading.exclusions import without
from rsvlm.data.loading.wrappers import ChosenSamples
from rsvlm.data.sample import Instance, Sample
from rsvlm.errors import UserError

SAME, NEW = "there is no difference .", "a road is built ."


def save(path, seed, mask=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask is None:
        coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    else:
        grey = np.zeros((64, 64), np.uint8)
        grey[: 8 * mask] = 255
        image = Image.fromarray(grey)
    image.save(path)


@pytest.fixture
def levir(tmp_path):
    """Pairs (name, split, flag, captions, rows of the mask, seed)."""
    rows = [
        ("train_1", "train", 1, [NEW] * 5, 3, 1),
        ("train_2", "train", 0, [SAME] * 5, 2, 2),  # a mask, and no change is said
        ("train_3", "train", 1, [NEW] * 5, 0, 3),  # a change is said, and no mask
        ("train_4", "train", 0, [SAME] * 5, 0, 4),
        ("train_5", "train", 0, [SAME] * 5, 0, 90),  # test_1 again
        ("train_6", "train", 1, [NEW, SAME] * 2, 3, 6),  # captions of both kinds
        ("val_1", "val", 1, [NEW] * 5, 2, 8),
        ("test_1", "test", 0, [SAME] * 5, 0, 90),
    ]
    images = []
    for name, split, flag, texts, mask, seed in rows:
        for folder, shift in (("A", 0), ("B", 1000)):
            save(tmp_path / "images" / split / folder / f"{name}.png", seed + shift)
        save(tmp_path / "images" / split / "label" / f"{name}.png", 0, mask)
        sentences = [{"raw": text, "tokens": text.split()} for text in texts]
        images.append(
            {
                "filepath": split,
                "filename": f"{name}.png",
                "split": split,
                "changeflag": flag,
                "sentences": sentences,
            }
        )
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": images}))
    return tmp_path


def test_flags_captions_masks_and_splits_are_held_against_each_other(levir):
    opened = [LevirMCI(levir, split) for split in ("train", "val", "test")]
    found = faults_of(opened)
    told = {(f.kind, f.split, f.id.removesuffix(".png")) for f in found}
    assert told == {
        ("flag_against_mask", "train", "train_2"),
        ("flag_against_mask", "train", "train_3"),
        ("caption_against_mask", "train", "train_2"),
        ("caption_against_mask", "train", "train_3"),
        ("duplicate_across_splits", "train", "train_5"),
        ("duplicate_across_splits", "test", "test_1"),
    }
    text = report(found)
    assert "flag_against_mask: 2 (train 2)" in text and "1024 changed pixels" in text
    assert report([]) == "no faults found"


def test_training_leaves_out_what_a_list_names(levir, capsys, tmp_path):
    listed, sheet = tmp_path / "list.txt", tmp_path / "sheet.png"
    words = ["--data", "levir_mci", "--root", str(levir), "--faults"]
    main([*words, "--exclude", str(listed), "--out", str(sheet)])
    said = capsys.readouterr().out
    assert "duplicate_across_splits: 2" in said and "4 samples" in said
    with Image.open(sheet) as drawn:
        assert drawn.height > 3 * 256
    named = read_exclusions(listed)
    train = LevirMCI(levir, "train")
    kept = without(train, "train", listed)
    assert [e.id.removesuffix(".png") for e in kept.entries] == ["train_1", "train_4", "train_6"]
    assert kept[1].meta["id"] == train[3].meta["id"] and len(kept) == 3
    assert kept.name == train.name and len(named["train"]) == 3

    from rsvlm.lit.datamodule import DataModule

    def make(split):
        return LevirMCI(levir, split)

    data = DataModule(make, exclude=str(listed), batch_size=2)
    assert len(data.dataset("train")) == 3 and len(data.dataset("test")) == 1


def boxes(*instances):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    return [Sample(images=[image], texts=[], instances=list(instances), meta={"id": "a"})]


def mask(rows=slice(0, 0), columns=slice(0, 0)):
    made = np.zeros((40, 60), bool)
    made[rows, columns] = True
    return made


@pytest.mark.parametrize(
    ("instance", "kind"),
    [
        ({"box": (0, 0, 60, 40)}, None),
        ({"box": (0, 0, 61, 41)}, None),
        ({"box": (10, 10, 70, 20)}, "box_outside"),
        ({"box": (-9, 10, 20, 20)}, "box_outside"),
        ({"box": (-9, 10, 20, 20), "angle": 30.0}, None),
        ({"mask": mask()}, "empty_mask"),
        ({"box": (0, 0, 10, 10), "mask": mask(slice(30, 40), slice(30, 50))}, "box_against_mask"),
        ({"box": (30, 30, 50, 40), "mask": mask(slice(30, 40), slice(30, 50))}, None),
    ],
)
def test_boxes_and_masks_of_objects(instance, kind):
    found = faults_of([boxes(Instance(0, "ship", **instance))])
    assert [fault.kind for fault in found] == ([kind] if kind else [])


def test_a_caption_of_many_pictures_is_told_and_stays(tmp_path):
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            images=[Image.fromarray(draw.integers(0, 255, (32, 32, 3), np.uint8))],
            texts=["Many trees." if i % 2 else f"Picture {i}."],
            meta={"id": str(i)},
        )
        for i in range(12)
    ]
    found = faults_of([samples], many=5)
    assert {f.kind for f in found} == {"shared_caption"} and len(found) == 6
    assert write_exclusions(found, tmp_path / "list.txt") == 0
    assert len(ChosenSamples(named(samples), [3, 5])) == 2


class named(list):
    name, split, entries = "mine", "train", None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "cannot be read"),
        ("train train_1\n", "line 1: a line is"),
        ("train\tother\n", "names 1 samples of split train, which are none"),
    ],
)
def test_lists_that_cannot_be_used(levir, tmp_path, text, error):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=error):
        without(LevirMCI(levir, "train"), "train", path)


def test_a_list_that_names_all_or_samples_without_ids_is_refused(levir, tmp_path):
    path = tmp_path / "list.txt"
    train = LevirMCI(levir, "train")
    path.write_text("".join(f"train\t{e.id}\n" for e in train.entries))
    with pytest.raises(UserError, match="which are all"):
        without(train, "train", path)
    with pytest.raises(UserError, match="have no ids"):
        without(named([1, 2]), "train", path)
    assert without(train, "val", path) is train
    with pytest.raises(UserError, match="give both"):
        main(["--data", "levir_mci", "--root", str(levir), "--exclude", str(path)])
