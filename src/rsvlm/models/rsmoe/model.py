"""RS-MoE: an LLM block, an instruction router, and light language models as experts.

Lin et al., "RS-MoE: A Vision-Language Model with Mixture of Experts for Remote Sensing Image
Captioning and Visual Question Answering" (arXiv 2411.01595; IEEE TGRS 63, 2025). No weights are
published; CongcongWen1208/RS-MoE (5480f72) says that its mixture is not implemented, and cannot be
imported.

What the paper gives: EVA-ViT-g/14 (frozen) → VLM encoder (an instruction-aware Q-Former, as
InstructBLIP's) → LLM block → MoE block: an instruction router writes one prompt for each expert
(theme comprehension, object recognition, relationship inference), and experts, light language
models (Llama-3.2-1B, -3B, Vicuna-7B), answer; three are best. Stage I trains VLM encoder and LLM
block; stage II freezes them and trains the experts, initialised from stage I, with LoRA on query
and value of self-attention, all projections of cross-attention, and the feed-forward block.

What is ours, because nothing public says it:

- the prompts, and both routers (`router.py`); the draft of the LLM block in a prompt (`draft`);
- the parts that experts learn, by a rule over captions (`data/text/subtasks.py`);
- how parts become one answer (`combine.py`), and that a question is asked of one expert;
- experts are the LLM block's own weights of stage I, frozen, each with its LoRA, unless
  `expert_lms` brings others, which then get a linear layer from the Q-Former of their own; decoders
  have no cross-attention, which `Experts.lacks` says; rank 8 and alpha 8 (`adapters.py`);
- experts see what the Q-Former found for the user's instruction, not for their own prompt;
- learning rates, batches and epochs of all recipes but those that RSGPT gives.

`stage` is `first` (Q-Former, linear layer and the LLM block as `lm.tuning` says), `second` (experts
and router; all else is frozen to the byte), or `joint`, the one-stage control, which trains the
experts with everything under them. `token_mixture` is what the repository holds in the mixture's
place (`token_mixture.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.hooks import Loaded
from rsvlm.data.sample import Answer, Part
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.models.rsmoe.combine import COMBINE, answer_of, summary_prompt
from rsvlm.models.rsmoe.experts import Experts
from rsvlm.models.rsmoe.llm_block import LLMBlock, text_of, together_of
from rsvlm.models.rsmoe.router import Router, Routing, tasks_of
from rsvlm.nn.length_buckets import in_shards, length_buckets, select_rows

log = logging.getLogger(__name__)

STAGES = ("first", "second", "joint")
EXPERTS: dict[str, Any] = {"count": 3, "tasks": None, "lora": {}, "format": "instruct"}


class RSMoE(LLMBlock):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: an `InstructQFormer`, or what builds it.
        lm: the LLM block, a `LanguageModel`.
        stage: a word of `STAGES`.
        router: a word of `router.ROUTERS`.
        routing: `hidden` and `top_k` of a learned router.
        experts: `count`, `tasks` (None takes `router.TASKS`), `lora` (see `adapters.LORA`),
            `format` of their prompts.
        expert_lms: language models of the experts, see `Experts`.
        prompts: words of tasks, over `router.PROMPTS`.
        draft: show experts the LLM block's own answer.
        combine: a word of `combine.COMBINE`.
        token_mixture: see `LLMBlock`.
        **options: see `RSGPT`.

    Raises:
        UserError: an unknown word, experts without prompts, or parts that do not go together.
    """

    stage = "first"  # `train` asks while parts are built

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        stage: str = "first",
        router: str = "template",
        routing: Mapping[str, Any] | None = None,
        experts: Mapping[str, Any] | None = None,
        expert_lms: Sequence[LanguageModel | None] = (),
        prompts: Mapping[str, str] | None = None,
        draft: bool = False,
        combine: str = "concatenated",
        token_mixture: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        for what, word, known in (("stage", stage, STAGES), ("combine", combine, COMBINE)):
            if word not in known:
                raise UserError(f"model.{what}={word!r} is not known. {near(str(word), known)}")
        for word in experts or {}:
            if word not in EXPERTS:
                raise UserError(f"model.experts: {word!r} is not known. {near(word, EXPERTS)}")
        chosen = {**EXPERTS, **(experts or {})}
        others = [each for each in expert_lms if each is not None]
        if others and (router == "learned" or combine == "logits"):
            word = "router=learned" if router == "learned" else "combine=logits"
            raise UserError(
                f"model.{word} mixes experts within one language model, and model.expert_lms "
                "brings others: take router=template and combine=concatenated, or leave "
                "model.expert_lms empty."
            )
        super().__init__(vision, bridge, lm, token_mixture=token_mixture, **options)
        self.stage, self.combine, self.draft = stage, combine, draft
        self.tasks = tasks_of(int(chosen["count"]), chosen["tasks"], prompts or {})
        self.router: Router | None = None
        self.experts: Experts | None = None
        self._lms: list[str] = []
        dim = self.bridge.qformer.dim
        # Also of a first stage: what its second one could not build is told at once.
        where = Router(router, self.tasks, prompts, dim=2 * dim, **(routing or {}))
        if stage != "first":
            self.router = where
            for each in expert_lms:
                if each is not None and all(each is not getattr(self, n) for n in self._lms):
                    each.requires_grad_(False)
                    self._lms.append(f"expert_lm_{len(self._lms)}")
                    setattr(self, self._lms[-1], each)
            self.experts = Experts(
                self.tasks,
                lm,
                expert_lms,
                dim=dim,
                lora=chosen["lora"],
                format=chosen["format"],
            )
            self._group_lms = self._of_groups(expert_lms)
            if self.experts.lacks:
                log.info("the experts' decoders have no %s", ", ".join(self.experts.lacks))
        if stage == "second":
            for name in self.frozen_parts:
                getattr(self, name).requires_grad_(False)
        self.train(self.training)

    def _of_groups(self, given: Sequence[Any]) -> list[str]:
        """The name of each group's language model among this module's parts."""
        assert self.experts is not None
        each = list(given) * len(self.tasks) if len(given) == 1 else list(given)
        names = []
        for members in self.experts.members:
            lm = each[members[0]] if each else None
            names.append(next((n for n in self._lms if getattr(self, n) is lm), "lm"))
        return names

    def named_experts(self) -> list[tuple[str, Any]]:
        """The language models that experts bring along, by the names of these parts."""
        return [(name, getattr(self, name)) for name in self._lms]

    @property
    def lms(self) -> list[Any]:
        """The language model of each group of experts."""
        return [getattr(self, name) for name in self._group_lms]

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """What the second stage leaves as the first has made it."""
        mixture = ("token_mixture",) if self.token_mixture is not None else ()
        return ("vision", "bridge", "lm", *mixture)

    def train(self, mode: bool = True) -> RSMoE:
        """What the second stage freezes stays in eval mode."""
        super().train(mode)
        if self.stage == "second":
            for name in self.frozen_parts:
                getattr(self, name).eval()
        return self

    # Training -----------------------------------------------------------------------------

    def forward(self, batch: Any, features: Tensor | None = None) -> dict[str, Tensor]:
        """What a loss takes of the LLM block, or of the experts.

        Args:
            batch: a `ChatBatch`, padded on the right.
            features: see `VisionLanguageModel`.

        Returns:
            Of the first stage as `VisionLanguageModel.forward`; with `combine=summarised`, and of
            later stages, `token_losses` [N, 2] and `targets` [N] of the N words. A learned router,
            and a mixture of tokens that balances, add `balance`, a scalar; the former also
            `most_used`, the largest mean share of an expert.
        """
        if self.experts is not None:
            self.experts.silence()
        found = self.find(batch, self.tokens(batch, features))
        projected = self.bridge.proj(found)
        outputs: list[dict[str, Tensor]] = []
        terms: list[Tensor] = []
        routing = None
        if self.stage == "first" or (self.stage == "joint" and self._block_learns):
            told, terms = self.answer_losses(batch, projected)
            if self.stage == "first" and self.combine != "summarised":
                return told | ({"balance": terms[0]} if terms else {})
            outputs.append(told)
            if self.combine == "summarised":
                outputs += self.summary_losses(batch, projected, self.tasks)
        if self.experts is not None:
            drafts = (
                self.drafts(batch, projected, keep=self.stage == "second") if self.draft else None
            )
            routing = self.route(batch, found, drafts=drafts, answers=batch.answers)
            together = self.combine == "logits"
            outputs.append(
                self.experts.losses(
                    routing,
                    self.lms,
                    found,
                    projected,
                    together=together,
                    max_answer=self._chat.get("max_answer"),
                )
            )
        merged = together_of(outputs)
        if routing is not None and routing.balance is not None and routing.most_used is not None:
            terms.append(routing.balance)
            merged["most_used"] = routing.most_used
        return merged | ({"balance": torch.stack(terms).sum()} if terms else {})

    @property
    def _block_learns(self) -> bool:
        """Whether answers need a text of the LLM block's own."""
        return self.draft or self.combine == "summarised"

    def route(
        self,
        batch: Any,
        found: Tensor,
        *,
        drafts: Sequence[str] | None = None,
        answers: Sequence[str] | None = None,
        instructions: Sequence[str] | None = None,
    ) -> Routing:
        """Who is asked what; see `Router`.

        Args:
            batch: has `instructions`, `instruction_ids` and `instruction_mask`.
            found: of `find`.
            drafts: the LLM block's answers.
            answers: the right ones, in training.
            instructions: in the place of the batch's, for a part of it.
        """
        assert self.router is not None
        words = self.bridge.qformer.words(batch.instruction_ids)
        mask = batch.instruction_mask[..., None].to(words.dtype)
        read = (words * mask).sum(1) / mask.sum(1).clamp(min=1)
        seen = torch.cat([found.mean(1), read], -1).detach()
        return self.router(
            batch.instructions if instructions is None else instructions,
            seen,
            drafts=drafts,
            answers=answers,
            together=self.combine == "logits",
        )

    # Generation ---------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, batch: Any, features: Tensor | None = None, **options: Any) -> list[Answer]:
        """An answer to each dialogue; `Answer.parts` holds what each expert gave to it.

        See `VisionLanguageModel.generate`; `rows` counts expert's prompts. The score is the mean
        over parts that say something.
        """
        if self.experts is None:
            return super().generate(batch, features, **options)
        mode = self.training
        self.eval()
        self.experts.silence()
        chosen = {"rows": 64, **self.generation, **options}
        most = max(1, chosen.pop("rows") // len(self.tasks))
        answers: dict[int, Answer] = {}
        try:
            tokens = self.tokens(batch, features)
            for rows in length_buckets(batch, most, shards=in_shards(self)):
                some, seen = select_rows(batch, tokens, rows)
                found = self.find(some, seen)
                texts = [batch.instructions[i] for i in rows]
                made = self._asked_experts(some, texts, found, chosen)
                answers |= dict(zip(rows, made, strict=True))
        finally:
            self.train(mode)
        return [answers[i] for i in range(len(answers))]

    def _asked_experts(
        self, some: Any, instructions: list[str], found: Tensor, options: dict[str, Any]
    ) -> list[Answer]:
        assert self.experts is not None
        projected = self.bridge.proj(found)
        drafts = self.write(projected, instructions, **options) if self.draft else None
        routing = self.route(some, found, drafts=drafts, instructions=instructions)
        together = self.combine == "logits"
        if together and options.get("do_sample"):
            raise UserError("model.combine=logits: experts that draw words cannot write one text.")
        said = self.experts.write(routing, self.lms, found, projected, together=together, **options)
        parts: list[list[Part]] = [[] for _ in instructions]
        wholes = [True] * len(instructions)
        ended = [True] * len(instructions)
        groups = zip(self.experts.members, self.lms, strict=True)
        lms = {place: lm for members, lm in groups for place in members}
        for each, text, weight in zip(routing.asked, said, routing.weights.tolist(), strict=True):
            assert text is not None
            name = self.tasks[each.task]
            words = text_of(lms[each.task], text)
            parts[each.dialogue].append(Part(name, each.prompt, words, weight, text.score))
            wholes[each.dialogue] &= each.whole
            ended[each.dialogue] &= text.ended
        answers = [
            answer_of(mine, whole=whole, finished=end)
            for mine, whole, end in zip(parts, wholes, ended, strict=True)
        ]
        if self.combine == "summarised":
            self._summarise(answers, wholes, instructions, projected, options)
        return answers

    def _summarise(
        self,
        answers: list[Answer],
        wholes: list[bool],
        instructions: list[str],
        projected: Tensor,
        options: dict[str, Any],
    ) -> None:
        at = [i for i, whole in enumerate(wholes) if not whole]
        if not at:
            return
        prompts = [
            summary_prompt(instructions[i], [(p.expert, p.text) for p in answers[i].parts])
            for i in at
        ]
        for i, text in zip(at, self.write(projected[at], prompts, **options), strict=True):
            answers[i].text = text

    # Checkpoints --------------------------------------------------------------------------

    @property
    def adapter_parts(self) -> Sequence[str]:
        """What a first stage has not: the experts, and a router that learns."""
        parts = list(super().adapter_parts)
        if self.experts is not None:
            parts += ["experts", *self._lms]
        if self.router is not None and self.router.net is not None:
            parts.append("router")
        return parts

    def checkpoint_facts(self) -> dict[str, Any]:
        """What tells it from others of its class."""
        facts: dict[str, Any] = {"class": type(self).__name__, "image_size": self.image_size}
        return facts if self.experts is None else facts | {"experts": list(self.tasks)}

    def before_assign(self, loaded: Loaded) -> list[str]:
        """Holds the tasks of a file's experts against ours.

        Raises:
            UserError: they are others.
        """
        theirs = ((loaded.contents.packed or {}).get("model") or {}).get("experts")
        if theirs and self.experts is not None and list(theirs) != list(self.tasks):
            raise UserError(
                f"{loaded.where} has experts of {', '.join(theirs)}, this model of "
                f"{', '.join(self.tasks)}: say model.experts.tasks=[{','.join(theirs)}]."
            )
        return []

    def after_load(self, loaded: Loaded) -> list[str]:
        """What the user should know of weights that were just loaded."""
        notes = super().after_load(loaded)
        if self.experts is not None and self.experts.lacks:
            notes.append(f"the experts' decoders have no {', '.join(self.experts.lacks)}")
        return notes

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """What a state dict that does not fit is of."""
        ends = ".up"
        theirs = {len(v) for n, v in state.items() if n.startswith("experts.") and n.endswith(ends)}
        if theirs and self.router is not None and theirs != {len(self.tasks)}:
            return (
                f"It was trained with {max(theirs)} experts, this model has {len(self.tasks)}: say "
                f"model.experts.count={max(theirs)}, with the tasks that it was trained for."
            )
        if theirs and self.router is None:
            return "It is of a second stage: say model.stage=second."
        learned = any(n.startswith("router.net.") for n in state)
        if learned and self.router is not None and self.router.kind != "learned":
            return "It has a learned router: say model.router=learned."
        if self.router is not None and not any(n.startswith("bridge.qformer.") for n in state):
            return "It is no first stage of RS-MoE, nor an InstructBLIP: it has no Q-Former."
        return ""
