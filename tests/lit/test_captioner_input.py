"""What a user of the captioner family may get wrong, and the one clear error that it gets.

That models and readers refuse the same themselves is tested beside them.
"""

import pytest
import torch
from model_options import build
from PIL import Image

from rsvlm import checkpoints
from rsvlm.app import run
from rsvlm.data.collate.pixel import PixelCollate
from rsvlm.encoders.tokenizers import word_tokenizer
from rsvlm.errors import UserError
from rsvlm.inference.build import build_model

BASE = [
    "task=captioner",
    "loss=answer",
    "trainer=cpu",
    "logger=none",
    "data.dataset.size=56",
    "data.dataset.n=4",
    "data.augment=null",
    "data.workers=0",
    "model.generation.max_new_tokens=4",
]
SMALL = (
    "{model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 4, max_position_embeddings: 512}"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of random tiny models, and a picture."""
    folder = tmp_path_factory.mktemp("saved")
    for name in ("skyeyegpt_tiny", "llava_tiny"):
        torch.manual_seed(0)
        torch.save(checkpoints.pack(build(name)), folder / f"{name}.ckpt")
    Image.new("RGB", (64, 48), "green").save(folder / "a.png")
    return folder


@pytest.mark.parametrize(
    ("evaluation", "part", "message"),
    [
        ("captions", "turns", "no image with a caption was given.*does this data set have"),
        ("vqa", "captions", "scenes has no question, so there is nothing to measure"),
        ("grounding", "captions", "no question of the kind refer, so there is nothing to measure"),
    ],
)
def test_a_data_set_without_what_is_measured(compose, tmp_path, evaluation, part, message):
    words = [*BASE, "model=skyeyegpt_tiny", f"evaluation={evaluation}"]
    with pytest.raises(UserError, match=message):
        run.evaluate(compose("eval", [*words, f"data.dataset.parts=[{part}]"]), tmp_path)


def test_training_without_a_question_or_a_caption(compose, tmp_path):
    words = [*BASE, "model=llava_tiny", "evaluation=none", "data.dataset.parts=[instances]"]
    words += ["trainer.max_epochs=1", "data.batch_size=4"]
    with pytest.raises(UserError, match=r"no dialogue of a training batch.*it has no turns"):
        run.fit(compose("train", words), tmp_path, overrides=[])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("[refr] the tank", r"cannot be asked: the model knows no task \[refr\].*mean \[refer\]"),
        ("tank " * 600, r"the question alone has 603 words.*the window is max_length=508\.$"),
        ("<Img><ImageHere></Img> a tank", "holds the image placeholder <ImageHere>: leave it out"),
    ],
)
def test_questions_that_cannot_be_asked(compose, saved, tmp_path, prompt, message):
    words = ["model=skyeyegpt_tiny", f"ckpt={saved / 'skyeyegpt_tiny.ckpt'}", BASE[-1]]
    words += [f"image={saved / 'a.png'}", f"prompt={prompt}"]
    with pytest.raises(UserError, match=message):
        run.predict(compose("predict", words), tmp_path)


def test_no_picture_at_all(compose, saved, tmp_path):
    words = ["model=llava_tiny", f"ckpt={saved / 'llava_tiny.ckpt'}", "prompt=Is it red?"]
    with pytest.raises(UserError, match="give a picture and a question"):
        run.predict(compose("predict", words), tmp_path)


def test_places_and_pictures_of_different_numbers():
    """A prompt without a place for its picture, and more pictures than places."""
    from rsvlm.data.loading.transformed import TransformedDataset
    from rsvlm.data.sample import Sample, Turn

    model = build("llava_tiny").eval()
    image = torch.zeros(3, 56, 56, dtype=torch.uint8)
    turn = Turn("user", "is it red ?", (0,))
    view = TransformedDataset(
        [Sample([image], turns=[turn])], model.preprocess, training=False, caption="all"
    )
    batch = model.collate(training=False)([view[(0, 0)]])
    ids, batch.input_ids = batch.input_ids, batch.input_ids.masked_fill(batch.input_ids < 0, 5)
    with pytest.raises(UserError, match="0 image places in its text and 16 visual embeddings"):
        model.generate(batch)
    batch.input_ids, batch.image_rows = ids, [(0, 0)]
    with pytest.raises(UserError, match="16 image places in its text and 32 visual embeddings"):
        model.generate(batch)


@pytest.mark.parametrize("name", ["skyeyegpt_tiny", "llava_tiny"])
def test_a_language_model_of_another_width(compose, saved, name):
    words = [f"model={name}", f"ckpt={saved / name}.ckpt", f"model.lm.size={SMALL}"]
    with pytest.raises(UserError, match="language model of width 64, this one has 32: choose"):
        build_model(compose("predict", words))


def test_an_adapter_for_other_modules(compose, saved, tmp_path):
    words = ["model=skyeyegpt_tiny", "model.tuning=lora"]
    with pytest.raises(UserError, match=r"targets=\['fc9'\]"):
        build_model(compose("predict", [*words, "model.lm.lora.targets=[fc9]"]))
    model = build_model(compose("predict", words))
    adapter = {
        "llama_model.base_model.model."
        + name.removeprefix("lm.model.").replace("v_proj", "k_proj"): value
        for name, value in model.state_dict().items()
        if ".lora_" in name
    }
    projector = {
        f"llama_proj.{word}": getattr(model.bridge.proj, word).data for word in ("weight", "bias")
    }
    torch.save({"model": adapter | projector}, tmp_path / "a.pth")
    message = r"LoRA of k_proj, q_proj; the model has LoRA of q_proj, v_proj.*targets=\[k_proj,q_p"
    with pytest.raises(UserError, match=message):
        build_model(compose("predict", [*words, f"ckpt={tmp_path / 'a.pth'}"]))


def test_marks_that_a_vocabulary_has_already_or_not_at_all(compose):
    """[RET] is a new word and must be none yet; [SEG] must be one word, not a row of letters."""
    own = word_tokenizer(["tank"])
    with pytest.raises(UserError, match=r"the tokenizer has no token '\[SEG\]': add it"):
        PixelCollate(own)
    own.add_tokens(["[SEG]"], special_tokens=True)
    assert PixelCollate(own).seg_ids == [len(own) - 1]
    cfg = compose("predict", ["model=rscapret_tiny", "model.lm.words=[tank, '[RET]']"])
    with pytest.raises(UserError, match=r"has a word \[RET\] already"):
        build_model(cfg).collate(training=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=skyeyegpt_stage1"], "has no tokenizer.*model.lm.weights=<folder"),
        (["experiment=llava_rsgpt4v", "init=nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_what_a_large_model_lacks_is_told_before_it_is_built(
    compose, tmp_path, monkeypatch, words, message
):
    monkeypatch.setattr(
        "rsvlm.inference.build.instantiate", lambda *a, **k: pytest.fail("something was built")
    )
    with pytest.raises(UserError, match=message):
        run.fit(compose("train", [*words, "trainer=cpu", "logger=none"]), tmp_path)
