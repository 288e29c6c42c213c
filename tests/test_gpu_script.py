"""benchmarks/gpu.sh at tiny size: all its parts run, and import what a GPU machine has."""

import os
import subprocess
import sys

import pytest

#: Python reads it before each script, and so it tells afterwards what the script imported.
WATCH = """
import atexit, os, sys

def tell():
    script = os.path.basename(sys.argv[0])
    heavy = {"hydra", "omegaconf", "lightning"} & set(sys.modules)
    if script != "contrastive.py":
        heavy |= {"open_clip"} & set(sys.modules)
    for name in sorted(heavy):
        with open(os.environ["SEEN"], "a") as file:
            print(script, "imports", name, file=file)

atexit.register(tell)
"""


@pytest.mark.slow
def test_all_of_it_runs_without_hydra_and_leaves_one_table(root, real_data, tmp_path):
    pytest.importorskip("peft", reason="needs rsvlm[language]")
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    env = os.environ | {
        "SIZE": "tiny",
        "OUT": str(tmp_path / "out"),
        "BUDGET": "3000",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path),
        "SEEN": str(tmp_path / "seen.txt"),
        "OMP_NUM_THREADS": "1",
        "RSVLM_DATA": str(real_data),
    }
    script = root / "benchmarks" / "gpu.sh"
    done = subprocess.run(["bash", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for part in (
        "contrastive step, tiny",
        "RS-CapRet",
        "LLaVA by LoRA",
        "DeltaVLM",
        "from scratch",
    ):
        assert any(part in line for line in table), part
    assert not (tmp_path / "seen.txt").exists(), (tmp_path / "seen.txt").read_text()


@pytest.mark.slow
def test_a_part_that_fails_or_has_no_time_left_stops_no_other(root, tmp_path):
    env = os.environ | {
        "SIZE": "tiny",
        "ONLY": "scratch",
        "OUT": str(tmp_path),
        "PYTHON": sys.executable,
        "RSVLM_DATA": str(tmp_path / "nothing"),
    }
    script = root / "benchmarks" / "gpu.sh"
    for budget, told in (("3000", "failed (1)"), ("0", "no time left")):
        done = subprocess.run(
            ["bash", script],
            env=env | {"BUDGET": budget},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert f"| CLIP from scratch | {told} |" in done.stdout, done.stdout[-2000:]
