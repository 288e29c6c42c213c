"""CSRM's variants against their equations, its gradients, and how one left untrained is told."""

from __future__ import annotations

import pytest
import torch

from rsvlm.errors import UserError
from rsvlm.models.deltavlm.csrm import CSRM


def features():
    torch.manual_seed(0)
    return torch.randn(2, 2, 5, 16)


def test_released_is_the_code_and_weights_are_shared():
    model = CSRM(16).eval()
    x = features()
    m, d = model.both, x[:, 1] - x[:, 0]
    expected = []
    for f in x.unbind(1):
        c = torch.tanh(d @ m.context_difference.weight.T + m.context_features(f))
        g = torch.sigmoid(d @ m.gate_difference.weight.T + m.gate_features(f))
        expected.append(m.fuse(torch.cat([f, d, g * c], -1)))
    torch.testing.assert_close(model(x), torch.cat(expected, 1))


def test_paper_has_weights_for_each_date_and_no_fusion():
    model = CSRM(16, variant="paper")
    x = features()
    d = x[:, 1] - x[:, 0]
    for gate, f, found in zip(
        (model.before, model.after), x.unbind(1), model(x).chunk(2, 1), strict=True
    ):
        both = torch.cat([d, f], -1)
        torch.testing.assert_close(found, gate.gate(both).sigmoid() * gate.context(both).tanh())
    assert sum(p.numel() for p in model.parameters()) == 4 * (32 * 16 + 16)
    # Nothing random in it: training and generation are the same function.
    torch.testing.assert_close(model.train()(x), model.eval()(x))


def test_bypass_gives_both_dates_as_they_are():
    model = CSRM(16, variant="bypass")
    x = features()
    assert torch.equal(model(x), x.flatten(1, 2)) and not list(model.parameters())


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_every_parameter_gets_a_gradient_in_training(variant):
    model = CSRM(16, variant=variant).train()
    (model(features()) * torch.randn(2, 10, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_mismatch_is_had_by_its_word_only():
    x, model = features(), CSRM(16, legacy_mismatch=True)
    assert torch.equal(model.train()(x), x.flatten(1, 2))
    assert not torch.allclose(model.eval()(x), x.flatten(1, 2))
    for variant in ("paper", "bypass"):
        with pytest.raises(UserError, match="legacy_mismatch goes with variant=released"):
            CSRM(16, variant=variant, legacy_mismatch=True)


def test_full_size_is_the_published_one():
    with torch.device("meta"):
        assert sum(p.numel() for p in CSRM(1408).parameters()) == 13_881_472


def test_new_weights_are_told_from_trained_ones():
    torch.manual_seed(0)
    model = CSRM(128)
    assert model.looks_untrained()
    # What AdamW at 1e-5 does to a weight in 1,000 steps is at most 0.01, an eighth of the bound.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.005)
    assert not model.looks_untrained()
    assert not CSRM(128, variant="bypass").looks_untrained()
    assert not CSRM(16).looks_untrained()  # too small to tell


def test_bad_input_says_what_to_do():
    with pytest.raises(UserError, match="give before and after"):
        CSRM(16)(torch.randn(2, 1, 5, 16))
    with pytest.raises(UserError, match="Did you mean released"):
        CSRM(16, variant="release")
