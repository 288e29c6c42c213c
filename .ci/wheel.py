"""Builds the wheel, installs it where no clone is, and types what a new user would.

    .venv/bin/python .ci/wheel.py        # or: make wheel-test

The environment is a new one. It sees those packages of this interpreter that `pip install` of the
wheel would bring, by links, so that nothing heavy is installed again; no extra is among them, and
neither is what open_clip brings and can do without.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("timm", "huggingface-hub")
FEW = ["data.dataset.n=16", "data.batch_size=8", "data.workers=0", "trainer.limit_val_batches=0"]
FEW += ["callbacks.checkpoints.monitor=null"]
SHORT = ["experiment=clip_tiny_scenes", "trainer=cpu", *FEW, "trainer.max_steps=2"]

OWN_CLASS = '''"""A class of the user's own, beside the configuration."""

from rsvlm.losses.contrastive import ClipLoss


class HalfLoss(ClipLoss):
    def forward(self, *args, **kwargs):
        print("the own loss is asked", flush=True)
        return super().forward(*args, **kwargs)
'''
OWN_LOSS = """_target_: own_classes.HalfLoss
local_loss: true
chunk: null
label_smoothing: 0.0
duplicates: negatives
"""
OWN_RECIPE = """# @package _global_
# rsvlm train --config-dir my_conf experiment=mine
defaults:
  - clip_tiny_scenes
  - override /loss: half

name: mine
"""


def build(folder: Path) -> Path:
    """The wheel; holds that it has all that git has of the package and of the configuration."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = run(["git", "ls-files", "src/rsvlm", "conf"], cwd=ROOT, show=False).splitlines()
    wanted = {
        x.removeprefix("src/") if x.startswith("src/") else f"rsvlm/{x}"
        for x in listed
        if (ROOT / x).is_file() and not x.startswith("conf/local/")
    }
    lost = sorted(wanted - held)
    assert not lost, f"not in the wheel: {lost}"
    assert not [name for name in held if "conf/local" in name]
    return wheel


def packages(requirements: list[str]) -> dict[str, Distribution]:
    """What these requirements bring, of what is installed here."""
    found: dict[str, Distribution] = {}
    waiting = [x for x in map(Requirement, requirements) if not x.marker]
    while waiting:
        wanted = waiting.pop()
        name = wanted.name.lower().replace("_", "-").replace(".", "-")
        if name in LEFT_OUT:
            continue
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        for extra in ("", *wanted.extras):
            if name not in found or extra:
                asked = map(Requirement, dist.requires or ())
                waiting += [x for x in asked if not x.marker or x.marker.evaluate({"extra": extra})]
        found[name] = dist
    return found


def environment(folder: Path, wheel: Path) -> Path:
    """A new virtual environment with the wheel in it; the folder of its programs."""
    run([sys.executable, "-m", "venv", str(folder)], show=False)
    programs = folder / "bin"
    run([str(programs / "pip"), "install", "-q", "--no-deps", "--no-index", str(wheel)])
    python = str(programs / "python")
    code = "from importlib.metadata import requires; print(*requires('rsvlm'), sep='\\n')"
    brought = packages(run([python, "-c", code], show=False).splitlines())
    assert "torch" in brought and "rsvlm" not in brought, sorted(brought)
    links = folder / "shared"
    links.mkdir()
    for dist in brought.values():
        for top in {path.parts[0] for path in dist.files or ()} - {"..", "__pycache__"}:
            if not (links / top).is_symlink():
                (links / top).symlink_to(Path(str(dist.locate_file(top))))
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "shared.pth").write_text(f"{links}\n")
    return programs


def run(words: list[str], *, cwd: Path | None = None, show: bool = True, status: int = 0) -> str:
    """Runs a command that must end with a status; gives what it wrote."""
    if show:
        print("$", " ".join(words), flush=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RSVLM_"))}
    env |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        words,
        cwd=cwd,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    if done.returncode != status:
        sys.exit(f"{said[-6000:]}\nended with {done.returncode}, not {status}: {' '.join(words)}")
    return said


def main() -> None:
    """All of it, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="rsvlm-wheel-") as name:
        work = Path(name) / "somewhere else"
        work.mkdir()
        programs = environment(Path(name) / "env", build(Path(name) / "dist"))
        tool(programs, work)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"the wheel works: {spent.ru_utime + spent.ru_stime:.0f} s of processor time")


def tool(programs: Path, work: Path) -> None:
    """What a new user types, in a folder that has nothing."""

    def rsvlm(*words: str, status: int = 0) -> str:
        return run([str(programs / "rsvlm"), *words], cwd=work, status=status)

    where = run([str(programs / "python"), "-c", "import rsvlm; print(rsvlm.__file__)"], cwd=work)
    assert Path(where.strip()).is_relative_to(programs.parent), where

    assert "train" in rsvlm("--help") and "0." in rsvlm("--version")
    assert "Configuration groups" in rsvlm("train", "--help")
    assert "georsclip_vitb32" in rsvlm("list", "models", "*clip*")
    assert "clip_tiny_scenes" in rsvlm("list", "recipes")

    said = rsvlm("train", *SHORT, "hydra.run.dir=runs/one")
    assert said.count("pip install 'rsvlm[wandb]'") == 1, said
    state = json.loads((work / "runs/one/metrics.json").read_text())
    assert state["version"] and state["git_commit"] is None, state
    two = [word for word in SHORT if word != "trainer=cpu"]
    rsvlm("train", *two, "trainer=ddp_cpu", "logger=csv", "hydra.run.dir=runs/two")
    assert json.loads((work / "runs/two/metrics.json").read_text())["results"]

    rsvlm(
        "eval",
        "experiment=eval_zeroshot_scenes",
        "ckpt=runs/one",
        "trainer=cpu",
        "logger=csv",
        "data.dataset.n=16",
        "data.workers=0",
        "hydra.run.dir=runs/measured",
    )
    assert json.loads((work / "runs/measured/metrics.json").read_text())["results"]
    rsvlm("scenes", "show", "--seed", "7", "--out", "scene.png")
    said = rsvlm("predict", "ckpt=runs/one", "image=scene.png", "prompt=an airport; a beach")
    assert "an airport" in said and "a beach" in said, said
    assert "captions" in rsvlm("inspect", "--data", "scenes", "n=8")

    (work / "own_classes.py").write_text(OWN_CLASS)
    for path, text in (("experiment/mine.yaml", OWN_RECIPE), ("loss/half.yaml", OWN_LOSS)):
        (work / "my_conf" / path).parent.mkdir(parents=True)
        (work / "my_conf" / path).write_text(text)
    said = rsvlm(
        "train",
        "--config-dir",
        "my_conf",
        "experiment=mine",
        *SHORT[1:],
        "logger=csv",
        "hydra.run.dir=runs/mine",
    )
    assert "the own loss is asked" in said, said
    assert "mine" in rsvlm("list", "recipes", "--config-dir", "my_conf")

    # What an extra brings is asked for by its name.
    said = rsvlm("train", "experiment=skyeyegpt_tiny_scenes", "trainer=cpu", "logger=csv", status=1)
    assert "pip install 'rsvlm[" in said and "Traceback" not in said, said


if __name__ == "__main__":
    os.umask(0o022)
    assert shutil.which("git"), "git lists what the wheel has to hold"
    main()
