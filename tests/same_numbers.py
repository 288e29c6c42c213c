"""The numbers that a change of the house must not change; printed before and after, and compared.

    python tests/same_numbers.py before.json          # in a checkout of the commit before
    python tests/same_numbers.py after.json           # in this one
    python tests/same_numbers.py --compare before.json after.json

Three kinds, each to the last digit: what parity tests compare (a sum, of the values and of their
magnitudes, of every tensor that they hold against the published one), metric values of the caption
files of `RSVLM_GOLDEN` and of small made-up files, and the losses of the first steps of every
recipe that is small enough. It imports nothing of rsvlm by the name of a module that may move
again, but for the two lines of `_fit`. Needs RSVLM_GOLDEN; three minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path.cwd()
STEPS = 3
RECIPES = sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*_tiny_*.yaml"))


class Recorder:
    """A pytest plugin: keeps what parity tests compare."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.now = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leaves the tests of files that read a parity case, and those not marked slow."""
        texts = {item.path: item.path.read_text(encoding="utf-8") for item in items}
        items[:] = [
            item
            for item in items
            if "golden" in texts[item.path] and item.get_closest_marker("slow") is None
        ]

    def pytest_runtest_setup(self, item: Any) -> None:
        """Notes which test runs; files and folders may move, names of tests stay."""
        self.now = item.name

    def watch(self) -> None:
        """Puts itself before torch's comparison."""
        import torch

        compare = torch.testing.assert_close

        def watched(actual: Any, expected: Any, **options: Any) -> None:
            if isinstance(actual, torch.Tensor) and not actual.is_meta:
                values = actual.detach().double()
                numbers = (float(values.sum()), float(values.abs().sum()))
                self.found.setdefault(self.now, []).append(" ".join(n.hex() for n in numbers))
            compare(actual, expected, **options)

        torch.testing.assert_close = watched


def parity() -> dict[str, Any]:
    """Test → sums of the tensors that it compares, in order."""
    import pytest

    recorder = Recorder()
    recorder.watch()
    options = ["-q", "-p", "no:cacheprovider", "-n", "0", "-m", "not gpu", "--no-header"]
    status = pytest.main([*options, str(ROOT / "tests")], plugins=[recorder])
    return {"status": int(status), **{f"parity/{k}": v for k, v in recorder.found.items()}}


def _tool(words: list[str]) -> None:
    try:
        from rsvlm.cli.main import main
    except ImportError:  # before 0.2.0
        from rsvlm.__main__ import main
    with contextlib.redirect_stdout(io.StringIO()):
        if main(words):
            raise SystemExit(f"rsvlm {' '.join(words)} failed")


def metrics() -> dict[str, Any]:
    """Every metric word of the caption files, and of grounding and VQA on made-up ones."""
    found: dict[str, Any] = {}
    golden = Path(os.environ["RSVLM_GOLDEN"]) / "captions"
    boxes = [[4 * i, 3 * i, 4 * i + 20 + i % 7, 3 * i + 25] for i in range(40)]
    answers = ["yes", "no", "3", "between 10 and 100", "red roof"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        rows = [
            {"id": i, "prediction": [v + (i % 5) for v in box], "answer": box, "box": box}
            for i, box in enumerate(boxes)
        ]
        (made / "boxes.jsonl").write_text("\n".join(map(json.dumps, rows)))
        rows = [
            {
                "id": i,
                "type": ["presence", "count"][i % 2],
                "prediction": answers[i % 5],
                "answer": answers[(i + i // 7) % 5],
            }
            for i in range(60)
        ]
        (made / "vqa.jsonl").write_text("\n".join(map(json.dumps, rows)))
        jobs = {f"captions/{p.stem}": ["captions", str(p)] for p in sorted(golden.glob("*.jsonl"))}
        jobs |= {"vqa": ["vqa", str(made / "vqa.jsonl")]}
        for name, words in jobs.items():
            out = made / "metrics.json"
            _tool(["metrics", words[0], *words[1:], "--out", str(out)])
            for row in json.loads(out.read_text())["results"]:
                found[f"metrics/{name}/{row['name']}"] = float(row["value"]).hex()
            out.unlink()
    return found


def _fit(words: list[str], out: Path) -> None:
    try:
        from rsvlm.app.run import fit
        from rsvlm.config.compose import compose

        cfg = compose("train", words)
    except ImportError:  # before 0.2.0
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from rsvlm.run import fit, register

        register()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = hydra_compose("train", words)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(cfg, out, overrides=[])


def losses() -> dict[str, Any]:
    """The losses of the first steps of the small recipes."""
    found: dict[str, Any] = {}
    for recipe in RECIPES:
        words = [f"experiment={recipe}", "trainer=cpu", "logger=csv", "data.workers=0", "seed=3"]
        words += [f"trainer.max_steps={STEPS}", "trainer.limit_val_batches=0"]
        words += ["trainer.limit_test_batches=0", "callbacks.checkpoints.monitor=null"]
        words += ["trainer.log_every_n_steps=1", "data.batch_size=4"]
        with tempfile.TemporaryDirectory() as folder:
            # Few scenes: a vocabulary is made of all of them.
            few = [] if "places" in recipe or "overfit" in recipe else ["data.dataset.n=32"]
            try:
                _fit([*words, *few], Path(folder))
            except ValueError as error:  # a recipe that needs files which are not here
                found[f"losses/{recipe}"] = f"{type(error).__name__}: {str(error)[:60]}"
                continue
            with (Path(folder) / "metrics.csv").open() as file:
                rows = list(csv.reader(file))[1:]
        found[f"losses/{recipe}"] = [value for _, name, value in rows if name == "train/loss"]
    return found


def compare(before: Path, after: Path) -> int:
    """Prints what differs; the number of differences."""
    one, two = (json.loads(path.read_text()) for path in (before, after))
    shared = sorted(one.keys() & two.keys())
    wrong = [name for name in shared if one[name] != two[name]]
    for name in wrong:
        print(f"{name}: {one[name]} before, {two[name]} after")
    for name in sorted(one.keys() - two.keys()):
        print(f"{name}: is gone")
    print(
        f"{len(shared)} names in both, {len(wrong)} differ, {len(one.keys() - two.keys())} are "
        f"gone, {len(two.keys() - one.keys())} are new"
    )
    return len(wrong) + len(one.keys() - two.keys())


def main() -> int:
    """Prints or compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only", choices=("parity", "metrics", "losses"))
    args = parser.parse_args()
    if args.compare:
        return compare(*args.files)
    found: dict[str, Any] = {}
    for part in (losses, metrics, parity):
        if args.only in (None, part.__name__):
            found |= part()
    args.files[0].write_text(json.dumps(found, indent=1))
    print(f"{len(found)} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
