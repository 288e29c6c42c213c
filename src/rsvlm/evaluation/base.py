"""Evaluations of CLIP models: they bring a metric, its prompts and a data set together.

`lit/base.py` calls `start`, `update` and `compute` for validation and test alike, `facts` for
metrics.json and `draw` for the pictures of a report.
"""

from __future__ import annotations

import abc
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from rsvlm.errors import UserError
from rsvlm.models.protocols import is_generator


def can_run_alone(model: nn.Module) -> bool:
    """Whether one rank can run the model; a sharded one runs on all ranks or not at all."""
    return not any(isinstance(p, DTensor) for p in model.parameters())


def needs_answers(model: Any) -> None:
    """Refuses a model that does not write.

    Raises:
        UserError: it has no `generate`.
    """
    if not is_generator(model):
        raise UserError(
            f"a {type(model).__name__} writes no answers: choose evaluation=retrieval, zeroshot, "
            "..., or a model that writes, with task=captioner."
        )


class Evaluation(abc.ABC):
    """What a task measures on a split, under one protocol.

    Attributes:
        protocol: word of metric names, where `facts` names no other one.
        stage: `val` or `test`, set before `start`.
        learns: whether `learn` is to be given the training split before the first `update`.
        kinds: task words of the dialogues that are asked; None asks all of a sample's.
        makes: tasks (`data.text.instructions.MADE`) that questions are made of where a data set has
            objects and no questions for them.
    """

    protocol: str
    kinds: Container[str] | None = None
    makes: Sequence[str] = ()
    stage: str = "test"
    learns: bool = False

    def prompt(self, text: str) -> str:
        """What is encoded for a caption."""
        return text

    @property
    def instructions(self) -> Mapping[str, Any]:
        """Options of `data.text.instructions.InstructionTemplates` for the model's collate."""
        return {"tasks": self.makes} if self.makes else {}

    def transform(self) -> Any:
        """A transform in place of the model's own; None leaves it."""
        return None

    def collate(self) -> Any:
        """A collate in place of the family's own; None leaves it."""
        return None

    @abc.abstractmethod
    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Prepares an empty measurement on a data set."""

    def learn(  # noqa: B027  (most evaluations learn nothing)
        self, model: Any, dataset: Any, batches: Iterable[Any]
    ) -> None:
        """Takes the split that is learnt from, after `start`; only where `learns`."""

    @abc.abstractmethod
    def update(self, model: Any, batch: Any) -> None:
        """Adds a batch."""

    @abc.abstractmethod
    def compute(self) -> dict[str, Any]:
        """Metric words and their values, over all ranks."""

    @abc.abstractmethod
    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word, after `compute`; its own `protocol`."""

    def draw(  # noqa: B027  (most evaluations have no pictures)
        self, model: Any, dataset: Any, preprocess: Any, folder: Path
    ) -> None:
        """Makes the pictures of a report, after `compute`, on one rank."""
