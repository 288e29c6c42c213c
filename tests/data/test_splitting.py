"""Division by image, group, place and tile: what is kept together, written, and refused."""

import csv

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets.change_table import ChangeTable
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.datasets.splitting import SplitRule, divided
from rsvlm.errors import UserError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def table(root, header, rows, name="all.csv"):
    for row in rows:
        if not (root / row[0]).exists():
            Image.new("RGB", (4, 4)).save(root / row[0])
    with open(root / name, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def parts(root, reader=PairsTable, **options):
    return {s: reader(root, s, shares=SHARES, **options) for s in SHARES}


def names(data):
    return {entry.id for entry in data.entries}


def test_groups_stay_together_and_shares_are_of_images(tmp_path):
    rows = [(f"{i}.png", f"c {i}", f"scene {i // 5}") for i in range(100)]
    table(tmp_path, ("image", "caption", "scene"), rows)
    found = parts(tmp_path, split_by="scene")
    scenes = [{int(name[:-4]) // 5 for name in names(part)} for part in found.values()]
    assert sum(map(len, scenes)) == len(set.union(*scenes)) == 20
    assert [len(part) for part in found.values()] == [60, 20, 20]
    assert "divided by the column 'scene', 20 groups: train 60, val 20, test 20" in str(
        found["val"].problems
    )
    assert names(found["test"]) == names(parts(tmp_path, split_by="scene")["test"])
    assert names(found["test"]) != names(parts(tmp_path, split_by="scene", split_seed=1)["test"])
    with pytest.raises(UserError, match=r"'scenes' is not|scene.*split_by="):
        parts(tmp_path, split_by="scenes")
    table(tmp_path, ("image", "caption", "scene"), [*rows, ("0.png", "again", "scene 9")])
    with pytest.raises(UserError, match=r"'0\.png' has 'scene 9' for its scene.*'scene 0'"):
        parts(tmp_path, split_by="scene")


def test_cells_of_place_and_a_margin(tmp_path):
    rows = [(f"{x}_{y}.png", "c", 10 + x / 100, 50 + y / 100) for x in range(20) for y in range(10)]
    table(tmp_path, ("image", "caption", "lon", "lat"), rows)
    found = parts(tmp_path, split_by="place", cell=0.05)
    assert "by cells of 0.05 degrees, 8 cells" in str(found["train"].problems)
    where = {row[0]: np.array(row[2:]) for row in rows}

    def nearest(one, other):
        a, b = (np.array([where[n] for n in sorted(names(part))]) for part in (one, other))
        return np.abs(a[:, None] - b).max(-1).min()

    assert nearest(found["train"], found["test"]) < 0.011  # across the border of two cells
    apart = parts(tmp_path, split_by="place", cell=0.05, margin=0.015)
    assert nearest(apart["train"], apart["test"]) > 0.015
    assert nearest(apart["train"], apart["val"]) > 0.015
    assert "within the margin were left out" in str(apart["train"].problems)
    assert names(apart["test"]) == names(found["test"])
    with pytest.raises(UserError, match="no image is left for train"):
        parts(tmp_path, split_by="place", cell=0.05, margin=1)
    table(tmp_path, ("image", "caption", "lon", "lat"), [*rows, ("q.png", "c", 5e5, 4e6)])
    with pytest.raises(UserError, match=r"q\.png: lon '500000\.0' .* are no degrees"):
        parts(tmp_path, split_by="place")


def test_cells_of_tile_names(tmp_path):
    rows = [(f"paris_{x:03d}_{y:03d}.png", "c") for x in range(8) for y in range(8)]
    table(tmp_path, ("image", "caption"), rows)
    found = parts(tmp_path, split_by="tile", cell=2)
    cells = [
        {(int(n[6:9]) // 2, int(n[10:13]) // 2) for n in names(part)} for part in found.values()
    ]
    assert sum(map(len, cells)) == len(set.union(*cells)) == 16
    table(tmp_path, ("image", "caption"), [*rows, ("plain.png", "c")])
    with pytest.raises(UserError, match=r"no two numbers .* plain\.png.*split_by="):
        parts(tmp_path, split_by="tile")


def test_a_division_is_written_read_back_and_stated(tmp_path):
    table(tmp_path, ("image", "caption"), [(f"{i}.png", "c") for i in range(10)])
    found = parts(tmp_path, split_file="splits.txt")
    assert "was written to" in str(found["train"].problems)
    held = dict(line.split(",") for line in (tmp_path / "splits.txt").read_text().split()[1:])
    assert {n for n, s in held.items() if s == "val"} == names(found["val"])
    assert found["val"].division == held
    again = parts(tmp_path, split_file="splits.txt", split_seed=5)
    assert names(again["val"]) == names(found["val"]) and "says" in str(again["val"].problems)
    with pytest.raises(UserError, match=r"split_file=: the name '\.\./x' leads out"):
        parts(tmp_path, split_file="../x")
    (tmp_path / "splits.txt").write_text("image,split\n0.png,train\n0.png,test\n")
    with pytest.raises(UserError, match=r"'0\.png' is in train and in test; it can be in one"):
        parts(tmp_path, split_file="splits.txt")
    (tmp_path / "splits.txt").write_text("image,split\n0.png,training\n1.png,test\n")
    with pytest.raises(UserError, match=r"no split 'val'; there is train \(1\), test \(1\).*=null"):
        parts(tmp_path, split_file="splits.txt")


def test_a_column_split(tmp_path):
    rows = [(f"{i}.png", "c", ("train", "validation")[i % 2]) for i in range(6)]
    table(tmp_path, ("image", "caption", "split"), rows)
    assert names(PairsTable(tmp_path, "val", shares=SHARES)) == {"1.png", "3.png", "5.png"}
    with pytest.raises(UserError, match=r"no split 'test'; .*data\.splits\.test=null"):
        PairsTable(tmp_path, "test", shares=SHARES)
    table(tmp_path, ("image", "caption", "split"), [*rows, ("0.png", "d", "validation")])
    with pytest.raises(UserError, match=r"'0\.png' has 'validation' for its split"):
        PairsTable(tmp_path, "train", shares=SHARES)


def test_groups_and_images_that_two_tables_share(tmp_path):
    table(tmp_path, ("image", "caption", "scene"), [("0.png", "c", "a")], "train.csv")
    table(tmp_path, ("image", "caption", "scene"), [("1.png", "c", "a")], "test.csv")
    with pytest.raises(UserError, match=r"groups by scene are in train and in test too .*: a\."):
        PairsTable(tmp_path, "train", split_by="scene")
    assert len(PairsTable(tmp_path, "train")) == 1
    table(tmp_path, ("image", "caption", "scene"), [("0.png", "c", "b")], "test.csv")
    with pytest.raises(UserError, match=r"in train and in test too .*0\.png"):
        PairsTable(tmp_path, "train", split_by="scene")


def test_pairs_of_dates_are_divided_by_group(tmp_path):
    for i in range(10):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i}b.png")
    rows = [(f"{i}.png", f"{i}b.png", "c", f"town {i // 2}") for i in range(10)]
    table(tmp_path, ("before", "after", "caption", "town"), rows)
    found = parts(tmp_path, ChangeTable, split_by="town")
    assert [len(part) for part in found.values()] == [6, 2, 2]


def test_too_few_groups(tmp_path):
    rule = SplitRule(SHARES, by="scene")
    with pytest.raises(UserError, match=r"2 groups, too few to be divided into train, val, test"):
        divided(["a", "b", "c"], rule, "x.csv", tmp_path, {"scene": ["s", "t", "t"]})
    with pytest.raises(UserError, match=r"nothing in the column 'scene'.*: a\."):
        divided(["a", "b"], rule, "x.csv", tmp_path, {"scene": ["", "t"]})
    with pytest.raises(UserError, match="margin= needs places"):
        divided(
            list("abcd"),
            SplitRule(SHARES, by="scene", margin=1.0),
            "x.csv",
            tmp_path,
            {"scene": list("abcd")},
        )
