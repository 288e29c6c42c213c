"""Batched beam search with a cache: the published loop's sequences, its edges, bad input."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from rsvlm.errors import UserError
from rsvlm.models.change_captioning.beam_search import Hypothesis, beam_search
from rsvlm.models.change_captioning.decoder import CaptionDecoder

PATH = Path(__file__).parents[2] / "benchmarks" / "bitemporal.py"
SPEC = importlib.util.spec_from_file_location("benchmark_bitemporal", PATH)
BENCHMARK = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = BENCHMARK
SPEC.loader.exec_module(BENCHMARK)
published_loop = BENCHMARK.published_loop

VOCAB, START, END = 13, 11, 12
KINDS = {
    "gated": {"memories": 2, "gated": True},
    "ungated": {"memories": 2},
    "one_memory": {"layers": 2},
    "residual_ignoring": {"residual": True, "ignored_generating": (0,)},
}


def decoder(kind, bias=0.0):
    torch.manual_seed(3)
    made = CaptionDecoder(VOCAB, 16, heads=2, **KINDS[kind]).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
        made.head.bias[END] = bias
    return made


def memory(made, images=7):
    torch.manual_seed(4)
    return [torch.randn(images, 5, 16) * 2 for _ in range(made.memories)]


@pytest.mark.parametrize("beam", [1, 3, 4])
@pytest.mark.parametrize("kind", ["gated", "ungated", "one_memory"])
def test_sequences_equal_the_published_loops(kind, beam):
    made = decoder(kind, bias=1.0)
    given = memory(made)
    options = {"start": START, "end": END, "beam_size": beam}
    fast = beam_search(made.begin(given), 7, **options)
    every = beam_search(made.begin(given), 7, exhaustive=True, **options)
    finished = 0
    for row in range(7):
        slow = published_loop(made, [m[row : row + 1] for m in given], **options)
        if not slow:
            assert not fast[row][0].finished and len(fast[row]) == len(every[row]) == 1
            continue
        finished += 1
        ids, score = max(slow, key=lambda pair: pair[1])
        assert [START, *fast[row][0].ids, END] == ids and fast[row][0].finished
        # Measured: 4e-6; both add up to 51 float32 log-probabilities.
        assert fast[row][0].score == pytest.approx(score, abs=1e-4)
        assert sorted([START, *h.ids, END] for h in every[row]) == sorted(s for s, _ in slow)
        assert [h.score for h in every[row]] == sorted((h.score for h in every[row]), reverse=True)
    assert finished >= 4


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_step_gives_the_logits_of_the_whole_caption(kind):
    made = decoder(kind)
    if kind == "residual_ignoring":
        made.ignored = made.ignored_generating
    given = memory(made, 3)
    ids = torch.randint(0, VOCAB - 2, (3, 9))
    ids[:, 0] = START
    ids[1, 4] = 0
    expected = made(given, ids)
    decoding = made.begin(given)
    for place in range(9):
        found = decoding.step(ids[:, place : place + 1])
        torch.testing.assert_close(found[:, 0], expected[:, place], atol=1e-5, rtol=1e-5)


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    made = decoder("gated", bias=0.5)
    given = memory(made)
    together = beam_search(made.begin(given), 7, start=START, end=END)
    for row in range(7):
        part = [m[row : row + 1] for m in given]
        (alone,) = beam_search(made.begin(part), 1, start=START, end=END)
        assert alone[0].ids == together[row][0].ids


def test_what_never_ends_is_given_back_and_marked():
    made = decoder("gated", bias=-1e4)
    given = memory(made)
    found = beam_search(made.begin(given), 7, start=START, end=END, steps=6)
    assert all(len(each) == 1 and not each[0].finished for each in found)
    assert all(len(each[0].ids) == 6 for each in found)
    greedy = beam_search(made.begin(given), 7, start=START, end=END, steps=6, beam_size=1)
    for best, one in zip(found, greedy, strict=True):
        assert best[0].score >= one[0].score - 1e-5


def test_an_end_at_once_is_an_empty_sentence():
    made = decoder("gated", bias=1e4)
    found = beam_search(made.begin(memory(made)), 7, start=START, end=END)
    assert all(each == [Hypothesis((), 0.0, True)] for each in found)


def test_greedy_takes_the_likeliest_word_each_time():
    made = decoder("one_memory")
    given = memory(made, 2)
    found = beam_search(made.begin(given), 2, start=START, end=END, beam_size=1, steps=8)
    for row in range(2):
        ids = torch.tensor([[START]])
        for _ in range(8):
            word = made([m[row : row + 1] for m in given], ids)[0, -1].argmax()
            ids = torch.cat([ids, word.view(1, 1)], 1)
            if word == END:
                break
        words = ids[0, 1:].tolist()
        assert list(found[row][0].ids) == [word for word in words if word != END]


class Table:
    """Log-probabilities by hand: what follows which word."""

    def __init__(self, follows):
        self.follows = follows

    def step(self, tokens):
        return self.follows[tokens]

    def select(self, images, beams):
        pass


def test_a_beam_that_ended_narrows_the_rest():
    # Words 0 to 3; 3 ends. From the start (0): 3 has 0.5, 1 has 0.3, 2 has 0.2. Nothing that goes
    # on from 1 (0.3) can beat 0.5, and with two beams 2 is never expanded.
    follows = torch.tensor(
        [[0.0, 0.3, 0.2, 0.5], [0.0, 0.0, 0.9, 0.1], [0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 0.25]]
    ).log()
    found = beam_search(Table(follows), 1, start=0, end=3, beam_size=2, exhaustive=True)
    assert [h.ids for h in found[0]] == [(), (1, 2)]
    assert [h.score for h in found[0]] == pytest.approx([-0.6931472, -1.3093333], abs=1e-6)
    (early,) = beam_search(Table(follows), 1, start=0, end=3, beam_size=2)
    assert [h.ids for h in early] == [()]


def test_more_beams_than_words():
    follows = torch.full((4, 4), 0.25).log()
    found = beam_search(Table(follows), 1, start=0, end=3, beam_size=9, steps=3, exhaustive=True)
    assert found[0][0].ids == ()
    assert all(h.finished for h in found[0])


def test_bad_input():
    with pytest.raises(UserError, match="beam_size=0"):
        beam_search(Table(torch.zeros(4, 4)), 1, start=0, end=3, beam_size=0)
    with pytest.raises(UserError, match="not finite"):
        beam_search(Table(torch.full((4, 4), torch.nan)), 1, start=0, end=3)
    assert beam_search(Table(torch.zeros(4, 4)), 0, start=0, end=3) == []
    made = decoder("gated")
    with pytest.raises(ValueError, match="reads 2 memories, got 1"):
        made.begin(memory(made)[:1])
