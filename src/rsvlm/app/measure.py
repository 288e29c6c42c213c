"""Values of a run: asked of its model split by split, or made again from its predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.app.run_folder import page, run_state, write_results
from rsvlm.app.run_log import say
from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation
from rsvlm.evaluation.records import (
    Outcome,
    Place,
    endpoint_notes,
    fingerprint,
    measure_place,
    place_of,
    places_in,
    suite_means,
)
from rsvlm.files import write_text
from rsvlm.report.questions import plot_worst


def check_is_evaluation(run: Path) -> None:
    """Holds a folder to be an evaluation's.

    Raises:
        UserError: it is a training's, or none.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"resume={run}: there is no config.yaml, so this is not a run's folder.")
    verb = run_state(run).get("verb")
    if verb == "bench":
        raise UserError(f"resume={run}: this is a bench's folder: rsvlm bench resume={run}")
    if verb not in (None, "eval") or (verb is None and (run / "last.ckpt").is_file()):
        raise UserError(
            f"resume={run}: this is the folder of a training, and rsvlm eval goes on with "
            f"evaluations. Go on with it, rsvlm train resume={run}, or measure its checkpoint, "
            f"rsvlm eval ckpt={run / 'best.ckpt'}."
        )


def note_run(out: Path, **facts: Any) -> None:
    """Adds facts to run.json."""
    write_text(out / "run.json", json.dumps(run_state(out) | facts))


def test_all(
    trainer: Any,
    task: Any,
    data: Any,
    out: Path,
    *,
    checkpoint: str,
    anew: bool = False,
    worst: bool = False,
    **options: Any,
) -> None:
    """Tests on each test split, draws what was found, and adds the means of a suite.

    A split whose predictions are all there is measured from them, and no model is asked.

    Args:
        trainer: a Lightning trainer.
        task: the family's module, with its evaluation.
        data: the data module.
        out: the run's folder.
        checkpoint: path of the weights that are measured, or where they came from.
        anew: whether predictions of other weights are removed, as of a training that went on.
        worst: also draws the worst answers by themselves (worst.png).
        **options: of `trainer.test`.
    """
    evaluation: Evaluation = task.evaluation
    marks = fingerprint(task.config, checkpoint) if evaluation.from_records else {}
    if trainer.is_global_zero:
        note_run(out, checkpoint=checkpoint, skipped=sorted(task.broken))
    several = len(data.test_splits) > 1
    names: list[str] = []
    for split in data.test_splits:
        data.use_test(split)
        name = data.dataset("test").name
        # Splits of one data set have folders of their own.
        names.append(f"{name}_{split}" if name in names else name)
        pictures = out / "pictures" / name if several else out / "pictures"
        outcome: Outcome | None = None
        if evaluation.from_records:
            place = place_of(out, names[-1] if several else None, marks)
            if _finished(place, anew=anew):
                if trainer.is_global_zero:
                    outcome = measure_place(evaluation, place)
                    _add(task.results, outcome.rows)
            else:
                outcome = _ask(trainer, task, data, place, anew=anew, **options)
        else:
            trainer.test(task, datamodule=data, verbose=False, **options)
        if trainer.is_global_zero:
            if outcome is not None:
                task.broken |= dict.fromkeys(outcome.skipped, "")
                for note in endpoint_notes(outcome.records):
                    say(f"{names[-1]}: {note}")
                evaluation.draw(outcome.records, data.dataset("test"), pictures)
                if worst and not list(pictures.glob("*_worst.png")):
                    found, path = outcome.measured, pictures / "worst.png"
                    plot_worst(outcome.records, found.marks, data.dataset("test"), path)
            model, dataset = task.model.eval(), data.dataset("test")
            evaluation.draw_with_model(model, dataset, task.preprocess(), pictures)
    if data.suite and several:
        task.results += suite_means(task.results, data.suite, evaluation.protocol, data.test_splits)


def _ask(
    trainer: Any, task: Any, data: Any, place: Place, *, anew: bool, **options: Any
) -> Outcome | None:
    from rsvlm.lit.recording import Recording

    recording = Recording(place, anew=anew)
    task.recording = recording
    try:
        trainer.test(task, datamodule=data, verbose=False, **options)
    finally:
        recording.close(task)
        task.recording = None
    return recording.outcome


def _finished(place: Place, *, anew: bool) -> bool:
    """Whether all predictions of this very run are there."""
    try:
        found = place.held()
    except UserError:
        if anew:
            return False
        raise
    return found is not None and (place.whole.is_file() or not found.missing)


def _add(results: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Puts rows in the place of those of the same names."""
    new = {row["name"] for row in rows}
    results[:] = [row for row in results if row["name"] not in new] + rows


# From predictions alone -----------------------------------------------------------------------


@dataclass
class Results:
    """What `write_results` takes of a task.

    Attributes:
        config: the run's.
        results: rows of metrics.json.
        broken: samples that could not be read.
    """

    config: dict[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def configuration(run: Path, own: Path | None = None) -> Any:
    """A run's configuration; its classes are held against the allow-list.

    Args:
        run: its folder.
        own: the user's own folder of configurations, whose classes are allowed too.

    Raises:
        UserError: it has none.
    """
    from omegaconf import OmegaConf

    from rsvlm.config.from_file import read_config

    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} holds no config.yaml, so it is no run's folder.")
    return OmegaConf.create(read_config(run / "config.yaml", own))


def outcomes(
    run: Path, own: Path | None = None, *, bootstrap: int | None = None, seed: int | None = None
) -> tuple[Any, Evaluation, list[Outcome]]:
    """What a run's predictions give, split by split.

    Args:
        run: its folder.
        own: see `configuration`.
        bootstrap: samples for intervals; None takes the run's.
        seed: of their draws; None takes the run's.

    Returns:
        Configuration, evaluation, and an outcome for each split.

    Raises:
        UserError: no predictions, or such as cannot be measured.
    """
    from rsvlm.config.instantiate import optional

    cfg = configuration(run, own)
    evaluation = optional(cfg.evaluation)
    if evaluation is None:
        raise UserError(f"{run}: evaluation=none measures nothing.")
    if bootstrap is not None:
        evaluation.bootstrap = bootstrap
    if seed is not None:
        evaluation.bootstrap_seed = seed
    places = places_in(run)
    if not places:
        why = f": {evaluation.reason}" if not evaluation.from_records else ""
        raise UserError(
            f"{run} holds no predictions{why}. Runs keep them since their test writes "
            "predictions/part-*.jsonl: evaluate again."
        )
    found = [measure_place(evaluation, place) for place in _ordered(places, cfg)]
    return cfg, evaluation, found


def _ordered(places: Iterable[Place], cfg: Any) -> list[Place]:
    """In the order in which the run measures its splits."""
    splits = cfg.data.get("splits") or {}
    tested = splits.get("test", "test")
    order = [tested] if tested is None or isinstance(tested, str) else [str(s) for s in tested]

    def rank(place: Place) -> tuple[int, str]:
        held = place.read()
        split = held.header.facts.split if held is not None else ""
        return (order.index(split) if split in order else len(order)), str(place.parts)

    return sorted(places, key=rank)


def measure_again(
    run: Path, own: Path | None = None, *, bootstrap: int | None = None, seed: int | None = None
) -> list[dict[str, Any]]:
    """Writes metrics.json and the page of a run again, from its predictions, without its model.

    See `outcomes`.
    """
    cfg, evaluation, found = outcomes(run, own, bootstrap=bootstrap, seed=seed)
    state = run_state(run)
    held = Results({"name": cfg.get("name")}, broken=dict.fromkeys(state.get("skipped", ()), ""))
    for outcome in found:
        held.results += outcome.rows
        held.broken |= dict.fromkeys(outcome.skipped, "")
    suite = cfg.data.get("suite")
    if suite and len(found) > 1:
        splits = [row.rows[0]["split"] for row in found]
        held.results += suite_means(held.results, suite, evaluation.protocol, splits)
    write_results(run, held, str(state.get("checkpoint") or "unknown"), state.get("model"))
    page(run)
    return held.results


def draw_again(run: Path, own: Path | None = None) -> None:
    """Draws a run's pictures again from its predictions and its data set, without its model.

    See `outcomes`.
    """
    from rsvlm.config.instantiate import instantiate

    cfg = configuration(run, own)
    data = instantiate(cfg.data)
    several = len(data.test_splits) > 1
    for place in places_in(run):
        from rsvlm.config.instantiate import optional

        evaluation = optional(cfg.evaluation)
        outcome = measure_place(evaluation, place)
        data.use_test(outcome.rows[0]["split"])
        dataset = data.dataset("test")
        folder = run / "pictures" / dataset.name if several else run / "pictures"
        evaluation.draw(outcome.records, dataset, folder)
