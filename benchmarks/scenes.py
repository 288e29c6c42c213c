"""The generated world: how fast it is made, and whether its language is worth learning.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py speed
    OMP_NUM_THREADS=1 python benchmarks/scenes.py language

`speed` counts samples a second of processor time of one process. `language` scores captions that
take no learning: a constant sentence, and the caption of the training picture that is nearest by a
bag of visual words; beside the ceiling, one of a picture's own captions against its other four.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsvlm.data.loading.transformed import rng
from rsvlm.metrics.captions import cider_d, tokenize
from rsvlm.synthetic import PARTS, Scenes

#: What is timed: a name and the options of `Scenes`.
FORMS: dict[str, dict[str, Any]] = {
    "image, captions, label": {},
    "complete: every annotation": {"parts": PARTS},
    "two dates, captions": {"layout": "before_after"},
    "two dates, complete": {"layout": "before_after", "parts": PARTS},
}


def speed(size: int, count: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Samples a second of processor time, (best, median) of the passes, by form."""
    sources = {name: Scenes(size=size, **options) for name, options in FORMS.items()}
    found: dict[str, list[float]] = {name: [] for name in sources}
    for source in sources.values():
        source[0]  # the textures of this process
    for turn in range(repeats):
        for name, source in sources.items():
            start = time.process_time()
            for index in range(turn * count, (turn + 1) * count):
                source[index]
            found[name].append(count / (time.process_time() - start))
    return {name: (max(rates), float(np.median(rates))) for name, rates in found.items()}


class VisualWords:
    """Histograms of patches over a codebook, weighted as words are (tf-idf).

    A patch of 8x8 pixels is its mean colour, the spread of its brightness and a histogram of the
    directions of its gradient; the codebook comes of k-means over the training pictures. Sivic and
    Zisserman (ICCV 2003), with dense patches.
    """

    def __init__(self, pictures: Sequence[np.ndarray], words: int = 256, rounds: int = 12) -> None:
        patches = [_patches(picture) for picture in pictures]
        every = np.concatenate(patches)
        self.middle, self.spread = every.mean(0), every.std(0) + 1e-6
        draws = rng(0, 0, 0)
        some = self._scaled(every[draws.permutation(len(every))[: 60 * words]])
        self.codebook = some[:words].copy()
        for _ in range(rounds):
            nearest = self._nearest(some)
            for word in range(words):
                mine = some[nearest == word]
                if len(mine):
                    self.codebook[word] = mine.mean(0)
        counts = np.stack([self._count(patch) for patch in patches])
        self.rarity = np.log(len(counts) / (1 + (counts > 0).sum(0)))
        self.known = self._weighted(counts)

    def nearest(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """[N] index of the nearest training picture, by the cosine."""
        counts = np.stack([self._count(_patches(picture)) for picture in pictures])
        return (self._weighted(counts) @ self.known.T).argmax(1)

    def _scaled(self, patches: np.ndarray) -> np.ndarray:
        return (patches - self.middle) / self.spread

    def _nearest(self, scaled: np.ndarray) -> np.ndarray:
        books = (self.codebook**2).sum(1)
        return (books - 2 * scaled @ self.codebook.T).argmin(1)

    def _count(self, patches: np.ndarray) -> np.ndarray:
        return np.bincount(self._nearest(self._scaled(patches)), minlength=len(self.codebook))

    def _weighted(self, counts: np.ndarray) -> np.ndarray:
        value = counts * self.rarity
        return value / (np.linalg.norm(value, axis=1, keepdims=True) + 1e-9)


def _patches(picture: np.ndarray, side: int = 8) -> np.ndarray:
    """[n, 12] features of the patches of a [S, S, 3] picture."""
    pixels = picture.astype(np.float32)
    grey = pixels.mean(2)
    down, right = np.gradient(grey)
    strength, angle = np.hypot(right, down), np.arctan2(down, right)
    bins = (np.floor((angle + np.pi) / (2 * np.pi) * 8)).astype(int) % 8
    n = len(grey) // side
    layers = [*np.moveaxis(pixels, 2, 0), grey**2, grey]
    layers += [strength * (bins == k) for k in range(8)]
    cut = np.stack(layers)[:, : n * side, : n * side]
    means = cut.reshape(len(layers), n, side, n, side).mean((2, 4)).reshape(len(layers), -1).T
    spread = np.sqrt(np.maximum(0, means[:, 3] - means[:, 4] ** 2))
    return np.concatenate([means[:, :3], spread[:, None], means[:, 5:]], 1)


def language(train: Scenes, test: Scenes) -> dict[str, float]:
    """CIDEr-D of captions without learning and of the ceiling, all against the same four captions.

    Each of a picture's five captions is held out in turn: it is the ceiling's prediction, the other
    four are the references of all. The mean of the five.

    Args:
        train: where captions may be taken from.
        test: what is described.
    """

    def drawn(source: Scenes) -> tuple[list[np.ndarray], list[list[str]]]:
        samples = list(source)
        return [_shown(s.images) for s in samples], [tokenize(s.texts) for s in samples]

    known, said = drawn(train)
    asked, wanted = drawn(test)
    at = VisualWords(known).nearest(asked)
    every = [text for texts in said for text in texts]
    often = max(dict.fromkeys(every), key=every.count)
    draws = rng(0, 0, 1)
    by_chance = draws.integers(0, len(said), len(wanted))
    guesses: dict[str, Callable[[int, int], str]] = {
        "the commonest training caption": lambda i, k: often,
        "a random training caption": lambda i, k: said[by_chance[i]][k],
        "nearest by bag of visual words": lambda i, k: said[at[i]][k],
        "ceiling: own caption, held out": lambda i, k: wanted[i][k],
    }
    scores: dict[str, list[float]] = {name: [] for name in guesses}
    for k in range(len(wanted[0])):
        references = [texts[:k] + texts[k + 1 :] for texts in wanted]
        for name, guess in guesses.items():
            predictions = [guess(i, k) for i in range(len(wanted))]
            scores[name].append(float(np.mean(cider_d(predictions, references))))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def _shown(images: Sequence[Any]) -> np.ndarray:
    """[S, S, 3] picture, or what differs between two."""
    pixels = [np.asarray(image).astype(np.float32) for image in images]
    return pixels[0] if len(pixels) == 1 else 128 + (pixels[1] - pixels[0]) / 2


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("what", choices=("speed", "language"))
    parser.add_argument("--size", type=int, help="side of the pictures, px (256; language: 128)")
    parser.add_argument("-n", type=int, help="samples a pass (60), or of training (2000)")
    parser.add_argument("--test", type=int, default=500, help="pictures that are described")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layout", default="single", choices=("single", "before_after"))
    parser.add_argument("--nuisance", type=float, default=0.3)
    parser.add_argument("--change", type=float, default=0.5)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}\n")
    if args.what == "speed":
        size = args.size or 256
        print(f"| samples a second a core, {size} px | best | median |\n|---|---:|---:|")
        for name, (best, median) in speed(size, args.n or 60, args.repeats).items():
            print(f"| {name} | {best:.0f} | {median:.0f} |")
        return
    options: dict[str, Any] = {
        "size": args.size or 128,
        "layout": args.layout,
        "nuisance": args.nuisance,
        "change": args.change,
    }
    found = language(
        Scenes("train", n=args.n or 2000, **options), Scenes("test", n=args.test, **options)
    )
    print("| CIDEr-D against four captions | score |\n|---|---:|")
    for name, score in found.items():
        print(f"| {name} | {score:.3f} |")


if __name__ == "__main__":
    main()
