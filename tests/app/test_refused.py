"""What is refused before anything is built, and how a run that is stopped ends."""

import signal
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from rsvlm.app import stopped
from rsvlm.app.checks import check_stages
from rsvlm.app.entry import main
from rsvlm.config.overrides import command_line
from rsvlm.config.schema import check_top_level, check_words
from rsvlm.errors import UserError
from rsvlm.lit.finite import FiniteLosses


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("+modle=clip_small", "Did you mean model=clip_small?"),
        ("modle=clip_small", "Did you mean model=clip_small?"),
        ("++modle=", "Did you mean model="),
        ("++max_epochs=1", "Did you mean trainer.max_epochs=1?"),
        ("lr=3", "Did you mean optimizer.lr=3?"),
        ("~modle=x", "Did you mean model=x"),
        ("batchsize=3", "nothing would read it"),
    ],
)
def test_a_word_that_nothing_reads_is_an_error_with_the_near_one(word, say):
    with pytest.raises(UserError) as error:
        check_words([word], "train")
    assert say in str(error.value)
    assert "+modle" not in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        "model.key_env=sk-abc123",
        "++evaluation.judge.key_env='sk-abc123'",
        "model.url=https://me:sk-abc123@host/v1",
        "model.url=https://host/v1?api-key=sk-abc123",
        "+model.api_key=sk-abc123",
    ],
)
def test_a_key_is_refused_before_it_is_written_anywhere(word):
    with pytest.raises(UserError, match="export OPENAI_API_KEY=<key>") as error:
        check_words([word], "bench")
    assert "abc123" not in str(error.value)
    check_words(["model.key_env=MY_KEY", "model.url=http://h/v1?api-version=2"], "bench")


def test_words_that_something_reads_pass(root):
    words = ["model=x", "+model.a=1", "~loss", "hydra.run.dir=x", "experiment=a", "-m", "a b", "x"]
    check_words(words, "train")
    check_words(["image=a.png", "batch_size=3"], "predict")
    with pytest.raises(UserError, match="no word of rsvlm train"):
        check_words(["image=a.png"], "train")
    with pytest.raises(UserError, match="Did you mean model="):
        check_top_level(["modle"], "train")


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("model=clip_smal", "Did you mean clip_small"),
        ("trainer=gpuu", "gpu"),
        ("data=x,scenes", "x"),
    ],
)
def test_an_option_that_is_not_there_names_the_near_ones(root, word, say):
    with pytest.raises(UserError, match=say):
        command_line([word], [root / "conf"])


def test_slurms_launcher_off_a_cluster_is_one_line(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SystemExit, match=r"there is no sbatch here.*local_jobs"):
        main("train", ["-m", "hydra/launcher=slurm_1gpu", "seed=0,1"])


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_names_the_cpu(monkeypatch, accelerator):
    from rsvlm.app.guards import device_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="trainer=cpu"):
        device_of(OmegaConf.create({"trainer": {"accelerator": accelerator}}))
    assert device_of(OmegaConf.create({"trainer": {"accelerator": "auto"}})) == "cpu"


class Data:
    """A data module with one data set."""

    batch_size = 4

    def __init__(self, size=8):
        self.held = SimpleNamespace(name="towns", size=size)

    def dataset(self, stage):
        return type("Set", (), {"name": "towns", "__len__": lambda _: self.held.size})()

    def has(self, stage):
        return True


def refused(monitor, *, size=8, trainer=None):
    cfg = {"callbacks": {"checkpoints": {"monitor": monitor}}, "trainer": trainer or {}}
    task = SimpleNamespace(evaluation=SimpleNamespace(protocol="coco"))
    check_stages(OmegaConf.create(cfg), task, Data(size))


@pytest.mark.parametrize(
    ("monitor", "say"),
    [
        ("val/rsicd/coco/cider", "Give callbacks.checkpoints.monitor=val/towns/coco/cider"),
        ("val/towns/nltk/cider", "monitor=val/towns/coco/cider"),
        ("test/towns/coco/cider", "monitor=val/towns/coco/cider"),
        ("val/towns/coco/ciderr", "cider"),
        ("cider", "monitor=null keeps no best"),
    ],
)
def test_a_monitor_that_will_not_be_measured_is_told_before_training(monitor, say):
    with pytest.raises(UserError) as error:
        refused(monitor)
    assert say in str(error.value)


def test_a_monitor_that_is_measured_and_none_pass_and_a_batch_must_fit():
    refused("val/towns/coco/cider")
    refused(None)
    refused("val/rsicd/coco/cider", trainer={"limit_val_batches": 0})  # never looked at
    with pytest.raises(UserError, match=r"data\.batch_size=3 or less"):
        refused(None, size=3)


def trainer_at(step, **more):
    group = {"lr": 1e9}
    return SimpleNamespace(
        precision_plugin=SimpleNamespace(),
        world_size=1,
        global_step=step,
        gradient_clip_val=None,
        precision="bf16-mixed",
        default_root_dir="runs/x",
        optimizers=[SimpleNamespace(param_groups=[group])],
        **more,
    )


def test_a_loss_or_a_weight_that_is_no_number_ends_a_training():
    losses = FiniteLosses()
    model = torch.nn.Linear(2, 2)
    losses.check(trainer_at(0), model)
    losses.note(torch.tensor(1.0), 0, 0, 0)
    losses.check(trainer_at(1), model)
    for step, value in ((1, float("inf")), (2, 1.0), (3, float("nan"))):
        losses.note(torch.tensor(value), step, step, 0)
    with pytest.raises(UserError, match=r"the loss of step 1 \(epoch 0, batch 1\).*1e\+08"):
        losses.check(trainer_at(4))
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    FiniteLosses().check(trainer_at(4))
    with pytest.raises(UserError, match=r"at step 4.*not overwritten.*gradient_clip_val=1\.0"):
        FiniteLosses().check(trainer_at(4), model)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_a_stopped_run_says_the_command_that_goes_on(tmp_path, monkeypatch, capsys, signum, status):
    tool = tmp_path / "scontrol"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert stopped.ended("train", "runs/x", signum, 7) == status
    said = capsys.readouterr().out
    assert "at step 7" in said and "rsvlm train resume=runs/x" in said
    # `scancel` sends SIGTERM, and nobody wants that job again.
    assert (tmp_path / "asked").exists() == (signum == signal.SIGUSR1)
    if signum == signal.SIGUSR1:
        assert (tmp_path / "asked").read_text() == "requeue 42\n"
    assert "resume" not in (stopped.ended("predict", "x", signum, None), capsys.readouterr().out)[1]
