"""A run's folder is its own, is locked while it is written, and goes on from what is whole."""

import json
import os
import subprocess
import sys

import pytest
import torch

from rsvlm.app.resume import check_is_training, newest_whole, requeued
from rsvlm.app.run_lock import locked
from rsvlm.config import run_folders
from rsvlm.errors import UserError
from rsvlm.files import WriteError, written_whole


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name == "WORLD_SIZE":
            monkeypatch.delenv(name)
    run_folders.forget()


def test_two_runs_of_one_second_have_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folders.time, "strftime", lambda *_: "now")
    found = []
    for _ in range(3):
        run_folders.forget()
        found.append(run_folders.new_folder(str(tmp_path)))
    assert [os.path.basename(path) for path in found] == ["now", "now_2", "now_3"]
    assert run_folders.new_folder(str(tmp_path)) == found[-1]  # Hydra asks more than once
    assert run_folders.new_folder(str(tmp_path), "sweep_") == str(tmp_path / "sweep_now")


@pytest.mark.parametrize(
    "env",
    [
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1"},
        {"TORCHELASTIC_RUN_ID": "abc", "WORLD_SIZE": "2"},
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"},
    ],
)
def test_ranks_that_are_started_from_outside_share_one(tmp_path, monkeypatch, env):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    first = run_folders.new_folder(str(tmp_path))
    run_folders.forget()
    monkeypatch.setenv("SLURM_PROCID", "1") if "SLURM_PROCID" in env else None
    assert run_folders.new_folder(str(tmp_path)) == first


def test_a_job_that_slurm_starts_again_finds_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    first = run_folders.new_folder(str(tmp_path))
    run_folders.forget()
    assert run_folders.new_folder(str(tmp_path)) != first  # another command of the same job
    run_folders.forget()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    last = run_folders.new_folder(str(tmp_path))
    assert not requeued(tmp_path / last)
    (tmp_path / last / "last.ckpt").touch()
    assert requeued(tmp_path / last)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    with pytest.raises(UserError, match=f"rsvlm train resume={last}"):
        requeued(tmp_path / last)


def test_one_process_at_a_time_and_a_dead_ones_lock_is_none(tmp_path):
    hold = (
        "import sys, pathlib\nfrom rsvlm.app.run_lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"another process \({other.pid} on"), locked(tmp_path):
        pass
    with locked(tmp_path, first=False):  # a rank that writes nothing
        pass
    other.kill()
    other.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(str(os.getpid()))


def checkpoint(path, step):
    torch.save({"rsvlm": {}, "global_step": step, "state_dict": {"a": torch.ones(100)}}, path)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x80\x02garbage", "flip"])
def test_a_damaged_last_checkpoint_is_told_and_the_one_before_is_taken(tmp_path, damage, capsys):
    assert newest_whole(tmp_path) is None
    checkpoint(tmp_path / "previous.ckpt", 3)
    checkpoint(tmp_path / "last.ckpt", 6)
    path, held = newest_whole(tmp_path)
    assert (path.name, held["global_step"]) == ("last.ckpt", 6)
    if damage == "flip":
        data = bytearray(path.read_bytes())
        at = data.index(b"\x00\x00\x80\x3f" * 8)
        data[at : at + 4] = b"abcd"
        damage = bytes(data)
    path.write_bytes(damage)
    path, held = newest_whole(tmp_path)
    assert (path.name, held["global_step"]) == ("previous.ckpt", 3)
    said = capsys.readouterr().out
    assert "last.ckpt" in said and "step 3" in said
    assert "weights_only" not in said
    (tmp_path / "previous.ckpt").write_bytes(b"")
    checkpoint(tmp_path / "best.ckpt", 2)
    with pytest.raises(UserError, match=r"is whole: .*init=.*best\.ckpt"):
        newest_whole(tmp_path)


def test_the_folder_of_an_evaluation_is_no_trainings(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="of an evaluation"):
        check_is_training(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"verb": "eval"}))
    with pytest.raises(UserError, match="of an evaluation"):
        check_is_training(tmp_path)
    for state in ({"verb": "train"}, {"argv": []}):  # older runs do not say
        (tmp_path / "run.json").write_text(json.dumps(state))
        check_is_training(tmp_path)


def test_a_full_disk_says_so_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    full = OSError(28, "No space left on device")
    for error in (full, RuntimeError("unexpected pos 576 vs 534")):
        error.__context__ = None if error is full else full
        with pytest.raises(WriteError, match=r"disk is full.*before is whole"), written_whole(path):
            raise error
    with pytest.raises(RuntimeError, match="else"), written_whole(path):
        raise RuntimeError("something else")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]
