"""Micro-batches give the whole batch's gradients, in less memory, on one process and on two."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from warm import METHOD

from rsvlm.app import run
from rsvlm.encoders.clip.model import CLIP, clip
from rsvlm.encoders.clip.towers import TextTransformer, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.losses.contrastive import ClipLoss, SigLipLoss
from rsvlm.losses.grad_cache import check_micro_batch, forward_in_parts

VOCAB = 60


def small(**options: float) -> CLIP:
    torch.manual_seed(0)
    return CLIP(
        VisionTransformer(32, 8, width=32, layers=3, heads=2, embed_dim=16, **options),
        TextTransformer(VOCAB, 20, width=32, layers=2, heads=2, embed_dim=16),
        arch="small",
        activation="gelu",
        logit_bias=-1.0,
    ).train()


def pairs(count: int = 12) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCAB - 1, (count, 20), generator=generator)
    ids[:, -1] = VOCAB - 1
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return SimpleNamespace(images=images, input_ids=ids, texts=[str(i // 2) for i in range(count)])


def gradients(
    model: nn.Module, batch: SimpleNamespace, loss: nn.Module, forward: Callable[..., Any]
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    total = loss(forward(model, batch), batch)["contrastive"]
    total.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total.detach(), found


def whole(model: nn.Module, batch: SimpleNamespace) -> dict[str, Tensor]:
    return model(batch)


def in_parts(size: int) -> Callable[..., Any]:
    return lambda model, batch: forward_in_parts(model, batch, size)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # Measured: 1e-6 of a tensor's largest entry (float32 sums in another order); the keys'
        # biases have no gradient, only noise of up to 2e-7.
        scale = value.abs().max().item()
        torch.testing.assert_close(
            ours[name], value, atol=1e-5 * scale + 1e-6, rtol=0, msg=lambda text, n=name: n + text
        )


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize(
    "loss", [ClipLoss(), ClipLoss(duplicates="masked", chunk=5), SigLipLoss()], ids=repr
)
def test_gradients_are_the_whole_batchs(size: int, loss: nn.Module) -> None:
    model, batch = small(), pairs()
    total, expected = gradients(model, batch, loss, whole)
    ours, found = gradients(model, batch, loss, in_parts(size))
    torch.testing.assert_close(ours, total, atol=1e-6, rtol=1e-6)
    assert len(expected) > 80
    assert_same(found, expected)


def test_plain_accumulation_would_be_another_loss() -> None:
    model, batch = small(), pairs()
    _, expected = gradients(model, batch, ClipLoss(), whole)
    model.zero_grad()
    for i in (0, 6):
        part = SimpleNamespace(images=batch.images[i : i + 6], input_ids=batch.input_ids[i : i + 6])
        (ClipLoss()(model(part))["contrastive"] / 2).backward()
    name = "visual.proj"
    got, want = model.get_parameter(name).grad, expected[name]
    assert (got - want).abs().max() > 0.05 * want.abs().max()


@pytest.mark.parametrize("blocks", [False, True])
def test_dropout_is_the_same_in_both_passes(blocks: bool) -> None:
    model, batch = small(dropout=0.2, drop_path=0.2, patch_dropout=0.5), pairs()
    model.set_grad_checkpointing(blocks)

    def plainly(model: nn.Module, batch: SimpleNamespace) -> dict[str, Tensor]:
        """The same micro-batches with all their activations."""
        parts = [
            model(SimpleNamespace(images=images, input_ids=ids))
            for images, ids in zip(batch.images.split(5), batch.input_ids.split(5), strict=True)
        ]
        joined = {k: torch.cat([part[k] for part in parts]) for k in ("image_features",)}
        joined["text_features"] = torch.cat([part["text_features"] for part in parts])
        return parts[0] | joined

    torch.manual_seed(7)
    total, expected = gradients(model, batch, ClipLoss(), plainly)
    torch.manual_seed(7)
    ours, found = gradients(model, batch, ClipLoss(), in_parts(5))
    after = torch.rand(3)
    assert torch.equal(ours, total)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    torch.manual_seed(8)
    assert not torch.equal(gradients(model, batch, ClipLoss(), in_parts(5))[0], total)
    # What the recomputation draws does not move the random state of what follows.
    torch.manual_seed(7)
    plainly(model, batch)
    assert torch.equal(torch.rand(3), after)


def peak(step: Callable[[], Any]) -> int:
    """Most bytes that `step` holds at once, by the allocator's own events."""
    step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    sizes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    assert len(sizes) > 100
    return max(itertools.accumulate(size for _, size in sorted(sizes)))


def test_memory_is_that_of_one_micro_batch() -> None:
    model, batch = small(), pairs(128)
    held = {
        size: peak(lambda size=size: gradients(model, batch, ClipLoss(), in_parts(size)))
        for size in (8, 32)
    }
    everything = peak(lambda: gradients(model, batch, ClipLoss(), whole))
    # Measured: 19.7 MB whole, 5.2 MB at 32 rows, 1.6 MB at 8 rows, of which 0.3 MB are gradients.
    assert held[32] < everything / 3
    assert held[8] < everything / 8


def test_what_is_not_exact_is_refused() -> None:
    with pytest.raises(UserError, match=r"micro_batch=8: visual\.trunk\.bn1 .*task\.micro_batch"):
        check_micro_batch(clip("RN50", device="meta"), 8)
    with pytest.raises(UserError, match=r"micro_batch=0"):
        check_micro_batch(small(), 0)
    batch = pairs()
    batch.input_ids = batch.input_ids[:5]
    with pytest.raises(ValueError, match="12 images and 5 captions"):
        forward_in_parts(small(), batch, 4)


class Step(nn.Module):
    """A model and its loss behind one forward, as Lightning wraps them for DDP."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.model, self.size = small(), size

    def forward(self, batch: SimpleNamespace) -> Tensor:
        loss = SigLipLoss() if self.size == 3 else ClipLoss()
        outputs = (whole if self.size is None else in_parts(self.size))(self.model, batch)
        # ClipLoss does not use the bias; DDP wants a gradient for it.
        return loss(outputs, batch)["contrastive"] + 0 * outputs["logit_bias"]


def worker(rank: int, port: int, references: dict[int, dict[str, Tensor]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    batch = pairs()
    mine = slice(6 * rank, 6 * rank + 6)
    half = SimpleNamespace(**{key: value[mine] for key, value in vars(batch).items()})
    for size, expected in references.items():
        reduced: list[int] = []

        def count(state, bucket):  # DDP does not take annotations that are strings
            state.append(bucket.index())
            done = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
            return done.then(lambda future: future.value()[0] / 2)

        step = nn.parallel.DistributedDataParallel(Step(size))
        step.register_comm_hook(reduced, count)
        step(half).backward()
        assert len(reduced) == len(set(reduced)) > 0, "gradients were reduced more than once"
        assert_same({n: p.grad for n, p in step.module.named_parameters()}, expected)
    dist.destroy_process_group()


def test_two_processes_equal_one() -> None:
    references = {}
    for size in (2, 3):
        step = Step(None if size == 2 else 3)
        step(pairs()).backward()
        references[size] = {name: p.grad.clone() for name, p in step.named_parameters()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(
        worker, args=(port, references), nprocs=2, start_method=METHOD
    )


def test_a_run_in_micro_batches_is_the_same_run(compose: Any, scratch: Any) -> None:
    recipe = [
        "experiment=clip_tiny_scenes",
        "trainer=cpu",
        "logger=none",
        "data.dataset.size=64",
        "data.dataset.n=24",
        "data.batch_size=12",
        "data.workers=0",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=0",
        "trainer.limit_test_batches=0",
        "callbacks.checkpoints.monitor=null",
    ]
    found = []
    for name, words in {"whole": [], "parts": ["++task.micro_batch=5"]}.items():
        run.fit(compose("train", [*recipe, *words]), scratch / name, overrides=[])
        found.append(torch.load(scratch / name / "last.ckpt", weights_only=True))
    assert found[0]["global_step"] == found[1]["global_step"] == 2
    for name, tensor in found[0]["state_dict"].items():
        # Adam's first steps are the learning rate times the sign of tiny gradients: 2 steps of
        # 1e-3 at most.
        torch.testing.assert_close(found[1]["state_dict"][name], tensor, rtol=0, atol=2e-3)
    moments = [f["optimizer_states"][0]["state"] for f in found]
    for ours, theirs in zip(moments[1].values(), moments[0].values(), strict=True):
        scale = theirs["exp_avg"].abs().max().item()
        torch.testing.assert_close(
            ours["exp_avg"], theirs["exp_avg"], rtol=0, atol=0.02 * scale + 1e-7
        )
