"""DeltaVLM: two dates, and a dialogue about what changed between them.

Deng et al., "DeltaVLM: Interactive Remote Sensing Image Change Analysis with Instruction-guided
Difference Perception" (arXiv 2507.22346; Remote Sensing 2026, 18(4), 541), and the code at
hanlinwu/DeltaVLM (6c9bd60).

EVA-ViT-g/14 without its last block (39 blocks, on each date alone) → LayerNorm → CSRM (nn/csrm.py)
→ tokens of both dates joined → instruction-aware Q-Former with 32 queries → linear layer → 32
embeddings before the text of a frozen Vicuna-7B-v1.5.

Trained: the tower's last two blocks, the norm, CSRM, queries, Q-Former and linear layer, on the
cross entropy of the answers; 253,216,384 parameters. The published code counts 393,729 more, two
projections and a temperature of a contrastive loss that it does not compute (`vision_proj`,
`text_proj`, `temp`); they are dropped here. The feed-forward block of the text in the Q-Former's
last layer has no influence on the output and gets no gradient here as there.

Recipe (the published configuration): from InstructBLIP's `instruct_blip_vicuna7b_trimmed.pth`
(`init_new=[csrm,vision.blocks.37,vision.blocks.38]`, the two blocks staying EVA's), AdamW with
betas (0.9, 0.999), weight decay 0.05 but on biases and norms, learning rate 1e-5 with 1,000 steps
of warm-up from 1e-8 and a cosine over 50 epochs, batch 12, float16 autocast, no clipping, no
augmentation, early stopping after 10 epochs without a gain in BLEU-4.

The published training leaves CSRM out while the published generation runs it, so a checkpoint of
that code answers through random weights. Here both run the same `variant`; loading tells such a
checkpoint and advises `bypass`.

Prompts (`prompt_options`): the published training asks "q: <question>" with the history in front,
its evaluation the bare question, one of its scripts the raw string. `published=True` adds their
cuts, of which the first 50 words lose the question of a long dialogue; by default history goes
first and a question is never cut.

Key map: `checkpoints/deltavlm_keys.py`. The published file holds what was trained; EVA comes from
LAVIS' `eva_vit_g.pth`, Vicuna from its folder. The authors' model card says that they used the
language weights of LLaVA-1.5-7B under Vicuna's name; those are other weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.deltavlm_keys import deltavlm_dialect
from rsvlm.checkpoints.dialects import Dialect
from rsvlm.encoders.eva import EvaViT, eva_g
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.nn.csrm import CSRM
from rsvlm.nn.qformer import QFormer
from rsvlm.nn.vlm import VisionLanguage

#: The published evaluation: five beams, at most 256 tokens with the start token.
GENERATION = {"num_beams": 5, "repetition_penalty": 1.5, "max_new_tokens": 255}
#: The published prompts, as options of `data.chat.ChatCollate`.
PROMPTS: dict[str, dict[str, Any]] = {
    "train": {"format": "qa", "clean": "blip"},
    "eval": {"format": "instruct", "clean": "blip"},
    "raw": {"format": "instruct", "clean": "none"},
}
#: The published cuts: 50 words, 128 tokens of prompt, 256 of answer.
CUTS = {"truncation": "published", "max_words": 50, "max_prompt": 128, "max_answer": 256}


class DeltaQFormer(nn.Module):
    """Tokens of two dates and an instruction to embeddings of a language model.

    Args:
        dim_in: width of the vision tokens.
        dim_out: width of the language model.
        variant: of CSRM.
        legacy_mismatch: of CSRM.
        csrm_dropout: of CSRM's `released` form.
        tokenizer: of the instruction; a collate takes it as `qformer`.
        **sizes: see `QFormer`.
    """

    joint = True

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        variant: str = "released",
        legacy_mismatch: bool = False,
        csrm_dropout: float = 0.5,
        tokenizer: Any = None,
        **sizes: Any,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.norm = nn.LayerNorm(dim_in)
        self.csrm = CSRM(
            dim_in, variant=variant, dropout=csrm_dropout, legacy_mismatch=legacy_mismatch
        )
        self.qformer = QFormer(dim_in, **sizes)
        self.proj = nn.Linear(self.qformer.dim, dim_out)

    def change_tokens(self, features: Tensor) -> Tensor:
        """CSRM's output [B, 2 * T, dim_in] for tokens [B, 2, T, dim_in]."""
        return self.csrm(self.norm(features))

    def forward(
        self,
        features: Tensor,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [B, queries, dim_out].

        Args:
            features: [B, 2, T, dim_in], before and after.
            instruction_ids: [B, L], padded on the right; None asks nothing.
            instruction_mask: [B, L], 1 where a token is.
        """
        changes = self.change_tokens(features)
        return self.proj(self.qformer(changes, instruction_ids, instruction_mask))


class DeltaVLM(VisionLanguage):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: a `DeltaQFormer`, or what builds it.
        lm: a `LanguageModel`.
        train_blocks: how many of the tower's last blocks are trained.
        generation: options of `generate` where they differ from `GENERATION`.
    """

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        train_blocks: int = 2,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        vision.freeze(train_last=train_blocks)
        super().__init__(vision, bridge, lm, generation={**GENERATION, **(generation or {})})

    @property
    def variant(self) -> str:
        """CSRM's."""
        return self.bridge.csrm.variant

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The published layout."""
        return (deltavlm_dialect(len(self.vision.blocks), self.variant),)

    @property
    def required(self) -> dict[str, str]:
        """What a published checkpoint must hold, whatever weights the towers have."""
        numbers = range(self.vision.frozen_blocks, len(self.vision.blocks))
        parts = {f"vision.blocks.{n}": f"the trained vision block {n}" for n in numbers}
        return {"bridge.csrm": "the CSRM", **parts}

    def loaded(self, names: Collection[str]) -> list[str]:
        """What the user should know of weights that were just loaded.

        Args:
            names: of the tensors.
        """
        if not any(name.startswith("bridge.csrm.") for name in names):
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


def deltavlm(
    *,
    vision: Mapping[str, Any] | None = None,
    bridge: Mapping[str, Any] | None = None,
    lm: Mapping[str, Any] | None = None,
    train_blocks: int = 2,
    generation: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> DeltaVLM:
    """DeltaVLM with random weights, at the published sizes where nothing else is said.

    Args:
        vision: sizes of `EvaViT` where they differ from EVA-g's.
        bridge: options of `DeltaQFormer`.
        lm: options of `LanguageModel`; by default Vicuna-7B's sizes, frozen.
        train_blocks: how many of the tower's last blocks are trained.
        generation: options of `generate` where they differ from `GENERATION`.
        device: where to build; `meta` makes no weights.
    """
    where = torch.device(device or torch.get_default_device())
    tower = EvaViT(**vision, device=where) if vision else eva_g(device=where)
    language = LanguageModel(**({"size": "vicuna_7b"} | dict(lm or {})), device=where)
    with where:
        build = partial(DeltaQFormer, **(bridge or {}))
        return DeltaVLM(tower, build, language, train_blocks=train_blocks, generation=generation)


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
    return {**PROMPTS[style], **(CUTS if published else {})}
