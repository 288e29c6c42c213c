"""Fixtures for all tests: no hub, few threads, composed configurations, real data where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from light_pictures import as_shipped, lighten

# Before anything imports them: no test may reach a hub or start a tracking server.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
# One thread a worker: on as many cores as workers, second threads of tiny tensors wait for each
# other by spinning, which cost up to thirty times the processor time of what they did.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
# Files of few and long tests, which start runs and build models, are handed out first: a worker
# that got one of them last would leave the other idle.
LONG = ("lit", "", "models", "app", "evaluation", "inference", "retrieval", "encoders", "losses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms of long files before the others; files and tests keep their order."""

    def place(item: pytest.Item) -> int:
        room = "/".join(item.path.relative_to(ROOT / "tests").parts[:-1][:1])
        return LONG.index(room) if room in LONG else len(LONG)

    items.sort(key=place)


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value)


@pytest.fixture
def real_data() -> Path:
    """RSVLM_DATA: real images and annotations."""
    return _folder("RSVLM_DATA")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a parity test, `@pytest.mark.parity("<case>")`, where its case is not there."""
    for mark in item.iter_markers("parity"):
        (name,) = mark.args
        if not (Path(os.environ.get("RSVLM_GOLDEN") or "/no/golden") / name).is_dir():
            pytest.skip(f"RSVLM_GOLDEN is unset or lacks {name}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Path:
    """RSVLM_GOLDEN: parity cases of published code; the test bears the name of its own."""
    if request.node.get_closest_marker("parity") is None:
        pytest.fail('a test that reads a parity case bears @pytest.mark.parity("<its folder>")')
    return _folder("RSVLM_GOLDEN")


@pytest.fixture
def compose() -> Callable[..., object]:
    """`compose("train", ["experiment=…"])`: a configuration as the entry point gets it."""
    from rsvlm.config.compose import compose

    return compose


@pytest.fixture(scope="session", autouse=True)
def pictures_by_content():
    """Runs of tests draw the light variant of each picture alone, see `light_pictures.py`."""
    with pytest.MonkeyPatch.context() as patch:
        lighten(patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole_pictures():
    """Pictures as users get them, both variants."""
    with pytest.MonkeyPatch.context() as patch:
        as_shipped(patch.setattr)
        yield


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def scratch(tmp_path: Path):
    """A folder that is removed at once after the test: checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
