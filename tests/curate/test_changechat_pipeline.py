"""ChangeChat's pipeline: what masks say, what a model adds, and files that are read back."""

import json

import numpy as np
import pytest
from loopback import completion, serving
from PIL import Image

from rsvlm.curate.changechat.masks import FindContradictions, ReadMask
from rsvlm.curate.changechat.questions import CheckOpenAnswers, OpenQuestions
from rsvlm.curate.changechat.rules import RuleTypes
from rsvlm.curate.changechat.source import MaskPairs
from rsvlm.curate.changechat.writer import ChangeChatJson
from rsvlm.curate.language_model import LanguageModel
from rsvlm.curate.record import Dropped
from rsvlm.data.datasets.changechat import ChangeChat
from rsvlm.errors import UserError
from rsvlm.metrics.change.counts import PARSERS as COUNTS
from rsvlm.metrics.change.locations import PARSERS as PLACES
from rsvlm.synthetic.export import FORMATS, export


def pair(**facts):
    known = {"road": {"count": 0, "cells": []}, "building": {"count": 0, "cells": []}}
    return {
        "id": "train/x.png", "pair": "train/x.png", "split": "train", "captions": [],
        "changeflag": None, "images": ["A/x.png", "B/x.png"], "image_root": "/data",
        "mask": "m.png", "before": "a.png", "after": "b.png", "contradictions": [],
        "facts": known | {k: {"count": n, "cells": list(c)} for k, (n, c) in facts.items()},
    }  # fmt: skip


def files(tmp_path, mask, side=(32, 32), other=None):
    for name, size in (("a.png", side), ("b.png", other or side)):
        Image.new("RGB", size).save(tmp_path / name)
    Image.fromarray(mask).save(tmp_path / "m.png")
    return {k: str(tmp_path / f"{v}.png") for k, v in
            {"before": "a", "after": "b", "mask": "m"}.items()}  # fmt: skip


def answers(record, kind):
    return [r["conversations"] for r in RuleTypes()(record) if r["kind"] == kind]


def test_a_mask_is_counted_and_located(tmp_path):
    mask = np.zeros((30, 30), np.uint8)
    mask[1:5, 1:5] = mask[12:16, 12:18] = 255
    mask[5, 5] = 255  # touches at a corner: one component
    mask[20:23, 27:29] = 128
    mask[0, 29] = mask[29, 0] = 255  # specks
    found = ReadMask()(files(tmp_path, mask, (30, 30)))
    assert found["facts"] == {
        "road": {"count": 1, "cells": ["bottom-right"]},
        "building": {"count": 2, "cells": ["top-left", "center-center"]},
    }


def test_masks_that_do_not_belong_are_dropped(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    record = files(tmp_path, mask)
    assert ReadMask()(record)["facts"]["road"]["count"] == 0
    assert ReadMask()(files(tmp_path, mask, other=(16, 32))).reason == "mask_size"
    assert ReadMask()(files(tmp_path, mask[:16])).reason == "mask_size"
    assert ReadMask()(files(tmp_path, mask + 7)).reason == "mask_values"
    record = files(tmp_path, mask)
    (tmp_path / "m.png").write_bytes(b"")
    assert ReadMask()(record).reason == "broken_mask"
    record = files(tmp_path, mask)
    (tmp_path / "b.png").write_text("<html>")
    assert ReadMask()(record).reason == "broken_image"
    with pytest.raises(UserError, match="region"):
        ReadMask(classes={255: "region", 128: "road"})
    ones = files(tmp_path, np.ones((32, 32), np.uint8))
    assert ReadMask(classes={"1": "region"})(ones)["facts"]["region"]["count"] == 1


@pytest.mark.parametrize(
    ("flag", "number", "captions", "words"),
    [
        (1, 2, ["two houses are built"], []),
        (0, 0, ["there is no difference ."], []),
        (0, 2, ["there is no difference"], ["mask_without_flag"]),
        (1, 0, ["a lake dries up"], ["flag_without_mask"]),
        (1, 1, ["No change has occurred."], ["captions_against_flag"]),
        (None, 1, ["no change has occurred"], ["captions_against_mask"]),
        (1, 1, ["no change has occurred", "a road is built"], ["captions_disagree"]),
        (None, 3, [], []),
    ],
)
def test_contradictions_are_found_and_left_out_on_request(flag, number, captions, words):
    record = pair(building=(number, [])) | {"changeflag": flag, "captions": captions}
    assert FindContradictions()(record)["contradictions"] == words
    strict = FindContradictions(drop=True)(record)
    assert strict == Dropped("contradiction", words[0]) if words else strict["id"] == record["id"]


@pytest.mark.parametrize(
    ("roads", "buildings"),
    [
        ((2, ["top-left"]), (1, ["center-center"])),
        ((0, []), (4, ["top-left"])),
        ((1, ["bottom-right"]), (0, [])),
        ((0, []), (0, [])),
    ],
)
def test_the_metrics_read_the_answers(roads, buildings):
    record = pair(road=roads, building=buildings)
    ((_, many),) = answers(record, "count")[0]
    ((_, where),) = answers(record, "location")[0]
    for parse in COUNTS.values():
        assert parse(many) == (roads[0], buildings[0])
    assert PLACES["robust"](where) == (frozenset(roads[1]), frozenset(buildings[1]))
    ((_, yes),) = answers(record, "binary")[0]
    assert yes == ("Yes" if roads[0] + buildings[0] else "No")


def test_kinds_of_a_pair():
    record = pair(building=(1, ["top-left"])) | {"captions": ["a", "b"], "changeflag": 0}
    made = RuleTypes(open="http://x")(record)
    assert [r["kind"] for r in made] == [
        "caption", "caption", "binary", "count", "location", "dialogue", "open"
    ]  # fmt: skip
    assert len({r["id"] for r in made}) == 7
    assert [r["flag"] for r in made] == [0, 0, 1, 1, 1, 1, 1]
    assert len(made[5]["conversations"]) == 3
    assert len(answers(pair(), "dialogue")[0]) == 2
    assert RuleTypes(kinds=["caption"])(pair()).reason == "no_kind"
    region = pair() | {"facts": {"region": {"count": 1, "cells": ["top-left"]}}}
    assert answers(region, "count") == [
        [["How many regions have changed?", "There is 1 changed region."]]
    ]
    with pytest.raises(UserError, match="url"):
        RuleTypes(kinds=["open"])


GOOD = {"pair": "train/x.png", "items": [{"question": "What is new?", "answer": "Two houses."}]}
REPLIES = {
    "good": (completion(json.dumps(GOOD)), None),
    "fenced": (completion(f"```json\n{json.dumps(GOOD)}\n```"), None),
    "prose": (completion("The pictures show houses."), "no_json"),
    "refusal": (completion("I'm sorry, I cannot help with that."), "refused"),
    "said refusal": (completion("", refusal="no"), "refused"),
    "filter": (completion("", reason="content_filter"), "refused"),
    "empty": (completion(""), "empty_reply"),
    "cut": (completion('{"pair": "train/x.png", "items": [', reason="length"), "cut_reply"),
    "list": (completion("[1]"), "no_json"),
    "schema": (completion('{"pair": "train/x.png", "items": [{"q": 1}]}'), "malformed_reply"),
    "other": (completion(json.dumps(GOOD | {"pair": "train/y.png"})), "other_image"),
    "refused": ((400, {"error": {"message": "policy"}}, {}), "refused"),
}


def test_replies_are_read_or_dropped_with_a_reason(tmp_path):
    record = pair(building=(2, ["top-left"])) | {"kind": "open", "conversations": []}
    with serving(
        lambda body: REPLIES[json.loads(body["messages"][1]["content"])["said"][0]][0]
    ) as s:
        stage = OpenQuestions(model=LanguageModel(url=s.url, name="m", cache=str(tmp_path)))
        stage.setup()
        records = [record | {"id": word, "captions": [word]} for word in REPLIES]
        outcomes = stage.process([*records, pair() | {"kind": "binary"}])
        assert s.asked[0]["response_format"]["json_schema"]["schema"]["required"]
    for (word, (_, reason)), outcome in zip(REPLIES.items(), outcomes, strict=False):
        if reason is None:
            assert [r["conversations"] for r in outcome] == [[["What is new?", "Two houses."]]]
            assert outcome[0]["id"] == f"{word}0"
        else:
            assert isinstance(outcome, Dropped), word
            assert outcome.reason == reason, word
    assert outcomes[-1]["kind"] == "binary"
    # Offline from the cache; another prompt has no reply there.
    again = LanguageModel(url=s.url, name="m", cache=str(tmp_path), replay=True)
    replayed = OpenQuestions(model=again)
    replayed.setup()
    assert replayed.process(records[:1]) == outcomes[:1]
    other = OpenQuestions(model=again, per_pair=5)
    other.setup()
    with pytest.raises(UserError, match="replay"):
        other.process(records[:1])


def test_a_ceiling_of_costs_stops_the_asking(tmp_path):
    record = pair() | {"kind": "open", "conversations": []}
    with serving(lambda body: completion(json.dumps(GOOD), usage=(1_000_000, 0))) as server:
        model = LanguageModel(url=server.url, name="m", max_cost=2, input_price=1.5, output_price=0)
        stage = OpenQuestions(model=model)
        stage.setup()
        with pytest.raises(UserError, match="max_cost"):
            stage.process([record | {"captions": [str(i)]} for i in range(4)])
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("How many new buildings are there?", "Two buildings.", None),
        ("How many new buildings are there?", "There are 3 new buildings.", "contradicts_mask"),
        ("How many buildings are new in the top-left?", "One building.", None),
        ("What is new?", "Five large buildings.", "contradicts_mask"),
        ("Where?", "In the top-left corner.", None),
        ("Where?", "At the bottom-right.", "contradicts_mask"),
        ("Has anything changed?", "No, nothing has changed.", "contradicts_mask"),
        ("Has the lake changed?", "No, it is the same.", None),
        ("What does the caption say?", "Houses.", "speaks_of_prompt"),
        ("What is new?", "According to the mask, houses.", "speaks_of_prompt"),
    ],
)
def test_open_answers_are_held_against_the_mask(question, answer, reason):
    record = pair(building=(2, ["top-left"])) | {"kind": "open"}
    outcome = CheckOpenAnswers()(record | {"conversations": [[question, answer]]})
    assert getattr(outcome, "reason", None) == reason


def run(source, out, **open_questions):
    """The stages by hand, as the engine has them."""
    records = []
    for record in source:
        for stage in (ReadMask(), FindContradictions(), RuleTypes()):
            record = stage(record)
            assert not isinstance(record, Dropped)
        records += record
    out.mkdir()
    return records, ChangeChatJson().write(iter(records), out)


def test_the_generated_world_comes_back_through_the_reader(tmp_path):
    world = tmp_path / "mci"
    export(FORMATS["levir_mci"], world, {"train": 6, "val": 2, "test": 3}, size=64)
    out = tmp_path / "out"
    source = MaskPairs(str(world))
    records, facts = run(source, out)
    assert source.fingerprint() == MaskPairs(str(world)).fingerprint()
    assert facts["reader"]["options"] == {"images": str(world / "images")}
    read = {
        split: ChangeChat(out, split, images=str(world / "images"), holdout=0.5)
        for split in ("train", "val", "test", "test_count", "test_dialog")
    }
    assert [len(d) for d in read.values()] == [6 * 9, 2 * 9, 3, 3, 3]
    assert not any(d.problems for d in read.values())
    truth = [r for r in records if r["split"] == "train"]
    for sample, record in zip(read["train"], truth, strict=True):
        said = [t.text for t in sample.turns]
        assert said == [text for pair in record["conversations"] for text in pair]
        assert sample.turns[0].kind == record["kind"]
        assert sample.meta["changeflag"] == record["flag"]
    test = [r for r in records if r["split"] == "test" and r["kind"] == "caption"]
    assert [t for s in read["test"] for t in s.texts] == [r["conversations"][0][1] for r in test]
    # The generated world knows what it changed.
    for sample, record in zip(read["test_count"], source_of(world), strict=True):
        assert sample.meta["changeflag"] == record


def source_of(world):
    from rsvlm.data.datasets.levir_mci import LevirMCI

    return [int(s.meta["change_mask"].any()) for s in LevirMCI(world, "test")]


def test_folders_that_are_no_masks_are_refused(tmp_path):
    with pytest.raises(UserError, match="masks="):
        MaskPairs(None).fingerprint()
    export(FORMATS["change_pairs"], tmp_path / "x", {"train": 2}, size=32)
    (found,) = {r["split"] for r in MaskPairs(str(tmp_path / "x"))}
    assert found == "train"
    (tmp_path / "x" / "train").rename(tmp_path / "x" / "city")
    with pytest.raises(UserError, match="as_split"):
        list(MaskPairs(str(tmp_path / "x")))
    assert {r["split"] for r in MaskPairs(str(tmp_path / "x"), as_split="test")} == {"test"}


@pytest.mark.parametrize("kind", ["levir_mci", "change_pairs"])
def test_a_mask_that_is_not_there_ends_the_run_or_drops_its_pair(tmp_path, kind):
    export(FORMATS[kind], tmp_path, {"train": 3}, size=32)
    sorted(tmp_path.rglob("label/*.png"))[1].unlink()
    with pytest.raises(UserError, match=r"pipeline\.source\.missing=keep drops such pairs"):
        MaskPairs(str(tmp_path)).fingerprint()
    found = [ReadMask()(record) for record in MaskPairs(str(tmp_path), missing="keep")]
    assert [getattr(one, "reason", "") for one in found] == ["", "broken_mask", ""]
    assert len(list(MaskPairs(str(tmp_path), missing="skip"))) == 2
