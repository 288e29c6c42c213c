"""Change captions: the whole set, the pairs with a change, the pairs without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.captions.protocols import WORDS, Scores, score
from rsvlm.metrics.captions.records import Id, Record, fingerprint
from rsvlm.metrics.captions.statistics import statistics
from rsvlm.metrics.change.templates import templates_of, unchanged
from rsvlm.metrics.intervals import Statistics

PARTS = {"change": True, "no_change": False}
#: Words that a subset has too.
SPLIT = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "s_m")


class ChangeCaptions(Captions):
    """Caption metrics of all pairs, and of the changed and the unchanged ones on their own.

    Formula: those of the captions protocol, three times; corpus statistics and document
    frequencies of a subset are its own, as the published loops call their scorers. Range: 0 to 100
    per cent (CIDEr-D and S*m: to 1000 and 325). Higher is better. Protocols: coco, token_ids (the
    field's), nltk, earthdial, rs_rag. Used in: the caption tables of RSICCformer, PSNet, PromptCC,
    Chg2Cap, RSCaMa, Change-Agent, SECOND-CC and DeltaVLM, whose columns all, change and no change
    these are.

    Bad input is treated as `Captions` does; a subset without pairs has no value and is named in
    `skipped`.

    Args:
        protocol: of captions.
        data: whose list of sentences tells unchanged pairs where no flags are given, see
            `data.text.no_change.NO_CHANGE`.
        templates: sentences of your own in its place.
        metrics: words of the protocol, for all three; None takes all that can run.
        vocabulary: of protocol `token_ids`: word -> id, with an `<unk>`.
        kwargs: of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        protocol: str = "token_ids",
        *,
        data: str = "levir_cc",
        templates: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        vocabulary: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol, metrics=metrics, vocabulary=vocabulary, **kwargs)
        self.templates = templates_of(data, templates)
        self._parts: dict[str, Scores] = {}

    def update(
        self,
        predictions: Sequence[Any],
        references: Sequence[Sequence[Any]],
        ids: Sequence[Id] | None = None,
        flags: Sequence[bool | int | None] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            predictions: b answers.
            references: for each its references, at least one.
            ids: b positions or names, see `Captions.update`.
            flags: b times whether the pair has changed (the data set's changeflag); None, alone or
                for one pair, asks the data set's sentences.

        Raises:
            UserError: what `Captions.update` refuses, or flags that are none.
        """
        if flags is not None and len(flags) != len(predictions):
            raise UserError(f"{len(flags)} flags for {len(predictions)} pairs: give one of each.")
        for flag in flags or ():
            if flag is not None and flag not in (0, 1):
                raise UserError(f"flag {flag!r}: 1 is a changed pair, 0 an unchanged one.")
        known = [None if flag is None else bool(flag) for flag in flags] if flags else None
        self._add(predictions, references, ids, known)

    @property
    def changed(self) -> list[bool]:
        """[N] whether each pair counts as changed, in the order of `ids`, of the last `compute`."""
        return [self._changed(one) for one in self.used]

    def facts(self, word: str | None = None) -> dict[str, Any]:
        """As `Captions.facts`; of a subset's word, those of the subset."""
        found = super().facts(word)
        for part, changed in PARTS.items():
            if word is not None and word.startswith(f"{part}_"):
                used = [one for one in self._used if self._changed(one) == changed]
                found["count"] = len(used)
                found["references"] = fingerprint(used)
                found["empty"] = sum(not one.prediction.strip() for one in used)
        return found

    def statistics(self) -> list[Statistics]:
        """What each pair brings to the values of the last `compute`, those of the parts too."""
        images = [image_of(one.id) for one in self._used]
        found = super().statistics()
        for part, scores in self._parts.items():
            rows = [n for n, one in enumerate(self._used) if self._changed(one) == PARTS[part]]
            found.append(statistics(scores, images, prefix=f"{part}_", rows=rows))
        return found

    def _changed(self, one: Record) -> bool:
        return not unchanged(one.references, self.templates) if one.flag is None else one.flag

    def _score(self) -> Scores:
        found = super()._score()
        shared = set(WORDS[self.protocol]).intersection(SPLIT)
        self._parts.clear()
        for part, changed in PARTS.items():
            used = [one for one in self._used if self._changed(one) == changed]
            words = [word for word in found.corpus if word in shared]
            if not used:
                why = f"no pairs {'with' if changed else 'without'} a change were given"
                found.skipped.update({f"{part}_{word}": why for word in words})
                continue
            own = score(
                self.protocol,
                [one.prediction for one in used],
                [one.references for one in used],
                metrics=words,
                vocabulary=self.vocabulary,
            )
            self._parts[part] = own
            found.corpus.update({f"{part}_{word}": own.corpus[word] for word in words})
        return found


class OpenQuestions(Captions):
    """Caption metrics of answers to open questions, each with one reference.

    Formula: that of token_ids; under `open_questions` the reference is not cleaned first, as
    published. Range: 0 to 100 per cent (CIDEr-D and S*m: to 1000 and 325). Higher is better.
    Protocols: open_questions; also coco, nltk, earthdial, rs_rag, token_ids. Used in: DeltaVLM's
    table on ChangeChat-105k's open questions (7,527 of them; its vocabulary of 1,099 words is not
    published, so give the one your numbers rest on; without, every word is known).

    Args:
        protocol: of captions.
        metrics: the words wanted; None takes all that can run.
        vocabulary: word -> id, with an `<unk>`.
        kwargs: of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        protocol: str = "open_questions",
        *,
        metrics: Sequence[str] | None = None,
        vocabulary: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol, metrics=metrics, vocabulary=vocabulary, **kwargs)

    def update(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            predictions: b answers.
            references: for each its one reference, as a string or a list of one.
            ids: b positions or names, see `Captions.update`.

        Raises:
            UserError: what `Captions.update` refuses, or several references.
        """
        listed = [[one] if isinstance(one, str) else one for one in references]
        for number, one in enumerate(listed):
            if isinstance(one, Sequence) and len(one) > 1:
                raise UserError(
                    f"question {number} of the batch has {len(one)} references; an open question "
                    "has one."
                )
        super().update(predictions, listed, ids)
