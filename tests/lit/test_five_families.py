"""The README's five lines: one recipe of each family, and each takes steps."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^\| (\w+) \| `rsvlm train experiment=(\w+) trainer=cpu` \|$", re.MULTILINE)
LINES = LINE.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_every_family_has_a_line_of_its_own_recipe(compose):
    families = {path.stem for path in (ROOT / "conf" / "task").glob("*.yaml")}
    assert {family for family, _ in LINES} == families and len(LINES) == len(families) == 5
    for family, recipe in LINES:
        held = compose("train", [f"experiment={recipe}"])
        wanted = compose("train", [f"task={family}"]).task
        assert held.task._target_ == wanted._target_


@pytest.mark.slow
@pytest.mark.parametrize(("family", "recipe"), LINES)
def test_each_line_trains(compose, scratch, family, recipe):
    del family
    from rsvlm.app import run

    words = [
        f"experiment={recipe}",
        "trainer=cpu",
        "logger=csv",
        "trainer.limit_val_batches=0",
        "trainer.limit_test_batches=0",
        "trainer.limit_train_batches=2",
        "trainer.max_epochs=1",
        "trainer.check_val_every_n_epoch=1",
        "data.dataset.n=8",
        "data.batch_size=4",
        "data.workers=0",
    ]
    run.fit(compose("train", words), scratch / "run", overrides=words)
    held = torch.load(scratch / "run" / "last.ckpt", map_location="cpu", weights_only=True)
    assert held["global_step"] == 2
