"""The generated world's language rewards seeing: what takes no learning stays far below people."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rsvlm.synthetic import Scenes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bench_scenes", ROOT / "benchmarks/scenes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_visual_words_find_the_same_picture(benchmark):
    pictures = [np.asarray(s.images[0]) for s in Scenes(n=24, size=64, parts=())]
    words = benchmark.VisualWords(pictures, words=32, rounds=3)
    assert (words.nearest(pictures) == np.arange(24)).all()


@pytest.mark.slow
def test_nearest_neighbour_stays_below_half_of_the_ceiling(benchmark):
    found = benchmark.language(Scenes("train", n=1000, size=96), Scenes("test", n=250, size=96))
    constant, chance, nearest, ceiling = found.values()
    assert constant < nearest and chance < nearest
    assert nearest < 0.5 * ceiling  # measured 0.42 at 2,000 and 500 pictures of 128 px
