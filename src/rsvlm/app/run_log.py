"""What a run says: on the terminal, and in its train.log."""

from __future__ import annotations

import logging

#: Lines for the file alone; the terminal has them in another form (the bar), or by `print`.
log = logging.getLogger("rsvlm.run_log")


def say(text: str) -> None:
    """Prints a line and keeps it in the run's log."""
    print(text)
    log.info(text)


def attach() -> None:
    """Sends `rsvlm.run_log` to the files that Hydra opened for this job, and nowhere else."""
    log.propagate = False
    log.setLevel(logging.INFO)
    files = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    # A logger without any handler writes errors to the terminal, which has them already.
    log.handlers = [*files, logging.NullHandler()]
