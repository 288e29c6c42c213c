"""ChangeChat-105k: both schemas, all eight files, and the validation file that is not published."""

import json

import pytest
from PIL import Image

from rsvlm.data.datasets.cards import LevirCC
from rsvlm.data.datasets.changechat import FILES, PROMPTS, ChangeChat
from rsvlm.data.datasets.second_cc import SecondCC
from rsvlm.data.inspection.describe import describe
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.errors import UserError
from rsvlm.metrics.change.counts import published_counts, robust_counts
from rsvlm.metrics.change.flags import says_changed
from rsvlm.metrics.change.locations import published_places, robust_places
from rsvlm.metrics.change.templates import templates_of
from rsvlm.synthetic import Scenes
from rsvlm.synthetic.export import changechat

YES = [("Please judge whether these two images have changed. Please answer yes or no.", "Yes")]


def talk(name, said, *, split="train", flag=1, **more):
    turns = []
    for i, (question, answer) in enumerate(said):
        turns += [
            {"from": "human", "value": "<image> <image> " * (i == 0) + question},
            {"from": "gpt", "value": answer},
        ]
    images = [f"{split}/{date}/{name}" for date in "AB"]
    return {"id": 7, "image": images, "changeflag": flag, "conversations": turns} | more


def write(root, word, records, *, prefix="changechat_105k_", folder="."):
    path = root / folder / f"{prefix}{word}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))
    for record in records:
        for name in record.get("image", []) if isinstance(record, dict) else []:
            picture(root / "images" / name)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path)


def test_training_kinds_come_from_the_prompts(tmp_path):
    said = [[(text, "x")] for text in PROMPTS.values()]
    said += [[("Which side has more houses?", "left")], [*YES, ("How many?", "2"), ("So?", "x")]]
    records = [talk(f"train_{i:06d}.png", pairs, id=i) for i, pairs in enumerate(said)]
    write(tmp_path, "train", records)
    data = ChangeChat(tmp_path, "train")
    assert data.name == "changechat" and not data.problems
    kinds = [data[i].turns[0].kind for i in range(len(data))]
    assert kinds == ["caption", "binary", "count", "location", "open", "dialogue"]
    sample = data[5]
    assert sample.layout == "before_after" and len(sample.images) == 2
    assert [t.image_ids for t in sample.turns] == [(0, 1), (), (), (), (), ()]
    assert sample.turns[0].text == YES[0][0] and "<image>" not in sample.turns[0].text
    assert sample.meta["image"] == "train_000005.png" and sample.meta["changeflag"] == 1
    facts = describe(data)
    assert facts["turns"]["kinds"]["dialogue"] == 3 and facts["changed"] == (6, 6)


def test_both_schemas_and_all_eight_files(tmp_path):
    captions = {
        "image_A": "test/A/test_000004.png",
        "image_B": "test/B/test_000004.png",
        "captions": [f"caption {i}" for i in range(5)],
        "changeflag": 0,
    }
    for name in (captions["image_A"], captions["image_B"]):
        picture(tmp_path / "images" / name)
    for word in FILES:
        record = captions if word == "test" else talk("test_000004.png", YES, split="test")
        write(tmp_path, word, [record], folder="annotations")
    seen = {}
    for word in FILES:
        data = ChangeChat(tmp_path, word)
        assert len(data) == 1 and not data.problems
        seen[word] = (data.name, data[0].turns[0].kind)
    assert seen == {
        "train": ("changechat", "binary"),
        "train_loc": ("changechat", "binary"),
        "test": ("changechat_caption", "caption"),
        "test_binary": ("changechat_binary", "binary"),
        "test_count": ("changechat_count", "count"),
        "test_loc": ("changechat_loc", "location"),
        "test_open": ("changechat_open", "open"),
        "test_dialog": ("changechat_dialog", "dialogue"),
    }
    sample = ChangeChat(tmp_path, "test")[0]
    assert sample.texts == captions["captions"] and sample.meta["id"] == "test_000004.png"
    assert [t.text for t in sample.turns] == [PROMPTS["caption"], "caption 0"]
    both = ChangeChat(tmp_path, "test+test_binary")
    assert [e.id for e in both.entries] == ["test/test_000004.png", "test_binary/7"]
    with pytest.raises(UserError, match="two views"):
        ChangeChat(tmp_path, "train+train_loc")


def test_no_validation_file_is_published(tmp_path):
    names = [f"train_{i:06d}.png" for i in range(200)]
    write(tmp_path, "train", [talk(name, YES, id=k) for k, name in enumerate(names * 2)])
    with pytest.raises(UserError, match=r"no validation file.*holdout=0\.05"):
        ChangeChat(tmp_path, "val")
    parts = {
        split: {e.meta["image"] for e in ChangeChat(tmp_path, split, holdout=0.25).entries}
        for split in ("train", "val")
    }
    assert not parts["train"] & parts["val"] and parts["train"] | parts["val"] == set(names)
    assert 30 < len(parts["val"]) < 70
    smaller = {e.meta["image"] for e in ChangeChat(tmp_path, "val", holdout=0.1).entries}
    assert smaller < parts["val"]
    with pytest.raises(UserError, match="holdout=1e-06 keeps none"):
        ChangeChat(tmp_path, "val", holdout=1e-6)
    with pytest.raises(UserError, match="holdout=1"):
        ChangeChat(tmp_path, "val", holdout=1)


def test_what_is_wrong_with_the_records(tmp_path):
    good = talk("a.png", YES)
    swapped = talk("b.png", YES)
    swapped["conversations"].append({"from": "gpt", "value": "and"})
    single = talk("c.png", YES)
    single["image"] = single["image"][:1]
    single["conversations"][0]["value"] = "<image> ?"
    empty = {"image_A": "train/A/a.png", "image_B": "train/B/a.png", "captions": [" "]}
    nameless = {"image_A": None, "image_B": "train/B/a.png", "captions": ["x"]}
    unflagged = talk("d.png", YES, id=8, flag=None)
    records = [good, swapped, single, empty, nameless, unflagged, 5, talk("a.png", YES)]
    write(tmp_path, "test_binary", records)
    data = ChangeChat(tmp_path, "test_binary")
    assert [e.id for e in data.entries] == ["7", "8", "7#2"]
    told = "\n".join(data.problems)
    for words in (
        r"roles do not alternate were left out: changechat_105k_test_binary.json[1]",
        r"not about two images and were left out: changechat_105k_test_binary.json[2]",
        r"1 record(s) have no caption and were left out: changechat_105k_test_binary.json[3]",
        r"do not name image_A and image_B and were left out: changechat_105k_test_binary.json[4]",
        r"1 record(s) have no changeflag of 0 or 1: changechat_105k_test_binary.json[5]",
        r"1 id(s) repeat",
    ):
        assert words in told, words
    with pytest.raises(UserError, match=r"no split 'test_dialogue'.*Did you mean test_dialog"):
        ChangeChat(tmp_path, "test_dialogue")
    with pytest.raises(UserError, match=r"no changechat_105k_test\.json[\s\S]*Expected"):
        ChangeChat(tmp_path, "test")
    (tmp_path / "changechat_105k_test.json").write_text('[\n{"image_A": }]')
    with pytest.raises(UserError, match=r"test\.json, line 2, column"):
        ChangeChat(tmp_path, "test")


def test_the_answers_of_the_generated_world_are_read_by_the_published_rules():
    seen = set()
    scenes = Scenes("train", n=30, size=48, layout="before_after", parts=changechat.FORMAT.parts)
    for sample in scenes:
        answers = {kind: said[-1][1] for kind, said in changechat.talk(sample).items()}
        built = {"road": 0, "building": 0}
        for edit in sample.meta["edits"]:
            if edit["act"] == "built" and edit["name"] in built:
                built[edit["name"]] += edit["count"]
        counts = (built["road"], built["building"])
        assert published_counts(answers["count"]) == robust_counts(answers["count"]) == counts
        cells = sample.meta["changes"]
        places = (frozenset(cells["road_cells"]), frozenset(cells["building_cells"]))
        assert robust_places(answers["location"]) == places
        if sample.meta["changeflag"]:
            assert published_places(answers["location"]) == places
        assert says_changed(answers["binary"]) is bool(sample.meta["changeflag"])
        same = {text.rstrip(" .").lower() for text in (answers["caption"], answers["dialogue"])}
        assert (same <= set(NO_CHANGE["levir_cc"])) is not bool(sample.meta["changeflag"])
        seen.add(counts)
    assert len(seen) >= 4 and (0, 0) in seen


def test_readers_and_metrics_know_the_same_sentences():
    assert templates_of("levir_cc") == LevirCC.no_change == set(NO_CHANGE["levir_cc"])
    assert templates_of("second_cc") == SecondCC.no_change == set(NO_CHANGE["second_cc"])


def test_pairs_that_are_not_there(tmp_path):
    write(tmp_path, "train", [talk("a.png", YES), talk("b.png", YES, id=8)])
    (tmp_path / "images" / "train" / "B" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images .*train/B/b\.png"):
        ChangeChat(tmp_path, "train")
    assert [e.id for e in ChangeChat(tmp_path, "train", missing="skip").entries] == ["7"]
    kept = ChangeChat(tmp_path, "train", missing="keep")
    assert len(kept) == 2 and describe(kept)["turns"]["samples"] == 2
