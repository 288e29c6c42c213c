"""Names that leave their folder, spellings of accents, links, pipes."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli.shards import write
from rsvlm.data.datasets.base import listed
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.karpathy import Karpathy
from rsvlm.data.datasets.missing import find_folders
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.folders import check_names, printable, walk
from rsvlm.data.images import BrokenImage, read_image
from rsvlm.errors import UserError

COMPOSED = "plan \u00e9.png"
APART = unicodedata.normalize("NFD", COMPOSED)


def picture(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(path)


def karpathy(root, name):
    row = {"filename": name, "split": "train", "sentences": [{"raw": "a road"}]}
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({"dataset": "x", "images": [row]}))
    return root


@pytest.mark.parametrize("name", ["../../secret.txt", "a/../../../secret.txt", "/etc/passwd"])
def test_names_that_leave_the_folder_are_refused_by_every_reader(tmp_path, name):
    (tmp_path / "secret.txt").write_text("top secret")
    root = tmp_path / "d"
    picture(root / "images/a.png")
    with pytest.raises(UserError, match="leads out of"):
        Karpathy(karpathy(root, name), "train")
    (root / "train.csv").write_text(f"image,caption\n{name},x\n")
    outside = r"leads out of .*data\.dataset\.images=|one machine's disk.*data\.dataset\.strip="
    with pytest.raises(UserError, match=outside):
        PairsTable(root, "train", images="images")
    talk = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "x"}]
    (root / "train.json").write_text(json.dumps([{"image": name, "conversations": talk}]))
    with pytest.raises(UserError, match=r"leads out of|one machine's disk"):
        Conversations(root, "train")
    with pytest.raises(UserError, match="leads out of"):
        find_folders([root / "images"], [name])


def test_whole_paths_are_taken_below_a_folder_that_the_user_names(tmp_path):
    picture(tmp_path / "d/images/a.png", 9)
    (tmp_path / "d/train.csv").write_text(f"image,caption\n{tmp_path}/d/images/a.png,x\n")
    for images in ("images", "/"):
        data = PairsTable(tmp_path / "d", "train", images=images)
        assert np.asarray(data[0].images[0]).max() == 9
    check_names(["a..b/c.png", "..png"], [tmp_path])


def test_only_pictures_go_into_shards(tmp_path):
    root = karpathy(tmp_path / "d", "a.png")
    picture(root / "images/b.png")
    (tmp_path / "secret").write_text("top secret")
    os.symlink(tmp_path / "secret", root / "images/a.png")
    done = write(Karpathy(root, "train"), tmp_path / "out")
    assert done.unreadable == ["a.png"]
    assert b"top secret" not in (tmp_path / "out/train-0000.tar").read_bytes()


@pytest.mark.parametrize(("held", "said"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_a_name_is_found_in_either_spelling_of_its_accents(tmp_path, held, said):
    picture(tmp_path / "d/images" / held, 7)
    root = karpathy(tmp_path / "d", said)
    assert np.asarray(Karpathy(root, "train")[0].images[0]).max() == 7
    (root / "train.csv").write_text(f"image,caption\nimages/{said},x\n", encoding="utf-8")
    assert np.asarray(PairsTable(root, "train")[0].images[0]).max() == 7
    talk = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "x"}]
    (root / "train.json").write_text(json.dumps([{"image": said[:-4], "conversations": talk}]))
    assert np.asarray(Conversations(root, "train")[0].images[0]).max() == 7


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    for name in ("data/beach/b0", "data/port/p0", "store/p1", "store/deep/p2"):
        picture(tmp_path / f"{name}.png")
    os.symlink(tmp_path / "store", tmp_path / "data/port/more")
    os.symlink(tmp_path / "data", tmp_path / "data/port/loop")
    assert len(SceneFolder(tmp_path / "data")) == 5  # the loop shows beach once more
    os.unlink(tmp_path / "data/port/loop")
    data = SceneFolder(tmp_path / "data")
    found = ["port/more/deep/p2.png", "port/more/p1.png", "port/p0.png"]
    assert [e.id for e in data.entries][1:] == found
    os.symlink(tmp_path / "store", tmp_path / "store/again")
    assert [names for _, names in walk(tmp_path / "store")] == [["p1.png"], ["p2.png"]]


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BrokenImage, match="pipe or a device"):
        read_image(tmp_path / "a.png")
    with pytest.raises(BrokenImage, match="cannot be opened"):
        read_image(tmp_path / "none.png")


def test_a_name_is_shown_on_one_line():
    assert printable("a\nb\u2028 é\udcff.png") == "a\\nb\\u2028 é\\udcff.png"
    assert listed(["a\nb"]) == "a\\nb"
