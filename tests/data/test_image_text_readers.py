"""SkyScript's pickled tags, CapERA and ERA-VQA on frames, VRSBench's captions; safe pickles."""

import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli.shards import write
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.capera import CapERA
from rsvlm.data.datasets.era_vqa import ERAVQA
from rsvlm.data.datasets.frames import chosen
from rsvlm.data.datasets.pickles import read_pickle
from rsvlm.data.datasets.shards import Shards
from rsvlm.data.datasets.skyscript import SkyScript
from rsvlm.data.datasets.vrsbench_captions import VRSBenchCaptions
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError


def picture(path, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)


class RunsCode:
    def __reduce__(self):
        return os.system, ("echo run",)


class RunsCodeWhenBuilt:
    def __reduce__(self):
        return getattr, ("x", "upper")


PLAIN = {
    "box": (8.5, np.float64(47.3), np.float32(8.5), 47.25),
    "time": (2019, 7, np.int32(1), 10, 25),
    "center_tags": OrderedDict(landuse="Wäldchen"),
    "surrounding_tags": [{"natural": "tree"}, None, True],
}
OTHERS = [{1, 2}, frozenset({"a"}), b"\xff\x00", (), 2**70, 1j]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps([PLAIN, OTHERS], protocol))
    read, others = read_pickle(path)
    assert read == PLAIN and others == OTHERS
    assert type(read["box"][1]) is float and type(read["time"][2]) is int


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"box": RunsCode()}), r"refused: it wants to use (posix|nt)\.system"),
        (pickle.dumps(RunsCodeWhenBuilt()), r"refused: it wants to use builtins\.getattr"),
        (pickle.dumps(np.zeros(3)), r"refused: it wants to use numpy.*_reconstruct"),
        (pickle.dumps(np.datetime64("2019-01-01")), r"refused: it wants to use .*NumPy value"),
        (pickle.dumps(PLAIN)[:-5], "not a whole pickle"),
        (b"", "not a whole pickle"),
        (b"<html>", "not a whole pickle"),
    ],
    ids=["system", "getattr", "array", "datetime64", "cut", "empty", "html"],
)
def test_pickles_that_are_not_plain_or_not_whole(tmp_path, content, message, capfd):
    path = tmp_path / "x.pickle"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_pickle(path)
    assert str(path) in str(error.value) and "run" not in capfd.readouterr().out


NAME = "images2/a198234555_CH_19.jpg"


def skyscript(root, tags=PLAIN):
    names = (NAME, "images3/w2_US_20.jpg")
    for name in names:
        picture(root / name)
    lines = "".join(f"{name},landuse of quarry,quarry and tree\n" for name in names)
    table = root / "SkyScript_val_5K_filtered_by_CLIP_openai.csv"
    table.write_text(f"filepath,title,title_multi_objects\n{lines}")
    for folder, name in (("meta2", "a198234555_CH_19"), ("meta3", "w2_US_20")):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{name}.pickle").write_bytes(pickle.dumps(tags))
    return root


def test_skyscript_with_its_tags(tmp_path):
    data = SkyScript(skyscript(tmp_path), "val", tags=True)
    meta = data[0].meta
    assert meta["osm"] == "a198234555" and meta["gsd"] == 0.1
    assert meta["lonlat"] == pytest.approx((8.5, 47.275)) and len(meta["bounds"]) == 4
    assert meta["dates"] == ["2019-07-01T10:25"]
    assert meta["center_tags"] == {"landuse": "Wäldchen"}
    assert meta["surrounding_tags"][0] == {"natural": "tree"}
    assert "center_tags" not in SkyScript(tmp_path, "val")[0].meta
    write(data, tmp_path / "shards")
    assert Shards(tmp_path / "shards", "val")[0].meta["dates"] == ["2019-07-01T10:25"]


def test_skyscript_tags_that_are_missing_or_wrong(tmp_path):
    root = skyscript(tmp_path)
    (root / "meta3" / "w2_US_20.pickle").unlink()
    with pytest.raises(UserError, match=r"1 of 2 files of tags are not in .*meta3/w2_US_20"):
        SkyScript(root, "val", tags=True)
    some = SkyScript(root, "val", tags=True, missing="skip")
    assert len(some) == 2 and "Their images were kept" in some.problems[0]
    assert "center_tags" in some[0].meta and "center_tags" not in some[1].meta
    for tags, message in (
        ([1], "no dictionary"),
        ({"box": (1, 2, 3)}, "box must be four numbers"),
        ({"time": "noon"}, "time five"),
        ({"box": RunsCode()}, "refused"),
    ):
        skyscript(root, tags)
        with pytest.raises(UserError, match=message):
            SkyScript(root, "val", tags=True)[0]


@pytest.mark.parametrize("word", ["capera", "era_vqa", "vrsbench_captions"])
def test_every_set_says_what_it_is_and_what_it_expects(tmp_path, word):
    kind = DATASETS[word]
    assert kind.licence != "unknown" and kind.paper and kind.homepage and kind.title
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"Expected:[\s\S]*data\.root="):
            kind(root, "train")
    with pytest.raises(UserError, match="no split 'tset'"):
        kind(tmp_path, "tset")
    with pytest.raises(UserError, match=r"missing='kepe'"):
        kind(tmp_path, "train", missing="kepe")


def video(root, split, name, frames):
    for i in range(frames):
        picture(root / "frames" / split / name.split("_")[0] / name / f"{i:03d}.jpg", 10 * i)


def capera(root, records, word="train"):
    content = {"ERA_caption": records}
    (root / f"CapERA_DATASET_{word}.json").write_text(json.dumps(content))


def captions(name, *texts):
    return {"video_id": f"{name}.mp4", "annotation": {"English_caption": list(texts)}}


def test_capera_takes_frames_spread_over_the_video(tmp_path):
    video(tmp_path, "Train", "Flood_001", 16)
    video(tmp_path, "Train", "Fire_001", 3)
    video(tmp_path, "Test", "Flood_001", 8)
    capera(tmp_path, [captions("Flood_001", "a flood", " ", "water"), captions("Fire_001", "fire")])
    capera(tmp_path, [captions("Flood_001", "another flood")], "test")
    data = CapERA(tmp_path, "train", frames=4)
    assert data.classes == ["Fire", "Flood"] and [e.label for e in data.entries] == [1, 0]
    sample = data[0]
    assert sample.layout == "frames" and sample.texts == ["a flood", "water"]
    shown = [path.rsplit("/", 1)[1] for path in data.entries[0].paths]
    assert shown == ["002.jpg", "006.jpg", "010.jpg", "014.jpg"]
    assert len(data[1].images) == 3  # all there are
    test = CapERA(tmp_path, "test", frames=4)
    assert test[0].texts == ["another flood"] and "/Test/" in test.entries[0].path
    assert test.classes == data.classes
    facts = describe(data)
    assert facts["pictures"] == 7 and facts["captions"]["count"] == 3
    with pytest.raises(UserError, match="frames=0"):
        CapERA(tmp_path, "train", frames=0)


def test_capera_videos_without_frames(tmp_path):
    video(tmp_path, "Train", "Flood_001", 2)
    (tmp_path / "frames" / "Train" / "Fire" / "Fire_001").mkdir(parents=True)
    capera(tmp_path, [captions("Flood_001", "a flood"), captions("Fire_001", "fire")])
    with pytest.raises(UserError, match=r"1 of 2 videos are not in .*Fire_001\.mp4"):
        CapERA(tmp_path, "train")
    some = CapERA(tmp_path, "train", missing="skip")
    assert [e.id for e in some.entries] == ["Flood_001.mp4"] and some.classes == ["Fire", "Flood"]
    kept = CapERA(tmp_path, "train", missing="keep")
    assert len(kept) == 2 and describe(kept)["captions"]["count"] == 2
    with pytest.raises(BrokenImage, match="cannot be opened"):
        kept[1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"annotation": {}}, r"\[0\] has no video_id"),
        ({"video_id": "Flood.mp4"}, r"\[0\] has no video_id such as"),
        ({"video_id": "Flood_1.mp4"}, r"\(Flood_1\.mp4\) has no list of texts"),
        (captions("Flood_1", " "), r"\(Flood_1\.mp4\) has no caption with a word"),
    ],
    ids=["no id", "no event", "no captions", "no word"],
)
def test_capera_malformed_records(tmp_path, record, message):
    capera(tmp_path, [record])
    with pytest.raises(UserError, match=message):
        CapERA(tmp_path, "train")
    (tmp_path / "CapERA_DATASET_train.json").write_text('{"ERA_caption": [\n{]}')
    with pytest.raises(UserError, match=r"train\.json, line 2"):
        CapERA(tmp_path, "train")


def test_frames_are_the_middles_of_equal_stretches(tmp_path):
    for i in range(10):
        picture(tmp_path / f"{i}.jpg")
    (tmp_path / "notes.txt").write_text("x")
    names = [[os.path.basename(path) for path in chosen(tmp_path, n)] for n in (1, 3, 5, 12)]
    assert names[0] == ["5.jpg"] and names[1] == ["1.jpg", "5.jpg", "8.jpg"]
    assert names[2] == [f"{i}.jpg" for i in (1, 3, 5, 7, 9)] and len(names[3]) == 10
    assert chosen(tmp_path / "nowhere", 3) == []


def question(name, text="Is there water?", answer="yes", **more):
    turns = [{"from": "human", "value": f"<image>\n{text}"}, {"from": "gpt", "value": answer}]
    return {"image": name, "conversations": turns} | more


def era(root, records):
    (root / "vqa").mkdir(parents=True, exist_ok=True)
    (root / "vqa" / "EARVqa.json").write_text(json.dumps(records))


def test_era_vqa_shows_all_frames_of_a_video(tmp_path):
    video(tmp_path, "Train", "Flood_001", 6)
    video(tmp_path, "Test", "Fire_002", 2)
    records = [
        question("Flood_001.mp4", id="q0"),
        question("Train/Flood/Flood_001.mp4", id="q1"),
        {"image": "Fire_002", "text": "How many?", "ground_truth": "two"},
    ]
    era(tmp_path, records)
    data = ERAVQA(tmp_path, "train", frames=3)
    assert [e.id for e in data.entries] == ["q0", "q1", "EARVqa.json[2]"] and not data.problems
    for i, count in enumerate((3, 3, 2)):
        sample = data[i]
        assert sample.layout == "frames" and len(sample.images) == count
        assert sample.turns[0].image_ids == tuple(range(count)) and sample.turns[0].kind == "vqa"
    assert data[0].turns[0].text == "Is there water?" and data[2].turns[1].text == "two"
    assert data[1].meta["video"] == "Train/Flood/Flood_001.mp4"


def test_era_vqa_faults(tmp_path):
    video(tmp_path, "Train", "Flood_001", 2)
    bad = question("Flood_001.mp4", id="bad")
    bad["conversations"] = bad["conversations"][1:]
    era(tmp_path, [question("Flood_001.mp4"), question("Gone_001.mp4"), bad, question(["a", "b"])])
    with pytest.raises(UserError, match=r"1 of 4 videos are not in .*Gone_001\.mp4"):
        ERAVQA(tmp_path)
    some = ERAVQA(tmp_path, missing="skip")
    told = "\n".join(some.problems)
    assert len(some) == 1 and "left out" in told
    assert "without question and answer" in told and "about several videos" in told
    kept = ERAVQA(tmp_path, missing="keep")
    assert len(kept) == 2 and sum("Gone_001" in problem for problem in kept.problems) == 1


def test_vrsbench_takes_captions_out_of_the_training_file(tmp_path):
    def conversation(name, prompt, answer):
        return question(name, prompt, answer)

    records = [
        conversation("a.png", "[caption] Describe.", "A harbour."),
        conversation("a.png", "[vqa] How many?", "3"),
        conversation("b.png", "[caption] Describe.", "A field."),
        conversation("a.png", "[caption] Describe.", "Ships."),
        conversation("c.png", "[caption] Describe.", " "),
        {"image": "d.png"},
    ]
    (tmp_path / "VRSBench_train.json").write_text(json.dumps(records))
    evaluation = {"image_id": "e.png", "ground_truth": "A road.", "question_id": 0}
    (tmp_path / "VRSBench_EVAL_Cap.json").write_text(json.dumps([evaluation]))
    picture(tmp_path / "Images_train" / "Images_train" / "a.png")
    picture(tmp_path / "Images_train" / "b.png")
    picture(tmp_path / "Images_val" / "e.png")
    data = VRSBenchCaptions(tmp_path, "train")
    assert [(e.id, e.texts) for e in data.entries] == [
        ("a.png", ("A harbour.", "Ships.")),
        ("b.png", ("A field.",)),
    ]
    told = "\n".join(data.problems)
    assert "1 record(s) have no caption" in told and "1 record(s) hold no conversation" in told
    assert "1 image(s) have more than one caption: a.png" in told
    test = VRSBenchCaptions(tmp_path, "test")
    assert test[0].texts == ["A road."] and not test.problems
    (tmp_path / "Images_train" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images .*b\.png"):
        VRSBenchCaptions(tmp_path, "train")
    assert len(VRSBenchCaptions(tmp_path, "train", missing="skip")) == 1
