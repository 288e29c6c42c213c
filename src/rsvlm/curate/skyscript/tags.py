"""Which tags can be seen from above, and how fine a picture must be: two classifiers.

As in the paper, both are logistic regressions on vectors of "key value": the first says whether a
tag can be seen at all, the second the coarsest ground sampling distance at which it can. The
authors' labelled tags are not published; labelled_tags.csv holds ours, and labels of yours can take
their place. A tag that is in the table is not guessed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.curate.skyscript.embeddings import HashedWords, TextEmbedding
from rsvlm.data.text_files import read_text
from rsvlm.errors import UserError

#: Metres a pixel that the second classifier chooses from (paper, section 3).
DISTANCES = (0.1, 0.2, 0.6, 1.0, 10.0)
LABELS = Path(__file__).with_name("labelled_tags.csv")
#: Tags whose answer is kept; names of streets would fill the memory of a long run.
_REMEMBERED = 500_000

Tag = tuple[str, str]


def read_labels(path: str | Path = LABELS) -> dict[Tag, float | None]:
    """Tag → coarsest distance in metres at which it is seen, None of one that is not.

    Args:
        path: a table of `key,value,max_gsd`; an empty `max_gsd` is a tag that cannot be seen.

    Raises:
        UserError: no such table, or a distance that is none of `DISTANCES`.
    """
    path = Path(path).expanduser()
    rows = csv.DictReader(read_text(path).splitlines())
    if not {"key", "value", "max_gsd"} <= set(rows.fieldnames or ()):
        raise UserError(f"{path} has no columns key, value and max_gsd.")
    out: dict[Tag, float | None] = {}
    for number, row in enumerate(rows, start=2):
        text = (row["max_gsd"] or "").strip()
        try:
            distance = float(text) if text else None
        except ValueError:
            distance = -1.0
        if distance is not None and distance not in DISTANCES:
            raise UserError(
                f"{path}, line {number}: max_gsd {text!r} is none of "
                f"{', '.join(f'{d:g}' for d in DISTANCES)}; leave it empty of what is not seen."
            )
        out[row["key"], row["value"]] = distance
    seen = [distance is not None for distance in out.values()]
    if not any(seen) or all(seen):
        raise UserError(f"{path} needs tags that can be seen and tags that cannot.")
    return out


@dataclass
class LogisticRegression:
    """Multinomial logistic regression with an L2 penalty.

    Args:
        penalty: weight of the squared weights, beside the mean loss.
        balanced: count rare classes as much as frequent ones.
    """

    penalty: float = 1e-3
    balanced: bool = False

    def fit(self, vectors: np.ndarray, labels: np.ndarray) -> LogisticRegression:
        """Finds the weights.

        Args:
            vectors: [N, D].
            labels: [N], 0 to C - 1.
        """
        import torch

        x = torch.from_numpy(np.asarray(vectors, np.float64))
        y = torch.from_numpy(np.asarray(labels, np.int64))
        classes = int(y.max()) + 1
        share = torch.bincount(y, minlength=classes).double().clamp_min(1)
        weight = len(y) / (classes * share) if self.balanced else None
        w = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
        b = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([w, b], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            solver.zero_grad()
            found = torch.nn.functional.cross_entropy(x @ w + b, y, weight)
            found = found + self.penalty * w.square().sum()
            found.backward()
            return found

        solver.step(loss)
        self._w, self._b = w.detach().numpy(), b.detach().numpy()
        return self

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """Probabilities [N, C]."""
        logits = np.asarray(vectors, np.float64) @ self._w + self._b
        found = np.exp(logits - logits.max(1, keepdims=True))
        out: np.ndarray = found / found.sum(1, keepdims=True)
        return out


def evaluate(
    embedding: TextEmbedding,
    labels: Mapping[Tag, float | None],
    *,
    folds: int = 5,
    seed: int = 0,
    penalty: float = 1e-3,
) -> dict[str, float]:
    """How well both classifiers do on tags that they were not fitted on.

    Args:
        embedding: gives the vectors; set up already.
        labels: what `read_labels` gives.
        folds: parts, of which each is held out once.
        seed: how tags are dealt to the parts.
        penalty: of the regressions.

    Returns:
        Per cent: `visible_accuracy`, `visible_f1`, and `visible_majority`, what the commoner answer
        alone gives; of tags that can be seen `distance_accuracy`, `distance_within_one` (the class
        or its neighbour) and `distance_majority`.
    """
    tags = list(labels)
    vectors = embedding.embed(tags)
    seen = np.array([labels[tag] is not None for tag in tags])
    step = np.array([DISTANCES.index(d) if (d := labels[tag]) is not None else 0 for tag in tags])
    fold = np.random.default_rng(seed).permutation(len(tags)) % folds
    guess, distance = np.zeros(len(tags), bool), np.zeros(len(tags), int)
    for held in range(folds):
        test, train = fold == held, fold != held
        first = LogisticRegression(penalty).fit(vectors[train], seen[train].astype(int))
        guess[test] = first.predict(vectors[test])[:, 1] > 0.5
        second = LogisticRegression(penalty).fit(vectors[train & seen], step[train & seen])
        distance[test] = second.predict(vectors[test]).argmax(1)
    right = float((guess & seen).sum())
    off = np.abs(distance - step)[seen]
    common = np.bincount(step[seen]).max()
    return {
        "visible_accuracy": 100 * float((guess == seen).mean()),
        "visible_f1": 100 * 2 * right / float(guess.sum() + seen.sum()),
        "visible_majority": 100 * float(max(seen.mean(), 1 - seen.mean())),
        "distance_accuracy": 100 * float((off == 0).mean()),
        "distance_within_one": 100 * float((off <= 1).mean()),
        "distance_majority": 100 * float(common / seen.sum()),
    }


@dataclass
class VisibleTags:
    """Keeps objects with a tag that can be seen from above.

    Adds `visible`, a list of [key, value, coarsest distance in metres], and `max_gsd`, the largest
    of these: the object can be told in a picture as coarse as that.

    Dropped: `no_visible_tag`, and `no_geometry` (the file lacks the object's nodes).

    Args:
        embedding: gives vectors of tags.
        labels: a table of labelled tags; None takes ours.
        least: least probability at which a tag is held to be visible.
        penalty: of both regressions.
        batch_size: objects at a time.
    """

    embedding: TextEmbedding = field(default_factory=HashedWords)
    labels: str | None = None
    least: float = 0.5
    penalty: float = 1e-3
    batch_size: int = 1000

    name = "osm_tag_filter"
    version = "1"

    def setup(self) -> None:
        """Fits both classifiers."""
        labels = read_labels(self.labels or LABELS)
        self.embedding.setup()
        tags = list(labels)
        vectors = self.embedding.embed(tags)
        seen = np.array([labels[tag] is not None for tag in tags])
        steps = [DISTANCES.index(d) for tag in tags if (d := labels[tag]) is not None]
        self._first = LogisticRegression(self.penalty).fit(vectors, seen.astype(int))
        self._second = LogisticRegression(self.penalty).fit(vectors[seen], np.array(steps))
        self._labels: dict[Tag, float | None] = labels
        self._known = dict(labels)

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """What becomes of each object."""
        found = self.visible([record["tags"] for record in records])
        outcomes: list[Outcome] = []
        for record, visible in zip(records, found, strict=True):
            if not record["geometry"]:
                outcomes.append(Dropped("no_geometry"))
            elif not visible:
                outcomes.append(Dropped("no_visible_tag"))
            else:
                far = max(distance for _, _, distance in visible)
                outcomes.append(record | {"visible": visible, "max_gsd": far})
        return outcomes

    def visible(self, objects: Sequence[Mapping[str, str]]) -> list[list[list[Any]]]:
        """Of each object's tags those that can be seen, as [key, value, distance]."""
        if len(self._known) > _REMEMBERED:
            self._known = dict(self._labels)
        new = dict.fromkeys(
            tag for tags in objects for tag in tags.items() if tag not in self._known
        )
        if new:
            vectors = self.embedding.embed(list(new))
            seen = self._first.predict(vectors)[:, 1] >= self.least
            step = self._second.predict(vectors).argmax(1)
            for tag, can, number in zip(new, seen, step, strict=True):
                self._known[tag] = DISTANCES[number] if can else None
        return [
            [[key, value, d] for key, value in tags.items() if (d := self._known[key, value])]
            for tags in objects
        ]
