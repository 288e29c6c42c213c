"""n-gram counts of tokenised sentences as arrays, made once and shared by BLEU and CIDEr-D."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ORDERS = 4
# Images matched at a time, so that memory does not grow with the set.
_BLOCK = 4096


class NGrams:
    """The n-grams of 1 to 4 words of distinct sentences.

    Attributes:
        row: sentence -> its number s, in order of first appearance.
        words: [S] number of words; sentences fall into words at any white space.
        order: [G] n - 1 of each n-gram.
        start: [S + 1]; the n-grams of sentence s are entries start[s] to start[s + 1].
        gram: [E] number of the n-gram of each entry, ascending within a sentence.
        count: [E] how often the sentence has it.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self.row = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        vocabulary: dict[str, int] = {}
        split = [sentence.split() for sentence in self.row]
        self.words = np.array([len(words) for words in split], dtype=np.int64)
        word = np.array(
            [vocabulary.setdefault(w, len(vocabulary)) for words in split for w in words],
            dtype=np.int64,
        )
        owner = np.repeat(np.arange(len(split)), self.words)
        grams, owners, order = [word], [owner], [np.zeros(len(vocabulary), np.int64)]
        current, before = word, 0
        for n in range(1, ORDERS):
            inside = owner[: -n or None][: max(0, len(word) - n)] == owner[n:]
            # A gram is its first n words, already numbered, and one more word.
            code = np.where(inside, current[: len(inside)] * len(vocabulary) + word[n:], -1)
            names, numbers = np.unique(code, return_inverse=True)
            skip = int(len(names) > 0 and names[0] == -1)
            current = numbers - skip
            before += len(order[-1])
            grams.append(current[inside] + before)
            owners.append(owner[: len(inside)][inside])
            order.append(np.full(len(names) - skip, n, np.int64))
        self.order = np.concatenate(order)
        key = np.concatenate(owners) * len(self.order) + np.concatenate(grams)
        self._key, self.count = np.unique(key, return_counts=True)
        total = max(1, len(self.order))
        self.gram = self._key % total
        self.start = np.searchsorted(self._key, np.arange(len(split) + 1) * total)

    def entries(self, rows: Ints) -> tuple[Ints, Ints]:
        """The entries of several sentences one after the other, and how many each one has."""
        sizes = self.start[rows + 1] - self.start[rows]
        first = np.repeat(self.start[rows] - (np.cumsum(sizes) - sizes), sizes)
        return first + np.arange(len(first)), sizes

    def look_up(self, rows: Ints, grams: Ints) -> Ints:
        """How often each sentence has an n-gram."""
        if not len(self._key):
            return np.zeros(len(rows), np.int64)
        key = rows * len(self.order) + grams
        place = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        return np.where(self._key[place] == key, self.count[place], 0)


@dataclass(frozen=True)
class Matches:
    """What a block of predictions has in common with their references.

    One line per n-gram of a prediction and reference of its image.

    Attributes:
        pair: [L] which pair of image and distinct reference, as in `Table`.
        entry: [L] the prediction's entry in `NGrams`.
        slot: [L] the same n-gram of the same image has the same slot.
        found: [L] how often the reference has the n-gram.
    """

    pair: Ints
    entry: Ints
    slot: Ints
    found: Ints


class Table:
    """Predictions and references of N images, counted.

    Attributes:
        grams: of all sentences.
        guess: [N] the prediction's sentence.
        image: [P] image of each pair of image and distinct reference, ascending.
        reference: [P] the reference's sentence.
        times: [P] how often the image has this reference.
    """

    def __init__(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        if len(predictions) != len(references):
            raise ValueError(
                f"{len(predictions)} predictions for {len(references)} lists of references."
            )
        self.grams = NGrams([*predictions, *(ref for refs in references for ref in refs)])
        row = self.grams.row
        pairs = [
            (image, row[ref], times)
            for image, refs in enumerate(references)
            for ref, times in Counter(refs).items()
        ]
        self.guess = np.array([row[p] for p in predictions], dtype=np.int64)
        columns = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
        self.image, self.reference, self.times = columns

    def __len__(self) -> int:
        return len(self.guess)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First and last pair of each block of images."""
        edges = np.searchsorted(self.image, np.arange(0, len(self) + _BLOCK, _BLOCK)).tolist()
        yield from itertools.pairwise(edges)

    def matches(self) -> Iterator[Matches]:
        """Block by block of images."""
        for low, high in self.blocks():
            pair = np.arange(low, high)
            entry, sizes = self.grams.entries(self.guess[self.image[pair]])
            pair = np.repeat(pair, sizes)
            # Entries of one prediction are apart by image, since images may share a sentence.
            widest = int(sizes.max(initial=1))
            if not len(pair):
                continue
            guess = self.guess[self.image[pair]]
            slot = (self.image[pair] - self.image[low]) * widest + entry - self.grams.start[guess]
            found = self.grams.look_up(self.reference[pair], self.grams.gram[entry])
            yield Matches(pair, entry, slot, found)
