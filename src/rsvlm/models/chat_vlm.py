"""A vision-language model that chats: images inline, in a system's words, boxes read back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from rsvlm.data.collate.chat import ChatCollate, asked
from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import InstructionTemplates, merged
from rsvlm.data.text.instructions import system as system_of
from rsvlm.errors import UserError
from rsvlm.models.protocols import Kinds
from rsvlm.models.vlm import VisionLanguageModel

#: Stands at an image's place in `input_ids`: LLaVA's own, which no vocabulary has.
IMAGE = -200
#: What stands for an image in other programs' prompts.
PLACEHOLDERS = ("<image>", "<ImageHere>", "<Img>", "</Img>")
#: No changes of `InstructionTemplates`'s options.
DEFAULTS: Mapping[str, Any] = {}


class ChatVLM(VisionLanguageModel):
    """A vision tower, a bridge that reads each image alone, and a language model.

    Args:
        vision: a tower with `tokens`, the number that it gives an image.
        bridge: has `count(tokens)`, the number of its embeddings for an image; or what builds it.
        lm: a `LanguageModel`.
        system: whose words, prompt format and boxes (data/prompts/systems).
        tuning: what `lm` must be tuned by; says so where a recipe and its parts disagree.
        train_vision: train the tower too.
        max_length: longest row in training, tokens with those of images; None for the window.
        instructions: options of `data.text.instructions.InstructionTemplates`, which puts captions,
            boxes and questions of data sets into the system's words; None takes their dialogues as
            they are.
        chat: options of `ChatCollate` where they differ.
        generation: options of `generate`.
        cache_gib, packing: see `VisionLanguageModel`.

    Raises:
        UserError: an unknown system, tokens that the bridge cannot group, or another tuning.
    """

    several_pictures = True
    #: What makes the dialogues of samples.
    templates: type[InstructionTemplates] = InstructionTemplates

    def __init__(
        self,
        vision: nn.Module,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: nn.Module,
        *,
        system: str,
        tuning: str | None = None,
        train_vision: bool = False,
        max_length: int | None = None,
        instructions: Mapping[str, Any] | None = DEFAULTS,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        cache_gib: float = 0.0,
        packing: str = "none",
    ) -> None:
        vision.requires_grad_(train_vision)
        super().__init__(
            vision,
            bridge,
            lm,
            image_token_id=IMAGE,
            generation=generation,
            cache_gib=cache_gib,
            packing=packing,
        )
        if tuning is not None and self.lm.tuning != tuning:
            raise UserError(
                f"model.tuning={tuning} and model.lm.tuning={self.lm.tuning} differ: let lm.tuning "
                "follow, as ${..tuning}."
            )
        self.system = system_of(system)
        self.codec = codec(self.system.boxes) if self.system.boxes else None
        self.image_tokens: int = self.bridge.count(self.vision.tokens)
        self.max_length, self._instructions, self._chat = max_length, instructions, dict(chat or {})

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> ChatCollate:
        """From samples to a batch: padded right with answers, or left up to the answer.

        Rows leave room for the answer in the window; history is cut first, and a question that does
        not fit is skipped with its reason. For the arguments see `models.protocols.Generator`.
        """
        options = self._collate_options(training, instructions)
        return ChatCollate(self.tokenizer, **{**options, **self._chosen(training), **asked(kinds)})

    def _chosen(self, training: bool) -> dict[str, Any]:
        """The options of the collate; training alone may draw some of a sample's questions."""
        return {k: v for k, v in self._chat.items() if training or k != "which"}

    def _collate_options(
        self, training: bool, instructions: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        room = self.lm.context_length
        if not training:
            room -= int(self.generation.get("max_new_tokens", 64))
        elif self.max_length is not None:
            room = min(room, self.max_length)
        options: dict[str, Any] = {
            "format": self.system.format,
            "max_length": room,
            "identifiers": self.identifiers or None,
            "placeholders": PLACEHOLDERS,
            "generation": not training,
            "image_token_id": IMAGE,
            "image_tokens": self.image_tokens,
        }
        if self._instructions is not None:
            options["instructions"] = self.templates(
                self.system.name,
                **{"measuring": not training, **merged(instructions, self._instructions)},
            )
        return options

    @property
    def identifiers(self) -> frozenset[str]:
        """The task identifiers that the model knows; none where it has no such thing."""
        return self.system.identifiers

    def generate(self, batch: Any, features: Tensor | None = None, **options: Any) -> list[Answer]:
        """See `VisionLanguageModel.generate`; boxes in the text are put into `Answer.boxes`.

        They are in pixels of the first image as stored, where the batch says the geometry.
        """
        answers = super().generate(batch, features, **options)
        for answer, seen in zip(answers, batch.geometry, strict=True):
            if self.codec is not None and seen:
                found = self.codec.parse(answer.text, seen[0])
                answer.boxes = [place.box for place in found.boxes]
                if self.codec.has_angle:
                    answer.angles = [place.angle for place in found.boxes]
        return answers


def check_language_model(
    lm: Any, names: Collection[str], width: Tensor | None, trained_with: str, where: str
) -> None:
    """Hold what a published file says of its language model against ours.

    Args:
        lm: a `LanguageModel`.
        names: of the file's tensors.
        width: a tensor of the file whose first dimension is the width of its language model.
        trained_with: which language model the published ones have, for the error.
        where: the file.

    Raises:
        UserError: another width, or LoRA of other layers; says how to build the model.
    """
    if width is not None and width.shape[0] != lm.dim:
        raise UserError(
            f"{where} was trained with a language model of width {width.shape[0]}, this one has "
            f"{lm.dim} ({trained_with}): choose the model/lm option that fits."
        )
    theirs = {name.split(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name}
    ours = {name.rpartition(".")[2] for name in lm.tuned} if lm.tuning == "lora" else set()
    if theirs and theirs != ours:
        raise UserError(
            f"{where} holds LoRA of {', '.join(sorted(theirs))}; the model has LoRA of "
            f"{', '.join(sorted(ours)) or 'nothing'}: say model.tuning=lora "
            f"model.lm.lora.targets=[{','.join(sorted(theirs))}]."
        )
