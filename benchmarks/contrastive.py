"""Our contrastive training step beside open_clip 3.3.0's own, in turn, on the same work.

    python benchmarks/contrastive.py --arch ViT-B-32 --batch 32 --precision fp32 --device cpu
    python benchmarks/contrastive.py --arch ViT-B-32 --batch 2048 --precision bf16 --compile

Both sides hold the same weights and get the same images and texts, which lie on the device before
the clock starts. open_clip's side is what open_clip_train does: its model, its loss, its AdamW with
its parameter groups, texts of 77 tokens, images that its loader has normalised. Our side gets uint8
images and cut texts, and its step includes the normalisation. First, both give loss and gradients
on the same pairs at float32. Only what was measured is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rows import record
from torch import Tensor, nn

from rsvlm.checkpoints.dialects import convert, detect
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.encoders.clip.architectures import OPEN_CLIP_ARCHS
from rsvlm.encoders.clip.layouts import CLIP_DIALECTS
from rsvlm.encoders.clip.model import CLIP, clip, tokenizer
from rsvlm.lit.optim import adamw
from rsvlm.losses.contrastive import ClipLoss

LR, WEIGHT_DECAY = 5e-4, 0.2
#: How many times open_clip's pairs a second, on an H100.
AIMS = {"ViT-B-32": 2.0, "ViT-B-16": 1.6, "ViT-L-14": 1.3}
WORDS = (
    "a the many some several green dark white gray two three buildings trees planes cars ships "
    "roads are is on in near with next to around beside parked planted lake river bridge airport "
    "field court pond square railway station church beach desert forest farmland mountain park"
)


def captions(count: int, file: Path | None, seed: int = 0) -> list[str]:
    """Captions of a Karpathy JSON, or generated ones whose lengths are spread as RSICD's are."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    if file is not None:
        images = json.loads(file.read_text())["images"]
        texts = [sentence["raw"] for image in images for sentence in image["sentences"]]
        return [texts[draw(len(texts))] for _ in range(count)]
    vocabulary = WORDS.split()
    out = []
    for _ in range(count):
        # RSICD: 10.6 words on average, half of them from 8 to 12, one in a hundred above 20.
        length = round(10.6 + 3.2 * float(torch.randn((), generator=generator)))
        words = [vocabulary[draw(len(vocabulary))] for _ in range(min(max(5, length), 34))]
        out.append(" ".join(words) + ".")
    return out


def native(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's parameter names to ours."""
    dialect = detect(state, CLIP_DIALECTS, (), "open_clip's model")
    assert dialect is not None
    return convert(state, dialect, "open_clip's model").state


class Side:
    """One of the two programs: a model, its optimizer, its batches, one training step."""

    model: nn.Module
    logit_scale: Tensor
    optimizer: torch.optim.Optimizer
    batches: list[SimpleNamespace]
    forward: Callable[[SimpleNamespace], Tensor]
    plain: Callable[[SimpleNamespace], Tensor]  # the same, not compiled

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.bf16 = args.precision == "bf16"

    def autocast(self) -> torch.autocast:
        """The precision of the forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def step(self, index: int) -> None:
        """One update on batch `index`."""
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.forward(self.batches[index % len(self.batches)])
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))


class OpenClip(Side):
    """open_clip 3.3.0 as `open_clip_train` runs it."""

    name = "open_clip"

    def __init__(self, args: argparse.Namespace, data: list[tuple[Tensor, list[str]]]) -> None:
        super().__init__(args)
        import open_clip

        if args.arch == "tiny":
            from open_clip_tiny import add_tiny

            add_tiny(open_clip)
        torch.manual_seed(0)
        model: Any = open_clip.create_model(
            args.arch,
            precision="amp_bf16" if self.bf16 else "fp32",
            device=self.device,
            force_quick_gelu=args.quick_gelu,
            output_dict=True,
        )
        self.model, self.logit_scale = model.train(), model.logit_scale
        criterion = open_clip.ClipLoss(cache_labels=True)
        run = torch.compile(self.model) if args.compile else self.model
        self.forward = lambda batch: criterion(**run(batch.images, batch.input_ids))
        self.plain = lambda batch: criterion(**model(batch.images, batch.input_ids))
        # The rule of open_clip_train/main.py, and its default numbers for a ViT.
        named = list(self.model.named_parameters())
        spared = [n for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for n, p in named if n in set(spared)], "weight_decay": 0.0},
                {"params": [p for n, p in named if n not in set(spared)], "weight_decay": 0.2},
            ],
            lr=LR,
            betas=(0.9, 0.98),
            eps=1e-6,
        )
        mean, std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        tokenize = open_clip.get_tokenizer(args.arch)
        self.batches = [
            SimpleNamespace(
                images=((images.float() / 255 - mean) / std).to(self.device),
                input_ids=tokenize(texts).to(self.device),
            )
            for images, texts in data
        ]


class Ours(Side):
    """Our step, as the task `contrastive` runs it."""

    name = "rsvlm"
    model: CLIP

    def __init__(self, args: argparse.Namespace, data: list[tuple[Tensor, list[str]]]) -> None:
        super().__init__(args)
        torch.manual_seed(0)
        self.model = clip(
            args.arch,
            activation="quick_gelu" if args.quick_gelu else "gelu",
            grad_checkpointing="mlp" if args.recompute_mlp else False,
            stem="patch",
            device=self.device,
        )
        self.logit_scale = self.model.logit_scale
        criterion = ClipLoss()
        # One graph per text length, of which a training has one or two.
        run = torch.compile(self.model, dynamic=False) if args.compile else self.model
        self.forward = lambda batch: criterion(run(batch), batch)["contrastive"]
        self.plain = lambda batch: criterion(self.model(batch), batch)["contrastive"]
        self.optimizer = adamw(self.model, lr=LR, weight_decay=WEIGHT_DECAY)
        collate = PairCollate(tokenizer(args.arch))
        self.batches = [
            SimpleNamespace(
                images=images.to(self.device),
                input_ids=collate.tokenize(texts)[0].to(self.device),
            )
            for images, texts in data
        ]


def make_data(args: argparse.Namespace, batches: int = 2) -> list[tuple[Tensor, list[str]]]:
    """Batches of uint8 images and captions."""
    side = clip(args.arch, device="meta").image_size
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(
                0, 256, (args.batch, 3, side, side), dtype=torch.uint8, generator=generator
            ),
            captions(args.batch, args.captions, seed),
        )
        for seed in range(batches)
    ]


def agree(theirs: OpenClip, ours: Ours, pairs: int) -> None:
    """Give ours the weights of theirs; print how far loss and gradients are apart at float32.

    Raises:
        SystemExit: they are not the same within the rounding of float32.
    """
    ours.model.load_state_dict(native(theirs.model.state_dict()))
    losses, grads = [], []
    for side in (theirs, ours):
        batch = side.batches[0]
        part = SimpleNamespace(images=batch.images[:pairs], input_ids=batch.input_ids[:pairs])
        bf16, side.bf16 = side.bf16, False
        # open_clip's patch convolution would run in TensorFloat-32 on a GPU.
        with torch.backends.cudnn.flags(allow_tf32=False):
            with side.autocast():
                loss = side.plain(part)
            loss.backward()
        side.bf16 = bf16
        losses.append(loss.item())
        parameters = side.model.named_parameters()
        named = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        grads.append(native(named) if side is theirs else named)
        side.optimizer.zero_grad()
    reference, mine = grads
    flat = [torch.cat([g[name].flatten() for name in reference]) for g in (reference, mine)]
    apart = ((flat[1] - flat[0]).norm() / flat[0].norm()).item()
    tensors = len(reference)
    print(
        f"same step? {pairs} pairs, float32: loss {losses[0]:.6f} (open_clip) {losses[1]:.6f} "
        f"(rsvlm); all {tensors} gradients together differ by {apart:.1e} of their length"
    )
    if reference.keys() != mine.keys() or abs(losses[0] - losses[1]) > 1e-4 or apart > 1e-3:
        raise SystemExit("the two steps do not do the same: no timing.")


def clock(side: Side, index: int) -> tuple[float, float]:
    """Seconds of one step, and processor seconds of this process in it."""
    begin, busy = time.perf_counter(), time.process_time()
    if side.device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        side.step(index)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3, time.process_time() - busy
    side.step(index)
    return time.perf_counter() - begin, time.process_time() - busy


def memory_beside(side: Side, others: float) -> float:
    """GiB at the peak of three steps on a GPU, less what lay there before this side was made."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for index in range(3):
        side.step(index)
    most = torch.cuda.max_memory_allocated() / 2**30
    side.optimizer.zero_grad()
    return most - others


def peak_memory(kind: type[OpenClip | Ours], args: argparse.Namespace) -> float:
    """GiB at the peak of three steps on a CPU: of the process, beyond what it had before."""
    data = make_data(args)
    scale = 1024 if sys.platform != "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    side = kind(args, data)
    for index in range(3):
        side.step(index)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before) / 2**30


def machine(device: torch.device) -> str:
    """What the numbers were measured on and with."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else platform.processor()
        name += f", {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}"
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "open_clip_torch"))
    return f"{name}; {packages}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", default="ViT-B-32", choices=(*OPEN_CLIP_ARCHS, "tiny"))
    parser.add_argument("--quick-gelu", action="store_true", help="OpenAI's activation")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="processor threads; default: PyTorch's choice")
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=20, help="turns that each side takes")
    parser.add_argument("--check-pairs", type=int, default=16)
    parser.add_argument("--compile", action="store_true", help="torch.compile on our side")
    parser.add_argument(
        "--recompute-mlp", action="store_true", help="model.grad_checkpointing=mlp on our side"
    )
    parser.add_argument("--captions", type=Path, help="Karpathy JSON; default: generated captions")
    parser.add_argument("--rows", type=Path, help="JSON Lines that get the table's rows")
    parser.add_argument("--memory-of", choices=("open_clip", "rsvlm"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Check that both sides agree, then measure them in turn."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    kinds: dict[str, type[OpenClip | Ours]] = {"open_clip": OpenClip, "rsvlm": Ours}
    if args.memory_of:
        print(peak_memory(kinds[args.memory_of], args))
        return
    cuda = torch.device(args.device).type == "cuda"
    memory: dict[str, float] = {}
    if not cuda:
        # Each side's memory in a process of its own, before this one takes any.
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of"]
        for name in kinds:
            memory[name] = float(subprocess.check_output([*command, name], text=True).split()[-1])
    data = make_data(args)
    theirs = OpenClip(args, data)
    print(f"machine: {machine(theirs.device)}", flush=True)
    if cuda:
        memory["open_clip"] = memory_beside(theirs, 0.0)
        taken_before = torch.cuda.memory_allocated() / 2**30
    ours = Ours(args, data)
    if cuda:
        memory["rsvlm"] = memory_beside(ours, taken_before)
        print(f"peak memory, GiB: {memory}", flush=True)
    lengths = [batch.input_ids.argmax(dim=1).float().mean().item() + 1 for batch in ours.batches]
    widths = [batch.input_ids.shape[1] for batch in ours.batches]
    print(f"texts: {statistics.mean(lengths):.1f} tokens on average; ours cut at {widths}")
    agree(theirs, ours, min(args.check_pairs, args.batch))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for turn in range(args.rounds):
        for side in (theirs, ours):
            # Untimed: caches, graphs and optimizer state at first, the allocator's pool later.
            if turn == 0 or cuda:
                torch.cuda.empty_cache()
                for index in range(len(data)):
                    side.step(index)
            taken[side.name] += [clock(side, turn + index) for index in range(args.steps)]
            side.optimizer.zero_grad()
    medians = {}
    for name, times in taken.items():
        wall, busy = (sorted(column) for column in zip(*times, strict=True))
        medians[name] = statistics.median(wall), statistics.median(busy)
        rates = [args.batch / seconds for seconds in (medians[name][0], wall[-1], wall[0])]
        print(
            f"{name:>9}: {rates[0]:8.2f} pairs/s (median of {len(times)} steps, {rates[1]:.2f} to "
            f"{rates[2]:.2f}), peak memory {memory[name]:.2f} GiB"
            + ("" if cuda else f", {medians[name][1]:.2f} processor seconds a step")
        )
    (wall, busy), (own_wall, own_busy) = medians["open_clip"], medians["rsvlm"]
    for name, (seconds, _) in medians.items():
        record(
            args.rows,
            part=f"contrastive step, {args.arch}, batch {args.batch}, {args.precision}",
            side=name,
            seconds=seconds,
            rate=f"{args.batch / seconds:.0f} pairs",
            gib=memory[name],
            times=wall / seconds,
            aim=AIMS.get(args.arch) if name == "rsvlm" else None,
            note="compiled, MLPs recomputed" if name == "rsvlm" and args.compile else "",
        )
    print(
        f"    ratio: {wall / own_wall:.2f} times the pairs/s in "
        f"{memory['rsvlm'] / memory['open_clip']:.2f} of the memory"
        + ("" if cuda else f" and {own_busy / busy:.2f} of the processor seconds")
        + f" ({args.arch}, batch {args.batch}, {args.precision}"
        + ", compiled" * args.compile
        + ", MLP activations recomputed" * args.recompute_mlp
        + ")"
    )


if __name__ == "__main__":
    main()
