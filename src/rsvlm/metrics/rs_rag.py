"""What RS-RAG's two evaluation scripts count, beside the caption protocol `rs_rag`.

Source: CongcongWen1208/RS-RAG 8a93ba2, TASKS/evaluation_caption_vqa.py and
TASKS/evaluation_classification.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Pair = Sequence[str | None]


def caption_pairs(pairs: Iterable[Pair]) -> tuple[list[str], list[str]]:
    """The references and predictions that the caption script scores.

    It leaves a pair out where one of the two is empty or absent; one of blanks stays, and is 0.

    Args:
        pairs: (reference, prediction); None or "" of one that is not there.
    """
    kept = [(ref, said) for ref, said in pairs if ref and said]
    return [ref for ref, _ in kept], [said for _, said in kept]


def truncated(value: float, digits: int = 4) -> str:
    """A number cut, not rounded, to some places, as the scripts' tables have it."""
    whole, _, places = f"{value:.10f}".partition(".")
    return f"{whole}.{places[:digits].ljust(digits, '0')}"


@dataclass
class ClassMatch:
    """Answers that equal the class, in any case and without blanks at their ends.

    Attributes:
        correct: how many.
        total: pairs with a class.
        each: class -> [correct, total], in order of appearance.
        off_list: classes outside the list -> how often; none where no list is given.
        off_list_answers: answers outside it -> how often.
    """

    correct: int = 0
    total: int = 0
    each: dict[str, list[int]] = field(default_factory=dict)
    off_list: dict[str, int] = field(default_factory=dict)
    off_list_answers: dict[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of pairs that match; NaN of none."""
        return self.correct / self.total if self.total else float("nan")

    @property
    def per_class(self) -> dict[str, float]:
        """Class -> the share of its pairs that match."""
        return {name: correct / total for name, (correct, total) in self.each.items()}

    @property
    def listed_accuracy(self) -> float:
        """The share among the pairs whose class is on the list; NaN of none."""
        held = [counts for name, counts in self.each.items() if name not in self.off_list]
        total = sum(count for _, count in held)
        return sum(correct for correct, _ in held) / total if total else float("nan")


def class_match(pairs: Iterable[Pair], classes: Sequence[str] | None = None) -> ClassMatch:
    """Counts answers that name the class.

    Formula: answers equal to the class but for case and outer spaces, by pairs with a class; of
    each class, their mean, and those whose class is on the list likewise. Range: 0 to 1, in tables
    100. Higher is better. Protocols: rs_rag. Used in: RS-RAG's classification table.

    An answer that is empty or absent counts as wrong; a pair without a class is left out. Where the
    script crashes, on an answer that is null, this one counts it as wrong.

    Args:
        pairs: (class, answer).
        classes: the list that the prompt gives; says which classes and answers are off it.
    """
    found = ClassMatch()
    listed = None if classes is None else {name.strip().lower() for name in classes}
    labels, answers = Counter[str](), Counter[str]()
    for label, said in pairs:
        name, answer = ((text or "").strip().lower() for text in (label, said))
        if not name:
            continue
        counts = found.each.setdefault(name, [0, 0])
        found.total, counts[1] = found.total + 1, counts[1] + 1
        found.correct, counts[0] = found.correct + (name == answer), counts[0] + (name == answer)
        if listed is not None:
            labels.update([] if name in listed else [name])
            answers.update([] if answer in listed else [answer])
    found.off_list, found.off_list_answers = dict(labels), dict(answers)
    return found
