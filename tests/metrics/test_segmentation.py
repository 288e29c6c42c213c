"""Masks against masks: the three rules by hand, LISA's numbers, matching, sizes, memory."""

import itertools
import json

import numpy as np
import pytest
import torch
from largest_tensor import Largest
from PIL import Image
from safetensors.torch import load_file

from rsvlm.errors import UserError
from rsvlm.metrics.names import METRICS, metric_name
from rsvlm.metrics.segmentation import Segmentation, assign, overlap
from rsvlm.metrics.segmentation.overlap import resize


def values(metric):
    found = {word: float(value) for word, value in metric.compute().items()}
    for word in found:
        assert metric_name("test", "rrsis_d", metric.protocol, word)
        assert metric.facts(word)["unit"] == METRICS[word].unit
    return found


def rows(*spans, size=(10, 10)):
    """Masks of whole rows, first to last."""
    masks = torch.zeros(len(spans), *size, dtype=torch.bool)
    for mask, (first, last) in zip(masks, spans, strict=True):
        mask[first:last] = True
    return masks


TRUE = rows((0, 10), (0, 5), (0, 4), (0, 0))
TOLD = rows((0, 5), (0, 5), (2, 6), (0, 0))  # IoU 1/2, 1, 2/6, nothing of nothing


def test_rmsin_by_hand():
    metric = Segmentation("rmsin", size="original")
    metric.update(list(TOLD), list(TRUE))
    found = values(metric)
    assert found["miou"] == pytest.approx(100 * (0.5 + 1 + 1 / 3 + 0) / 4)
    assert found["oiou"] == pytest.approx(100 * (50 + 50 + 20) / (100 + 50 + 60))
    assert found["p50"] == 50 and found["p60"] == found["p90"] == 25
    assert metric.facts()["settings"] == {"size": "original"}


def test_lisa_by_hand():
    metric = Segmentation("lisa")
    metric.update(list(TOLD), list(TRUE))
    found = values(metric)
    # 1e-5 is added to each union and to the number of masks.
    expected = 50 / (100 + 1e-5) + 50 / (50 + 1e-5) + 20 / (60 + 1e-5) + 1
    assert found["giou"] == pytest.approx(100 * expected / (4 + 1e-5), abs=1e-12)
    assert found["ciou"] == pytest.approx(100 * 120 / 210)
    assert found["p50"] == 50  # 0.4999999 is below; the one of two empty masks is not
    ignoring = Segmentation("lisa")
    marked = TRUE[0].to(torch.uint8)
    marked[5:] = 255
    ignoring.update([TOLD[0], TRUE[0]], [marked, marked])
    assert values(ignoring)["ciou"] == 100  # what lies on 255 counts neither way


@pytest.mark.parametrize("side", [480, 7])
def test_published_size_brings_both_masks_to_it(side):
    metric = Segmentation("rmsin", size=None if side == 480 else side)
    metric.update([TOLD[2]], [TRUE[2]])
    told, true = (resize(one, (side, side)) for one in (TOLD[2], TRUE[2]))
    expected = float((told & true).sum() / (told | true).sum())
    assert values(metric)["miou"] == pytest.approx(100 * expected)
    assert metric.facts()["settings"] == ({} if side == 480 else {"size": "7 px"})


@pytest.mark.parametrize(
    ("old", "new"), [((5, 7), (480, 480)), ((801, 787), (480, 480)), ((9, 4), (3, 11))]
)
def test_resizing_takes_the_pixels_that_pillow_takes(old, new):
    draw = np.random.default_rng(0)
    mask = draw.random(old) > 0.5
    theirs = np.asarray(Image.fromarray(mask).resize(new[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(resize(torch.from_numpy(mask), new).numpy(), theirs)


def test_predictions_of_another_size_are_brought_to_the_true_ones():
    metric = Segmentation("lisa")
    metric.update([rows((0, 1), size=(2, 2))[0]], [rows((0, 5))[0]])
    assert values(metric)["ciou"] == 100 and metric.facts()["resized"] == 1


def test_no_prediction_is_an_empty_mask():
    for protocol, mean in (("rmsin", "miou"), ("lisa", "giou")):
        metric = Segmentation(protocol, size="original")
        metric.update([None, []], [TRUE[0], TRUE[3]])
        found = values(metric)
        assert found[mean] == pytest.approx(0 if protocol == "rmsin" else 50, abs=1e-3)
        assert metric.facts()["empty"] == 2


@pytest.mark.parity("lisa_losses")
def test_lisa_losses_golden_numbers(golden):
    """intersectionAndUnionGPU and train_ds.validate of LISA (golden/lisa_losses)."""
    folder = golden / "lisa_losses"
    spec = json.loads((folder / "case.json").read_text())
    numbers, tensors = spec["numbers"], load_file(folder / "tensors.safetensors")
    told, true = tensors["pred_logits"] > 0, tensors["gt_masks"].to(torch.uint8)
    for case in numbers["overlap"]:
        row = case["row"]
        found = overlap(told[row : row + 1], true[row : row + 1] == 1, true[row : row + 1] != 255)
        assert int(found.shared) == case["intersection"][1], case["name"]
        assert int(found.union) == case["union"][1], case["name"]
        assert int(found.true) == case["target"][1], case["name"]
    validate = numbers["validate"]
    for case in (validate, *validate["single"]):
        metric = Segmentation("lisa")
        every = [row for image in case["images"] for row in image]
        metric.update([told[row] for row in every], [true[row] for row in every])
        found = values(metric)
        # The published sums are float32: 1e-7 of 1, in per cent.
        assert found["giou"] == pytest.approx(100 * case["giou"], abs=3e-5)
        assert found["ciou"] == pytest.approx(100 * case["ciou"], abs=3e-5)


# Several masks -------------------------------------------------------------------------------


def test_pixellm_by_hand():
    metric = Segmentation("pixellm")
    told, true = rows((5, 10), (0, 4)), rows((0, 5), (5, 10), (2, 4))
    metric.update([told], [list(true)])
    found = values(metric)
    # (5, 10) meets its like; (0, 4) meets (0, 5) with 40 / 50; (2, 4) is alone.
    expected = 50 / (50 + 1e-5) + 40 / (50 + 1e-5)
    assert found["giou"] == pytest.approx(100 * expected / (3 + 1e-5))
    assert found["ciou"] == pytest.approx(100 * 90 / (50 + 50 + 20))
    assert found["p50"] == pytest.approx(200 / 3)
    assert sorted(metric.ious[0]) == pytest.approx([0, 0.8, 1], abs=1e-6)


def test_masks_without_a_partner_on_either_side():
    metric = Segmentation("pixellm")
    metric.update(
        [rows((0, 5), (6, 8)), None, rows((0, 2))],
        [rows((0, 5)), rows((0, 3)), None],
        ids=[0, 1, 2],
    )
    found = values(metric)
    assert found["ciou"] == pytest.approx(100 * 50 / (50 + 20 + 30 + 20))
    # 2 masks of the first question, one of each of the others.
    assert found["giou"] == pytest.approx(100 / (4 + 1e-5), abs=1e-4)
    assert metric.facts()["empty"] == 1
    # In one image, one predicted too many and one missing are divided by the larger number only.
    together = Segmentation("pixellm")
    together.update(
        [rows((0, 5), (6, 8)), None], [rows((0, 5)), rows((0, 3))], ids=[0, 1], images=["a", "a"]
    )
    assert values(together)["giou"] == pytest.approx(100 / (2 + 1e-5), abs=1e-4)


def test_assignment_equals_trying_all():
    draw = np.random.default_rng(0)
    for _ in range(300):
        p, g = draw.integers(1, 6, 2)
        gain = draw.integers(0, 4, (p, g)) / 3 if draw.random() < 0.5 else draw.random((p, g))
        pairs = assign(gain.tolist())
        assert len(pairs) == min(p, g)
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == min(p, g)
        wide = gain if p <= g else gain.T
        best = max(
            sum(wide[i, j] for i, j in enumerate(chosen))
            for chosen in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert sum(gain[i, j] for i, j in pairs) == pytest.approx(best, abs=1e-12)
    assert assign([]) == assign([[], []]) == []


# Blocks --------------------------------------------------------------------------------------


def test_overlap_is_exact_in_blocks_of_any_size_and_its_memory_is_flat():
    draw = torch.Generator().manual_seed(0)
    told, true = (torch.rand(n, 40, 50, generator=draw) > 0.4 for n in (3, 2))
    valid = torch.rand(2, 40, 50, generator=draw) > 0.1
    true &= valid
    both = told[:, None] & true[None]
    either = (told[:, None] & valid[None]) | true[None]
    for block in (1, 999, 2**20):
        found = overlap(told, true, valid, block=block)
        assert torch.equal(found.shared, both.sum((2, 3)))
        assert torch.equal(found.union, either.sum((2, 3)))
    peaks = []
    for side in (100, 400):
        masks = torch.rand(4, side, side, generator=draw) > 0.5
        with Largest() as largest:
            overlap(masks[:2], masks[2:], block=4096)
        peaks.append(largest.found)
    assert peaks[0] == peaks[1] <= 4096


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "true", "message"),
    [
        (torch.rand(4, 4), TRUE[0], "may hold scores; cut it at a threshold"),
        (torch.full((4, 4), torch.nan), TRUE[0], "may hold scores"),
        (torch.full((4, 4), 255, dtype=torch.uint8), TRUE[0], r"values \[255\] are no mask's"),
        (TOLD[0], torch.full((4, 4), 255, dtype=torch.uint8), r"true mask: values \[255\]"),
        (torch.full((4, 4), -1), TRUE[0], "outside of 0 and 1"),
        (TOLD, TRUE[0], r"form \(1, 4, 10, 10\) is not \[H, W\]"),
        (torch.zeros(0, 4, dtype=torch.bool), TRUE[0], r"is not \[H, W\]"),
        ("mask.png", TRUE[0], "is a str, not a mask"),
        (TOLD[0], None, "item 0 has no true mask"),
    ],
)
def test_what_is_no_mask_is_refused(told, true, message):
    with pytest.raises(UserError, match=message):
        Segmentation().update([told], [true])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input():
    with pytest.raises(UserError, match="1 predictions, 2 truths"):
        Segmentation().update([TOLD[0]], [TRUE[0], TRUE[1]])
    with pytest.raises(UserError, match="2 ids for 1 items"):
        Segmentation().update([TOLD[0]], [TRUE[0]], [0, 1])
    with pytest.raises(UserError, match="several sizes"):
        Segmentation("pixellm").update([[TOLD[0], TOLD[0][:5]]], [[TRUE[0]]])
    with pytest.raises(UserError, match="nothing was given"):
        Segmentation().compute()
    nothing = Segmentation("pixellm")
    nothing.update([None], [None])
    with pytest.raises(UserError, match="no item has a mask"):
        nothing.compute()
    for options in ({"protocol": "lise"}, {"size": 0}, {"size": "big"}):
        with pytest.raises(UserError, match=r"Did you mean lisa|give a number of pixels"):
            Segmentation(**options)
    twice = Segmentation()
    twice.update([TOLD[0], TOLD[2]], [TRUE[0], TRUE[0]], [3, 3])
    with pytest.raises(UserError, match="item 3 was given twice"):
        twice.compute()
    with pytest.raises(RuntimeError, match="after compute"):
        Segmentation().ious  # noqa: B018


def test_masks_may_be_arrays_of_any_order():
    turned = np.asarray(TRUE[1]).T[::-1]
    metric = Segmentation("lisa")
    metric.update([turned], [turned.astype(np.int64)])
    assert values(metric)["ciou"] == 100
