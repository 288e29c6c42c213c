"""DeltaVLM: two dates, and a dialogue about what changed between them.

Deng et al., "DeltaVLM: Interactive Remote Sensing Image Change Analysis with Instruction-guided
Difference Perception" (arXiv 2507.22346; Remote Sensing 2026, 18(4), 541), and the code at
hanlinwu/DeltaVLM (6c9bd60).

EVA-ViT-g/14 without its last block (39 blocks, on each date alone) → LayerNorm → CSRM
(models/deltavlm/csrm.py) → tokens of both dates joined → instruction-aware Q-Former with 32 queries
→ linear layer → 32 embeddings before the text of a frozen Vicuna-7B-v1.5.

Trained: the tower's last two blocks, the norm, CSRM, queries, Q-Former and linear layer, on the
cross entropy of the answers; 253,216,384 parameters. The published code counts 393,729 more, two
projections and a temperature of a contrastive loss that it does not compute (`vision_proj`,
`text_proj`, `temp`); they are dropped here unless `contrast` asks for that loss. The feed-forward
block of the text in the Q-Former's last layer has no influence on the output and gets no gradient
here as there.

Recipe (the published configuration): from InstructBLIP's `instruct_blip_vicuna7b_trimmed.pth`
(`init_new=[bridge.csrm,vision.blocks.37,vision.blocks.38]`: the blocks stay EVA's), AdamW with
betas (0.9, 0.999), weight decay 0.05 but on biases and norms, learning rate 1e-5 with 1,000 steps
of warm-up from 1e-8 and a cosine over 50 epochs, batch 12, float16 autocast, no clipping, no
augmentation, early stopping after 10 epochs without a gain in BLEU-4.

The published training leaves CSRM out while the published generation runs it, so a checkpoint of
that code answers through random weights. Here both run the same `variant`; loading refuses such a
checkpoint and advises `bypass`.

Prompts (`prompt_options`): the published training asks "q: <question>" with the history in front,
its evaluation the bare question, one of its scripts the raw string. `published=True` adds their
cuts, of which the first 50 words lose the question of a long dialogue; by default history goes
first and a question is never cut.

Key map: `models/deltavlm/layouts.py`. The published file holds what was trained; EVA comes from
LAVIS' `eva_vit_g.pth`, Vicuna from its folder. The authors' model card says that they used the
language weights of LLaVA-1.5-7B under Vicuna's name; those are other weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.collate.change_chat import ChangeChatCollate
from rsvlm.data.collate.chat import ChatCollate, asked
from rsvlm.data.sample import Answer
from rsvlm.data.transforms import Squash
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.models.deltavlm.layouts import deltavlm_dialect
from rsvlm.models.protocols import Kinds
from rsvlm.models.vlm import VisionLanguageModel

#: The published evaluation: five beams, at most 256 tokens with the start token.
GENERATION = {"num_beams": 5, "repetition_penalty": 1.5, "max_new_tokens": 255}
#: The published prompts, as options of `data.chat.ChatCollate`.
PROMPTS: dict[str, dict[str, Any]] = {
    "train": {"format": "qa", "clean": "blip"},
    "eval": {"format": "instruct", "clean": "blip"},
    "raw": {"format": "instruct", "clean": "none"},
}
#: Longest prompt and answer in tokens.
LIMITS: dict[str, Any] = {"max_prompt": 128, "max_answer": 256}
#: The published cuts: the first 50 words, then tokens from the left.
CUTS: dict[str, Any] = {"truncation": "published", "max_words": 50}


class DeltaVLM(VisionLanguageModel):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: a `DeltaQFormer`, or what builds it.
        lm: a `LanguageModel`.
        train_blocks: how many of the tower's last blocks are trained; None trains the whole tower.
        prompt_style: of training, see `prompt_options`.
        eval_style: of generation; as published it is another one.
        published_cuts: cut prompts as published.
        chat: further options of `ChatCollate`.
        mask_head: a `MaskHead` that learns change masks beside the answers and fills
            `Answer.masks`; None for none, as in the paper.
        contrast: what builds a `ContrastiveHead`, called with `dim`; its loss is
            `loss=answer_and_contrast`. None, as trained by the published code, has none.
        generation: options of `generate` where they differ from `GENERATION`.
        cache_gib: memory for frozen features, see `VisionLanguageModel`; ChangeChat's 13,630
            training pictures take 18.4 GiB at the published size in float32.
        packing: `none` or `rows`, see `VisionLanguageModel`; the instruction that the bridge reads
            is each question's own, so that no beginning can be shared.
    """

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        train_blocks: int | None = 2,
        prompt_style: str = "train",
        eval_style: str = "eval",
        published_cuts: bool = False,
        chat: Mapping[str, Any] | None = None,
        mask_head: nn.Module | None = None,
        contrast: Callable[..., nn.Module] | None = None,
        generation: Mapping[str, Any] | None = None,
        cache_gib: float = 0.0,
        packing: str = "none",
    ) -> None:
        if train_blocks is not None:
            vision.freeze(train_last=train_blocks)
        chosen = {**GENERATION, **(generation or {})}
        super().__init__(
            vision, bridge, lm, generation=chosen, cache_gib=cache_gib, packing=packing
        )
        self.mask_head = mask_head
        self.contrast = None if contrast is None else contrast(dim=self.bridge.qformer.dim)
        self.bridge.qformer.reads = contrast is not None
        self._chat = {
            training: {**prompt_options(style, published=published_cuts), **(chat or {})}
            for training, style in ((True, prompt_style), (False, eval_style))
        }

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> ChatCollate:
        """From samples to a batch: padded right with answers, or left up to the answer.

        For the arguments see `models.protocols.Generator`; it takes dialogues as they are.
        """
        del instructions
        kind = ChatCollate if self.mask_head is None else ChangeChatCollate
        return kind(
            self.tokenizer,
            qformer=self.bridge.tokenizer,
            generation=not training,
            **{**self._chat[training], **asked(kinds)},
        )

    @property
    def preprocess(self) -> Squash:
        """Resizes both dates; normalisation is the tower's own."""
        return Squash(self.image_size)

    def forward(self, batch: Any, features: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of the answers' tokens, and what the optional heads give.

        See `VisionLanguageModel.forward`; `change_logits` [B, S, S] come from a mask head, and see
        `ContrastiveHead` for its outputs.
        """
        if self.mask_head is None and self.contrast is None:
            return super().forward(batch, features)
        tokens = self.tokens(batch, features)
        outputs = self.answer_outputs(batch, self.project(batch, tokens))
        if self.mask_head is not None:
            outputs["change_logits"] = self.predict_masks(batch, tokens)
        if self.contrast is not None:
            outputs |= self.contrastive_features(batch, tokens)
        return outputs

    def contrastive_features(self, batch: Any, tokens: Tensor) -> dict[str, Tensor]:
        """The contrast head's features of the pairs and of their answers.

        Raises:
            UserError: a sample without an answer.
        """
        if not all(answer.strip() for answer in batch.answers):
            raise UserError("a contrast head compares pairs with answers, and one here is empty.")
        rows = torch.tensor(batch.image_rows, dtype=torch.long, device=tokens.device)
        found = self.bridge.qformer(self.bridge.change_tokens(tokens[rows]))
        read = self.bridge.tokenizer(
            list(batch.answers),
            padding=True,
            truncation=True,
            max_length=self.bridge.qformer.positions.num_embeddings,
            return_tensors="pt",
        ).to(tokens.device)
        text = self.bridge.qformer.encode_text(read["input_ids"], read["attention_mask"])
        return cast(nn.Module, self.contrast)(found, text[:, 0])

    def predict_masks(self, batch: Any, tokens: Tensor) -> Tensor:
        """The mask head's logits [B, S, S] from the tower's tokens [N, T, D]."""
        rows = torch.tensor(batch.image_rows, dtype=torch.long, device=tokens.device)
        return cast(nn.Module, self.mask_head)(self.bridge.norm(tokens)[rows])

    def generate(self, batch: Any, features: Tensor | None = None, **options: Any) -> list[Answer]:
        """See `VisionLanguageModel.generate`; a mask head adds one mask to each answer.

        It is of the size of the image as stored where the batch says the geometry, else of the
        model's image size.
        """
        answers = super().generate(batch, features, **options)
        if self.mask_head is None:
            return answers
        with torch.no_grad():
            logits = self.predict_masks(batch, self.tokens(batch, features)).float()
        size = (self.image_size, self.image_size)
        masks = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0] > 0
        for i, answer in enumerate(answers):
            mask = masks[i].cpu().numpy()
            geometry = batch.geometry[i]
            answer.masks = [geometry[0].inverse().map(mask) if geometry else mask]
        return answers

    @torch.no_grad()
    def maps(self, batch: Any, features: Tensor | None = None) -> dict[str, Tensor]:
        """Maps [B, G, G] of what an answer rests on, see `DeltaQFormer.maps`; in eval mode."""
        tokens = self.tokens(batch, features)
        rows = torch.tensor(batch.image_rows, dtype=torch.long, device=tokens.device)
        return self.bridge.maps(tokens[rows], batch.instruction_ids, batch.instruction_mask)

    @property
    def variant(self) -> str:
        """CSRM's."""
        return self.bridge.csrm.variant

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The published layout."""
        blocks, contrast = len(self.vision.blocks), self.contrast is not None
        return (deltavlm_dialect(blocks, self.variant, contrast=contrast),)

    @property
    def required(self) -> dict[str, str]:
        """What a published checkpoint must hold, whatever weights the towers have."""
        numbers = range(self.vision.frozen_blocks, len(self.vision.blocks))
        parts = {f"vision.blocks.{n}": f"the trained vision block {n}" for n in numbers}
        return {"bridge.csrm": "the CSRM", **parts}

    def after_load(self, loaded: Loaded) -> list[str]:
        """What the user should know of weights that were just loaded."""
        if not any(name.startswith("bridge.csrm.") for name in loaded.names):
            return []
        if not self.bridge.csrm.looks_untrained():
            return []
        note = (
            "its CSRM was never trained (the weights are those of new layers): the published "
            "training leaves it out, and answers through it are noise. Say "
            "model.bridge.variant=bypass, which is what was trained"
        )
        warnings.warn(note, stacklevel=2)
        return [note]


def prompt_options(style: str = "train", *, published: bool = False) -> dict[str, Any]:
    """How to write prompts, as options of `data.chat.ChatCollate`.

    Args:
        style: `train` ("q: ..." with history, cleaned), `eval` (cleaned), `raw` (as it is).
        published: add the published cuts.

    Raises:
        UserError: an unknown style.
    """
    if style not in PROMPTS:
        raise UserError(f"prompt_style={style!r} is not known. {near(style, PROMPTS)}")
    return {**PROMPTS[style], **LIMITS, **(CUTS if published else {})}


ROWS = (
    Row(
        model="deltavlm",
        tag="changechat",
        uri="hf://hlwu/DeltaVLM@main/checkpoint_best.pth",
        variant="released",
        licence="other (as its model card states it)",
        paper="2507.22346",
        homepage="https://huggingface.co/hlwu/DeltaVLM",
        metrics={
            f"levir_cc/token_ids/{word}": value
            for word, value in {
                "bleu1": 85.78,
                "bleu2": 77.15,
                "bleu3": 69.24,
                "bleu4": 62.51,
                "meteor": 39.47,
                "rouge_l": 75.01,
                "cider": 136.72,
            }.items()
        },
        notes=(
            "partial: EVA comes from eva_vit_g.pth (model.vision.weights), Vicuna-7B-v1.5 from its "
            "folder (model.lm.weights); prompt style eval"
        ),
    ),
)
