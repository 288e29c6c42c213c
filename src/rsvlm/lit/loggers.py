"""A CSV log that a resumed run goes on with, and W&B without an import at the top."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from rsvlm.errors import UserError, extra
from rsvlm.files import written_whole

COLUMNS = ("step", "name", "value")


class CSVLogger(Logger):
    """`metrics.csv`: one row a value, (step, name, value), appended and flushed at once.

    A resumed run first drops the rows of the steps that it is going to repeat.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """The run's folder is the version."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drops rows at or after `step`, which are about to be logged again."""
        if not self.path.is_file():
            return
        with self.path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        # A kill may have cut the last row.
        kept = [row for row in rows if len(row) == 3 and row[0].isdigit() and int(row[0]) < step]
        with written_whole(self.path) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends the values of a step."""
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            for name, value in metrics.items():
                if name != "epoch":
                    writer.writerow((step or 0, name, f"{value:.8g}"))


def wandb_logger(
    save_dir: str | Path,
    *,
    project: str = "rsvlm",
    entity: str | None = None,
    offline: bool = True,
    name: str | None = None,
    tags: list[str] | None = None,
    id: str | None = None,
    required: bool = True,
    config: Mapping[str, Any] | None = None,
) -> Logger | None:
    """Lightning's W&B logger; `id` is a resumed run's, `config` what the run is made of.

    W&B itself starts with the first value or with `logger.experiment`.

    Where it is not `required` and wandb is not installed, one line says so, and there is none.

    Raises:
        UserError: wandb is not installed, and is required.
    """
    try:
        with extra("wandb", "Or choose logger=csv."):
            import wandb  # noqa: F401
    except UserError as error:
        if required:
            raise
        rank_zero_only(print)(f"metrics.csv alone is written, nothing for W&B: {error}")
        return None
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        name=name,
        save_dir=str(save_dir),
        project=project,
        entity=entity,
        offline=offline,
        tags=tags or None,
        id=id,
        resume="allow",
        config=None if config is None else dict(config),
    )


def finish() -> None:
    """Ends W&B's run, so that the next job of a sweep gets one of its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish()
