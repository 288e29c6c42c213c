"""Caption cross entropy: the published packed loss, and the mean over processes."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from warm import METHOD

from rsvlm.errors import UserError
from rsvlm.losses.language import CaptionLoss, word_cross_entropy


def batch(lengths=(5, 3, 8, 2)):
    torch.manual_seed(0)
    ids = torch.randint(1, 20, (len(lengths), 8))
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
    logits = torch.randn(len(lengths), 7, 20, requires_grad=True)
    return logits, SimpleNamespace(input_ids=ids, caption_lengths=torch.tensor(lengths))


def test_it_is_the_published_loss_over_packed_steps():
    logits, given = batch()
    found = CaptionLoss()({"logits": logits}, given)["caption"]
    lengths, order = given.caption_lengths.sort(descending=True)
    steps = (lengths - 1).tolist()
    scores = pack_padded_sequence(logits[order], steps, batch_first=True).data
    targets = pack_padded_sequence(given.input_ids[order, 1:], steps, batch_first=True).data
    # Measured: 2.4e-7; the order of the sum differs.
    torch.testing.assert_close(found, F.cross_entropy(scores, targets, ignore_index=0))
    found.backward()
    steps = torch.arange(7) < given.caption_lengths.view(-1, 1) - 1
    assert torch.equal(logits.grad.abs().sum(-1) > 0, steps)


def test_logits_may_stop_at_the_longest_caption_and_lengths_may_have_two_dimensions():
    logits, given = batch((5, 3, 4, 2))
    whole = CaptionLoss()({"logits": logits}, given)["caption"]
    given.caption_lengths = given.caption_lengths.view(-1, 1)
    short = CaptionLoss()({"logits": logits[:, :4]}, given)["caption"]
    torch.testing.assert_close(whole, short)


def test_smoothing_and_half_precision():
    logits, given = batch()
    keep = torch.arange(7) < given.caption_lengths.view(-1, 1) - 1
    found = CaptionLoss(smoothing=0.1)({"logits": logits.bfloat16()}, given)["caption"]
    picked, targets = logits.bfloat16().float()[keep], given.input_ids[:, 1:][keep]
    expected = F.cross_entropy(picked, targets, label_smoothing=0.1)
    torch.testing.assert_close(found, expected)
    assert found.dtype == torch.float32
    with pytest.raises(UserError, match=r"smoothing=1\.5"):
        CaptionLoss(smoothing=1.5)


def test_no_word_at_all_is_zero_with_a_gradient():
    logits = torch.randn(0, 5, requires_grad=True)
    loss = word_cross_entropy(logits, torch.empty(0, dtype=torch.long))
    loss.backward()
    assert float(loss) == 0


def _rank(rank, folder):
    store = dist.FileStore(os.path.join(folder, "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    logits, given = batch()
    # Uneven: three captions here, one there.
    rows = slice(0, 3) if rank == 0 else slice(3, 4)
    part = SimpleNamespace(
        input_ids=given.input_ids[rows], caption_lengths=given.caption_lengths[rows]
    )
    loss = CaptionLoss()({"logits": logits[rows]}, part)["caption"]
    loss.backward()
    gradient = logits.grad / 2  # DistributedDataParallel takes the mean over processes
    dist.all_reduce(gradient)
    mean = loss.detach() / 2
    dist.all_reduce(mean)
    torch.save((mean, gradient), os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def test_two_processes_with_uneven_words_equal_one(tmp_path):
    mp.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method=METHOD)
    logits, given = batch()
    whole = CaptionLoss()({"logits": logits}, given)["caption"]
    whole.backward()
    for rank in range(2):
        mean, gradient = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(mean, whole.detach())
        torch.testing.assert_close(gradient, logits.grad)
