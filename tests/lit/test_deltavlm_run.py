"""DeltaVLM through the entry points on an exported ChangeChat: train, kill, resume, ask."""

import csv
import json
from pathlib import Path

import pytest
import torch
from model_options import build
from PIL import Image

import rsvlm
from rsvlm.app import run
from rsvlm.data.sample import SampleError, Turn
from rsvlm.errors import UserError
from rsvlm.lit.bitemporal import Bitemporal
from rsvlm.metrics.captions.records import read_rows
from rsvlm.synthetic.export import FORMATS, export

CONF = Path(__file__).parents[2] / "conf"
TINY = [
    "model=deltavlm_tiny",
    "trainer=cpu",
    "logger=csv",
    "data.workers=0",
    "model.vision.image_size=28",
    "model.generation.max_new_tokens=6",
]
# All that draws random numbers is on: dropout in CSRM, one dialogue's order, a worker.
TRAIN = [
    "experiment=deltavlm_changechat",
    *TINY,
    "data.workers=1",
    "data.dataset.holdout=0.3",
    "data.batch_size=12",
    "init_new=[]",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "trainer.save_every=2",
    "trainer.log_every_n_steps=1",
    "scheduler.warmup_steps=2",
    "optimizer.lr=1e-3",
    "evaluation.metrics=[bleu1,bleu4]",
    "evaluation.val_metrics=[bleu4]",
]
TASKS = {
    "captions": ("changechat_caption/token_ids/bleu4", "changechat_caption/levir_cc/change_f1"),
    "binary": ("changechat_binary/yes_no/change_accuracy",),
    "count": ("changechat_count/published/road_mae",),
    "location": ("changechat_loc/published/building_loc_f1",),
    "open": ("changechat_open/open_questions/bleu4",),
    "dialogue": ("changechat_dialog/dialogue_released/bleu4",),
}


class Killed(BaseException):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    root = tmp_path_factory.mktemp("chat") / "ChangeChat"
    export(FORMATS["changechat"], root, {"train": 6, "val": 1, "test": 3}, size=32)
    return root


@pytest.fixture(scope="module")
def whole(chat, tmp_path_factory):
    """The run that nothing interrupts."""
    from rsvlm.config.compose import compose

    cfg = compose("train", [*TRAIN, f"data.root={chat}"])
    out = tmp_path_factory.mktemp("whole")
    run.fit(cfg, out, overrides=[])
    return out


def state(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)


def test_training_validates_on_the_pairs_kept_apart_and_writes_answers(whole):
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    losses = [float(value) for _, name, value in rows if name == "train/loss"]
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert any(name == "val/changechat/token_ids/bleu4" for _, name, _ in rows)
    names = {row["name"] for row in json.loads((whole / "metrics.json").read_text())["results"]}
    assert {f"test/{name}" for name in TASKS["captions"]} <= names
    assert len(read_rows(whole / "predictions.jsonl")) == 3
    assert (whole / "pictures" / "answers.png").is_file()
    assert (whole / "pictures" / "attention.png").is_file()


def test_killed_and_resumed_equals_uninterrupted(whole, chat, compose, monkeypatch, scratch):
    with monkeypatch.context() as patch:
        before = Bitemporal.optimizer_step

        def killer(self, *args, **kwargs):
            if self.global_step == 4:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Bitemporal, "optimizer_step", killer)
        with pytest.raises(Killed):
            cfg = compose("train", [*TRAIN, f"data.root={chat}"])
            run.fit(cfg, scratch / "run", overrides=[])
    torch.manual_seed(123)  # whatever state the new process has
    words = [f"resume={scratch / 'run'}"]
    run.fit(compose("train", words), overrides=words)
    ours, theirs = state(scratch / "run"), state(whole)
    assert ours["global_step"] == theirs["global_step"] == 6
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name
    first, second = (read_rows(f / "predictions.jsonl") for f in (scratch / "run", whole))
    assert first == second


def test_a_run_that_keeps_frozen_features_is_the_run_without(chat, compose, scratch):
    words = [*TRAIN, f"data.root={chat}", "trainer.limit_test_batches=0", "trainer.max_steps=4"]
    found = []
    for gib in (0, 0.1):
        more = ["model.train_blocks=0", f"model.cache_gib={gib}"]
        run.fit(compose("train", [*words, *more]), scratch / str(gib), overrides=[])
        found.append(state(scratch / str(gib))["state_dict"])
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        assert torch.equal(found[1][name], tensor), name
    words += ["model.cache_gib=0.1"]
    with pytest.raises(UserError, match=r"whole vision tower is trained.*model\.cache_gib=0"):
        run.fit(compose("train", [*words, "model.train_blocks=null"]), scratch / "a", overrides=[])
    augment = "data.augment={_target_: rsvlm.data.transforms.Augment, _partial_: true}"
    with pytest.raises(UserError, match=r"data\.augment=null or model\.cache_gib=0"):
        run.fit(compose("train", [*words, augment]), scratch / "b", overrides=[])


@pytest.mark.parametrize("task", [*TASKS, "free"])
def test_each_task_is_measured_under_its_own_protocol(whole, chat, compose, scratch, task):
    recipe = "dialogue" if task == "free" else task
    words = [f"experiment=eval_deltavlm_changechat_{recipe}", *TINY, "logger=none"]
    words += [f"data.root={chat}", f"ckpt={whole / 'last.ckpt'}"]
    if task in ("captions", "open", "dialogue", "free"):
        words.append("evaluation.metrics=[bleu1,bleu4]")
    wanted = TASKS[recipe]
    if task == "free":
        words.append("evaluation.mode=free")
        wanted = ("changechat_dialog/dialogue_free/bleu4",)
    values = run.evaluate(compose("eval", words), scratch)
    assert {f"test/{name}" for name in wanted} <= set(values)
    rows = json.loads((scratch / "metrics.json").read_text())["results"]
    assert all(row["count"] >= 1 and row["skipped"] == 0 for row in rows)
    sheet = "questions" if task in ("binary", "count", "location") else "answers"
    assert (scratch / "pictures" / f"{sheet}.png").is_file()
    assert read_rows(scratch / "predictions.jsonl")


def pictures(chat):
    return [str(next((chat / "images" / "test" / date).glob("*.png"))) for date in "AB"]


def test_predict_asks_and_goes_on(whole, chat, compose, scratch, monkeypatch, capsys):
    before, after = pictures(chat)
    words = [*TINY[:1], *TINY[4:], f"ckpt={whole / 'last.ckpt'}", f"before={before}"]
    words += [f"after={after}"]
    answer = run.predict(compose("predict", [*words, "prompt=has anything changed?"]), scratch)
    assert answer.text and answer.text in capsys.readouterr().out
    lines = iter(["has anything changed?", "how many houses are new?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    last = run.predict(compose("predict", words), scratch)
    assert last.text == capsys.readouterr().out.splitlines()[-1]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("deltavlm_tiny").eval()


GREEN, GREY = Image.new("RGB", (48, 40), "green"), Image.new("RGB", (48, 40), "grey")


@pytest.mark.parametrize(
    ("images", "question", "message"),
    [
        ([GREEN], "what has changed?", "Give before=<picture> after="),
        ([GREEN, GREY, GREY], "what has changed?", "Give before=<picture> after="),
        ([GREEN, GREY.resize((40, 40))], "what?", "two dates differ in size, 48 x 40 and 40 x 40"),
        ([GREEN, GREY], "   ", "question is empty"),
    ],
)
def test_bad_questions_say_what_to_do(model, images, question, message):
    with pytest.raises(UserError, match=message):
        rsvlm.predict(model, images, question)


def test_pictures_of_any_mode_become_rgb_and_tensors_must_be(model):
    as_grey = rsvlm.predict(model, [GREEN, GREY.convert("L")], "what?")
    assert (
        as_grey.score
        == rsvlm.predict(model, [GREEN, GREY.convert("L").convert("RGB")], "what?").score
    )
    with pytest.raises(SampleError, match=r"uint8 \[3, H, W\], got torch.float32 \[4, 8, 8\]"):
        rsvlm.predict(model, [GREEN, torch.zeros(4, 8, 8)], "what?")


def test_a_long_dialogue_loses_its_history_and_never_its_question(model):
    history = [Turn("user", "what has changed ?", (0, 1)), Turn("assistant", "a road is built")]
    for _ in range(200):
        history += [Turn("user", "what else ?"), Turn("assistant", "nothing else has changed")]
    short = rsvlm.predict(model, [GREEN, GREY], "how many houses ?", history)
    other = rsvlm.predict(model, [GREEN, GREY], "how many roads ?", history)
    assert short.score != other.score


def test_a_grey_date_of_a_data_set_is_one_clear_error(chat, compose, scratch):
    """Whatever mode a file has, it is named; nothing is converted behind the user's back."""
    import shutil

    root = scratch / "ChangeChat"
    shutil.copytree(chat, root)
    for path in (root / "images" / "test" / "B").glob("*.png"):
        Image.open(path).convert("I;16").save(path)
    words = [
        "experiment=eval_deltavlm_changechat_binary",
        *TINY,
        "logger=none",
        f"data.root={root}",
    ]
    words += ["task.max_broken=0"]
    with pytest.raises(UserError, match=r"samples could not be read.*\n.*B/test_"):
        run.evaluate(compose("eval", words), scratch / "out")
