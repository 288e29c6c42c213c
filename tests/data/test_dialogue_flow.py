"""From exported files of dialogues through reader, view and collate: what a model is asked."""

import numpy as np
import pytest

from rsvlm.data.collate.chat import ChatCollate
from rsvlm.data.datasets import DATASETS
from rsvlm.data.geometry import identity
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import InstructionTemplates
from rsvlm.data.text.prompt_formats import dialogues
from rsvlm.data.transforms import Squash
from rsvlm.synthetic import Scenes
from rsvlm.synthetic.export import FORMATS, export

SPLITS = {
    "floodnet": "train",
    "geochat_instruct": "train",
    "rsgpt4v": "train",
    "rsicap": "train",
    "rsieval": "vqa",
    "rsivqa": "all",
    "rsvqa_hr": "test_phili",
    "rsvqa_lr": "train",
    "rswk": "train",
    "skyeye968k": "train",
}


def read(word, folder, train=2, **options):
    export(FORMATS[word], folder, {"train": train, "val": 1, "test": 1}, size=64)
    return DATASETS[word](folder, SPLITS[word], **options)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    marks = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(marks)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(marks)
    return made


@pytest.mark.parametrize("word", sorted(SPLITS))
def test_every_answer_reaches_the_batch(tmp_path, tokenizer, word):
    data = read(word, tmp_path / "out")
    options = {"image_token_id": 4, "pad_id": 0, "bos_id": 2, "eos_id": 3}
    collate = ChatCollate(tokenizer, which="all", **options)
    view = TransformedDataset(data, Squash(32), training=False, caption="all")
    batch = collate([view[0, i] for i in range(len(data))])
    assert not batch.skipped and not batch.truncated
    assert batch.images.shape[1:] == (3, 32, 32)
    wanted = [d for sample in data for d in dialogues(sample)]
    assert len(batch.answers) == len(wanted) > 0
    assert batch.answers == [d[-1].text for d in wanted]
    assert batch.kinds == [d[-2].kind for d in wanted]
    assert ((batch.labels != -100).sum(1) > 0).all()
    assert ((batch.input_ids == 4).sum(1) == 1).all()


def test_questions_on_one_image_are_asked_apart_and_read_it_once(tmp_path, tokenizer):
    data = read("rsvqa_lr", tmp_path / "out", group="image")
    view = TransformedDataset(data, Squash(32), training=False, caption="all")
    options = {"image_token_id": 4, "pad_id": 0, "bos_id": 2, "eos_id": 3}
    collate = ChatCollate(
        tokenizer, generation=True, instructions=InstructionTemplates("skyeyegpt"), **options
    )
    batch = collate([view[0, 0]])
    questions = data[0].turns[::2]
    assert len(batch.images) == 1 and len(batch.prompts) == len(questions) > 2
    for prompt, question in zip(batch.prompts, questions, strict=True):
        assert question.text in prompt and "[vqa]" in prompt
        assert not any(other.text in prompt for other in questions if other is not question)


@pytest.mark.parametrize(
    ("word", "convention"),
    [("geochat_instruct", "geochat0_100_theta"), ("skyeye968k", "mini0_100")],
)
def test_boxes_in_the_text_are_those_of_the_scene(tmp_path, word, convention):
    data = read(word, tmp_path / "out", train=6)
    parts, options = FORMATS[word].parts, FORMATS[word].options
    scenes = Scenes("train", n=6, size=64, parts=parts, **options)
    drawn = {(i.box, i.angle) for scene in scenes for i in scene.instances}
    found = 0
    for index in range(len(data)):
        for turn in data.turns(index):
            if turn.role == "assistant" and turn.kind in ("refer", "grounding"):
                parsed = codec(convention).parse(turn.text, identity(64, 64))
                for box in parsed.boxes:
                    found += 1
                    # Whole hundredths of 64 pixels, cut or rounded: 0.64 pixels at most.
                    near = [
                        angle
                        for there, angle in drawn
                        if np.abs(np.subtract(there, box.box)).max() <= 0.65
                    ]
                    assert near, turn.text
                    if box.angle is not None:
                        assert min(abs(box.angle - angle) for angle in near) <= 0.5
    assert found > 5
