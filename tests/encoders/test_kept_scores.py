"""Scores of texts as transformers gives them, without scores of the vocabulary for every step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rsvlm.encoders import generation
from rsvlm.encoders.generation import generate
from rsvlm.encoders.kept_scores import Beams, Sampled
from rsvlm.encoders.language import LanguageModel


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(1)
    made = LanguageModel("tiny").eval()
    for parameter in made.model.parameters():
        parameter.data *= 3  # texts of different lengths, and clear favourites
    return made


def texts(lm, **options):
    torch.manual_seed(2)
    embeds = torch.randn(3, 5, lm.dim)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    return generate(lm.model, embeds, mask, list(range(7, 512, 20)), 0, options)


BEAMS = {"num_beams": 4, "num_return_sequences": 3}
SAMPLED = {"do_sample": True, "top_k": 20, "top_p": 0.9, "temperature": 1.7}


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3, "min_new_tokens": 3},
        {"num_beams": 3},
        {**BEAMS, "repetition_penalty": 1.5},
        {**BEAMS, "min_new_tokens": 4},
        SAMPLED,
        {**SAMPLED, "num_return_sequences": 4, "top_k": 0, "top_p": 1.0},
        {**SAMPLED, **BEAMS},
    ],
)
def test_scores_are_those_that_transformers_gives(lm, monkeypatch, options, penalty):
    options = {"max_new_tokens": 9, "length_penalty": penalty, **options}
    found = texts(lm, **options)
    real = generation._warpers

    def none_kept(model, chosen, ends):
        if not chosen["do_sample"]:
            real(model, chosen, ends)

    monkeypatch.setattr(generation, "_warpers", none_kept)
    for row, expected in zip(found, texts(lm, **options), strict=True):
        assert [text.ids for text in row] == [text.ids for text in expected]
        assert [text.ended for text in row] == [text.ended for text in expected]
        for text, other in zip(row, expected, strict=True):
            # Measured: 4e-6; beams are the same to the last digit.
            assert text.score == pytest.approx(other.score, abs=2e-5)


@pytest.mark.parametrize("options", [{}, BEAMS, SAMPLED])
def test_transformers_keeps_no_scores(lm, monkeypatch, options):
    seen = []
    real = type(lm.model).generate

    def watched(self, *args, **words):
        seen.append(real(self, *args, **words))
        return seen[-1]

    monkeypatch.setattr(type(lm.model), "generate", watched)
    found = texts(lm, max_new_tokens=9, **options)
    assert not seen[0].scores and {text.ended for row in found for text in row} == {True, False}


@pytest.mark.parametrize("keeper", [Sampled(), Beams(2, 0, [7])])
def test_one_step_of_the_vocabulary_is_held_at_most(keeper):
    ids = torch.zeros(4, 0, dtype=torch.long)
    for _ in range(10):
        keeper(ids, torch.randn(4, 1000).log_softmax(-1))
        ids = torch.cat([ids, torch.randint(1000, (4, 1))], 1)
    parts = [part for part in vars(keeper).values() if isinstance(part, torch.Tensor | list)]
    held = [t for part in parts for t in (part if isinstance(part, list) else [part])]
    numbers = sum(t.numel() for t in held if isinstance(t, torch.Tensor) and t.is_floating_point())
    assert numbers < 4 * 1000 + 200


def test_a_folder_that_samples_otherwise_has_transformers_scores(lm, monkeypatch):
    monkeypatch.setattr(lm.model, "generation_config", SimpleNamespace(min_p=0.1))
    assert generation._warpers(lm.model, {"do_sample": True, "num_beams": 1}, 1) is None
