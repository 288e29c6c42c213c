"""The short form, from a name to an answer; and that `import rsvlm` is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import rsvlm
from rsvlm import checkpoints
from rsvlm.data.sample import SampleError, Turn
from rsvlm.encoders.clip.model import clip
from rsvlm.errors import UserError
from rsvlm.inference import api
from rsvlm.retrieval.gallery import Gallery


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = clip("tiny", activation="gelu").eval()
    with torch.no_grad():
        built.logit_scale.fill_(3.0)
    return built


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


def test_import_is_cheap():
    code = (
        "import sys, rsvlm; assert rsvlm.__version__; dir(rsvlm); "
        "heavy = {'torch', 'numpy', 'open_clip', 'transformers', 'lightning', 'hydra'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    for name in rsvlm.__all__:
        assert getattr(rsvlm, name) is not None and name in dir(rsvlm)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        rsvlm.laod  # noqa: B018


def test_asking_imports_no_trainer_and_no_drawing():
    """What stands between the user and an answer: seconds of imports, most of them unused."""
    code = (
        "import sys, rsvlm.inference.api, rsvlm.inference.build, rsvlm.inference.display, "
        "rsvlm.app.entry, rsvlm.app.run; "
        "heavy = {'lightning', 'matplotlib', 'wandb', 'torchmetrics', 'torchvision', "
        "'transformers', 'scipy', 'pandas', 'open_clip', 'timm', 'torch._dynamo'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_loaded_model_answers_within_a_second(model, picture):
    rsvlm.predict(model, picture, "an airport; a beach")  # the tokenizer's table, once
    begun = time.process_time()
    rsvlm.predict(model, picture, "a lake; two lakes")
    assert time.process_time() - begun < 1  # 0.01 s here


def test_the_zoo_loads_without_the_libraries_that_only_some_need():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('transformers', 'huggingface_hub', "
        "'timm', 'peft', 'wandb'))); from rsvlm.models.zoo import rows; print(len(rows()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) >= 24


def test_our_own_checkpoint_says_itself_what_it_is(model, tmp_path, picture):
    torch.save(checkpoints.pack(model, {}), tmp_path / "last.ckpt")
    for names in ([], ["clip_tiny"]):
        loaded, preprocess, tokenizer = rsvlm.load_clip(*names, tmp_path / "last.ckpt")
        assert loaded.arch == "tiny" and loaded.activation == "gelu" and not loaded.training
        images, ids = preprocess(picture)[None], tokenizer(["an airport"])
        assert images.dtype == torch.uint8 and images.shape == (1, 3, 64, 64)
        assert torch.equal(loaded.encode_image(images), model.encode_image(images))
        assert torch.equal(loaded.encode_text(ids), model.encode_text(ids))
    with pytest.raises(
        UserError,
        match=r"model=clip_small is not the model of .*its arch is small, the checkpoint.s is tiny",
    ):
        rsvlm.load("clip_small", tmp_path / "last.ckpt")


def test_what_is_not_an_architectures_default_comes_back(tmp_path):
    torch.manual_seed(0)
    options = {"stem": "patch", "image_size": 32, "mean": (0.1, 0.2, 0.3), "logit_bias": -10.0}
    model = clip("tiny", activation="quick_gelu", **options).eval()
    torch.save(checkpoints.pack(model, {}), tmp_path / "a.ckpt")
    loaded, preprocess, _ = rsvlm.load_clip(tmp_path / "a.ckpt")
    assert loaded.mean == (0.1, 0.2, 0.3) and preprocess.size == 32
    assert float(loaded.logit_bias.detach()) == -10.0
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded.encode_image(images), model.encode_image(images))


@pytest.mark.slow
def test_a_row_with_the_published_file(scratch, picture):
    """The command of the README, with random weights in GeoRSCLIP's layout and file name."""
    import open_clip

    theirs = open_clip.create_model("ViT-B-32-quickgelu").eval()
    file = scratch / "RS5M_ViT-B-32.pt"
    torch.save(theirs.state_dict(), file)
    _, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    for names in (["georsclip_vitb32.rs5m"], ["georsclip_vitb32"], []):
        model, preprocess, tokenizer = rsvlm.load_clip(*names, file)
        assert model.activation == "quick_gelu"
        with torch.no_grad():
            ours = model.encode_image(preprocess(picture)[None], normalize=True)
            want = theirs.encode_image(transform(picture)[None], normalize=True)
            torch.testing.assert_close(ours, want, atol=1e-5, rtol=1e-5)
            ids = tokenizer(["two bridges"])
            torch.testing.assert_close(
                model.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=1e-5
            )
    with pytest.raises(UserError, match=r"is georsclip_vitb32\.rs5m, not georsclip_vitb32\.ret2"):
        rsvlm.load("georsclip_vitb32.ret2", file)
    with pytest.raises(UserError, match=r"the model is ViT-L-14\. Use model=georsclip_vitb32"):
        rsvlm.load("georsclip_vitl14", file)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("georsclip_vitb31", "no model.*Did you mean georsclip_vitb32"),
        ("georsclip_vitb32.rs5", r"no row.*georsclip_vitb32\.rs5m"),
        ("georsclip_vitb32", r"alone has no weights.*georsclip_vitb32\.rs5m"),
        ("gaiaclip_vitb32", "alone has no weights; give a checkpoint"),
        ("clip_vitb32.openai", "hf download timm/vit_base_patch32_clip_224"),
    ],
)
def test_names_that_cannot_be_loaded(name, match):
    with pytest.raises(UserError, match=match):
        rsvlm.load(name)


def test_a_file_that_does_not_say_what_it_is(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"does not say which model it is.*rsvlm list models"):
        rsvlm.load(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"model\.activation=quick_gelu"):
        rsvlm.load("clip_tiny", tmp_path / "a.pt", overrides=["model.activation=null"])


def test_predict_ranks_the_candidates(model, picture, tmp_path):
    answer = rsvlm.predict(model, picture, ["an airport", "a beach", "a forest"])
    texts, chances = zip(*answer.candidates, strict=True)
    assert sorted(texts) == ["a beach", "a forest", "an airport"]
    assert sum(chances) == pytest.approx(1) and list(chances) == sorted(chances, reverse=True)
    assert (answer.text, answer.score) == answer.candidates[0]

    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), [picture], tensor):
        again = rsvlm.predict(model, same, " an airport ;a beach; a forest;; a beach")
        assert [text for text, _ in again.candidates] == list(texts)
        assert [p for _, p in again.candidates] == pytest.approx(list(chances), abs=1e-6)


def test_predict_leaves_the_model_as_it_was(model, picture):
    model.train()
    rsvlm.predict(model, picture, "a; b")
    assert model.training and torch.is_grad_enabled()
    model.eval()


def test_predict_agrees_with_the_features(model, picture):
    answer = rsvlm.predict(model, picture, ["a", "b"])
    with torch.no_grad():
        scores = model.logit_scale.exp() * (
            api.encode_images(model, [picture]) @ api.encode_texts(model, ["a", "b"]).T
        )
    assert dict(answer.candidates)["a"] == pytest.approx(float(scores.softmax(-1)[0, 0]))


def test_questions_that_a_clip_cannot_answer(model, picture):
    with pytest.raises(UserError, match="no text to compare"):
        rsvlm.predict(model, picture, " ; ")
    with pytest.raises(UserError, match="one picture at a time, not 2"):
        rsvlm.predict(model, [picture, picture], "a; b")
    with pytest.raises(UserError, match="holds no dialogue"):
        rsvlm.predict(model, picture, "a; b", history=[Turn("user", "hello")])
    with pytest.raises(UserError, match="does not know how to ask a Linear"):
        rsvlm.predict(torch.nn.Linear(1, 1), picture, "a; b")
    with pytest.raises(SampleError, match=r"uint8 \[3, H, W\]"):
        rsvlm.predict(model, torch.zeros(3, 4, 4), "a; b")
    with pytest.raises(SampleError, match=r"nothing\.png"):
        rsvlm.predict(model, "nothing.png", "a; b")


def test_search_ranks_a_folder(model, picture, tmp_path):
    (tmp_path / "deep").mkdir()
    rng = np.random.default_rng(1)
    for i in range(5):
        image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        image.save(tmp_path / "deep" / f"{i}.png")
    picture.save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("x")
    answer = api.search(model, tmp_path, "two runways", batch_size=2)
    names = [name for name, _ in answer.retrieved]
    assert sorted(names) == ["a.png", *(f"deep/{i}.png" for i in range(5))]
    scores = [score for _, score in answer.retrieved]
    assert scores == sorted(scores, reverse=True)
    assert len(answer.sources) == 1 and "broken.jpg" in answer.sources[0]
    with pytest.raises(UserError, match="nothing to look for: give text="):
        api.search(model, tmp_path, " ")
    with pytest.raises(UserError, match="there is no such folder or file"):
        api.search(model, tmp_path / "nowhere", "a")
    with pytest.raises(UserError, match="no picture can be read"):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "x.png").write_bytes(b"")
        api.search(model, tmp_path / "bad", "a")


def test_an_index_stands_for_its_folder_and_knows_its_model(model, picture, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        picture.rotate(90 * i).resize((40 + i, 40)).save(folder / f"{i}.png")
    index = tmp_path / "index.safetensors"
    Gallery.of(model, folder).save(index)
    of_folder = api.search(model, folder, "a lake").retrieved
    of_index = api.search(model, index, "a lake").retrieved
    assert [name for name, _ in of_index] == [name for name, _ in of_folder]
    assert [s for _, s in of_index] == pytest.approx([s for _, s in of_folder], abs=1e-6)
    assert Gallery.read(index).root == folder
    torch.manual_seed(5)
    other = clip("tiny", activation="gelu").eval()
    with pytest.raises(UserError, match=r"made by another model, or with other weights.*rsvlm ind"):
        api.search(other, index, "a lake")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("RGBA", r"has 4 bands \(RGBA\); 3 are expected: it was made RGB \(keeps the first three"),
        ("L", r"has 1 band \(L\).*repeats the band"),
        ("I;16", r"has 16 bits per band.*keeps the high byte"),
    ],
)
def test_a_picture_that_is_made_rgb_is_told_once(model, mode, said, tmp_path, caplog):
    if mode == "I;16":
        picture = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    else:
        picture = Image.new(mode, (64, 64), 90 if mode == "L" else (9, 90, 200, 7))
    picture.save(tmp_path / "a.png")
    from_file = rsvlm.predict(model, tmp_path / "a.png", "a; b")
    (record,) = caplog.records
    assert re.search(said, record.getMessage()) and "a.png" in record.getMessage()
    caplog.clear()
    from_memory = rsvlm.predict(model, picture, "a; b")
    assert re.search(said, caplog.records[0].getMessage())
    assert from_memory.candidates == from_file.candidates
    caplog.clear()
    api.search(model, tmp_path, "a")
    (record,) = caplog.records
    assert "1 of 1 pictures are not 8-bit RGB" in record.getMessage()


def test_what_cannot_be_made_rgb_is_refused(model):
    dark = Image.fromarray(np.full((64, 64), 900, np.uint16))
    with pytest.raises(SampleError, match="no value above 4095"):
        rsvlm.predict(model, dark, "a; b")
    with pytest.raises(SampleError, match="32 bits per band"):
        rsvlm.predict(model, Image.new("F", (64, 64)), "a; b")
