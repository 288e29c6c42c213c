"""What can be known to go wrong before the first step: splits, batches, monitors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from rsvlm.errors import UserError
from rsvlm.metrics.names import parse


def check_stages(cfg: DictConfig, task: Any, data: Any) -> None:
    """Opens every split that the run is going to use, and holds monitors against what is measured.

    Raises:
        UserError: a split that cannot be opened, fewer samples than a batch, or a monitor that no
            validation gives.
    """
    tests = task.evaluation is not None and cfg.trainer.get("limit_test_batches") != 0
    validates = _validates(cfg, task, data)
    size = len(data.dataset("train"))
    if size < data.batch_size:
        raise UserError(
            f"data.batch_size={data.batch_size}, and {data.dataset('train').name} has {size} "
            f"training samples: give data.batch_size={max(1, size)} or less."
        )
    if validates:
        data.dataset("val")
    if tests and data.has("test"):
        data.dataset("test")
    for name, node in (cfg.callbacks or {}).items():
        monitor = node.get("monitor") if node else None
        if monitor is not None:
            _check_monitor(str(name), str(monitor), task, data, validates)


def _validates(cfg: DictConfig, task: Any, data: Any) -> bool:
    limit = cfg.trainer.get("limit_val_batches")
    return task.evaluation is not None and data.has("val") and limit != 0


def _check_monitor(callback: str, monitor: str, task: Any, data: Any, validates: bool) -> None:
    key = f"callbacks.{callback}.monitor"
    try:
        name = parse(monitor)
    except ValueError as error:
        raise UserError(f"{key}={monitor}: {error} {key}=null keeps no best.") from error
    if name.dataset is None or not validates:
        return  # never looked at
    dataset, protocols = data.dataset("val").name, set(_protocols(task.evaluation))
    protocol = name.protocol if name.protocol in protocols else task.evaluation.protocol
    right = f"val/{dataset}/{protocol}/{name.metric}"
    if monitor != right:
        raise UserError(
            f"{key}={monitor} will not be measured: validation is on {dataset} under "
            f"{', '.join(sorted(protocols))}. Give {key}={right}, or {key}=null to keep no best."
        )


def _protocols(evaluation: Any, depth: int = 2) -> Iterator[str]:
    """The words under which an evaluation, or one inside of it, gives values."""
    for word in ("protocol", "flag_protocol", "word"):
        value = getattr(evaluation, word, None)
        if isinstance(value, str):
            yield value
    if type(evaluation).__name__ == "RSIEvalEvaluation":
        yield "coco"
    if depth:
        for inner in vars(evaluation).values():
            if type(inner).__module__.startswith("rsvlm.evaluation"):
                yield from _protocols(inner, depth - 1)
