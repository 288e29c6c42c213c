"""RS-RAG's own protocol: captions and answers by its script, and classes named in words.

Source: CongcongWen1208/RS-RAG 8a93ba2, TASKS/evaluation_caption_vqa.py and
TASKS/evaluation_classification.py. What retrieval brought is added to any evaluation whose answers
were given passages (`evaluation.base.with_context`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsvlm.data.datasets.rswk import CLASSES
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord, image_of
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.captions import QUICK, CaptionEvaluation
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks, with_empty
from rsvlm.evaluation.vqa import VQAEvaluation
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.intervals import Floats, Statistics, means, share
from rsvlm.metrics.rs_rag import caption_pairs, class_match


def add_script(
    found: Measurement,
    records: Sequence[PredictionRecord],
    truths: Sequence[Sequence[str]],
    protocol: str,
    metrics: Sequence[str] | None,
) -> Captions:
    """Adds the caption script's numbers, empty answers left out as it leaves them out.

    Args:
        found: what was measured so far.
        records: with the answers.
        truths: of each record, its references; the script knows one.
        protocol: that the numbers bear.
        metrics: words; None takes all that can run here.

    Returns:
        The metric after its answers; without any it has no values.
    """
    metric = Captions("rs_rag", metrics=metrics, **ALONE)
    kept = [
        (one, list(said))
        for one, said in zip(records, truths, strict=True)
        if caption_pairs([((said or [""])[0], one.prediction)])[1]
    ]
    if not kept:
        return metric
    metric.update(
        [one.prediction for one, _ in kept], [said for _, said in kept], [one.id for one, _ in kept]
    )
    values, about = measured_by(metric)
    for word in values:
        about[word] |= {"protocol": protocol, "left_out": len(records) - len(kept)}
    found.values |= values
    found.facts |= about
    found.statistics += metric.statistics()
    return metric


class RSRAGCaptions(CaptionEvaluation):
    """Captions as RS-RAG's script scores them; see `CaptionEvaluation`."""

    def __init__(self, *, val_metrics: Sequence[str] | None = QUICK, **options: Any) -> None:
        if options.pop("protocol", "rs_rag_released") != "rs_rag_released":
            raise UserError(
                "evaluation=rsrag_captions has the protocol rs_rag_released; for another one take "
                "evaluation=captions evaluation.protocol=coco."
            )
        super().__init__(protocol="rs_rag", val_metrics=val_metrics, **options)
        self.protocol = "rs_rag_released"

    def make(self, facts: DatasetFacts) -> Captions:
        """An empty metric, for one process."""
        return Captions("rs_rag", **self.of_metric(facts))

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """The script's numbers, and how many answers it leaves out."""
        words = self.of_metric(facts)["metrics"]
        found = Measurement({}, {})
        truths = [one.references for one in records]
        self.metric = add_script(found, records, truths, self.protocol, words)
        found.marks = score_marks(self.metric) if found.values else {}
        return with_empty(found, records, "caption_empty", protocol=self.protocol)


class RSRAGVQA(VQAEvaluation):
    """Answers by RS-RAG's script, which scores them as captions, and by their equality (ours).

    Args:
        metrics: of the script; None takes all that can run here.
        **options: see `VQAEvaluation`, whose protocol the accuracies bear.
    """

    def __init__(self, *, metrics: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.metrics = metrics
        Captions("rs_rag", metrics=metrics)  # refuses unknown words before a model is built

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Both; the script's numbers bear `rs_rag_answers_released`."""
        found = super().metric_from(records, facts)
        words = self.metrics if self.stage == "test" else QUICK
        truths = [[one.answer or ""] for one in records]
        add_script(found, records, truths, "rs_rag_answers_released", words)
        return found


class ClassAnswers(AnswerEvaluation):
    """Classes named in words, equal to the true one but for case and outer spaces.

    What stands outside the list is told: RSWK's full test set has 35 such classes of 2,993.

    Args:
        classes: the list; None takes the data set's own, or RSWK's sixteen.
        **options: see `AnswerEvaluation`.
    """

    kinds = ("classification",)
    sheet = "classes"

    def __init__(self, *, classes: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.protocol = "rs_rag"
        self.classes = None if classes is None else list(classes)

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """Nothing beside question and answers.

        Raises:
            SampleError: a question whose class is not known.
        """
        del model
        for sample, truth in zip(batch.ids, batch.answers, strict=True):
            if not truth.strip():
                raise SampleError(f"{sample}: its class is not given, so nothing is measured.")
        return [{} for _ in answers]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """All classes, those on the list, and what is off it."""
        names = self.classes or facts.classes or list(CLASSES)
        match = class_match([(one.answer, one.prediction) for one in records], names)
        listed = {name.strip().lower() for name in names}
        truths = [(one.answer or "").strip().lower() for one in records]
        said = [one.prediction.strip().lower() for one in records]
        equal = np.array([float(a == b) for a, b in zip(truths, said, strict=True)])
        on = np.array([truth in listed for truth in truths])
        images = [image_of(one.id) for one in records]
        columns: dict[str, Any] = {
            "class_match": equal,
            "class_match_listed": np.where(on, equal, np.nan),
            "class_answer_off_list": [float(answer not in listed) for answer in said],
            "class_label_off_list": [float(not there) for there in on],
        }
        found = Measurement({}, {}, [means(images, columns), _per_class(images, truths, equal)])
        found.values = {word: 100 * float(np.nanmean(v)) for word, v in columns.items() if _any(v)}
        found.values["class_match_mean"] = 100 * float(np.mean(list(match.per_class.values())))
        commonest = max(truths.count(name) for name in set(truths))
        for word in found.values:
            count = int(on.sum()) if word == "class_match_listed" else len(records)
            found.facts[word] = {"count": count, "unit": "%"}
        found.facts["class_match"] |= {
            "chance": 100 * commonest / len(records),
            "per_class": {name: round(100 * v, 2) for name, v in match.per_class.items()},
        }
        found.facts["class_answer_off_list"]["answers"] = _most(match.off_list_answers)
        found.facts["class_label_off_list"]["labels"] = _most(match.off_list)
        found.marks = {
            one.id: (value, "right" if value else "wrong")
            for one, value in zip(records, equal.tolist(), strict=True)
        }
        return with_empty(found, records, "class_empty")


def _any(column: Any) -> bool:
    return bool((~np.isnan(np.asarray(column, np.float64))).any())


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    """The twenty commonest; a model that writes sentences has as many as questions."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:20])


def _per_class(images: Sequence[Any], truths: Sequence[str], equal: Floats) -> Statistics:
    classes = sorted(set(truths))
    place = {name: n for n, name in enumerate(classes)}
    there = np.eye(len(classes))[[place[name] for name in truths]]

    def value(sums: Floats) -> dict[str, Floats]:
        each = 100 * share(sums[..., : len(classes)], sums[..., len(classes) :])
        held = ~np.isnan(each)
        return {"class_match_mean": share(np.where(held, each, 0).sum(-1), held.sum(-1))}

    return Statistics(images, np.concatenate([there * equal[:, None], there], 1), value)
