"""A model around another: it looks the question up in a knowledge base, and asks with the facts.

Source: Wen et al., RS-RAG, arXiv 2504.04988, section 4; CongcongWen1208/RS-RAG 8a93ba2,
TASKS/answer_utils.py.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from torch import Tensor, nn

from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Answer, Passage, Turn
from rsvlm.data.text.knowledge_prompts import PROMPTS, citations, cited, harmless, released
from rsvlm.errors import UserError, near
from rsvlm.models.base import GenerativeModel
from rsvlm.models.protocols import Kinds, is_generator
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_encoder import Hit
from rsvlm.retrieval.knowledge_records import TASKS
from rsvlm.retrieval.knowledge_search import Filter

log = logging.getLogger(__name__)

#: What a question is asked with: nothing, what is found, or the records on its own picture.
CONTEXTS = ("none", "retrieved", "right")
#: Words that a fact keeps at least when it is cut to fit the window.
_LEAST = 8


class ContextBatch:
    """A batch of the model inside, and the samples behind it, which are asked again with context.

    Args:
        batch: of the model's own collate.
        items: what it was made of.
    """

    def __init__(self, batch: Any, items: Sequence[TransformedSample]) -> None:
        self.batch, self.items = batch, list(items)

    def __len__(self) -> int:
        return len(self.batch)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("batch", "items"):
            raise AttributeError(name)
        return getattr(self.batch, name)

    def to(self, device: Any, **options: Any) -> ContextBatch:
        """The batch on a device; the samples stay where they are."""
        return ContextBatch(self.batch.to(device, **options), self.items)

    def pin_memory(self) -> ContextBatch:
        """The batch in page-locked memory; DataLoader calls this."""
        return ContextBatch(self.batch.pin_memory(), self.items)


class RSRAG(GenerativeModel):
    """Answers with what a base holds, through any model that can be asked in words.

    What does not fit the model's window is left out from the worst hit on; the last is cut by
    words. Nothing found is said in `Answer.notes`, and the model is asked as without a base.

    Args:
        model: answers in words; takes a question.
        base: open, with its encoder.
        alpha: weight of the picture against the question's text.
        k: chunks that are asked for.
        prompt: `cited`, or `released` as published.
        context: `retrieved`; `none`, the model alone; or `right`, of the records on the question's
            own picture alone, which is the ceiling of retrieval.
        task: whose chunk types are looked through, a word of `TASKS`; None takes the question's
            kind where it is one, and all types where it is not.
        exclude_self: leave out the record whose picture is the question's.
        min_score: hits of a lower score are not given; None gives all.
        search: other options of `KnowledgeBase.search`.

    Attributes:
        counts: `asked`, `found` and `nothing`, questions; `dropped`, hits that did not fit.

    Raises:
        UserError: a model that takes no question, or an unknown option.
    """

    def __init__(
        self,
        model: nn.Module,
        base: KnowledgeBase,
        *,
        alpha: float = 0.7,
        k: int = 3,
        prompt: str = "cited",
        context: str = "retrieved",
        task: str | None = None,
        exclude_self: bool = False,
        min_score: float | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        mode = model.training
        if not is_generator(model) or not model.takes_prompt or model.bitemporal:
            raise UserError(
                f"knowledge= is for models that answer a question on a picture; "
                f"a {type(model).__name__} is none."
            )
        if prompt not in PROMPTS:
            raise UserError(f"knowledge.prompt={prompt}: {near(prompt, PROMPTS)}")
        if context not in CONTEXTS:
            raise UserError(f"knowledge.context={context}: {near(context, CONTEXTS)}")
        if task is not None and task not in TASKS:
            raise UserError(f"knowledge.task={task}: {near(task, TASKS)}")
        if k < 1 or not 0 <= alpha <= 1:
            raise UserError(
                f"knowledge.k={k} knowledge.alpha={alpha}: k is at least 1, alpha between 0 and 1."
            )
        fused = (search or {}).get("lexical") or (search or {}).get("fusion") == "rrf"
        if min_score is not None and fused:
            raise UserError(
                f"knowledge.min_score={min_score} is held against cosines, and fused ranks "
                "(lexical, fusion=rrf) score 0.05 at most: leave one of the two out."
            )
        self.model: Any = model
        self.base = base
        self.prompt, self.task, self.context = prompt, task, context
        self.min_score = -math.inf if min_score is None else min_score
        self._own: dict[str, list[str]] | None = None
        self.options = {"alpha": alpha, "k": k, "exclude_self": exclude_self, **(search or {})}
        self.counts: Counter[str] = Counter()
        self.codec, self.words, self.cache = model.codec, model.words, model.cache
        self.describes = model.describes
        self.train(mode)

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        return int(self.model.image_size)

    @property
    def preprocess(self) -> Callable[..., Tensor]:
        """The evaluation transform of the model inside."""
        transform: Callable[..., Tensor] = self.model.preprocess
        return transform

    @property
    def tokenizer(self) -> Any:
        """Of the model inside."""
        return self.model.tokenizer

    @property
    def tuning(self) -> str | None:
        """How the model inside is tuned."""
        tuned: str | None = self.model.tuning
        return tuned

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> Callable[[Sequence[Any]], Any]:
        """From samples to a batch; training goes without context."""
        plain = self.model.collate(training=training, kinds=kinds, instructions=instructions)
        return plain if training else _Collate(plain)

    def generate(self, batch: Any, **options: Any) -> list[Answer]:
        """An answer to each question, with the records that it rests on.

        `Answer.retrieved` holds (record id, score) and `Answer.sources` a line for each: number,
        id, chunk type with the span of its characters, and score. With `cited`, they are those that
        the answer cites, where it cites any, and its text goes without the citations.

        Raises:
            UserError: the base cannot be asked; nothing is swallowed.
        """
        if not isinstance(batch, ContextBatch):
            raise UserError("RSRAG.generate takes a batch of RSRAG.collate(training=False).")
        self._place_encoder()
        behind = {str(item.sample.meta.get("id", "")): item for item in batch.items}
        again = self.model.collate(training=False, kinds="all")
        again.instructions = None  # the questions stand as they were written
        items, given, own = [], [], []
        for row, id in enumerate(batch.ids):
            own.append(self.own_records(behind[str(id)].sample.meta))
            item, hits = self._with_context(again, behind[str(id)], row, batch, own[-1])
            items.append(item)
            given.append(hits)
        asked = again(items)
        if len(asked) != len(batch):
            raise UserError(f"a question cannot be asked: {'; '.join(asked.skipped)}")
        answers = self.model.generate(asked.to(_device(self.model)), **options)
        for answer, hits, records in zip(answers, given, own, strict=True):
            answer.own_records = records
            self._sources(answer, hits)
        return list(answers)

    def own_records(self, meta: Mapping[str, Any]) -> list[str]:
        """Ids of the base's records on a sample's own picture, by the picture's name.

        `meta["record"]`, an id or several, goes before it. With `exclude_self` there is none.
        """
        if self.options["exclude_self"]:
            return []
        if self._own is None:
            self._own = {}
            for record in self.base.version.records:
                for name in {record.id, *_names(record.image)}:
                    self._own.setdefault(name, []).append(record.id)
        told = meta.get("record")
        if told is not None:
            said = {str(told)} if isinstance(told, str | int) else {str(one) for one in told}
        else:
            said = _names(meta.get("image")) | _names(meta.get("path"))
        found = [id for name in sorted(said) for id in self._own.get(name, ())]
        return list(dict.fromkeys(found))

    def _find(self, image: Any, question: str, task: str | None, own: list[str]) -> list[Hit]:
        if self.context == "none":
            return []
        if self.context == "right":
            left = ("exclude_self", "variant", "search_k", "where")
            options = {key: v for key, v in self.options.items() if key not in left}
            where = Filter(records=own)
            return self.base.search(image, question, task=task, where=where, **options)
        found = self.base.search(image, question, task=task, **self.options)
        return [hit for hit in found if hit.score >= self.min_score]

    def _with_context(
        self,
        collate: Any,
        item: TransformedSample,
        row: int,
        batch: ContextBatch,
        own: list[str],
    ) -> tuple[TransformedSample, list[Hit]]:
        question = batch.instructions[row]
        kind = batch.kinds[row]
        task = self.task or (kind if kind in TASKS else None)
        hits = self._find(item.sample.images[0], question, task, own)
        self.counts["asked"] += 1
        self.counts["found" if hits else "nothing"] += 1
        texts = [harmless(hit.text) for hit in hits]

        def fits(given: Sequence[str]) -> bool:
            fitted = collate([self._item(item, given, question, kind)])
            return bool(len(fitted)) and not fitted.truncated

        least, most = 0, len(texts)  # the best that fit, by halves
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if fits(texts[:middle]) else (least, middle - 1)
        given = texts[:least]
        if texts and not given:
            words = texts[0].split()
            while len(words) >= 2 * _LEAST and not given:
                words = words[: len(words) // 2]
                given = [" ".join(words)] if fits([" ".join(words)]) else []
        self.counts["dropped"] += len(texts) - len(given)
        return self._item(item, given, question, kind), hits[: len(given)]

    def _item(
        self, item: TransformedSample, texts: Sequence[str], question: str, kind: str | None
    ) -> TransformedSample:
        write = released if self.prompt == "released" else cited
        history, shown = list[Turn](), tuple(range(len(item.sample.images)))
        said = item.sample.turns
        if len(said) > 1 and said[-1].role == "user":  # a dialogue that goes on
            history, shown = said[:-1], said[-1].image_ids
        turns = [*history, Turn("user", write(texts, question), shown, kind=kind)]
        return replace(item, sample=replace(item.sample, turns=turns, texts=[], instances=[]))

    def _sources(self, answer: Answer, hits: Sequence[Hit]) -> None:
        if self.context == "none":
            return
        if not hits:
            answer.notes.append(
                f"nothing was found in {self.base.store.root} that could be given: the answer "
                "rests on the picture and the question alone."
            )
            return
        numbers, used = list(range(len(hits))), list[int]()
        if self.prompt == "cited":
            answer.text, used = citations(answer.text, len(hits))
            numbers = used or numbers
        answer.passages = [
            Passage(hit.record.id, hit.type, hit.text, hit.span, hit.score, i in used)
            for i, hit in enumerate(hits)
        ]
        for i in numbers:
            hit = hits[i]
            span = f"{hit.span[0]}-{hit.span[1]}"
            answer.retrieved.append((hit.record.id, hit.score))
            answer.sources.append(f"[{i + 1}] {hit.record.id} {hit.type} {span} {hit.score:.4f}")

    def _place_encoder(self) -> None:
        """Puts the encoder where the model is; the base holds it, so `to` does not reach it."""
        encoder = getattr(self.base.encoder, "model", None)
        if isinstance(encoder, nn.Module):
            encoder.to(_device(self.model))


class _Collate:
    """A collate that keeps what its batch was made of."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> ContextBatch:
        batch = self.plain(items)
        return ContextBatch(batch, [i for i in items if isinstance(i, TransformedSample)])


def _names(path: Any) -> set[str]:
    """A picture's file name, with its ending and without; none of no name."""
    name = PurePath(str(path)).name if path else ""
    return {name, PurePath(name).stem} - {""}


def _device(model: nn.Module) -> Any:
    return next(model.parameters()).device
