"""A bench from its first evaluation to its table: stopped, it goes on; what fails is said."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rsvlm.app.bench.plan import FILE, Job, Plan, planned
from rsvlm.app.bench.prepare import Models, amiss, configured
from rsvlm.app.bench.state import State, state_of
from rsvlm.app.bench.table import write_tables
from rsvlm.app.guards import device_of, own_folder, typed
from rsvlm.app.provenance import provenance
from rsvlm.app.run import measure
from rsvlm.app.run_folder import make_folder, run_state
from rsvlm.app.run_lock import locked
from rsvlm.app.run_log import say
from rsvlm.clients.http import EndpointError
from rsvlm.config.compose import plain
from rsvlm.config.instantiate import optional
from rsvlm.config.overrides import PACING
from rsvlm.errors import UserError
from rsvlm.evaluation.records import endpoint_notes, places_in, tokens_of
from rsvlm.evaluation.requirements import unable
from rsvlm.files import write_text
from rsvlm.models.protocols import is_generator

#: What may be said beside `resume=`: nothing of it changes a value.
_PACING = tuple(f"model.{word}=" for word in PACING)
_BESIDE = ("resume=", "trainer.", "hydra.", *_PACING)


def bench(cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None) -> Plan:
    """Measures models on a suite, or goes on with a bench that was stopped.

    Args:
        cfg: composed from bench.yaml.
        out: its folder; None takes Hydra's.
        overrides: what the user typed, as Hydra has it; None takes Hydra's.

    Returns:
        What was planned; tables and page lie in the folder.

    Raises:
        UserError: words that do not go together, or an endpoint that cannot be asked.
        SystemExit: with status 1, where an evaluation failed, after all others were made.
    """
    words = list(typed(overrides))
    _alone(cfg)
    if cfg.get("resume") is not None:
        out = Path(cfg.resume).expanduser()
        plan = _resumed(out, words)
    else:
        out = out or Path(HydraConfig.get().runtime.output_dir)
        suite = HydraConfig.get().runtime.choices.get("suite") if overrides is None else _of(words)
        plan = planned(cfg, words, suite, own_folder())
        make_folder(out)
    with locked(out):
        if cfg.get("resume") is None:
            _is_the_same(plan, out)
            plan.write(out)
            begun = {"verb": "bench", **provenance(), "suite": plan.suite}
            write_text(out / "run.json", json.dumps(begun))
            write_text(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        try:
            failed = _all(plan, out)
        except UserError as error:
            if isinstance(error, EndpointError) or error.code == "cost_ceiling":
                text = str(error)
                text += "" if text.endswith(".") else "."
                text += (
                    f" What is done stays; go on: rsvlm bench resume={out} (model.timeout=, "
                    "per_minute=, max_cost= and the like may stand beside it; other words start "
                    "anew, with the same model.cache=, so that nothing is asked twice)."
                )
                error.args = (text,)
            raise
    if failed:
        say(
            f"{len(failed)} failed: {', '.join(failed)}; their tracebacks lie beside their runs. "
            f"Try these again: rsvlm bench resume={out}"
        )
        raise SystemExit(1)
    return plan


def _of(words: Sequence[str]) -> str | None:
    found = [word.partition("=")[2] for word in words if re.match(r"suite(_file)?=", word)]
    return found[-1] if found else None


def _alone(cfg: DictConfig) -> None:
    """Refuses several processes, each of which would go through the whole suite."""
    device_of(cfg)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            "rsvlm bench goes through models and seeds itself, without -m: models=[<run>,<run>] "
            "and seeds=[0,1,2] put them into one table."
        )
    if cfg.trainer.get("devices", 1) not in (1, "1", "auto"):
        raise UserError(
            f"trainer.devices={cfg.trainer.devices}: a bench measures on one device. Take "
            "trainer=gpu, or measure one recipe on several: rsvlm eval experiment=<recipe> "
            "trainer=ddp"
        )


def _is_the_same(plan: Plan, out: Path) -> None:
    """Refuses a folder with another bench, whose values would stand in one table with these.

    Raises:
        UserError: it holds one.
    """
    if not (out / FILE).is_file():
        return
    held = Plan.read(out)
    other = [name for name, value in vars(plan).items() if value != getattr(held, name)]
    if other:
        raise UserError(
            f"{out} holds another bench (it differs in {', '.join(other)}): go on with that one, "
            f"rsvlm bench resume={out}, or choose another folder (hydra.run.dir=), which is "
            "otherwise new for each bench."
        )
    say(f"going on with {out}, which holds this very bench.")


def _resumed(out: Path, words: Sequence[str]) -> Plan:
    if run_state(out).get("verb") != "bench":
        raise UserError(
            f"resume={out}: this is no bench's folder. A run goes on with rsvlm train resume=, an "
            "evaluation with rsvlm eval resume=."
        )
    plan = Plan.read(out)
    beside = [word for word in words if not word.lstrip("+").startswith(_BESIDE)]
    if beside:
        raise UserError(
            f"resume={out} goes on with that bench as it was; {', '.join(beside)} would make it "
            "another one, whose numbers would stand in one table with these. Start a new one: "
            f"rsvlm bench suite={plan.suite} {' '.join(beside)}"
        )
    more = [w for w in words if w.lstrip("+").startswith(("trainer.", *_PACING))]
    paced = [word for word in more if word.lstrip("+").startswith(_PACING)]
    asked = ["model=api" in (*one.words, *plan.words) for one in plan.subjects]
    if paced and not all(asked):
        raise UserError(
            f"resume={out}: {', '.join(paced)} is of a model behind an endpoint, and not all "
            "models of this bench are."
        )
    return Plan(**{**vars(plan), "words": [*plan.words, *more]})


def _all(plan: Plan, out: Path) -> list[str]:
    """Makes each evaluation that has not ended well; gives those that failed."""
    from rsvlm.inference.build import build_model

    models = Models(build_model)
    jobs = list(plan.jobs())
    begun, made = time.monotonic(), 0
    try:
        for number, job in enumerate(jobs, 1):
            folder = job.folder(out)
            if state_of(folder).status == "done":
                continue
            left = sum(state_of(one.folder(out)).status != "done" for one in jobs[number - 1 :])
            say(f"[{number}/{len(jobs)}] {job}{_remaining(time.monotonic() - begun, made, left)}")
            made += 1
            state = _one(plan, job, folder, models)
            if state.status != "done":
                say(f"{job}: {state.said}")
    finally:
        with suppress(UserError):
            write_tables(plan, out)
    say(f"table: {out / 'table.md'}\npage: {out / 'report.html'}")
    return [str(job) for job in jobs if state_of(job.folder(out)).status == "failed"]


class _NoModel(Exception):
    """The only model of a bench cannot be built."""

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error))
        self.error = error


def _remaining(seconds: float, made: int, left: int) -> str:
    """How long the rest takes at the pace so far, in words; nothing before it is known."""
    rest = seconds / made * left if made else 0.0
    if rest < 60:
        return ""
    return (
        f" (about {rest / 3600:.1f} h to go)"
        if rest > 5400
        else f" (about {rest / 60:.0f} min to go)"
    )


def _one(plan: Plan, job: Job, folder: Path, models: Models) -> State:
    """One evaluation: it is made, or said why not."""
    before = state_of(folder)
    state = State(seconds=before.seconds, tokens_in=before.tokens_in, tokens_out=before.tokens_out)
    try:
        cfg, option = configured(plan, job, own_folder())
        status, why, pictures = amiss(cfg)
        if status:
            state.status, state.why = status, why
        else:
            alone = len(plan.subjects) == 1
            _measure(cfg, option, pictures, folder, models, state, alone=alone)
    except _NoModel as stop:
        state.status, state.why = "failed", str(stop.error)
        raise stop.error from stop.__cause__
    except (EndpointError, MemoryError):
        raise
    except Exception as error:
        # `Interrupted` is of lit, and means the whole bench, as does a ceiling of costs.
        if type(error).__name__ == "Interrupted" or getattr(error, "code", "") == "cost_ceiling":
            raise
        if getattr(error, "code", "") == "nothing_to_measure":
            # Its own instructions make no such question of the data.
            state.status, state.why = "unable", "is asked nothing of it"
            return state
        state.status, state.why = "failed", str(error) or type(error).__name__
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "error.txt", traceback.format_exc())
    finally:
        state.write(folder)
    return state


def _measure(
    cfg: DictConfig,
    option: str | None,
    pictures: int | None,
    folder: Path,
    models: Models,
    state: State,
    *,
    alone: bool,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model = models.get(cfg, folder)
    except UserError as error:
        # Of one model that cannot be built all evaluations would say the same.
        if alone and not models.built:
            raise _NoModel(error) from error
        raise
    why = unable(model, optional(cfg.evaluation), pictures)
    if why:
        state.status, state.why = "unable", why
        return
    used, since = dict(getattr(model, "usage", {})), time.monotonic()
    try:
        # Predictions that are there already are not asked for again.
        measure(cfg, folder, option=option, build=lambda *_: model, worst=True)
    finally:
        state.seconds += time.monotonic() - since
        _count(state, model, folder, used)
    state.status, state.why = "done", ""
    state.model = {"class": type(model).__name__, "option": option, "ckpt": cfg.ckpt}


def _count(state: State, model: Any, folder: Path, before: dict[str, int]) -> None:
    """Tokens: of the answers that are kept, as an endpoint counts them where one answers."""
    used = getattr(model, "usage", None)
    records = []
    with suppress(UserError):
        places = [place.read() for place in places_in(folder)]
        records = [record for found in places if found for record in found.records]
    state.notes = endpoint_notes(records)
    counted = tokens_of(records) if used is not None else None
    if counted is not None:
        state.tokens_in, state.tokens_out = counted
    elif used is not None:
        # Evaluations that keep no tokens with their answers: what was used, of all goes.
        new = [used[word] - before.get(word, 0) for word in ("prompt_tokens", "completion_tokens")]
        state.tokens_in = (state.tokens_in or 0) + new[0]
        state.tokens_out = (state.tokens_out or 0) + new[1]
    elif is_generator(model):
        encode = getattr(model.tokenizer, "encode", None)
        texts = [one.prediction for one in records]
        state.tokens_out = sum(len(encode(text)) for text in texts) if encode and texts else None
