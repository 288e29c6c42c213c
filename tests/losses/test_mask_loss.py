"""BCE and Dice of masks: LISA's numbers and gradients, and batches without a mask."""

from types import SimpleNamespace

import pytest
import torch
from golden_case import noise, read_case

from rsvlm.errors import UserError
from rsvlm.losses.mask import AnswerAndMasksLoss, bce_loss, dice_loss, mask_mean


@pytest.mark.parity("lisa_losses")
@pytest.mark.parity("lisa_losses")
def test_lisa_losses_and_their_gradients(golden):
    case = read_case(golden / "lisa_losses")
    for row in case.spec["numbers"]["loss"]:
        name, drawn = row["name"], case.inputs()[f"input.logits_{row['name']}"]
        logits = (row["logit_scale"] * drawn).requires_grad_()
        target = case.tensors[f"target_{name}"]
        for word, loss in (("dice", dice_loss), ("bce", bce_loss)):
            found = loss(logits, target).sum() / (row["num_masks"] + 1e-8)
            assert float(found) == pytest.approx(row[word], abs=1e-5), (name, word)
            if f"{word}_grad_{name}" in case.tensors:
                (grad,) = torch.autograd.grad(found, logits)
                torch.testing.assert_close(
                    grad, case.tensors[f"{word}_grad_{name}"], rtol=1e-4, atol=1e-7
                )


@pytest.mark.parity("lisa_losses")
@pytest.mark.parity("lisa_losses")
def test_lisa_losses_of_a_batch_are_means_over_its_masks(golden):
    case = read_case(golden / "lisa_losses")
    wanted = case.spec["numbers"]["combined"]
    logits = [case.inputs()[f"input.logits_{name}"] for name in wanted["images"]]
    masks = [case.tensors[f"target_{name}"] for name in wanted["images"]]
    loss = AnswerAndMasksLoss(bce=wanted["bce_loss_weight"], dice=wanted["dice_loss_weight"])
    outputs = {"logits": torch.zeros(1, 4), "targets": torch.zeros(1).long(), "mask_logits": logits}
    found = loss(outputs, SimpleNamespace(masks=masks))
    assert float(found["mask_bce"]) == pytest.approx(wanted["mask_bce_loss"], abs=1e-5)
    assert float(found["mask_dice"]) == pytest.approx(wanted["mask_dice_loss"], abs=1e-5)


def test_no_mask_at_all_costs_nothing_and_keeps_the_graph():
    logits = noise("x", (2, 4, 4), "s").requires_grad_()
    outputs = {
        "logits": torch.zeros(1, 4),
        "targets": torch.zeros(1).long(),
        "mask_logits": [logits[:0], logits[:0]],
    }
    batch = SimpleNamespace(masks=[torch.zeros(0, 4, 4, dtype=torch.bool)] * 2)
    found = AnswerAndMasksLoss()(outputs, batch)
    assert float(found["mask_bce"]) == float(found["mask_dice"]) == 0
    (found["mask_bce"] + found["mask_dice"]).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    assert float(mask_mean([torch.zeros(0)])) == 0


def test_a_weight_below_zero_is_refused():
    with pytest.raises(UserError, match=r"loss\.dice=-1"):
        AnswerAndMasksLoss(dice=-1)
