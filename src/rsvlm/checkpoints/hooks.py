"""What a model may say while a checkpoint is loaded into it; the engine itself knows no model.

All of it is optional. Beside the methods a model may have these attributes:

- `dialects`: the published layouts that it takes, beside our own;
- `required`: parts that a published file must hold, and what they are in words;
- `initial`: names that a published file may lack because its training left them as they were made;
- `positions`: what to do with position embeddings of another image size, see
  `encoders.clip.patches.ClipPatches`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that fits.

    Attributes:
        names: the model's tensors that it fills.
        contents: the file, with the JSON files beside it.
        row: its zoo row, if it has one.
        where: as the user named it.
    """

    names: Collection[str]
    contents: Contents
    row: Row | None
    where: str


@runtime_checkable
class Published(Protocol):
    """A model that says in which layouts its checkpoints are published."""

    dialects: Sequence[Dialect]


@runtime_checkable
class BeforeFetch(Protocol):
    """A model that looks at a zoo row before anything is downloaded."""

    def before_fetch(self, row: Row, where: str) -> None:
        """Raises a UserError that names the right model option if the row is of another one."""
        ...


@runtime_checkable
class BeforeLoad(Protocol):
    """A model that looks at a published file before its names are converted."""

    def before_load(self, contents: Contents, where: str) -> None:
        """Raises a UserError that says what to do if the file is of another architecture."""
        ...


@runtime_checkable
class BeforeAssign(Protocol):
    """A model of which something must be settled that its weights do not say."""

    def before_assign(self, loaded: Loaded) -> list[str]:
        """Called when the tensors fit and none has been put in yet; gives notes for the user.

        Raises:
            UserError: nothing says it, or two things contradict each other.
        """
        ...


@runtime_checkable
class AfterLoad(Protocol):
    """A model that sees to what follows from the tensors that were loaded."""

    def after_load(self, loaded: Loaded) -> list[str]:
        """Gives notes for the user."""
        ...


@runtime_checkable
class ExplainMismatch(Protocol):
    """A model that knows its kind."""

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """What a state dict that does not fit is a checkpoint of, in sentences; else empty.

        Args:
            state: in our names.
        """
        ...


@runtime_checkable
class CheckpointFacts(Protocol):
    """A model whose checkpoints must say more than its class, `variant` and `image_size`."""

    def checkpoint_facts(self) -> dict[str, Any]:
        """What tells it from others of its class; plain values."""
        ...


def dialects_of(model: nn.Module) -> Sequence[Dialect]:
    """The published layouts that a model can take, beside our own."""
    return model.dialects if isinstance(model, Published) else ()


def facts(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint must say of its model beside the weights."""
    found: dict[str, Any] = {"class": type(model).__name__}
    if isinstance(model, CheckpointFacts):
        return found | model.checkpoint_facts()
    for word in ("variant", "image_size"):
        if isinstance(value := getattr(model, word, None), str | int):
            found[word] = value
    words = getattr(model, "words", None)
    return found if words is None else found | {"words": dict(words.ids)}
