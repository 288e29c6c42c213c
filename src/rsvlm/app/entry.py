"""From the command line to a verb: Hydra, the user's errors in one message, ranks that come along.

Lightning starts the other ranks of a run with the same words and without the verb, which therefore
travels in the environment (`RSVLM_COMMAND`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rsvlm.config import config_dir
from rsvlm.config.overrides import command_line, own_folder
from rsvlm.config.schema import check_top_level
from rsvlm.errors import UserError

COMMAND = "RSVLM_COMMAND"


def main(verb: str, words: Sequence[str] | None = None) -> None:
    """Runs a verb with the words of the command line.

    Args:
        verb: `train`, `eval` or `predict`.
        words: behind the verb; None takes the command line's.
    """
    # Hydra's short errors hide the cause of a failing instantiation.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ[COMMAND] = verb
    if words is not None:
        sys.argv[1:] = words

    import hydra
    from hydra.errors import ConfigCompositionException, OverrideParseException

    from rsvlm.config.compose import register, search_path

    register()
    try:
        own = own_folder(sys.argv[1:])
        sys.argv[1:] = command_line(sys.argv[1:], search_path(own))
        if own is not None and str(Path.cwd()) not in sys.path:
            # Own classes lie beside own configurations; a console script does not look there.
            sys.path.insert(0, str(Path.cwd()))
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=verb)(
            lambda cfg: _run(verb, cfg)
        )()
    except (UserError, ConfigCompositionException, OverrideParseException) as error:
        sys.exit(f"error: {error}")


def _run(verb: str, cfg: Any) -> Any:
    """The verb's function; a user's error ends here, before Hydra writes its own words above it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import InstantiationException

    from rsvlm.app import run
    from rsvlm.config.instantiate import cause_of

    verbs: dict[str, Callable[[Any], Any]] = {
        "train": run.fit,
        "eval": run.evaluate,
        "predict": run.predict,
    }
    try:
        check_top_level(map(str, cfg), verb)
        return verbs[verb](cfg)
    except (UserError, InstantiationException) as error:
        cause = cause_of(error)
        launcher = HydraConfig.get().runtime.choices.get("hydra/launcher") or "basic"
        # A launcher's process hands errors over, and not the end of the process.
        if not isinstance(cause, UserError) or launcher != "basic":
            raise
        raise SystemExit(f"error: {cause}") from None
