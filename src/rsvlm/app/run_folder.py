"""The files of a run's folder: what it was asked, what it measured, the page about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.app.provenance import provenance
from rsvlm.app.run_log import say
from rsvlm.checkpoints.hooks import own_weights
from rsvlm.files import WriteError, trouble, write_text
from rsvlm.report.robustness import robustness_table


def make_folder(out: Path) -> None:
    """Makes a run's folder.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{out} cannot be made: {trouble(error) or error.strerror}.") from error


def not_measured(missing: str, keeper: Any, trainer: Any) -> list[str]:
    """What a training did not measure, and why, in sentences.

    Args:
        missing: why the test split was not measured; empty where it was.
        keeper: the callback that keeps the best checkpoint, or None.
        trainer: after its fit.
    """
    said = [f"not measured: the test split ({missing})."] if missing else []
    if keeper is None or keeper.monitor is None:
        said.append(
            "no best.ckpt was kept (callbacks.checkpoints.monitor=null): the last is what was used."
        )
    elif keeper.best is None:
        said.append(f"no best.ckpt was kept: {keeper.monitor} was never measured in training.")
    return said


def run_state(out: Path) -> dict[str, Any]:
    """What run.json holds; empty without one."""
    path = out / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_results(out: Path, task: Any, checkpoint: str, model: str | None) -> None:
    """metrics.json: each value with its protocol, split, count, checkpoint, version and commit.

    A robustness suite (`data/loading/corruptions.py`) also leaves its table, robustness.md.
    """
    state, now = run_state(out), provenance()
    # The rsvlm that asked the model; another one may measure its predictions again.
    made = {key: state.get(key, value) for key, value in now.items()}
    results: dict[str, Any] = {
        "run": str(out),
        "recipe": task.config.get("name"),
        # A resumed run's own choice, which this command line does not repeat.
        "model": state.get("model") or model,
        "checkpoint": checkpoint,
        **made,
        **({"measured_by": now} if made != now else {}),
        "skipped": sorted(task.broken),
        # Validation's values belong to the steps of metrics.csv, not to this checkpoint.
        "results": [row for row in task.results if row["name"].startswith("test/")],
    }
    write_text(out / "metrics.json", json.dumps(results, indent=1))
    suite = robustness_table(results["results"])
    if suite:
        write_text(out / "robustness.md", suite)
        print(suite)
    for row in results["results"]:
        chance = f"  (chance {row['chance']:.2f})" if "chance" in row else ""
        bounds = f"  [{row['low']:.2f}, {row['high']:.2f}]" if "low" in row else ""
        say(f"{row['name']:52s} {row['value']:8.2f}{bounds}{chance}")
    say(f"run: {out}")


def source_of(checkpoint: str | None, model: Any) -> str:
    """What a run measures: its checkpoint, else the weights that all parts of the model came with.

    `random` where a part has none.
    """
    own = own_weights(model)
    whole = own and len(own) == len(list(model.named_children()))
    return checkpoint or (", ".join(map(str, own.values())) if whole else "random")


def page(out: Path) -> None:
    """Writes the report and names it."""
    from rsvlm.report import write_report

    say(f"report: {write_report(out)}")
