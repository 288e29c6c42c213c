"""Experts of low rank: their maths, where tokens go, what balances them, what is trained."""

from __future__ import annotations

import pytest
import torch

from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss
from rsvlm.nn.moe_lora import LINEAR, Experts, Routed, balance, collected

SETTINGS = {"experts": 3, "top_k": 2, "r": 4, "alpha": 8, "dropout": 0.0}


def experts(seed=0, **settings):
    torch.manual_seed(seed)
    module = Experts(6, 5, **{**SETTINGS, **settings})
    torch.nn.init.normal_(module.up)
    torch.nn.init.normal_(module.router.weight)
    return module


def test_an_update_is_that_of_the_chosen_experts_one_by_one():
    module = experts()
    x = torch.randn(2, 7, 6)
    found = module(x)
    for row, token in enumerate(x.flatten(0, 1)):
        shares = (module.router.weight @ token).softmax(0)
        kept = shares.argsort(descending=True)[:2]
        expected = sum(
            shares[e] / shares[kept].sum() * (module.up[e] @ (module.down[e] @ token)) * 8 / 4
            for e in kept
        )
        # Measured: 1e-6; the products are summed in another order.
        torch.testing.assert_close(found.flatten(0, 1)[row], expected, atol=1e-5, rtol=1e-5)


def test_balance_is_1_where_experts_are_used_alike_and_their_number_at_worst():
    mask = torch.tensor([[1, 1, 1, 0]])
    even = torch.eye(3)[None, [0, 1, 2, 0]]
    alike = Routed(torch.full((1, 4, 3), 1 / 3), even)
    assert balance([alike], mask).item() == pytest.approx(1)
    first = torch.zeros(1, 4, 3)
    first[..., 0] = 1
    assert balance([Routed(first, first)], mask).item() == pytest.approx(3)
    # Padding does not count, and layers are averaged.
    padded = Routed(torch.cat([alike.shares[:, :3], first[:, :1]], 1), even)
    assert balance([padded, Routed(first, first)], mask).item() == pytest.approx(2)


def model(seed=0, **options):
    torch.manual_seed(seed)
    return LanguageModel("tiny", **options)


def batch(lm, length=6):
    torch.manual_seed(1)
    embeds = torch.randn(2, length, lm.dim)
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, 4:6] = 0
    labels = torch.full((2, length), -100)
    labels[:, 2:4] = torch.tensor([[5, 2], [7, 2]])
    return embeds, mask, labels


def test_a_tuned_model_starts_as_the_model_and_trains_its_experts_alone():
    plain, lm = model(), model(tuning="moe_lora", moe={"r": 2, "dropout": 0.5})
    data = batch(plain)
    outputs = lm.eval()(*data)
    torch.testing.assert_close(outputs["logits"], plain(*data)["logits"])
    assert "balance" not in plain(*data)
    assert outputs["balance"].item() >= 1 - 1e-6
    assert len(lm.tuned) == len(LINEAR) and "{}" in lm.tuned[0]
    lm.train()
    assert lm.model.model.layers[0].mlp.up_proj.moe.dropout.training and not lm.model.training
    losses = AnswerLoss(balance=0.5)(outputs, None)
    assert losses["balance"].item() == pytest.approx(0.5 * outputs["balance"].item())
    sum(losses.values()).backward()
    for name, parameter in lm.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (".moe." in name), name


def test_balancing_evens_out_the_experts():
    lm = model(tuning="moe_lora", moe={"top_k": 1, "targets": ["up_proj"], "experts": 4})
    with torch.no_grad():
        for layer in lm.model.model.layers:
            layer.mlp.up_proj.moe.router.weight[0] += torch.randn(lm.dim)
    data = batch(lm, 64)
    optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=3e-2)
    before = lm(*data)["balance"].item()
    for _ in range(60):
        optimizer.zero_grad()
        term = lm(*data)["balance"]
        term.backward()
        optimizer.step()
    assert before > 1.2 and term.item() < 1.05


def test_nothing_is_left_on_the_layers_and_checkpointing_changes_nothing():
    lm = model(tuning="moe_lora", moe={"r": 2, "dropout": 0.0}).train()
    data = batch(lm)
    gradients = []
    for checkpointed in (False, True):
        lm.zero_grad()
        if checkpointed:
            lm.model.gradient_checkpointing_enable()
            lm.model.train()  # transformers checkpoints in training mode only
        data[0].requires_grad_(True)
        sum(AnswerLoss()(lm(*data), None).values()).backward()
        gradients.append([p.grad.clone() for p in lm.parameters() if p.requires_grad])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
    assert all(m.sink is None for m in lm.modules() if isinstance(m, Experts))
    with pytest.raises(ZeroDivisionError), collected(lm):
        raise ZeroDivisionError
    assert all(m.sink is None for m in lm.modules() if isinstance(m, Experts))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expert": 3}, "Did you mean experts"),
        ({"top_k": 5}, "top_k=5 must lie between 1 and experts=4"),
        ({"r": 0}, "r=0 must be 1 or more"),
        ({"targets": ["q_proj", "fc9"]}, r"targets=\['fc9'\]"),
    ],
)
def test_bad_settings_say_what_to_do(settings, message):
    with pytest.raises(UserError, match=message):
        model(tuning="moe_lora", moe=settings)
