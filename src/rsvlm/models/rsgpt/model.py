"""RSGPT: InstructBLIP tuned on detailed captions of aerial images.

Hu et al., "RSGPT: A remote sensing vision language model and benchmark" (arXiv 2307.15266; ISPRS
JPRS 224, 2025), and the code at Lavender105/RSGPT, published in May 2025 without a checkpoint. Its
base: Dai et al., 2023, "InstructBLIP: Towards General-purpose Vision-Language Models with
Instruction Tuning" (arXiv 2305.06500; salesforce/LAVIS, `blip2_vicuna_instruct`).

EVA-ViT-g/14 at 224 px (39 blocks, frozen) → LayerNorm → Q-Former with 32 queries and the
instruction beside them (at most 128 tokens of BERT; a longer one loses its beginning, as in LAVIS)
→ linear layer → 32 embeddings before the text of a frozen Vicuna, 13B (RSGPT) or 7B. The language
model's tokenizer has a [PAD] of its own, and start, end and unknown token are `</s>`.

Trained: the norm, queries, Q-Former and linear layer, on the cross entropy of the answer;
Q-Former text blocks of the last layer have no influence and get no gradient.

Recipe (`rsgpt_train.yaml` of the released code): from InstructBLIP's Vicuna-13B file, RSICap's
2,585 pairs with its four instructions, texts of 160 tokens, AdamW with weight decay 0.05, 3e-5
with 40 steps of warm-up from 1e-6 and a cosine to 1e-5, 5 epochs of 40 steps on 8 GPUs of batch 8,
mixed precision. Generation as LAVIS': five beams, 256 tokens, repetition penalty 1.5, length
penalty 1.

Key map: `models/rsgpt/layouts.py`. RSIEval's questions were scored by people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.collate.chat import ChatCollate, asked
from rsvlm.data.text.instructions import InstructionTemplates, merged
from rsvlm.data.transforms import Squash
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.models.chat_vlm import check_language_model
from rsvlm.models.protocols import Kinds
from rsvlm.models.rsgpt.layouts import instructblip_dialects
from rsvlm.models.vlm import VisionLanguageModel

#: The published evaluation.
GENERATION = {"num_beams": 5, "repetition_penalty": 1.5, "max_new_tokens": 256}
#: Tokens of the longest question and answer of RSGPT's training.
LIMITS: dict[str, Any] = {"max_prompt": 128, "max_answer": 160, "max_instruction": 128}
#: Where EVA and Vicuna lie is not in LAVIS' file.
_PARTS = (
    "partial: EVA comes from eva_vit_g.pth (model.vision.weights), Vicuna v1.1 from its folder "
    "(model.lm.weights)"
)


class RSGPT(VisionLanguageModel):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: an `InstructQFormer`, or what builds it.
        lm: a `LanguageModel`; its own `tuning` says what of it is trained.
        train_vision: train the tower too, for one that starts from nothing.
        format: a word of data/prompts/formats.json.
        instructions: options of `InstructionTemplates` in RSGPT's words; None takes dialogues as
            they are.
        chat: options of `ChatCollate` where they differ from `LIMITS`.
        generation: options of `generate` where they differ from `GENERATION`.
        new_projection: take the Q-Former of a published file and not its linear layer, which is of
            another language model's width (`init_new=[bridge.proj]`).
        cache_gib: see `VisionLanguageModel`.

    Raises:
        UserError: instructions may be longer than the Q-Former's window.
    """

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        train_vision: bool = False,
        format: str = "instruct",
        instructions: Mapping[str, Any] | None = None,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        new_projection: bool = False,
        cache_gib: float = 0.0,
    ) -> None:
        vision.requires_grad_(train_vision)
        super().__init__(
            vision,
            bridge,
            lm,
            generation={**GENERATION, **(generation or {})},
            cache_gib=cache_gib,
        )
        self.format, self.new_projection = format, new_projection
        self._instructions = {"rephrase": False, **(instructions or {})}
        self._chat = {**LIMITS, **(chat or {})}
        if self._chat["max_instruction"] > self.bridge.window:
            raise UserError(
                f"model.chat.max_instruction={self._chat['max_instruction']}: the Q-Former reads "
                f"at most {self.bridge.window} tokens (model.bridge.positions)."
            )

    @property
    def bitemporal(self) -> bool:
        """No: the bridge reads images one by one, with the instruction beside each."""
        return False

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> ChatCollate:
        """From samples to a batch: padded right with answers, or left up to the answer.

        A question too long for the prompt is skipped with its reason; what the Q-Former reads of
        one loses its beginning. For the arguments see `models.protocols.Generator`.
        """
        words = merged(instructions, self._instructions)
        return ChatCollate(
            self.tokenizer,
            qformer=self.bridge.tokenizer,
            generation=not training,
            **{
                "format": self.format,
                "instructions": InstructionTemplates(
                    "rsgpt", **{"measuring": not training, **words}
                ),
                **self._chat,
                **asked(kinds),
            },
        )

    @property
    def preprocess(self) -> Squash:
        """Scales both sides to the image size; normalisation is the tower's own."""
        return Squash(self.image_size)

    # Weights ------------------------------------------------------------------------------

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """LAVIS' and transformers'."""
        words = self.lm.model.get_input_embeddings().num_embeddings
        return instructblip_dialects(
            len(self.vision.blocks), self.lm.tuned, words, self.new_projection
        )

    @property
    def initial(self) -> tuple[str, ...]:
        """A head that is the word table is not always saved beside it."""
        tied = self.lm.model.config.get_text_config().tie_word_embeddings
        return ("lm.model.lm_head.weight",) if tied else ()

    def after_load(self, loaded: Loaded) -> list[str]:
        """Ties the head to the word table again, where the model was built on `meta`."""
        if self.initial and self.initial[0] not in loaded.names:
            table = self.lm.model.get_input_embeddings()
            self.lm.model.get_output_embeddings().weight = table.weight
        return []

    def before_load(self, contents: Contents, where: str) -> None:
        """Refuses files of another language model.

        Raises:
            UserError: the file is of one; says which.
        """
        names = contents.tensors
        if "t5_proj.weight" in names or any(n.startswith("language_model.enc") for n in names):
            raise UserError(
                f"{where} is an InstructBLIP with FLAN-T5; this one writes with Vicuna."
            )
        if self.new_projection:
            return
        width = names.get("llm_proj.weight", names.get("language_projection.weight"))
        check_language_model(self.lm, (), width, "Vicuna-7B 4096, Vicuna-13B 5120", where)


_SITE = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/InstructBLIP"
ROWS = (
    *(
        Row(
            model=model,
            tag="lavis",
            uri=f"{_SITE}/instruct_blip_vicuna{size}_trimmed.pth",
            files=(f"instruct_blip_vicuna{size}_trimmed.pth",),
            licence="BSD-3-Clause (LAVIS); non-commercial, as its model card states it",
            paper="2305.06500",
            homepage="https://github.com/salesforce/LAVIS/tree/main/projects/instructblip",
            notes=_PARTS,
        )
        for model, size in (("rsgpt", "13b"), ("rsgpt_7b", "7b"))
    ),
    *(
        Row(
            model=model,
            tag="hf",
            uri=f"hf://Salesforce/instructblip-vicuna-{size}@main",
            licence="other (as its model card states it)",
            paper="2305.06500",
            homepage=f"https://huggingface.co/Salesforce/instructblip-vicuna-{size}",
            notes="whole; InstructBLIP before RSGPT's tuning",
        )
        for model, size in (("rsgpt", "13b"), ("rsgpt_7b", "7b"))
    ),
)
