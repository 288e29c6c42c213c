"""Readers of conversations: LLaVA's format and its data sets, RSICap, RSIEval."""

import json
import pickle

import pytest
from PIL import Image

from rsvlm.data.datasets import (
    DATASETS,
    RSGPT4V,
    GeoChatInstruct,
    RSICap,
    RSIEval,
    SkyEye968k,
)
from rsvlm.data.datasets.conversations import Conversations
from rsvlm.data.datasets.locate import locate, stem
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError

WORDS = {"rsgpt4v", "geochat_instruct", "skyeye968k", "rsicap", "rsieval", "rswk"}


def picture(path, value=7, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str):
        content = json.dumps(content)
    path.write_text(content, encoding="utf-8")


def said(*turns, roles=("human", "gpt")):
    return [{"from": roles[i % 2], "value": text} for i, text in enumerate(turns)]


def record(*turns, image="a.png", **more):
    return {"id": "1", "image": image, "conversations": said(*turns)} | more


def texts(data, index=0):
    return [(t.role, t.text, t.image_ids, t.kind) for t in data[index].turns]


def test_all_are_registered_and_say_where_they_come_from():
    assert DATASETS["conversations"] is Conversations
    for word in WORDS:
        reader = DATASETS[word]
        assert reader.name == word and reader.paper and reader.homepage.startswith("https://")
        assert reader.licence != "unknown" and "{root}" in reader.layout


def test_markers_identifiers_and_boxes(tmp_path):
    picture(tmp_path / "images/a.png")
    talk = record(
        "<image>\n[refer] Give me the location of <p> the ship </p>",
        "{<8><26><22><37>|<90>}",
        "How many ships?",
        "two\nor three",
        source="DOTA",
    )
    write(tmp_path / "train.json", [talk])
    data = Conversations(tmp_path)
    assert texts(data) == [
        ("user", "[refer] Give me the location of <p> the ship </p>", (0,), "refer"),
        ("assistant", "{<8><26><22><37>|<90>}", (), "refer"),
        ("user", "How many ships?", (), None),
        ("assistant", "two\nor three", (), None),
    ]
    assert data[0].layout == "single" and data[0].meta["source"] == "DOTA" and not data.problems
    assert texts(Conversations(tmp_path, identifiers="strip"))[0] == (
        "user", "Give me the location of <p> the ship </p>", (0,), "refer",
    )  # fmt: skip
    with pytest.raises(UserError, match="identifiers='drop'"):
        Conversations(tmp_path, identifiers="drop")


def test_several_images(tmp_path):
    for i, name in enumerate("abc"):
        picture(tmp_path / f"images/{name}.png", i)
    images = ["a.png", "b.png", "c.png"]
    write(
        tmp_path / "train.json",
        [
            record(
                "<image> and <image>: what is new?", "a road", "<image> now?", "no", image=images
            ),
            record("What is new?", "a road", image=images[:2], id="2"),
            record("[vqa] <Img><ImageHere></Img> Is it?", "yes", image="c.png", id="3"),
            record("Here is <image> one", "what", image=images[:2], id="4"),
        ],
    )
    data = Conversations(tmp_path)
    sample = data[0]
    assert sample.layout == "interleaved" and len(sample.images) == 3
    assert [i.getpixel((0, 0))[0] for i in sample.images] == [0, 1, 2]
    assert [t.image_ids for t in sample.turns] == [(0, 1), (), (2,), ()]
    assert sample.turns[0].text == "and : what is new?"
    assert data[1].turns[0].image_ids == (0, 1)
    assert texts(data, 2)[0] == ("user", "[vqa] Is it?", (0,), "vqa")
    assert data[3].turns[0].image_ids == (1, 0)
    assert data.problems == [
        "1 conversation(s) do not say where each of their images stands: train.json[3]."
    ]


FAULTY = {
    "roles do not alternate": [
        {"from": "human", "value": "a"},
        {"from": "human", "value": "b"},
        {"from": "gpt", "value": "c"},
    ],
    "something else than from and value": [{"from": "robot", "value": "a"}],
    "more images than they have": said("<image> <image> which?", "the first"),
    "empty answer": said("<image> which?", "  "),
    "without question and answer": said("<image> which?"),
}


@pytest.mark.parametrize("what", sorted(FAULTY))
def test_a_malformed_conversation_is_left_out_and_told(tmp_path, what):
    picture(tmp_path / "images/a.png")
    bad = {"id": "bad", "image": "a.png", "conversations": FAULTY[what]}
    write(tmp_path / "train.json", [record("<image>\nq", "a"), bad, bad])
    data = Conversations(tmp_path)
    assert len(data) == 1
    assert len(data.problems) == 1
    assert data.problems[0].startswith("2 ") and what in data.problems[0]
    assert "train.json[1], train.json[2]" in data.problems[0]
    write(tmp_path / "train.json", [bad])
    with pytest.raises(UserError, match=f"no sample is left.*{what}"):
        Conversations(tmp_path)


def test_what_is_odd_but_of_use_is_kept_and_told(tmp_path):
    picture(tmp_path / "images/a.png")
    greeting = {"id": "g", "image": "a.png", "conversations": said("hello", roles=("gpt", "gpt"))}
    greeting["conversations"] += said("<image>\nq", "a", "and?")
    write(
        tmp_path / "train.json",
        [
            greeting,
            record("q", "a"),
            record("q", "b"),
            {"id": 4, "conversations": said("q", "a")},
            5,
        ],
    )
    data = Conversations(tmp_path)
    assert texts(data)[0] == ("user", "q", (0,), None) and len(data[0].turns) == 3
    assert texts(data, 1)[0][2] == (0,)
    assert [e.id for e in data.entries] == ["g", "1", "1#2"]
    problems = "\n".join(data.problems)
    for words in (
        "1 answer(s) before the first question were left out",
        "1 conversation(s) end with a question",
        "1 id(s) repeat",
        "1 conversation(s) have no image",
        "1 record(s) are no object",
    ):
        assert words in problems
    assert not describe(data)["problems"][5:]


def test_missing_images(tmp_path):
    picture(tmp_path / "images/a.png")
    talks = [record("<image>\nq", "a"), record("<image>\nq", "a", image="far/b.png", id="2")]
    write(tmp_path / "train.json", talks)
    with pytest.raises(UserError, match=r"1 of 2 images are not in .*far/b\.png"):
        Conversations(tmp_path)
    assert [e.id for e in Conversations(tmp_path, missing="skip").entries] == ["1"]
    data = Conversations(tmp_path, missing="keep")
    assert len(data) == 2 and "Their dialogues were kept" in data.problems[0]
    assert data.turns(1)[1].text == "a"
    with pytest.raises(BrokenImage, match=r"b\.png"):
        data[1]
    facts = describe(data)
    assert facts["turns"]["count"] == 4
    with pytest.raises(UserError, match="missing='no'"):
        Conversations(tmp_path, missing="no")


def test_malformed_json_names_file_and_line(tmp_path):
    write(tmp_path / "train.json", '[\n{"id": 1,}]')
    with pytest.raises(UserError, match=r"train\.json, line 2, column \d+"):
        Conversations(tmp_path)
    (tmp_path / "train.json").unlink()
    good = json.dumps(record("<image>\nq", "a\u2028b"), ensure_ascii=False)
    write(tmp_path / "train.jsonl", f'{good}\n\n{{"id": \n')
    with pytest.raises(UserError, match=r"train\.jsonl, line 3"):
        Conversations(tmp_path)
    picture(tmp_path / "images/a.png")
    write(tmp_path / "train.jsonl", good)
    assert Conversations(tmp_path)[0].turns[1].text == "a\u2028b"
    write(tmp_path / "train.jsonl", "")
    with pytest.raises(UserError, match="no sample is left"):
        Conversations(tmp_path)
    write(tmp_path / "other.json", {"a": 1})
    with pytest.raises(UserError, match="no sample is left"):
        Conversations(tmp_path, annotations="other.json")


def test_rsgpt4v_takes_the_files_of_a_split(tmp_path):
    with pytest.raises(UserError, match=r"RS-GPT4V is not in .*no \.json or \.jsonl has 'train'"):
        RSGPT4V(tmp_path)
    picture(tmp_path / "images/a.png")
    write(tmp_path / "RS-GPT4V_train_vqa.json", [record("<image>\nq", "a")])
    write(tmp_path / "RS-GPT4V_train_caption.json", [record("<image>\nd", "b")])
    write(tmp_path / "constrained.json", [record("<image>\nx", "c")])
    data = RSGPT4V(tmp_path, "train")
    assert [e.id for e in data.entries] == ["RS-GPT4V_train_caption/1", "RS-GPT4V_train_vqa/1"]
    assert len(RSGPT4V(tmp_path, "all")) == 3
    with pytest.raises(UserError, match=r"'test' in its name.*choose with annotations="):
        RSGPT4V(tmp_path, "test")
    assert texts(RSGPT4V(tmp_path, "test", annotations="constrained.json"))[0][1] == "x"
    with pytest.raises(UserError, match=r"there is no none\.json"):
        RSGPT4V(tmp_path, annotations="none.json")


def test_geochat_instruct(tmp_path):
    folder = "images/share/softwares/kartik/GeoChat_finetuning/final_images_llava"
    picture(tmp_path / folder / "a.png")
    write(
        tmp_path / "GeoChat_Instruct.json", [record("<image>\n[identify] {<1><2><3><4>|<0>}", "s")]
    )
    data = GeoChatInstruct(tmp_path)
    assert texts(data)[0][3] == "identify" and folder in data.entries[0].path
    assert "1 samples, 308861 were published." in describe(data)["problems"][0]
    with pytest.raises(UserError, match="no split 'test'"):
        GeoChatInstruct(tmp_path, "test")


def test_skyeye_parts(tmp_path):
    with pytest.raises(UserError, match=r"there is no caption/caption_ERA_train\.json"):
        SkyEye968k(tmp_path)
    picture(tmp_path / "images/RSICD/a.jpg")
    picture(tmp_path / "elsewhere/7.tif")
    caption = record("<image>\n[caption] Briefly describe this image.", "a pond", image="a.jpg")
    write(tmp_path / "caption/caption_RSICD_train.json", [caption])
    question = {"image": "7.tif", "text": "is it rural?", "ground_truth": "yes"}
    write(tmp_path / "vqa/RSVQALR_train.json", [question, {"image": "7.tif", "text": "x"}])
    data = SkyEye968k(tmp_path, images={"RSVQA_LR": "elsewhere"})
    assert [e.id for e in data.entries] == ["caption_rsicd/1", "vqa_rsvqa_lr/RSVQALR_train_0"]
    assert texts(data)[0][3] == "caption"
    assert texts(data, 1) == [
        ("user", "is it rural?", (0,), "vqa"),
        ("assistant", "yes", (), "vqa"),
    ]
    assert sum("is not there" in problem for problem in data.problems) == 17
    assert any("something else than from and value" in problem for problem in data.problems)
    part = SkyEye968k(tmp_path, "caption_rsicd")
    assert len(part) == 1 and not part.problems
    both = SkyEye968k(tmp_path, "caption_rsicd+vqa_rsvqa_lr", images={"RSVQA_LR": "elsewhere"})
    assert len(both) == 2
    with pytest.raises(UserError, match=r"no split 'caption_rsic'.*caption_rsicd"):
        SkyEye968k(tmp_path, "caption_rsic")
    with pytest.raises(UserError, match="names the source 'RSIC'"):
        SkyEye968k(tmp_path, images={"RSIC": "x"})


def test_rsicap_and_rsieval(tmp_path):
    with pytest.raises(UserError, match=r"there is no captions\.json"):
        RSICap(tmp_path)
    for name in ("P0_1.png", "P0_2.png"):
        picture(tmp_path / "images" / name)
    good = {
        "image_id": "0",
        "filename": "P0_1.png",
        "text_input": "Describe.",
        "text_output": "A pond.",
    }
    write(tmp_path / "captions.json", {"annotations": [good, good | {"text_output": " "}, None]})
    data = RSICap(tmp_path)
    assert data[0].texts == ["A pond."] and len(data) == 1
    assert texts(data)[0] == ("user", "Describe.", (0,), "caption")
    assert data.problems[0].startswith("2 record(s) lack filename")
    pairs = [
        {"question": "Is it?", "answer": "Yes.", "type": "presence"},
        {"question": "How many?", "answer": ""},
    ]
    records = [
        {"filename": "P0_1.png", "caption": "A pond.", "qa_pairs": pairs},
        {"filename": "P0_2.png", "qa_pairs": pairs[:1]},
        {"caption": "lost"},
    ]
    write(tmp_path / "annotations.json", {"annotations": records})
    captions = RSIEval(tmp_path, "caption")
    assert [e.id for e in captions.entries] == ["P0_1.png"] and len(captions.problems) == 2
    questions = RSIEval(tmp_path, "vqa")
    assert [e.id for e in questions.entries] == ["P0_1.png#0", "P0_2.png#0"]
    assert texts(questions)[1] == ("assistant", "Yes.", (), "presence")
    assert any("1 question(s) or answers are empty" in p for p in questions.problems)
    assert describe(questions)["turns"]["kinds"] == {"presence": 2}
    with pytest.raises(UserError, match="it has caption, vqa"):
        RSIEval(tmp_path, "test")


def test_images_are_found_by_name_and_else_without_ending(tmp_path):
    assert [stem(n) for n in ("a.png", "a.b.TIF", "St. Paul", "P1")] == [
        "a",
        "a.b",
        "St. Paul",
        "P1",
    ]
    for name in ("one/1.png", "one/1.tif", "one/notes.txt", "two/2.jpg", "two/sub/St. Paul.png"):
        picture(tmp_path / name) if not name.endswith("txt") else write(tmp_path / name, "x")
    folders = [tmp_path / "none", tmp_path / "one", tmp_path / "two"]
    names = ["1.tif", "1.jpg", "1", "2", "sub/St. Paul", "notes", "3"]
    found = [path.removeprefix(str(tmp_path)) for path in locate(folders, names)]
    one = "/one/1.tif"
    assert found == [one, one, one, "/two/2.jpg", "/two/sub/St. Paul.png", "", ""]


def test_a_reader_goes_to_loader_workers(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "train.json", [record("<image>\nq", "a")])
    data = pickle.loads(pickle.dumps(Conversations(tmp_path)))
    assert texts(data) == [("user", "q", (0,), None), ("assistant", "a", (), None)]
    assert data.entries[-1].id == "1" and [e.id for e in data.entries[:1]] == ["1"]
    with pytest.raises(IndexError):
        data.entries[1]
