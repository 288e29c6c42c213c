"""The instruction router: which experts are asked, and with which prompts.

The paper's router writes one prompt for each expert (theme comprehension, object recognition,
relationship inference); its words and form are not published, so all of this is ours.

- `template`: a description is asked of all experts, each with its task's words behind the
  instruction (and the draft of the LLM block, where there is one); a question is asked of the
  expert of its aspect, by its words (`data/text/subtasks.py`).
- `learned`: the same prompts; a small network on what the Q-Former found and on the instruction's
  words weights, for each prompt, the updates of all experts (the `top_k` largest), and for a
  question also the prompts themselves, of which the likeliest answers. Both are differentiable,
  and both carry the load-balancing term of Switch Transformers (arXiv 2101.03961): without it, one
  expert came to answer all questions (experiments/rsmoe).
- `none`: every expert gets the bare instruction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rsvlm.data.text.subtasks import ASPECTS, aspect_of, heir, is_description, part
from rsvlm.errors import UserError, near
from rsvlm.nn.moe_lora import Routed, balance

#: How many experts -> their tasks.
TASKS: dict[int, tuple[str, ...]] = {
    1: ("whole",),
    2: ("theme", "objects+relations"),
    3: ("theme", "objects", "relations"),
    4: ("theme", "objects", "positions", "relations"),
}
#: Task -> what its expert is asked, behind the instruction.
PROMPTS: dict[str, str] = {
    "whole": "{instruction}",
    "theme": "{instruction} Theme comprehension: what place does the image show as a whole?",
    "objects": "{instruction} Object recognition: which objects can be seen, how many, and of "
    "which colours?",
    "positions": "{instruction} Object recognition: in which parts of the image do objects lie?",
    "relations": "{instruction} Relationship inference: how do the objects lie to each other?",
    "objects+relations": "{instruction} Object recognition and relationship inference: which "
    "objects can be seen, and how do they lie to each other?",
}
ROUTERS = ("template", "learned", "none")
#: Where a prompt has no place for the draft.
DRAFT = " A first answer: {draft}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One expert's share of a dialogue.

    Attributes:
        dialogue: its row in the batch.
        task: position in the router's tasks.
        prompt: what the expert is asked.
        target: what it is to answer; empty where that is not known, or nothing is to be said.
        whole: whether it is asked for all of the answer, not for a part.
    """

    dialogue: int
    task: int
    prompt: str
    target: str = ""
    whole: bool = False


@dataclass(slots=True)
class Routing:
    """What a batch asks of the experts, all dialogues of a task side by side.

    Attributes:
        asked: R rows.
        updates: [R, experts], how much of each expert's update a row gets.
        weights: [R], how much a row counts.
        shares: [B, tasks, experts] of a learned router, before the choice; else None.
        balance: the load-balancing term, a scalar, of a learned router: the mean of that of the
            updates and that of the prompts; else None.
        most_used: the largest mean share of an expert in either, a scalar, of a learned router.
    """

    asked: list[Asked]
    updates: Tensor
    weights: Tensor
    shares: Tensor | None = None
    balance: Tensor | None = None
    most_used: Tensor | None = None


def tasks_of(count: int, tasks: Sequence[str] | None, prompts: Mapping[str, str]) -> list[str]:
    """The experts' tasks.

    Args:
        count: how many experts.
        tasks: theirs, by name; None takes `TASKS`.
        prompts: words of some tasks, over `PROMPTS`.

    Raises:
        UserError: experts without a task or a prompt, or a task that is none.
    """
    known = {**PROMPTS, **prompts}
    if count < 1:
        raise UserError(f"model.experts.count={count}: there must be one expert or more.")
    if tasks is None and count not in TASKS:
        raise UserError(
            f"model.experts.count={count} needs as many tasks with prompts, and there are "
            f"{len(TASKS)} sets for 1 to {max(TASKS)} experts: name them with "
            "model.experts.tasks=[...] and give model.prompts.<task>=... for those that have none."
        )
    chosen = list(tasks if tasks is not None else TASKS[count])
    if len(chosen) != count:
        raise UserError(
            f"model.experts.count={count} and model.experts.tasks={chosen}: there must be a task, "
            "with its prompt, for each expert, and an expert for each task."
        )
    for task in chosen:
        for aspect in task.split("+"):
            if aspect not in (*ASPECTS, "whole"):
                raise UserError(
                    f"model.experts.tasks: {task!r} is made of aspects ({', '.join(ASPECTS)}) "
                    f"joined by +, or is whole. {near(aspect, ASPECTS)}"
                )
        if not known.get(task, "").strip():
            raise UserError(
                f"the expert of {task} has no prompt: give model.prompts.{task}=... with "
                "{instruction} in it."
            )
    if len(set(chosen)) < count:
        raise UserError(f"model.experts.tasks={chosen}: no two experts have the same task.")
    return chosen


class Router(nn.Module):
    """See the head of this file.

    Args:
        kind: a word of `ROUTERS`.
        tasks: of the experts, see `tasks_of`.
        prompts: words of tasks, over `PROMPTS`; {instruction} and {draft} stand for these.
        dim: width of the features that a learned router reads.
        hidden: its hidden width.
        top_k: how many experts' updates a prompt gets.

    Raises:
        UserError: an unknown word, or a number that makes no sense.
    """

    def __init__(
        self,
        kind: str,
        tasks: Sequence[str],
        prompts: Mapping[str, str] | None = None,
        *,
        dim: int,
        hidden: int = 128,
        top_k: int = 2,
    ) -> None:
        super().__init__()
        if kind not in ROUTERS:
            raise UserError(f"model.router={kind!r} is not known. {near(str(kind), ROUTERS)}")
        for task in prompts or {}:
            if task not in PROMPTS and task not in tasks:
                raise UserError(f"model.prompts: no task {task!r}. {near(task, PROMPTS)}")
        if top_k < 1:
            raise UserError(f"model.routing.top_k={top_k}: it must be 1 or more.")
        self.kind, self.tasks = kind, tuple(tasks)
        self.prompts = {**PROMPTS, **(prompts or {})}
        self.top_k = min(top_k, len(self.tasks))
        self.net: nn.Sequential | None = None
        if kind == "learned":
            count = len(self.tasks)
            self.net = nn.Sequential(
                nn.LayerNorm(dim),
                nn.Linear(dim, hidden),
                nn.GELU(),
                nn.Linear(hidden, count * count + count),
            )

    def prompt(self, task: str, instruction: str, draft: str = "") -> str:
        """What the expert of a task is asked."""
        words = self.prompts[task] + (
            DRAFT if draft and "{draft}" not in self.prompts[task] else ""
        )
        # One pass, so that braces in what a user types stay as they are.
        filled = "".join(
            {"{instruction}": instruction, "{draft}": draft}.get(piece, piece)
            for piece in _pieces(words)
        )
        return " ".join(filled.split())

    def forward(
        self,
        instructions: Sequence[str],
        seen: Tensor,
        *,
        drafts: Sequence[str] | None = None,
        answers: Sequence[str] | None = None,
        together: bool = False,
    ) -> Routing:
        """Who is asked what.

        Args:
            instructions: of B dialogues.
            seen: [B, dim], what a learned router reads.
            drafts: the LLM block's answers.
            answers: the right ones, in training.
            together: all experts write one text (logits are mixed): each is asked, and learns the
                whole answer; a template lets one of them write the answer to a question.
        """
        drafts = drafts or [""] * len(instructions)
        shares, likely = self._learned(seen)
        asked: list[Asked] = []
        weights: list[Tensor] = []
        one = torch.ones((), device=seen.device)
        describes = [is_description(text) for text in instructions]
        for place, task in enumerate(self.tasks):
            for row, instruction in enumerate(instructions):
                answer = answers[row] if answers is not None else ""
                whole = together or not describes[row]
                weight = one
                if not describes[row] and likely is not None:
                    if answers is None and not together and place != int(likely[row].argmax()):
                        continue
                    weight = likely[row, place] * (1 if together else len(self.tasks))
                    weight = weight if answers is not None or together else one
                elif together and likely is not None:
                    weight = likely[row, place]
                elif together and (describes[row] or self.kind == "none"):
                    weight = one / len(self.tasks)
                elif together:
                    weight = one * self._answers(task, instruction)
                elif not (describes[row] or self._answers(task, instruction)):
                    continue
                target = answer if whole else part(answer, task, self.tasks)
                asked.append(
                    Asked(
                        row,
                        place,
                        self._words(task, instruction, drafts[row], describes[row]),
                        target,
                        whole,
                    )
                )
                weights.append(weight)
        found = self._routing(asked, weights, shares, seen)
        if likely is not None:
            self._balance_prompts(found, likely, [together or not known for known in describes])
        return found

    def _balance_prompts(self, found: Routing, likely: Tensor, chooses: Sequence[bool]) -> None:
        """Adds what is said of the choice of prompts, which a description does not make."""
        # Not zero, so that a batch of descriptions alone is no division by it, on any rank.
        mask = torch.tensor([1.0 if one else 1e-6 for one in chooses], device=likely.device)
        chosen = torch.zeros_like(likely).scatter(-1, likely.argmax(-1, keepdim=True), 1.0)
        term = balance([Routed(likely[:, None], chosen[:, None])], mask[:, None])
        assert found.balance is not None and found.shares is not None
        found.balance = (found.balance + term) / 2
        most = (likely.detach() * mask[:, None]).sum(0).max() / mask.sum()
        kept = found.shares.detach().mean((0, 1)).max()
        found.most_used = torch.maximum(most, kept) if any(chooses) else kept

    def _answers(self, task: str, question: str) -> bool:
        return self.kind != "template" or task in self.for_question(question)

    def for_question(self, question: str) -> tuple[str, ...]:
        """The task whose expert answers a question."""
        taken = {aspect for task in self.tasks for aspect in task.split("+")}
        if "whole" in taken:
            return (self.tasks[0],)
        aspect = heir(aspect_of(question), taken, self.tasks)
        return tuple(task for task in self.tasks if aspect in task.split("+"))[:1]

    def _words(self, task: str, instruction: str, draft: str, describes: bool) -> str:
        if self.kind == "none":
            return instruction
        if describes or self.kind == "learned":
            return self.prompt(task, instruction, draft)
        return instruction + (DRAFT.replace("{draft}", draft) if draft else "")

    def _learned(self, seen: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """[B, tasks, experts] and [B, tasks], both softmaxes."""
        if self.net is None:
            return None, None
        count = len(self.tasks)
        scores = self.net(seen.to(next(self.net.parameters()).dtype)).float()
        shares = scores[:, : count * count].unflatten(1, (count, count)).softmax(-1)
        return shares, scores[:, count * count :].softmax(-1)

    def _routing(
        self, asked: list[Asked], weights: list[Tensor], shares: Tensor | None, seen: Tensor
    ) -> Routing:
        count = len(self.tasks)
        tasks = torch.tensor([each.task for each in asked], device=seen.device, dtype=torch.long)
        together = torch.stack(weights) if weights else seen.new_zeros(0)
        if shares is None:
            return Routing(asked, torch.eye(count, device=seen.device)[tasks], together)
        kept, places = shares.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            kept = kept / kept.sum(-1, keepdim=True)
        gates = torch.zeros_like(shares).scatter(-1, places, kept)
        chosen = torch.zeros_like(shares).scatter(-1, places, 1.0)
        rows = torch.tensor([each.dialogue for each in asked], device=seen.device, dtype=torch.long)
        term = balance([Routed(shares, chosen)], torch.ones_like(shares[..., 0]))
        return Routing(asked, gates[rows, tasks], together, shares, term)


def _pieces(words: str) -> list[str]:
    return re.split(r"(\{instruction\}|\{draft\})", words)
