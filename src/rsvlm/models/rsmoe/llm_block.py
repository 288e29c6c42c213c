"""The LLM block of RS-MoE: what RSGPT does, drafts, summaries of parts, and the token mixture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.data.text.subtasks import is_description, part
from rsvlm.encoders.generation import Generated
from rsvlm.models.rsgpt.model import RSGPT
from rsvlm.models.rsmoe.combine import summary_prompt
from rsvlm.models.rsmoe.experts import losses_of, rows_of, write_texts
from rsvlm.nn.chunked_head import token_losses
from rsvlm.nn.moe_lora import Routed, balance
from rsvlm.nn.packing import IGNORE, Embedded


class LLMBlock(RSGPT):
    """A VLM encoder and a language model that answers by itself.

    Args:
        vision, bridge, lm: see `RSGPT`.
        token_mixture: what builds a `TokenMixture`, called with the language model's width.
        **options: see `RSGPT`.
    """

    def __init__(
        self,
        vision: Any,
        bridge: Any,
        lm: Any,
        *,
        token_mixture: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(vision, bridge, lm, **options)
        self.token_mixture: Any = None if token_mixture is None else token_mixture(dim=lm.dim)
        self._drafts: dict[tuple[str, str], str] = {}

    def find(self, batch: Any, tokens: Tensor) -> Tensor:
        """What the Q-Former found [B, K * queries, dim] for tokens [N, T, D] of the tower."""
        index = torch.tensor(batch.image_rows, dtype=torch.long, device=tokens.device)
        return self.bridge.read(tokens[index], batch.instruction_ids, batch.instruction_mask)

    def project(self, batch: Any, tokens: Tensor) -> Tensor:
        """See `VisionLanguageModel`; images of a batch must be of one number in each dialogue."""
        return self.bridge.proj(self.find(batch, tokens))

    def answer_losses(
        self, batch: Any, projected: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What a loss takes of the block's own answers, and terms that balance its tokens.

        Args:
            batch: a `ChatBatch`, padded on the right.
            projected: [B, P, dim].
        """
        sent, row = self._mixed(batch, projected)
        told = self.lm(row.inputs_embeds, row.attention_mask, row.labels)
        if sent is None or self.token_mixture.answers:
            return told, []
        return told, [balance([sent], batch.attention_mask)]

    def merge_embeddings(self, batch: Any, visual: list[Tensor] | Tensor) -> Embedded:
        """See `VisionLanguageModel`; text goes through the mixture of tokens where there is one."""
        return (
            super().merge_embeddings(batch, visual)
            if self.token_mixture is None
            else (self._mixed(batch, visual)[1])
        )

    def _mixed(self, batch: Any, visual: list[Tensor] | Tensor) -> tuple[Routed | None, Embedded]:
        row = super().merge_embeddings(batch, visual)
        if self.token_mixture is None:
            return None, row
        front = row.inputs_embeds.shape[1] - batch.input_ids.shape[1]
        text = row.inputs_embeds[:, front:]
        mixed, routed = self.token_mixture(text)
        if not self.token_mixture.answers:
            mixed = torch.where((batch.labels != IGNORE)[..., None], text, mixed)
        embeds = torch.cat([row.inputs_embeds[:, :front], mixed], 1)
        return routed, Embedded(embeds, row.attention_mask, row.labels)

    def summary_losses(
        self, batch: Any, projected: Tensor, tasks: Sequence[str]
    ) -> list[dict[str, Tensor]]:
        """What a loss takes of answers made of right parts; empty without a description."""
        at = [i for i, text in enumerate(batch.instructions) if is_description(text)]
        if not at:
            return []
        prompts = []
        for i in at:
            parts = [(task, part(batch.answers[i], task, tasks)) for task in tasks]
            prompts.append(summary_prompt(batch.instructions[i], parts))
        rows = rows_of(
            self.lm,
            projected[at],
            prompts,
            [batch.answers[i] for i in at],
            format=self.format,
            max_answer=self._chat.get("max_answer"),
        )
        losses, targets, _ = losses_of(self.lm, rows)
        return [{"token_losses": losses, "targets": targets}]

    def drafts(self, batch: Any, projected: Tensor, *, keep: bool) -> list[str]:
        """The block's own answers to a training batch's instructions.

        Args:
            batch: a `ChatBatch`.
            projected: [B, P, dim].
            keep: remember them by picture and instruction, where nothing else changes them.
        """
        keys = [
            (_fingerprint(batch.images[list(row)]), text)
            for row, text in zip(batch.image_rows, batch.instructions, strict=True)
        ]
        new = [i for i, key in enumerate(keys) if not keep or key not in self._drafts]
        found = dict.fromkeys(range(len(keys)), "")
        if new:
            with torch.no_grad():
                prompts = [batch.instructions[i] for i in new]
                texts = self.write(projected[new], prompts, num_beams=1)
            found |= dict(zip(new, texts, strict=True))
        if keep:
            self._drafts |= {keys[i]: found[i] for i in new}
            return [self._drafts[key] for key in keys]
        return [found[i] for i in range(len(keys))]

    def write(self, visual: Tensor, prompts: Sequence[str], **options: Any) -> list[str]:
        """What the block writes by itself.

        Args:
            visual: [R, P, dim].
            prompts: R of them.
            **options: of `generate`, over the model's.
        """
        mode = self.lm.training
        self.lm.eval()
        try:
            chosen = {**self.generation, **options}
            chosen.pop("rows", None)
            texts = write_texts(self.lm, visual, prompts, self.format, **chosen)
        finally:
            self.lm.train(mode)
        return [text_of(self.lm, text) for text in texts]


def together_of(outputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Several outputs as one, with losses by word."""
    plain = [_plain(each) for each in outputs]
    return {name: torch.cat([each[name] for each in plain]) for name in plain[0]}


def _plain(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "token_losses" in outputs:
        return {name: outputs[name] for name in ("token_losses", "targets")}
    logits, targets = outputs["logits"], outputs["targets"]
    losses = token_losses(lambda given: given, logits, targets, max(1, len(targets)))
    return {"token_losses": losses, "targets": targets}


def text_of(lm: Any, text: Generated) -> str:
    """What a language model has written, in words."""
    return str(lm.tokenizer.decode(text.ids, skip_special_tokens=True)).strip()


def _fingerprint(images: Tensor) -> str:
    return hashlib.blake2b(images.cpu().numpy().tobytes(), digest_size=16).hexdigest()
