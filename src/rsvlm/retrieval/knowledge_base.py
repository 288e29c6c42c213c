"""A base of places: built once, searched by picture and text, added to and cut down.

    base = KnowledgeBase.build(records, encoder, "kb", root="pictures")
    base.search(image="a.png", text="which stadium is this?", task="vqa", k=3, alpha=0.5)

A row's score is alpha * cos(question's picture, record's picture) + (1 - alpha) * cos(question's
text, row's text), as RS-RAG has it (arXiv 2504.04988, section 4; TASKS/answer_utils.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsvlm.errors import UserError, near
from rsvlm.retrieval.knowledge_builder import (
    Options,
    check_encoder,
    distinct,
    facts_of,
    make,
    plan_of,
    unit,
)
from rsvlm.retrieval.knowledge_encoder import Hit, KnowledgeEncoder
from rsvlm.retrieval.knowledge_records import CHUNK_TYPES, TASKS, KnowledgeRecord
from rsvlm.retrieval.knowledge_search import (
    Filter,
    Lexicon,
    best,
    check_search,
    cosines,
    diverse,
    reciprocal_ranks,
    released_cosines,
    rows_of,
)
from rsvlm.retrieval.knowledge_store import SAME_PICTURE, Asked, Store, store_of
from rsvlm.retrieval.knowledge_version import Floats, Ints, Version, fingerprint
from rsvlm.retrieval.released_knowledge import RELEASED_TASKS, SEARCH_K

log = logging.getLogger(__name__)

Fusion = Literal["weighted", "rrf"]


class KnowledgeBase:
    """A base that is open; what is added or removed opens as its new version.

    Args:
        store: its folder, or a server's address with its name.
        encoder: of questions; None where only vectors are searched by.
        version: an older one; None opens the last that is whole.

    Raises:
        UserError: no base, damaged, or made by another encoder.
    """

    def __init__(
        self,
        store: Store | str | Path,
        encoder: KnowledgeEncoder | None = None,
        *,
        version: int | None = None,
    ) -> None:
        self.store = store_of(store) if isinstance(store, str | Path) else store
        self.encoder = encoder
        self.version: Version = self.store.open(version)
        self.facts = self.store.manifest
        self._lexicon: Lexicon | None = None
        if encoder is not None:
            check_encoder(self.facts, encoder, self.store.root)

    @classmethod
    def build(
        cls,
        records: Iterable[KnowledgeRecord],
        encoder: KnowledgeEncoder,
        out: Store | str | Path,
        *,
        root: str | Path | None = None,
        options: Options | None = None,
        progress: Callable[[int, int], None] | None = None,
        store: str | None = None,
    ) -> KnowledgeBase:
        """Builds a base, or goes on with a build of the same records that was stopped.

        Args:
            records: with ids that differ.
            encoder: of pictures and texts.
            out: the folder, or a server's address with a name for the base.
            root: folder of the pictures.
            options: how long texts are cut, and how much is encoded at a time.
            progress: called with records done and all.
            store: a word of `STORES`; None takes what is there, or `files`.

        Raises:
            UserError: no records, two of one id, another base in the folder, or another process
                that writes it.
        """
        kept = store_of(out, store) if isinstance(out, str | Path) else out
        held, options = list(records), options or Options()
        if not held:
            raise UserError("there is no record to build a base of: see --records.")
        distinct(held)
        with kept.locked():
            plan = plan_of(held, encoder, options, root, 0)
            if kept.manifest:
                check_encoder(kept.manifest, encoder, kept.root)
                opened = kept.open()
                if opened.fingerprint != plan:
                    raise UserError(
                        f"{kept.root} holds a base of other records or options: rsvlm knowledge "
                        f"add {kept.root} adds to it; for a new one name another --out."
                    )
                kept.clean()
            else:
                parts = make(held, encoder, kept.parts(plan), root, options, progress)
                kept.write(parts, plan, facts_of(encoder, root))
        return cls(kept, encoder)

    def add(
        self,
        records: Iterable[KnowledgeRecord],
        *,
        root: str | Path | None = None,
        options: Options | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Adds records as a new version; those of a known id take its place.

        Args:
            records: see `build`.
            root: folder of their pictures; None takes the base's.
            options: see `build`.
            progress: see `build`.

        Returns:
            How many of them took another's place.

        Raises:
            UserError: see `build`; or the base was opened without an encoder.
        """
        if self.encoder is None:
            raise UserError("a base that is added to is opened with an encoder.")
        held, options = list(records), options or Options()
        if not held:
            raise UserError("there is no record to add: see --records.")
        distinct(held)
        root = self.facts.get("root") if root is None else root
        with self.store.locked():
            current = self.store.open()
            plan = plan_of(held, self.encoder, options, root, current.number)
            parts = make(held, self.encoder, self.store.parts(plan), root, options, progress)
            ids = {record.id for record in held}
            replaced = len(current.known(ids))
            self.store.write(parts, plan, self._facts(), of=current, gone=ids)
        self._reopen()
        return replaced

    def remove(self, ids: Iterable[str]) -> int:
        """Removes records as a new version; how many it were.

        Raises:
            UserError: an id that the base does not hold; or another process that writes it.
        """
        gone = set(ids)
        with self.store.locked():
            current = self.store.open()
            for id in sorted(gone - current.known(gone)):
                there = (record.id for record in current.records)
                raise UserError(f"{self.store.root} holds no record {id!r}. {near(id, there)}")
            plan = fingerprint("remove", sorted(gone), current.fingerprint, current.number)
            self.store.write([], plan, self._facts(), of=current, gone=gone)
        self._reopen()
        return len(gone)

    def __len__(self) -> int:
        """How many records it holds."""
        return self.version.counts().records

    def search(
        self,
        image: Any = None,
        text: str | None = None,
        *,
        task: str | None = None,
        types: Sequence[str] | None = None,
        where: Filter | None = None,
        k: int = 3,
        alpha: float = 0.7,
        fusion: Fusion = "weighted",
        lexical: bool = False,
        mmr: float | None = None,
        rerank: Callable[[str, list[str]], Sequence[float]] | None = None,
        pool: int = 100,
        exclude_self: bool = False,
        variant: str | None = None,
        search_k: int | None = None,
    ) -> list[Hit]:
        """What the base holds on a picture, a text, or both.

        Args:
            image: a path or a picture.
            text: the question.
            task: a word of `TASKS`, whose chunk types are looked through.
            types: chunk types instead.
            where: which records may be found.
            k: most hits; fewer where the base holds fewer.
            alpha: weight of the picture, where both are given. A record without a picture has
                no likeness of pictures: 0.
            fusion: `weighted`, or `rrf` for reciprocal ranks of picture, text and words (BM25).
            lexical: fuse the words' ranks (BM25) with the weighted score's by reciprocal rank.
            mmr: weight of the score against likeness to what is chosen already; None: score alone.
                Scores that are no cosines, of fused ranks or of `rerank`, are put between 0 and 1.
            rerank: a cross-encoder: scores of texts for a question, of the best `pool`.
            pool: how many are re-ranked or fused.
            exclude_self: leave out records whose picture is the question's.
            variant: `released`, or its parts `runtime` (the same) and `builder`: scores, chunk
                types, recall and order as published.
            search_k: of a variant: rows that are recalled before they are scored.

        Raises:
            UserError: neither picture nor text, an unknown word, or a number out of range.
        """
        check_search(k, alpha, mmr, fusion, pool=pool, search_k=search_k)
        picture, words = self.encode(image, text)
        if variant is not None:
            if types is not None or lexical or fusion != "weighted" or mmr is not None or rerank:
                raise UserError(
                    f"variant={variant} ranks as published: leave types, lexical, fusion, mmr and "
                    "rerank out, or the variant."
                )
            asked = Asked(picture, words, alpha, None, where, k, exclude_self)
            return self._released(asked, task, variant, search_k)
        if task is not None and types is None:
            if task not in TASKS:
                raise UserError(f"a base knows no task {task!r}. {near(task, TASKS)}")
            types = TASKS[task]
        known = (*CHUNK_TYPES, *self.version.counts().chunks)
        for kind in types or ():
            if kind not in known:
                raise UserError(f"a base has no chunks of type {kind!r}. {near(kind, known)}")
        lists = lexical or fusion == "rrf"
        wide = max(k, pool) if rerank or lists or mmr is not None else k
        asked = Asked(picture, words, alpha, types, where, wide, exclude_self)
        version, rows, seen = self._rows(asked, lists)
        told = None if words is None else cosines(version.text, words, rows)
        if seen is None or told is None:
            scores = seen if seen is not None else told
            assert scores is not None
        else:
            scores = alpha * seen + (1 - alpha) * told
        if not len(rows):
            return []
        if lists:
            pooled = self._fused(text, rows, scores, seen, told, fusion, pool)
        else:
            pooled = {int(i): float(scores[i]) for i in best(scores, wide)}
        if rerank is not None and text:
            order = list(pooled)
            given = rerank(text, [version.text_of(int(rows[i])) for i in order])
            told_by = dict(zip(order, map(float, given), strict=True))
            pooled = dict(sorted(told_by.items(), key=lambda pair: -pair[1]))
        chosen = list(pooled)
        if mmr is not None:
            vectors = np.asarray(version.text[rows[chosen]])
            values = np.array([pooled[i] for i in chosen])
            if (lists or rerank) and len(values):
                values = (values - values.min()) / max(1e-12, float(np.ptp(values)))
            chosen = [chosen[i] for i in diverse(vectors, values, k, mmr)]
        return [
            Hit.of(version, int(rows[i]), pooled[i], _at(seen, i), _at(told, i)) for i in chosen[:k]
        ]

    def encode(self, image: Any, text: str | None) -> tuple[Floats | None, Floats | None]:
        """Vectors of unit length of a question's picture and text.

        Raises:
            UserError: neither is given, or the base was opened without an encoder.
        """
        said = text.strip() if text else ""
        if image is None and not said:
            raise UserError("a search needs a picture or a text: give image=, text=, or both.")
        if self.encoder is None:
            raise UserError("a base that is searched is opened with an encoder.")
        picture = None if image is None else unit(self.encoder.encode_images([image]))[0]
        words = unit(self.encoder.encode_texts([text or ""]))[0] if said else None
        return picture, words

    def _rows(self, asked: Asked, lists: bool) -> tuple[Version, Ints, Any]:
        """A version with the rows to score, and the pictures' scores of these."""
        if lists and self.version.remote:
            raise UserError(
                f"words are looked up in all texts (lexical, fusion=rrf), and {self.store.root}"
                " keeps them on its server: search by vectors, or build the base in a folder."
            )
        while True:
            # Ranks of words and of vectors are those among all rows.
            narrowed = None if lists else self.store.narrow(self.version, asked)
            version, rows = narrowed or (
                self.version,
                rows_of(self.version, asked.types, asked.where),
            )
            seen = _image_scores(version, asked.image, rows)
            found = len(rows)
            if asked.exclude_self and seen is not None and len(rows):
                rows, seen = rows[seen < SAME_PICTURE], seen[seen < SAME_PICTURE]
            # What an index gave may all have been the question's own.
            if narrowed is None or len(rows) >= asked.count or found < asked.count:
                return version, rows, seen
            asked = replace(asked, count=asked.count * 4)

    def _fused(
        self,
        text: str | None,
        rows: Ints,
        scores: Any,
        seen: Any,
        told: Any,
        fusion: str,
        pool: int,
    ) -> dict[int, float]:
        given = [s for s in (seen, told) if s is not None] if fusion == "rrf" else [scores]
        lists = [best(held, pool).tolist() for held in given]
        if text and text.strip():
            self._lexicon = self._lexicon or Lexicon(self.version)
            words = self._lexicon.scores(text, rows)
            lists.append([i for i in best(words, pool).tolist() if words[i] > 0])
        return reciprocal_ranks(lists)

    def _released(
        self, question: Asked, task: str | None, variant: str, search_k: int | None
    ) -> list[Hit]:
        """The published search: recall by one vector, then the weighted score of what came."""
        known = "runtime" if variant == "released" else variant
        if known not in RELEASED_TASKS:
            raise UserError(f"variant={variant}: {near(variant, ('released', *RELEASED_TASKS))}")
        asked = (task or "").lower()
        if asked not in RELEASED_TASKS[known]:
            said = f"has no task {task!r}" if task else "is that of a task, and none is given"
            raise UserError(f"the published search {said}. {near(asked, RELEASED_TASKS[known])}")
        picture, words, alpha = question.image, question.text, question.alpha
        if picture is None or words is None:
            raise UserError("the published search needs a picture and a text: give both.")
        version = self.version
        rows = rows_of(version, RELEASED_TASKS[known][asked], question.where)
        rows = rows[version.picture_of[rows] >= 0]
        if question.exclude_self:
            rows = rows[_image_scores(version, picture, rows) < SAME_PICTURE]
        rows = rows[np.argsort(version.order[rows], kind="stable")]
        query = words if known == "builder" else picture
        recalled = best(released_cosines(version.text, query, rows), search_k or SEARCH_K[known])
        rows = rows[recalled]
        pictures = version.picture_of[rows]
        seen = released_cosines(version.image, picture, pictures)
        told = released_cosines(version.text, words, rows)
        scores = alpha * seen + (1 - alpha) * told
        return [
            Hit.of(version, int(rows[i]), float(scores[i]), float(seen[i]), float(told[i]))
            for i in best(scores, question.count)
        ]

    def _facts(self) -> dict[str, Any]:
        return {k: v for k, v in self.facts.items() if k not in ("format", "version", "store")}

    def _reopen(self) -> None:
        self.version, self.facts = self.store.open(), self.store.manifest
        self._lexicon = None


def _image_scores(version: Version, picture: Floats | None, rows: Ints) -> Any:
    if picture is None:
        return None
    pictures = version.picture_of[rows]
    if 4 * len(rows) < len(version.image):
        few, back = np.unique(pictures, return_inverse=True)
        held = few[few >= 0]  # -1, of a record without a picture, is the first
        return np.append(np.zeros(len(few) - len(held)), cosines(version.image, picture, held))[
            back
        ]
    every = np.arange(len(version.image), dtype=np.int64)
    return np.append(cosines(version.image, picture, every), 0.0)[pictures]


def _at(scores: Any, i: int) -> float | None:
    return None if scores is None else float(scores[i])
