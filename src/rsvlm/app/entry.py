"""From the command line to a verb: Hydra, the user's errors in one message, ranks that come along.

Lightning starts the other ranks of a run with the same words and without the verb, which therefore
travels in the environment (`RSVLM_COMMAND`).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rsvlm.config import config_dir
from rsvlm.config.overrides import command_line, own_folder
from rsvlm.config.run_folders import forget
from rsvlm.config.schema import check_top_level, check_words
from rsvlm.errors import UserError, needs_extra
from rsvlm.files import WriteError, trouble

COMMAND = "RSVLM_COMMAND"


def main(verb: str, words: Sequence[str] | None = None) -> None:
    """Runs a verb with the words of the command line.

    Args:
        verb: one of `config.schema.SCHEMAS`.
        words: behind the verb; None takes the command line's.
    """
    # Hydra's short errors hide the cause of a failing instantiation.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ[COMMAND] = verb
    if words is not None:
        sys.argv[1:] = words

    import hydra
    from hydra.errors import HydraException

    from rsvlm.app.help import FLAGS, help_of
    from rsvlm.config.compose import register, search_path

    register()
    forget()
    try:
        if verb == "bench" and sys.argv[1:2] == ["compare"]:
            from rsvlm.app.bench.compare import compare

            print(compare(sys.argv[2:]))
            return
        own = own_folder(sys.argv[1:])
        check_words(sys.argv[1:], verb, search_path(own))
        if set(FLAGS) & set(sys.argv[1:]):
            print(help_of(verb, sys.argv[1:], own))
            return
        _check_launcher(sys.argv[1:])
        sys.argv[1:] = command_line(sys.argv[1:], search_path(own))
        if own is not None and str(Path.cwd()) not in sys.path:
            # Own classes lie beside own configurations; a console script does not look there.
            sys.path.insert(0, str(Path.cwd()))
        with _hydras_line_held():
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=verb)(
                lambda cfg: _run(verb, cfg)
            )()
    except (UserError, WriteError) as error:
        sys.exit(f"error: {error}")
    except HydraException as error:
        sys.exit(f"error: {_hydra_says(error)}")
    except OSError as error:
        text = trouble(error)
        if not text:
            raise
        sys.exit(f"error: {error.filename or 'a file'} cannot be written: {text}.")


class _Held:
    """A stream that keeps Hydra's line above an error back."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.line = stream, ""

    def write(self, text: str) -> int:
        """Writes anything else."""
        if not text.startswith("Error executing job with overrides"):
            return int(self.stream.write(text))
        self.line = text
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _hydras_line_held() -> Iterator[None]:
    """Leaves "Error executing job ..." to errors that are not the user's.

    A launcher's jobs hand their errors over, and Hydra writes that line before it raises them.
    """
    held = _Held(sys.stderr)
    try:
        with redirect_stderr(held):
            yield
    except (UserError, WriteError):
        raise
    except Exception:
        sys.stderr.write(held.line)
        raise


def _check_launcher(words: Sequence[str]) -> None:
    """Refuses a launcher whose cluster is not here, before it fails on its own.

    Raises:
        UserError: a multirun by SLURM, and there is no `sbatch`; or the extra is not installed.
    """
    sweeps = {"-m", "--multirun"} & set(words)
    for word in words:
        ours = word.startswith(("hydra/launcher=slurm", "hydra/launcher=local_jobs"))
        if ours and not _has("hydra_plugins.hydra_submitit_launcher"):
            raise needs_extra("slurm", "hydra-submitit-launcher")
        if sweeps and word.startswith("hydra/launcher=slurm") and shutil.which("sbatch") is None:
            raise UserError(
                f"{word}: there is no sbatch here, so this machine submits no SLURM jobs. Run the "
                "sweep on this machine with hydra/launcher=local_jobs, or one job after the other "
                "without hydra/launcher=."
            )


def _has(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _hydra_says(error: BaseException) -> str:
    """What Hydra and OmegaConf object to, with the cause that their first line hides."""
    lines = [str(error)]
    cause = error.__cause__
    if cause is not None and str(cause).partition("\n")[0] not in lines[0]:
        lines.append(str(cause).partition("\n")[0])
    return "\n".join(lines)


def _run(verb: str, cfg: Any) -> Any:
    """The verb's function; a user's error ends here, before Hydra writes its own words above it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import InstantiationException

    from rsvlm.app import run, run_log
    from rsvlm.config.instantiate import cause_of

    run_log.attach()
    former = _listen()
    verbs: dict[str, Callable[[Any], Any]] = {
        "train": run.fit,
        "eval": run.evaluate,
        "predict": run.predict,
        "bench": _bench,
        "curate": _curate,
    }
    try:
        check_top_level(map(str, cfg), verb)
        return verbs[verb](cfg)
    except (_Terminated, KeyboardInterrupt) as stop:
        _stop(verb, cfg, signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT, None)
    except (UserError, OSError, InstantiationException) as error:
        cause = cause_of(error)
        text = str(cause)
        if isinstance(cause, OSError) and not isinstance(cause, WriteError):
            text = trouble(cause) and f"{cause.filename or 'a file'} cannot be written: " + trouble(
                cause
            )
        elif not isinstance(cause, UserError | WriteError):
            text = ""
        launcher = HydraConfig.get().runtime.choices.get("hydra/launcher") or "basic"
        # A launcher's process hands errors over, and not the end of the process.
        if not text or launcher != "basic":
            raise
        run_log.log.error("error: %s", text)
        raise SystemExit(f"error: {text}") from None
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # of lit, which asking a model does not import
            raise
        stopped: Any = error
        _stop(verb, cfg, stopped.signum, stopped.step)
    finally:
        if former is not None:
            signal.signal(signal.SIGTERM, former)


def _bench(cfg: Any) -> Any:
    from rsvlm.app.bench.run import bench

    return bench(cfg)


def _curate(cfg: Any) -> Any:
    from rsvlm.app.curate import curate

    return curate(cfg)


class _Terminated(BaseException):
    """SIGTERM outside of Lightning's loops."""


def _listen() -> Any:
    """Makes SIGTERM an exception; gives back what stood there before."""

    def end(signum: int, frame: Any) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, end)


def _stop(verb: str, cfg: Any, signum: int, step: int | None) -> None:
    """Ends the process as a signal does, with the words that go on."""
    from hydra.core.hydra_config import HydraConfig

    from rsvlm.app.stopped import ended

    folder = cfg.get("resume") or HydraConfig.get().runtime.output_dir
    raise SystemExit(ended(verb, str(folder), signum, step)) from None
