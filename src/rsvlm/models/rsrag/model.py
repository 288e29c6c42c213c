"""A model around another: it looks the question up in a knowledge base, and asks with the facts.

Source: Wen et al., RS-RAG, arXiv 2504.04988, section 4; CongcongWen1208/RS-RAG 8a93ba2,
TASKS/answer_utils.py.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from torch import Tensor, nn

from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.protocols import MovesGeometry
from rsvlm.data.sample import Answer, Passage, Turn
from rsvlm.data.text.knowledge_prompts import PROMPTS, citations, cited, harmless, released
from rsvlm.data.text.prompt_formats import dialogues
from rsvlm.data.transforms import to_tensor
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
_WORD = re.compile(r"\S+")


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
        numbers = isinstance(k, int) and isinstance(alpha, int | float)
        if not numbers or k < 1 or not 0 <= alpha <= 1:
            raise UserError(
                f"knowledge.k={k} knowledge.alpha={alpha}: k is a whole number from 1 on, "
                "alpha lies between 0 and 1."
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
        """The evaluation transform of the model inside, and beside it the base's encoder's."""
        transform: Callable[..., Tensor] = self.model.preprocess
        if self.context == "none":
            return transform
        beside = _MovesBeside if isinstance(transform, MovesGeometry) else _Beside
        return beside(transform, getattr(self.base.encoder, "prepare", to_tensor))

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
        behind = {(item.index, _id(item)): item for item in batch.items}
        parts = {key: dialogues(item.sample) for key, item in behind.items()}
        again = self.model.collate(training=False, kinds="all")
        again.instructions = None  # the questions stand as they were written
        items: list[TransformedSample] = []
        given, own = [], []
        for key in zip(batch.index.tolist(), map(str, batch.ids), strict=True):
            question, kind = batch.instructions[len(items)], batch.kinds[len(items)]
            before, asks = _asked(parts[key], question)
            own.append(self.own_records(behind[key].sample.meta))
            turn = Turn("user", question, asks.image_ids if asks else (), kind=kind)
            item, hits = self._with_context(again, behind[key], before, turn)
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
        return [] if self.options["exclude_self"] else self._named(meta)

    def _named(self, meta: Mapping[str, Any]) -> list[str]:
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

    def _find(self, item: TransformedSample, asked: Turn) -> list[Hit]:
        if self.context == "none":
            return []
        shown = asked.image_ids[0] if asked.image_ids else 0
        image = item.beside[shown] if item.beside else item.sample.images[shown]
        task = self.task or (asked.kind if asked.kind in TASKS else None)
        options = dict(self.options)
        if self.context == "right":
            for word in ("exclude_self", "variant", "search_k", "where"):
                options.pop(word, None)
            where = Filter(records=self.own_records(item.sample.meta))
            return self.base.search(image, asked.text, task=task, where=where, **options)
        if self.options["exclude_self"] and (own := self._named(item.sample.meta)):
            # By its name too: a copy that was stored anew is another picture to its pixels.
            where = options.get("where") or Filter()
            options["where"] = replace(where, exclude=(*where.exclude, *own))
        found = self.base.search(image, asked.text, task=task, **options)
        return [hit for hit in found if hit.score >= self.min_score]

    def _with_context(
        self, collate: Any, item: TransformedSample, before: Sequence[Turn], asked: Turn
    ) -> tuple[TransformedSample, list[Hit]]:
        hits = self._find(item, asked)
        self.counts["asked"] += 1
        self.counts["found" if hits else "nothing"] += 1
        texts = [harmless(hit.text) for hit in hits]
        write = released if self.prompt == "released" else cited
        shown = asked.image_ids or tuple(range(len(item.sample.images)))

        def with_facts(given: Sequence[str]) -> TransformedSample:
            said = replace(asked, text=write(given, asked.text), image_ids=shown)
            # A later question of a dialogue shows what an earlier one has not shown.
            said = replace(said, image_ids=asked.image_ids) if before else said
            turns = [*before, said]
            return replace(item, sample=replace(item.sample, turns=turns, texts=[], instances=[]))

        def fits(given: Sequence[str]) -> bool:
            fitted = collate([with_facts(given)])
            return bool(len(fitted)) and not fitted.truncated

        least, most = 0, len(texts)  # the best that fit, by halves
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if fits(texts[:middle]) else (least, middle - 1)
        given, used = texts[:least], hits[:least]
        if texts and not given:
            words = [found.end() for found in _WORD.finditer(texts[0])]
            while len(words) >= 2 * _LEAST and not given:
                words = words[: len(words) // 2]
                cut = texts[0][: words[-1]]  # as long as the hit's own text: marks are one letter
                if fits([cut]):
                    span = (hits[0].span[0], hits[0].span[0] + len(cut))
                    given = [cut]
                    used = [replace(hits[0], text=hits[0].text[: len(cut)], span=span)]
        self.counts["dropped"] += len(texts) - len(given)
        return with_facts(given), used

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


class _Beside:
    """A transform that also keeps what a base's encoder takes of each image as stored.

    Args:
        transform: of the model inside.
        prepare: of the encoder.
    """

    def __init__(self, transform: Callable[..., Tensor], prepare: Callable[..., Any]) -> None:
        self.transform, self.prepare = transform, prepare

    def __call__(self, image: Any, *draw: Any) -> Tensor:
        """The image as the model inside takes it."""
        return self.transform(image, *draw)

    def beside(self, image: Any) -> Any:
        """The image as the encoder takes it."""
        return self.prepare(image)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("transform", "prepare", "apply_with_geometry"):
            raise AttributeError(name)
        return getattr(self.transform, name)


class _MovesBeside(_Beside):
    def apply_with_geometry(self, images: Any, *draw: Any) -> Any:
        """See `MovesGeometry`."""
        return self.transform.apply_with_geometry(images, *draw)  # type: ignore[attr-defined]


def _id(item: TransformedSample) -> str:
    return str(item.sample.meta.get("id", item.index))


def _asked(parts: list[list[Turn]], question: str) -> tuple[list[Turn], Turn | None]:
    """What was said before a question, and its turn; the dialogue is taken from `parts`."""
    for place, part in enumerate(parts):
        last = max((n for n, turn in enumerate(part) if turn.role == "user"), default=None)
        if last is not None and (len(parts) == 1 or part[last].text == question):
            parts.pop(place)
            return list(part[:last]), part[last]
    return [], None


def _names(path: Any) -> set[str]:
    """A picture's file name, with its ending and without; none of no name."""
    name = PurePath(str(path)).name if path else ""
    return {name, PurePath(name).stem} - {""}


def _device(model: nn.Module) -> Any:
    return next(model.parameters()).device
