"""Any image-text model of transformers as a member of the zoo: the tables' baseline.

What `AutoModelForImageTextToText` gives: Qwen2-VL (Wang et al., arXiv 2409.12191), Qwen2.5-VL (Bai
et al., arXiv 2502.13923), llava-hf's models, InternVL, SmolVLM and others. Its processor prepares
the images, its chat template writes the prompt; windows, labels on answers, questions of data sets,
boxes, generation and scores are this package's, as for every model that writes.

Weights come by `model.lm.weights=<folder or hf://org/repo@rev>`; `ckpt=` takes runs of ours.

Tuned on the cross entropy of all answers: `lora` on the language model's linear layers, or `full`.
No paper of the zoo tunes such a model, so the settings are common ones: rank 16, alpha 32, dropout
0.05, rate 1e-4.

Boxes are told and read in the convention of the family (`FAMILIES`):

- Qwen2.5-VL: pixels of the image as its processor resizes it (sides to multiples of 28, within
  `model.lm.pixels`), in JSON; the same picture at another size has other numbers.
- Qwen2-VL: thousandths of the image, `<|box_start|>(x0,y0),(x1,y1)<|box_end|>`; Qwen3-VL: the same
  numbers in Qwen2.5-VL's JSON; InternVL: the same in `<box>[[x0, y0, x1, y1]]</box>`.
- llava-hf: fractions of the square that its processor crops, two decimals. LLaVA itself was
  trained on padded images, so its boxes fit square pictures only; `models/llava/model.py` pads.
- others: none, until `model.boxes=` names a convention of `data/text/box_codecs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rsvlm.checkpoints.new_parameters import ADDED
from rsvlm.checkpoints.read import Contents
from rsvlm.data.as_stored import AsStored
from rsvlm.data.collate.chat import asked
from rsvlm.data.collate.hf_processor_chat import TemplateBatch, TemplateCollate
from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import InstructionTemplates, merged, system
from rsvlm.encoders.cross_attended import by_rows
from rsvlm.encoders.hf_vlm import ImageTextModel
from rsvlm.encoders.processors import placing
from rsvlm.errors import UserError
from rsvlm.models.base import GenerativeModel
from rsvlm.models.protocols import Kinds

GENERATION = {"num_beams": 1, "max_new_tokens": 256}
#: Architecture to the words and boxes of its system (data/prompts/systems).
FAMILIES = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "llava": "llava",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "internvl": "internvl",
    "llava_next": "llava",
}
#: Of an architecture that is not listed.
OTHERS = "hf_vlm"
DEFAULTS: Mapping[str, Any] = {}


class HFVLM(GenerativeModel):
    """See the head of this file.

    Args:
        lm: an `ImageTextModel`, which is the whole model.
        system: whose words questions of data sets are asked in; None takes the family's.
        boxes: a convention of `data/text/box_codecs.py` in the place of the system's.
        tuning: what `lm` must be tuned by; says so where a recipe and its parts disagree.
        image_size: side of the pictures that `data.augment` makes; without it they stay as stored.
        max_length: longest row in training, tokens with those of images; None for the window.
        instructions: options of `data.text.instructions.InstructionTemplates`; None takes dialogues
            as they are.
        chat: options of `TemplateCollate` where they differ.
        generation: options of `generate` where they differ from `GENERATION`.

    Raises:
        UserError: an unknown system or convention, or another tuning.
    """

    several_pictures = True

    def __init__(
        self,
        lm: ImageTextModel,
        *,
        system: str | None = None,
        boxes: str | None = None,
        tuning: str | None = None,
        image_size: int = 448,
        max_length: int | None = 2048,
        instructions: Mapping[str, Any] | None = DEFAULTS,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if tuning is not None and lm.tuning != tuning:
            raise UserError(
                f"model.tuning={tuning} and model.lm.tuning={lm.tuning} differ: let lm.tuning "
                "follow, as ${..tuning}."
            )
        self.lm = lm
        self.system = system_of(lm.kind, system)
        name = boxes or self.system.boxes
        self.codec = codec(name) if name else None
        self.image_size, self.max_length = image_size, max_length
        self._instructions, self._chat = instructions, dict(chat or {})
        self.generation = {**GENERATION, **(generation or {})}

    @property
    def tokenizer(self) -> Any:
        """The processor's, of transformers."""
        return self.lm.tokenizer

    @property
    def tuning(self) -> str | None:
        """How the model is tuned."""
        return self.lm.tuning

    @property
    def adapter_parts(self) -> Sequence[str]:
        """What LoRA adds."""
        return ADDED.get(self.lm.tuning, ())

    @property
    def preprocess(self) -> AsStored:
        """Pictures as stored; the collate's processor resizes them."""
        return AsStored()

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> TemplateCollate:
        """From samples to a batch: padded right with answers, or left up to the answer.

        For the arguments see `models.protocols.Generator`.
        """
        room = self.lm.context_length
        if not training:
            room -= int(self.generation["max_new_tokens"])
        elif self.max_length is not None:
            room = min(room, self.max_length)
        options: dict[str, Any] = {"max_length": room, "generation": not training}
        if self._instructions is not None:
            convention = {"boxes": self.codec.name} if self.codec is not None else {}
            options["instructions"] = InstructionTemplates(
                self.system.name,
                **{
                    "measuring": not training,
                    **convention,
                    **merged(instructions, self._instructions),
                },
            )
        processor = self.lm.processor
        return TemplateCollate(
            processor,
            ends=self.lm.eos_token_ids,
            place=placing(processor),
            **{**options, **self._chat, **asked(kinds)},
        )

    def forward(self, batch: TemplateBatch) -> dict[str, torch.Tensor]:
        """Logits of the answers' tokens.

        Args:
            batch: of `collate(training=True)`.

        Returns:
            `logits` [N, vocabulary] and `targets` [N] of the N supervised positions.
        """
        return self.lm(_inputs(batch, self.lm.image_token_id), batch.labels)

    @torch.no_grad()
    def generate(self, batch: TemplateBatch, **options: Any) -> list[Answer]:
        """An answer to each dialogue, with the boxes that its text speaks of.

        Args:
            batch: of `collate(training=False)`.
            **options: see `encoders.generation.OPTIONS`; what is not said is `generation`.

        Returns:
            `text`, `score` (see `encoders.generation.Generated`), `candidates` where more than one
            was asked for, `boxes` in pixels of the first image as stored.

        Raises:
            UserError: an unknown option, a window that is too small, padding on the right.
        """
        mode = self.training
        self.eval()
        try:
            inputs = _inputs(batch, self.lm.image_token_id)
            found = self.lm.generate(inputs, **{**self.generation, **options})
        finally:
            self.train(mode)
        answers = []
        for row, seen in zip(found, batch.geometry, strict=True):
            texts = [(self.decode(text.ids), text.score) for text in row]
            answer = Answer(*texts[0], candidates=texts if len(texts) > 1 else [])
            answer.finished = row[0].ended
            if self.codec is not None and seen:
                answer.boxes = [place.box for place in self.codec.parse(answer.text, seen[0]).boxes]
            answers.append(answer)
        return answers

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def before_load(self, contents: Contents, where: str) -> None:
        """Refuses folders of transformers, which come by another word.

        Raises:
            UserError: the file is one.
        """
        if not any(name.startswith("lm.model.") for name in contents.tensors):
            raise UserError(
                f"{where} is no run of ours. Weights as published come by "
                f"model.lm.weights={where}, without ckpt= and init=."
            )


def system_of(kind: str, name: str | None) -> Any:
    """The system of an architecture, or the one of a name."""
    return system(name or FAMILIES.get(kind, OTHERS))


def _inputs(batch: TemplateBatch, image_token: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        **by_rows(batch.inputs, batch.input_ids, image_token),
    }


#: Weights are published elsewhere and in many versions; they come by `model.lm.weights=`.
ROWS = ()
