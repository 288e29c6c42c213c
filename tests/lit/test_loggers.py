"""Loggers whose package is not there."""

import sys
from types import SimpleNamespace

import pytest

from rsvlm.errors import UserError
from rsvlm.lit.loggers import finish, wandb_logger


def test_without_wandb_the_default_says_so_in_a_line_and_asking_for_it_is_an_error(
    compose, monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    default = compose("train", []).logger
    assert set(default) == {"csv", "wandb"}
    assert wandb_logger(tmp_path, required=default.wandb.required) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "metrics.csv alone" in line and "pip install 'rsvlm[wandb]'" in line
    asked = compose("train", ["logger=wandb"]).logger.wandb
    with pytest.raises(UserError, match=r"pip install 'rsvlm\[wandb\]'\. Or choose logger=csv"):
        wandb_logger(tmp_path, required=asked.required)


def test_a_run_of_wandb_ends_with_the_job(monkeypatch):
    ended = []

    def end(exit_code=None):  # wandb 0.31's; earlier ones took `quiet` too
        ended.append(exit_code)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run="a run", finish=end))
    finish()
    assert ended == [None]
