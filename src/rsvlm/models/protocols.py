"""What the task, the evaluations and inference may ask of a model.

`VLM`s, change captioners and CLIPs have it all. A class of your own is held to this where it is
built (`check_model`); one that answers in words inherits the defaults of
`models.base.GenerativeModel`. What a model may say beside this while a checkpoint is loaded into
it stands in `checkpoints.hooks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeGuard

from torch import Tensor

from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import Codec
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.errors import UserError
from rsvlm.nn.feature_cache import FeatureCache

#: Task words of the questions that a collate asks; None keeps to those that the model was given
#: (`model.chat.kinds`), `all` to none.
Kinds = Container[str] | Literal["all"] | None


class Model(Protocol):
    """Any model."""

    @property
    def image_size(self) -> int:
        """Side of the images, pixels; where they keep their own sizes, that of augmented ones."""
        ...

    @property
    def preprocess(self) -> Callable[..., Tensor]:
        """The evaluation transform: from a picture to uint8 [3, H, W].

        Normalisation is the model's own, on its device.
        """
        ...

    @property
    def tokenizer(self) -> Any:
        """Of its texts: transformers', a CLIP's (texts to ids), or a closed vocabulary."""
        ...


class ImageTextEncoder(Model, Protocol):
    """A model of one space of features for images and texts: CLIPs, RS-CapRet."""

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the temperature's inverse, a scalar."""
        ...

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Features [N, D] of images [N, 3, S, S]; `normalize` gives float32 of unit length."""
        ...

    def encode_text(self, input_ids: Tensor, normalize: bool = False) -> Tensor:
        """Features [T, D] of ids [T, L]; likewise."""
        ...


class ContrastiveModel(ImageTextEncoder, Protocol):
    """What `task=contrastive` trains: CLIPs."""

    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Keeps the temperature's inverse in [1, maximum]; called after each step."""
        ...


class Generator(Model, Protocol):
    """A model that answers in words."""

    @property
    def codec(self) -> Codec | None:
        """How boxes stand in its answers; None of a model that gives none."""
        ...

    @property
    def words(self) -> Vocabulary | None:
        """Its closed vocabulary, whose ids some protocols count; None of a language model."""
        ...

    @property
    def cache(self) -> FeatureCache | None:
        """What keeps the features of pictures in training; None keeps none."""
        ...

    @property
    def tuning(self) -> str | None:
        """How it is tuned, a word that learning rates go by; None where it has no choice."""
        ...

    @property
    def describes(self) -> bool:
        """Whether it writes a caption where nothing is asked."""
        ...

    @property
    def takes_prompt(self) -> bool:
        """Whether it can be asked anything; a change captioner cannot."""
        ...

    @property
    def bitemporal(self) -> bool:
        """Whether each question is about two dates."""
        ...

    @property
    def several_pictures(self) -> bool:
        """Whether a dialogue may show several pictures, as two dates."""
        ...

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> Callable[[Sequence[Any]], Any]:
        """From samples to a batch.

        Args:
            training: with answers to learn from; else with room for the model's own.
            kinds: see `Kinds`.
            instructions: options of `data.text.instructions.InstructionTemplates` that an
                evaluation asks for. What the model was given itself (`model.instructions`) stands,
                and a model that takes dialogues as they are ignores them.
        """
        ...

    def generate(self, batch: Any, **options: Any) -> list[Answer]:
        """An answer to each question of a batch of `collate(training=False)`."""
        ...

    def after_step(self) -> None:
        """Called after each step of the optimizer; keeps parameters in their range."""
        ...


class Retriever(Generator, ImageTextEncoder, Protocol):
    """A model that answers in words and finds pictures in a gallery: RS-CapRet."""

    def pairs(self, **options: Any) -> Callable[[Sequence[Any]], Any]:
        """From samples to images with their captions.

        Args:
            **options: of `data.collate.pairs.PairCollate`.
        """
        ...

    def query(self, embedded: Any, written: Any = None) -> Tensor:
        """Features of unit length [B, D] of what dialogues ask for."""
        ...


class MapGenerator(Protocol):
    """A model that shows what its answers rest on."""

    def maps(self, batch: Any) -> dict[str, Tensor]:
        """Maps [B, G, G] by name."""
        ...


# Which of them a model is -----------------------------------------------------------------


def is_generator(model: object) -> TypeGuard[Generator]:
    """Whether a model answers in words."""
    return _gives(model, "generate")


def is_image_text_encoder(model: object) -> TypeGuard[ImageTextEncoder]:
    """Whether a model has one space of features for images and texts."""
    return _gives(model, "encode_image") and _gives(model, "encode_text")


def is_contrastive(model: object) -> TypeGuard[ContrastiveModel]:
    """Whether a model is trained by a contrastive loss alone."""
    return is_image_text_encoder(model) and _gives(model, "clamp_logit_scale")


def is_retriever(model: object) -> TypeGuard[Retriever]:
    """Whether a model answers in words and finds pictures."""
    return is_generator(model) and _gives(model, "query")


def is_map_generator(model: object) -> TypeGuard[MapGenerator]:
    """Whether a model shows what its answers rest on."""
    return _gives(model, "maps")


def missing(model: object, protocol: type) -> list[str]:
    """The members of a protocol that a model lacks; no property is evaluated."""
    return sorted(name for name in members(protocol) if not _gives(model, name))


def members(protocol: type) -> Collection[str]:
    """The names that a protocol of this module asks for."""
    bases = [base for base in protocol.__mro__ if base.__module__ == __name__]
    return {name for base in bases for name in vars(base) if not name.startswith("_")}


def check_model(model: object) -> None:
    """Holds a model against the protocols that it sets out to follow.

    Raises:
        UserError: a member is missing, `collate` takes other arguments, or the model neither
            answers nor encodes; names it.
    """
    kind = type(model).__name__
    asked: list[type] = []
    if is_retriever(model):
        asked.append(Retriever)
    elif is_generator(model):
        asked.append(Generator)
    elif _gives(model, "encode_image") or _gives(model, "encode_text"):
        asked.append(ImageTextEncoder)
    if not asked:
        raise UserError(
            f"{kind} is no model that can be used here: it has neither generate (answers in words, "
            "see rsvlm.models.protocols.Generator) nor encode_image and encode_text (a space of "
            "features, ImageTextEncoder)."
        )
    (protocol,) = asked
    lacking = missing(model, protocol)
    if lacking:
        base = " Inherit rsvlm.models.base.GenerativeModel, which has most of them."
        raise UserError(
            f"{kind} lacks {', '.join(lacking)}: rsvlm.models.protocols.{protocol.__name__} says "
            f"what a model gives that has {_told_by(protocol)}."
            + (base if protocol is not ImageTextEncoder else "")
        )
    if protocol is not ImageTextEncoder:
        _check_collate(model, kind)


def _check_collate(model: Any, kind: str) -> None:
    try:
        inspect.signature(model.collate).bind(training=False, kinds=None, instructions=None)
    except TypeError as error:
        raise UserError(
            f"{kind}.collate must be collate(self, training, *, kinds=None, "
            f"instructions=None), see rsvlm.models.protocols.Generator: {error}."
        ) from error


def _told_by(protocol: type) -> str:
    told = {"Generator": "generate", "Retriever": "generate and query"}
    return told.get(protocol.__name__, "encode_image or encode_text")


def _gives(model: object, name: str) -> bool:
    """Whether a model has an attribute; one of its class is not evaluated."""
    return hasattr(type(model), name) or hasattr(model, name)
