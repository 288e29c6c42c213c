"""What a model may say while a checkpoint is loaded into it; the engine itself knows no model.

All of it is optional: the attributes of `LoadingFacts`, and the methods of the protocols below.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row

_UNSAID: Any = object()


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


@dataclass(frozen=True)
class LoadingFacts:
    """What a module says of itself by attributes of these names; the defaults of one that does not.

    Attributes:
        dialects: the published layouts that it takes, beside our own.
        required: parts that a published file must hold, and what they are in words.
        initial: names that a published file may lack because its training left them as they were
            made.
        positions: what to do with position embeddings of another image size, see
            `encoders.clip.patches.ClipPatches`.
        image_size: side of the images, pixels.
        variant: which of a paper's and its code's forms it computes.
        words: its closed vocabulary, with `ids`.
        tuning: the word of how it is tuned.
        adapter_parts: what its tuning adds, as `checkpoints.load(new=)` takes it; it starts without
            an effect.
        lm_dim: width of its language model.
    """

    dialects: Sequence[Dialect] = ()
    required: Mapping[str, str] | None = None
    initial: Sequence[str] = ()
    positions: str = "exact"
    image_size: int | None = None
    variant: str | None = None
    words: Any = None
    tuning: str | None = None
    adapter_parts: Sequence[str] = ()
    lm_dim: int | None = None


def facts_of(model: nn.Module) -> LoadingFacts:
    """What a module says of itself."""
    # Each is read once: some are properties that look at all of a model's layers.
    said = {field.name: getattr(model, field.name, _UNSAID) for field in fields(LoadingFacts)}
    return LoadingFacts(**{name: value for name, value in said.items() if value is not _UNSAID})


def own_weights(model: nn.Module) -> dict[str, Any]:
    """The parts that were built with weights of their own, and where these come from."""
    parts = {name: part for name, part in model.named_children() if isinstance(part, Sourced)}
    return {name: part.weights for name, part in parts.items() if part.weights}


@runtime_checkable
class Sourced(Protocol):
    """A tower that can be built with weights."""

    weights: Any


@runtime_checkable
class TuningOf(Protocol):
    """A model whose ways of tuning are not those of a language model."""

    def tuning_of(self, names: Collection[str]) -> str | None:
        """The word of what adds something of these names; None where nothing is added."""
        ...


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
    return facts_of(model).dialects


def facts(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint must say of its model beside the weights."""
    found: dict[str, Any] = {"class": type(model).__name__}
    if isinstance(model, CheckpointFacts):
        return found | model.checkpoint_facts()
    said = facts_of(model)
    for word, value in (("variant", said.variant), ("image_size", said.image_size)):
        if isinstance(value, str | int):
            found[word] = value
    return found if said.words is None else found | {"words": dict(said.words.ids)}
