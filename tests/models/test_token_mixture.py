"""The mixture of MLP experts at each token: both products equal, both variants, inside RS-MoE."""

import pytest
import torch
from model_options import build
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.models.rsmoe.token_mixture import TokenMixture, can_group, grouped_product

NODE = {"_target_": "rsvlm.models.rsmoe.token_mixture.TokenMixture", "_partial_": True}


@pytest.mark.parametrize("counts", [[3, 0, 5, 2], [10, 0, 0, 0]])
def test_the_grouped_product_equals_the_loop(counts):
    torch.manual_seed(0)
    x, weight = torch.randn(10, 8), torch.randn(4, 8, 12)
    assert can_group(x, weight)
    assert not can_group(x[:, :6], weight[:, :6]) and not can_group(x[:0], weight)
    grads = []
    for grouped in (True, False):
        given, matrix = x.clone().requires_grad_(), weight.clone().requires_grad_()
        found = grouped_product(given, matrix, torch.tensor(counts), grouped=grouped)
        found.square().sum().backward()
        grads.append((found, given.grad, matrix.grad))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["released", "residual"])
def test_a_mixture_is_the_sum_of_its_experts(variant):
    torch.manual_seed(0)
    layer = TokenMixture(8, dropout=0.0, variant=variant, top_k=2).eval()
    with torch.no_grad():
        layer.fc2.normal_()
        layer.bias2.normal_()
    x = torch.randn(2, 3, 8)
    found, routed = layer(x)
    expected = torch.zeros_like(x)
    top, places = routed.shares.topk(2)
    gates = top / top.sum(-1, keepdim=True)
    for b, t in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        run = [(4, 1.0), (5, 1.0), *zip(places[b, t].tolist(), gates[b, t].tolist(), strict=True)]
        for k, gate in run:
            inner = F.gelu(x[b, t] @ layer.fc1[k] + layer.bias1[k])
            expected[b, t] += gate * (inner @ layer.fc2[k] + layer.bias2[k])
    torch.testing.assert_close(
        found, expected + (x if variant == "residual" else 0), atol=1e-5, rtol=0
    )
    assert (routed.chosen.sum(-1) == 2).all()


def test_a_residual_one_starts_as_nothing_and_a_released_one_does_not():
    x = torch.randn(1, 4, 8)
    assert torch.equal(TokenMixture(8).eval()(x)[0], x)
    assert not torch.allclose(TokenMixture(8, variant="released").eval()(x)[0], x, atol=0.1)


def test_in_a_model_answers_are_left_alone_and_tokens_balanced():
    from test_rsmoe import batch

    outputs, told = {}, {}
    for name, node in (("none", None), ("ours", NODE), ("theirs", {**NODE, "variant": "released"})):
        torch.manual_seed(0)
        found = build("rsmoe_tiny", stage="first", token_mixture=node).train()
        given = batch(found, True)
        outputs[name] = found(given)
        if node is not None:
            with torch.no_grad():
                found.token_mixture.bias2.fill_(5.0)
            row = found.merge_embeddings(given, found.encode_images(given))
            learned = row.labels != -100
            plain = found.lm.embed(given.input_ids)
            text = row.inputs_embeds[:, -plain.shape[1] :]
            told[name] = torch.equal(
                text[learned[:, -plain.shape[1] :]], plain[given.labels != -100]
            )
            assert not torch.equal(text, plain)
    assert told == {"ours": True, "theirs": False}
    assert torch.allclose(outputs["none"]["logits"], outputs["ours"]["logits"], atol=1e-5)
    assert 1 <= outputs["ours"]["balance"].item() <= 4 and "balance" not in outputs["theirs"]


def test_numbers_that_make_no_sense():
    with pytest.raises(UserError, match="variant='paper' is not known"):
        TokenMixture(8, variant="paper")
    with pytest.raises(UserError, match="top_k=5 must lie between 1 and experts=4"):
        TokenMixture(8, top_k=5)
