"""Each system is asked in its own words, and its answers hold boxes and masks in its own form."""

import numpy as np
import pytest
import torch

from rsvlm.data.collate.chat import ChatCollate
from rsvlm.data.collate.pixel import PixelCollate
from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, SampleError, Turn
from rsvlm.data.text.box_codecs import CODECS, codec
from rsvlm.data.text.instructions import MADE, InstructionTemplates, enumerated, system, systems
from rsvlm.data.text.prompt_formats import LOST, formats
from rsvlm.data.transforms import Augment, Pad, Preprocess, Squash
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes


def draws(seed=0):
    return np.random.default_rng(seed)


def item(*turns, texts=(), instances=(), images=1):
    pictures = [torch.zeros(3, 100, 100, dtype=torch.uint8) for _ in range(images)]
    layout = {1: "single", 2: "before_after"}[images]
    sample = Sample(pictures, layout, list(texts), list(turns), list(instances))
    return TransformedSample(
        0,
        sample,
        geometry=tuple(Squash(100).geometry(100, 100) for _ in range(images)),
        stored=list(instances),
    )


TANK = Instance(
    4, "tank", 1, "the white tank", (10.0, 20.0, 30.0, 40.0), mask=np.ones((100, 100), bool)
)
PLANE = Instance(7, "plane", 2, None, (50.0, 50.0, 60.0, 70.0))


def test_every_system_is_whole():
    assert len(systems()) >= 10
    for name, found in systems().items():
        assert found.source and found.tasks, name
        assert found.format in formats(), name
        assert not found.boxes or found.boxes in CODECS, name
        for word, task in found.tasks.items():
            assert task.ask and len(set(task.ask)) == len(task.ask), (name, word)
            uses_boxes = "{boxes}" in task.answer + task.measure + "".join(task.ask)
            assert bool(found.boxes) or not uses_boxes, (name, word)
    with pytest.raises(UserError, match="Did you mean skyeyegpt"):
        system("skyeyegtp")


def test_published_counts_of_templates():
    mini = system("minigptv2").tasks
    counts = {word: len(task.ask) for word, task in mini.items()}
    assert counts | {"refer": 7, "identify": 7, "caption": 17, "vqa": 2} == counts
    assert system("skyeyegpt").identifiers >= {"[caption]", "[vqa]", "[refer]", "[identify]"}
    assert len(system("rsgpt").tasks["caption"].ask) == 4


def test_a_referring_question_gets_identifier_and_box():
    turns = (
        Turn("user", "the white tank", (0,), kind="refer"),
        Turn("assistant", "the white tank", (), (4,), kind="refer"),
    )
    seen = set()
    for seed in range(40):
        ((asked, said),) = InstructionTemplates("skyeyegpt")(
            item(*turns, instances=[TANK]), draws(seed)
        )
        assert asked.text.startswith("[refer] ") and "the white tank" in asked.text
        assert said.text == "{<10><20><30><40>}" and said.instance_ids == (4,)
        assert asked.kind == said.kind == "refer" and asked.image_ids == (0,)
        seen.add(asked.text)
    assert len(seen) == 7
    measured = InstructionTemplates("skyeyegpt", measuring=True)(
        item(*turns, instances=[TANK]), draws()
    )
    assert measured[0][0].text == "[refer] give me the location of the white tank"
    other = InstructionTemplates("geochat")(item(*turns, instances=[TANK]), draws())
    assert other[0][0].text == "[refer] Give me the location of <p> the white tank </p>"
    assert other[0][1].text == "{<10><20><30><40>|<0>}"
    form = InstructionTemplates("skyeyegpt", boxes="qwen0_1000")
    assert "(100,200),(300,400)" in form(item(*turns, instances=[TANK]), draws())[0][1].text


def test_tasks_are_made_of_annotations():
    made = InstructionTemplates("skyeyegpt", tasks=["identify", "detection", "refer"])
    found = made(item(instances=[TANK, PLANE]), draws())
    by_kind = {}
    for asked, said in found:
        by_kind.setdefault(asked.kind, []).append((asked.text, said.text))
    assert len(by_kind["identify"]) == 2 and len(by_kind["refer"]) == 1  # one phrase
    assert "{<10><20><30><40>}" in by_kind["identify"][0][0]
    assert by_kind["identify"][0][1] == "the white tank" and by_kind["identify"][1][1] == "plane"
    assert by_kind["detection"] == [
        ("[detection] tank", "<p>tank</p> {<10><20><30><40>}"),
        ("[detection] plane", "<p>plane</p> {<50><50><60><70>}"),
    ]
    segment = InstructionTemplates("geopix", tasks=["segment"])(
        item(instances=[TANK, PLANE]), draws()
    )
    assert [said.text for _, said in segment] == ["Sure, it is [SEG]"]  # the plane has no mask
    assert enumerated(["a"]) == "a" and enumerated(["a", "b", "c"]) == "a, b and c"


def test_captions_get_a_question_once():
    made = InstructionTemplates("skyeyegpt")
    ((asked, said),) = made(item(texts=["a pond"]), draws())
    assert asked.text.startswith("[caption] ") and said.text == "a pond"
    turns = (Turn("user", "describe", (0,), kind="caption"), Turn("assistant", "a lake"))
    (only,) = made(item(*turns, texts=["a pond"]), draws())
    assert only[1].text == "a lake" and only[0].text.startswith("[caption] ")
    kept = InstructionTemplates("skyeyegpt", rephrase=False)(item(*turns), draws())
    assert kept[0][0].text == "describe"
    assert InstructionTemplates("skyeyegpt", questions=False, tasks=[])(item(*turns), draws()) == []
    (pair,) = InstructionTemplates("deltavlm")(item(texts=["a road"], images=2), draws())
    assert pair[0].image_ids == (0, 1)
    assert pair[0].text == "Please briefly describe the changes in these two images."


def test_questions_of_other_kinds_are_asked_as_vqa():
    turns = (Turn("user", "is there a pond?", (0,), kind="presence"), Turn("assistant", "yes"))
    (one,) = InstructionTemplates("llava")(item(*turns), draws())
    assert one[0].text == "is there a pond?\nAnswer the question using a single word or phrase."
    assert one[0].kind == "presence" and one[1].text == "yes"


def test_what_speaks_for_itself_stays():
    worded = (Turn("user", "[refer] the pond", (0,)), Turn("assistant", "{<1><2><3><4>}"))
    assert InstructionTemplates("skyeyegpt")(item(*worded), draws()) == [list(worded)]
    other = (Turn("user", "[grounding] the pond", (0,)), Turn("assistant", "{<1><2><3><4>}"))
    assert InstructionTemplates("skyeyegpt")(item(*other), draws()) == [list(other)]
    talk = (
        Turn("user", "what is it?", (0,)),
        Turn("assistant", "a pond"),
        Turn("user", "where?"),
        Turn("assistant", "left"),
    )
    assert InstructionTemplates("skyeyegpt")(item(*talk), draws()) == [list(talk)]
    # Read with its identifier taken off: the identifier comes back, the text box stays.
    bare = (Turn("user", "the pond", (0,), kind="refer"), Turn("assistant", "{<1><2><3><4>}"))
    (back,) = InstructionTemplates("skyeyegpt", measuring=True)(item(*bare), draws())
    assert back[0].text == "[refer] give me the location of the pond"
    assert back[1].text == "{<1><2><3><4>}"


def test_boxes_in_texts_move_with_the_image():
    def made(transform, text, seed=0):
        image = torch.zeros(3, 100, 200, dtype=torch.uint8)
        turns = [Turn("user", "[refer] the pond", (0,)), Turn("assistant", text)]
        (seen,), (geometry,) = transform.apply_with_geometry([image], draws(seed))
        return TransformedSample(0, Sample([seen], turns=turns), geometry=(geometry,))

    text = "here {<50><20><75><40>} and {<60><20><75><40>}."
    instructions = InstructionTemplates("skyeyegpt", text_boxes="mini0_100")
    mirrored = Augment(64, scale=(1, 1), ratio=(2, 2), hflip=True)
    answers = set()
    for seed in range(20):
        answers.add(instructions(made(mirrored, text, seed), draws())[0][1].text)
    assert answers == {text, "here {<25><20><50><40>} and {<25><20><40><40>}."}
    padded = InstructionTemplates("llava", text_boxes="mini0_100")(made(Pad(64), text), draws())
    assert padded[0][1].text.startswith("here [0.50, 0.35, 0.75, 0.45] and [")
    cut = instructions(made(Preprocess(64), "here {<0><20><10><40>}."), draws())
    assert LOST in cut[0][1].instance_ids
    kept = InstructionTemplates("skyeyegpt")(made(Pad(64), text), draws())
    assert kept[0][1].text == text
    with pytest.raises(UserError, match="no box convention"):
        InstructionTemplates("rsgpt", text_boxes="mini0_100")


def test_what_cannot_be_worded_says_so():
    with pytest.raises(UserError, match="no task 'segment' can be made for skyeyegpt"):
        InstructionTemplates("skyeyegpt", tasks=["segment"])
    with pytest.raises(UserError, match="box convention"):
        InstructionTemplates("skyeyegpt", boxes="mini")
    turns = (Turn("user", "x", (0,), kind="refer"), Turn("assistant", "x", (), (9,), kind="refer"))
    with pytest.raises(SampleError, match="one is missing"):
        InstructionTemplates("skyeyegpt")(item(*turns), draws())


def test_asks_take_the_place_of_a_tasks_instructions():
    said = InstructionTemplates("skyeyegpt", asks={"caption": "tell all of it"}, measuring=True)
    found = said(item(texts=["a town"]), draws())[0]
    assert found[0].text.endswith("tell all of it") and found[1].text == "a town"
    assert system("skyeyegpt").tasks["caption"].ask != ("tell all of it",)
    with pytest.raises(UserError, match="Did you mean caption"):
        InstructionTemplates("skyeyegpt", asks={"captoin": "x"})


@pytest.mark.parametrize("name", sorted(systems()))
def test_scenes_can_be_asked_by_every_system(name):
    from rsvlm.encoders.tokenizers import word_tokenizer

    tokenizer = word_tokenizer(["a", "the", "is", "in", "image", "where", "how", "many"])
    tokenizer.add_tokens(["[SEG]", "<image>"])
    layout = "before_after" if name == "deltavlm" else "single"
    # Questions on places and mirrored images do not go together.
    flips = name in ("geopix", "skyeyegpt", "geochat")
    parts = ("captions", "references", "masks") if flips else ("captions", "turns", "masks")
    parts = parts if flips or layout == "before_after" else (*parts, "references")
    data = Scenes(n=2, size=64, parts=parts, layout=layout)
    turns = {"hflip": True, "rotation": "quarter"} if flips else {"hflip": False}
    augment = Augment(56, scale=(0.6, 1), **turns)
    view = TransformedDataset(data, augment, seed=1, training=True)
    made = [word for word in MADE if word in system(name).tasks]
    collate = PixelCollate if "segment" in made else ChatCollate
    batch = collate(
        tokenizer,
        format=system(name).format,
        instructions=InstructionTemplates(name, tasks=made),
        which="all",
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_tokens=1,
    )([view[0, i] for i in range(2)])
    assert len(batch) >= 6
    form = codec(system(name).boxes) if system(name).boxes else None
    referred = 0
    for kind, answer, geometry in zip(batch.kinds, batch.answers, batch.geometry, strict=True):
        if kind == "refer" and form is not None:
            parsed = form.parse(answer, geometry[0])
            assert parsed.boxes and not parsed.unparsable
            referred += 1
    assert referred or form is None
    if collate is PixelCollate:
        assert sum(len(mask) for mask in batch.masks) >= 1
