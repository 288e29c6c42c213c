"""Fixtures for all tests: no hub, few threads, composed configurations, real data where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# Before anything imports them: no test may reach a hub or start a tracking server.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_NUM_THREADS", "2")

ROOT = Path(__file__).parents[1]


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value)


@pytest.fixture
def real_data() -> Path:
    """RSVLM_DATA: real images and annotations."""
    return _folder("RSVLM_DATA")


@pytest.fixture
def golden() -> Path:
    """RSVLM_GOLDEN: parity cases of published code."""
    return _folder("RSVLM_GOLDEN")


@pytest.fixture
def compose() -> Callable[..., object]:
    """`compose("train", ["experiment=…"])`: a configuration as the entry point gets it."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from rsvlm import run
    from rsvlm.cli import command_line

    def build(name: str, overrides: Sequence[str] = ()) -> object:
        run.register()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return hydra_compose(name, command_line(overrides, ROOT / "conf"))

    yield build
    GlobalHydra.instance().clear()


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def scratch(tmp_path: Path):
    """A folder that is removed at once after the test: checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
