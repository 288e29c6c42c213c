"""The MoE block: light language models as experts, those of one model on one set of weights.

Experts of the LLM block's own model have nothing of their own but LoRA (`rsmoe/adapters.py`) and
run in one batched pass of its frozen weights. Experts of another model bring it along, with a
linear layer from what the Q-Former found to its width, and run in a pass of theirs. Different
tokenizers meet in texts alone: each expert's prompt and part are written with its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsvlm.data.collate.chat_batch import padded
from rsvlm.data.sample import Turn
from rsvlm.data.text.prompt_formats import prompt_format
from rsvlm.data.text.tokenization import IGNORE, Encoder, token_ids
from rsvlm.encoders.generation import Generated
from rsvlm.errors import UserError
from rsvlm.models.rsmoe.adapters import ExpertAdapters
from rsvlm.models.rsmoe.combine import MixExperts
from rsvlm.models.rsmoe.router import Routing
from rsvlm.nn.chunked_head import token_losses


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as a language model reads them, images in front.

    Attributes:
        embeds: [R, P + L, dim].
        mask: [R, P + L], 1 where a token is.
        labels: [R, P + L], -100 where nothing is learned.
    """

    embeds: Tensor
    mask: Tensor
    labels: Tensor


def rows_of(
    lm: Any,
    visual: Tensor,
    prompts: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    format: str = "instruct",
    max_answer: int | None = None,
) -> Rows:
    """Prompts, and what is learned of them, in a language model's own tokens.

    Args:
        lm: a `LanguageModel`.
        visual: [R, P, dim] of its width.
        prompts: R of them.
        targets: right answers; an empty one is an end at once. None leaves the answer to the model
            and pads on the left.
        format: a word of data/prompts/formats.json.
        max_answer: longest answer in tokens.

    Raises:
        UserError: a row is longer than the language model's window.
    """
    encoder, form = Encoder(lm.tokenizer), prompt_format(format)
    all_ids: list[list[int]] = []
    all_labels: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        said = None if targets is None else targets[i]
        pieces = form.write([(Turn("user", prompt), said)], inline=False)
        row, learned = token_ids(pieces, encoder, whole=form.tokenise == "whole", image_ids={})
        if said is not None and max_answer is not None:
            start = next((k for k, label in enumerate(learned) if label != IGNORE), len(row))
            row, learned = row[: start + max_answer], learned[: start + max_answer]
        all_ids.append(row)
        all_labels.append(learned)
    left = targets is None
    device = visual.device
    ids = padded(all_ids, encoder.marks.pad, left=left).to(device)
    mask = padded([[1] * len(row) for row in all_ids], 0, left=left).to(device)
    front = visual.shape[1]
    if front + ids.shape[1] > lm.context_length:
        raise UserError(
            f"an expert's prompt of {ids.shape[1]} tokens and {front} of images do not fit its "
            f"language model's window of {lm.context_length}: shorten the instruction, or "
            "model.prompts."
        )
    labels = padded(all_labels, IGNORE, left=left).to(device)
    return Rows(
        torch.cat([visual.to(lm.dtype), lm.embed(ids).to(lm.dtype)], 1),
        torch.cat([mask.new_ones(len(mask), front), mask], 1),
        torch.cat([labels.new_full((len(mask), front), IGNORE), labels], 1),
    )


def losses_of(lm: Any, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Word losses [N, 2] (see `nn.chunked_head`), targets [N], and the row [N] of each word."""
    hidden, targets, row = _supervised(lm, rows)
    chunk = lm.head_chunk or max(1, len(targets))
    return token_losses(lm.model.get_output_embeddings(), hidden, targets, chunk), targets, row


def mixed_losses_of(lm: Any, rows: Rows, weights: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
    """The losses [N, 2] and targets [N] of one text that all experts write together.

    Logits are those of `lm.head_chunk` words of all experts at a time, as in `nn.chunked_head`.

    Args:
        lm: their language model.
        rows: all dialogues of the first expert, then of the next, with the same targets.
        weights: [R], of each row; those of a dialogue sum to 1.
        tasks: how many experts.
    """
    hidden, targets, row = _supervised(lm, rows)
    head = lm.model.get_output_embeddings()
    states, gates = hidden.unflatten(0, (tasks, -1)), weights.log()[row].view(tasks, -1)
    targets = targets.view(tasks, -1)[0]

    def some(states: Tensor, gates: Tensor, words: Tensor) -> Tensor:
        logs = head(states).float().log_softmax(-1) + gates[..., None]
        mixed = logs.logsumexp(0)
        every = mixed.masked_fill(mixed.isneginf(), 0.0).mean(-1)
        return torch.stack([-mixed.gather(-1, words[:, None])[:, 0], -every], -1)

    chunk = lm.head_chunk or len(targets)
    if len(targets) <= chunk:
        return some(states, gates, targets), targets
    parts = zip(states.split(chunk, 1), gates.split(chunk, 1), targets.split(chunk), strict=True)
    losses = [checkpoint(some, *part, use_reentrant=False) for part in parts]
    return torch.cat(losses), targets


def _supervised(lm: Any, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    hidden = lm.hidden(rows.embeds, rows.mask)[:, :-1]
    labels = rows.labels[:, 1:]
    places = labels != IGNORE
    return hidden[places], labels[places], places.nonzero()[:, 0]


class ExpertGroup(nn.Module):
    """Experts on one set of weights.

    Args:
        members: their positions among the tasks.
        lm: their language model, which is not a part of this module.
        dim: width of what the Q-Former found; None where the bridge's own projection fits.
        lora: see `ExpertAdapters`.
        where: for errors.
    """

    def __init__(
        self,
        members: Sequence[int],
        lm: Any,
        dim: int | None,
        lora: Mapping[str, Any] | None,
        where: str,
    ) -> None:
        super().__init__()
        self.members = tuple(members)
        self.proj = None if dim is None else nn.Linear(dim, lm.dim)
        self.adapters = ExpertAdapters(lm.model, len(self.members), lora, where=where)


class Experts(nn.Module):
    """All experts; see the head of this file.

    Args:
        tasks: one for each expert.
        block: the LLM block.
        others: language models of the experts, None for the block's own; none at all, one for all
            experts, or one for each. The same object twice is one set of weights.
        dim: width of what the Q-Former found.
        lora: see `ExpertAdapters`.
        format: prompt format of the experts.

    Raises:
        UserError: another number of language models, or a layer that one of them has not.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        block: Any,
        others: Sequence[Any],
        *,
        dim: int,
        lora: Mapping[str, Any] | None = None,
        format: str = "instruct",
    ) -> None:
        super().__init__()
        if len(others) not in (0, 1, len(tasks)):
            raise UserError(
                f"model.expert_lms has {len(others)} language models for {len(tasks)} experts: "
                "give none (the LLM block's), for all, or one for each (null is the LLM block's)."
            )
        each = list(others) * len(tasks) if len(others) == 1 else list(others)
        self.tasks, self.format = tuple(tasks), format
        found: dict[int, tuple[Any, list[int]]] = {}
        for place in range(len(tasks)):
            lm = each[place] if each else None
            found.setdefault(id(lm), (lm, []))[1].append(place)
        self.groups = nn.ModuleList()
        for lm, members in found.values():
            names = ", ".join(tasks[m] for m in members)
            group = ExpertGroup(
                members,
                block if lm is None else lm,
                None if lm is None else dim,
                lora,
                f"the language model of {names}",
            )
            self.groups.append(group)

    @property
    def lacks(self) -> list[str]:
        """The paper's words for LoRA that a language model has no layer for."""
        words = [w for group in self._groups() for w in group.adapters.lacks]
        return list(dict.fromkeys(words))

    @property
    def members(self) -> list[tuple[int, ...]]:
        """The tasks' positions of each group."""
        return [group.members for group in self._groups()]

    def _groups(self) -> list[ExpertGroup]:
        return [group for group in self.groups if isinstance(group, ExpertGroup)]

    def silence(self) -> None:
        """The LLM block speaks alone."""
        for group in self._groups():
            group.adapters.silence()

    def losses(
        self,
        routing: Routing,
        lms: Sequence[Any],
        found: Tensor,
        projected: Tensor,
        *,
        together: bool = False,
        max_answer: int | None = None,
    ) -> dict[str, Tensor]:
        """What a loss takes of all experts' texts.

        Args:
            routing: who is asked what, with targets.
            lms: the language model of each group.
            found: [B, P, dim], what the Q-Former found.
            projected: [B, P, width] for the LLM block's own experts.
            together: all write one text.
            max_answer: longest part in tokens.

        Returns:
            `token_losses` [N, 2] and `targets` [N], all experts' words.
        """
        told, targets = [], []
        idle = []
        for group, lm in zip(self._groups(), lms, strict=True):
            at, visual, updates = self._mine(group, routing, found, projected)
            if not at:
                idle += list(group.parameters())
                continue
            asked = [routing.asked[i] for i in at]
            rows = rows_of(
                lm,
                visual,
                [each.prompt for each in asked],
                [each.target for each in asked],
                format=self.format,
                max_answer=max_answer,
            )
            with group.adapters.speaking(lm.model, updates):
                if together:
                    losses, words = mixed_losses_of(lm, rows, routing.weights[at], len(self.tasks))
                else:
                    losses, words, row = losses_of(lm, rows)
                    losses = losses * routing.weights[at][row, None]
            told.append(losses)
            targets.append(words)
        if idle:
            # Data parallel waits for a gradient of each parameter.
            told[0] = told[0] + 0.0 * torch.stack([p.sum() for p in idle]).sum()
        if len(targets) > 1:
            # Ids of different vocabularies, of which only the number counts here.
            return {"token_losses": torch.cat(told), "targets": torch.cat(targets)}
        return {"token_losses": told[0], "targets": targets[0]}

    @torch.no_grad()
    def write(
        self,
        routing: Routing,
        lms: Sequence[Any],
        found: Tensor,
        projected: Tensor,
        *,
        together: bool = False,
        **options: Any,
    ) -> list[Generated | None]:
        """A text for each asked row; of one text that all write, the same for each expert.

        Args:
            routing: who is asked what.
            lms: see `losses`, as the others.
            found: see `losses`.
            projected: see `losses`.
            together: see `losses`.
            **options: see `encoders.generation.OPTIONS`.
        """
        texts: list[Generated | None] = [None] * len(routing.asked)
        for group, lm in zip(self._groups(), lms, strict=True):
            at, visual, updates = self._mine(group, routing, found, projected)
            if not at:
                continue
            prompts = [routing.asked[i].prompt for i in at]
            rows = rows_of(lm, visual, prompts, format=self.format)
            if together:
                options["processors"] = [MixExperts(routing.weights[at], len(self.tasks))]
            with group.adapters.speaking(lm.model, updates):
                said = lm.generate(rows.embeds, rows.mask, **options)
            for i, row in zip(at, said, strict=True):
                texts[i] = row[0]
        return texts

    def _mine(
        self, group: ExpertGroup, routing: Routing, found: Tensor, projected: Tensor
    ) -> tuple[list[int], Tensor, Tensor]:
        """A group's rows, what they see, and the updates that they get."""
        at = [i for i, each in enumerate(routing.asked) if each.task in group.members]
        dialogues = [routing.asked[i].dialogue for i in at]
        visual = projected if group.proj is None else group.proj(found.to(group.proj.weight.dtype))
        return at, visual[dialogues], routing.updates[at][:, list(group.members)]


def write_texts(
    lm: Any, visual: Tensor, prompts: Sequence[str], format: str, **options: Any
) -> list[Generated]:
    """What a language model writes by itself; for the arguments see `rows_of`."""
    rows = rows_of(lm, visual, prompts, format=format)
    return [texts[0] for texts in lm.generate(rows.embeds, rows.mask, **options)]
