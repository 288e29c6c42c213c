"""DeltaVLM's mask branch: its published size, the mixed axes, windows, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.losses.change_mask import mask_loss
from rsvlm.models.deltavlm.mask_head import FeatureUnification, MaskHead, WindowAttention


def small(**options):
    torch.manual_seed(0)
    return MaskHead(bases=16, widths=(16, 8), window=3, size=16, **options)


def test_full_size_is_the_published_one():
    with torch.device("meta"):
        model = MaskHead()
        assert sum(p.numel() for p in model.parameters()) == 809_933
        assert model(torch.empty(2, 2, 257, 1408)).shape == (2, 256, 256)


def test_unification_by_its_definition_and_as_published():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4)
    plain = FeatureUnification(4, variant="paper")
    released = FeatureUnification(4, variant="released")
    released.load_state_dict(plain.state_dict())
    padded = F.pad(x, (2, 2, 2, 2))
    ones = F.pad(torch.ones(5, 4), (2, 2, 2, 2))
    answers = torch.zeros(2, 3, 4, 5, 4)
    for i in range(5):
        for j in range(4):
            patch = padded[:, :, None, i : i + 5, j : j + 5] * plain.basis[:, 0]
            answers[..., i, j] = patch.sum((-1, -2)) / ones[i : i + 5, j : j + 5].sum()
    torch.testing.assert_close(plain(x), answers.softmax(2).mean(1), atol=1e-6, rtol=1e-5)
    # The published code: one grouped convolution, whose channels are read in another order.
    y = F.conv2d(x, plain.basis.repeat(3, 1, 1, 1), padding=2, groups=3)
    count = F.conv2d(torch.ones(1, 1, 5, 4), torch.ones(1, 1, 5, 5), padding=2)
    expected = (y / count).view(2, 4, 3, 5, 4).softmax(1).mean(2)
    torch.testing.assert_close(released(x), expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(released(x), plain(x))
    with pytest.raises(UserError, match="Did you mean released"):
        FeatureUnification(4, variant="release")


def test_windows_do_not_see_each_other_nor_the_padding():
    torch.manual_seed(0)
    attention = WindowAttention(8, size=3, heads=4)
    with torch.no_grad():
        attention.bias.normal_()
    x = torch.randn(1, 8, 7, 6)
    y = attention(x)
    changed = x.clone()
    changed[..., :3, :3] += 1
    moved = (attention(changed) - y).abs().sum(1)[0] > 1e-6
    assert moved[:3, :3].all() and not moved[3:].any() and not moved[:, 3:].any()
    # The last row's windows hold one real row each; the same row alone in a window of its own.
    tokens = attention.norm(x[:, :, 6, :3].transpose(1, 2))
    q, k, v = attention.qkv(tokens).unflatten(-1, (3, 4, -1)).unbind(2)
    bias = attention.bias[attention._places(x.device)[:3, :3]].permute(2, 0, 1)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 2**0.5 + bias
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
    expected = x[:, :, 6, :3] + attention.proj(mixed).transpose(1, 2)
    torch.testing.assert_close(y[:, :, 6, :3], expected, atol=1e-5, rtol=1e-5)


def test_loss_is_the_published_one_on_probabilities():
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 8, 8), torch.randint(0, 3, (2, 16, 16))
    target = (mask[:, ::2, ::2] != 0).float()
    weight = torch.where(target > 0, 2.0, 1.0)
    expected = F.binary_cross_entropy(logits.sigmoid(), target, weight=weight)
    torch.testing.assert_close(mask_loss(logits, mask), expected)
    assert torch.isfinite(mask_loss(logits.half() * 100, mask))


# Measured after 60 steps: 0.65 and 0.26 of the first loss; the mixed axes learn more slowly.
@pytest.mark.parametrize(("variant", "share"), [("released", 0.8), ("paper", 0.4)])
def test_it_learns_where_something_changed(variant, share):
    model = small(variant=variant)
    torch.manual_seed(1)
    before = torch.randn(4, 17, 12)
    mask = torch.zeros(4, 4, 4)
    for i in range(4):
        mask[i, i, : i + 1] = 1
    after = before.clone()
    after[:, 1:] += 3 * mask.flatten(1)[..., None]
    features = torch.stack([before, after], 1)
    target = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = mask_loss(model(features), target).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = mask_loss(model(features), target)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert loss.item() < share * first
