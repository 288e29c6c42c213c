"""DeltaVLM's training step beside the published order of work: same batch, same loss.

    python benchmarks/deltavlm.py --size full --device cuda --batch 12 --rounds 10
    python benchmarks/deltavlm.py --size small --batch 4 --rounds 3 --threads 1

Random weights. The published order of work (hanlinwu/DeltaVLM 6c9bd60, written anew here): the
vision tower in float32 under autocast runs whole at every step, and the language model gives logits
at every position of the padded batch. Ours gives logits where an answer is supervised; `kept` also
takes the frozen blocks' features from memory, as a run does from its second epoch on. Prompts and
answers are random ids of ChangeChat's lengths. Losses and gradients must be the same within the
precision, or the script fails.

`small` keeps the proportions of the full size, so that the order of work can be run on a CPU; only
`full` on a GPU speaks of the full size.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rows import record, share_of_peak
from torch import Tensor

from rsvlm.losses.language import AnswerLoss
from rsvlm.models.deltavlm.model import DeltaVLM

#: A quarter of the full width, a third of the blocks of the language model, its whole vocabulary.
SMALL = (
    "vision.dim=352",
    "vision.heads=8",
    "bridge.dim=192",
    "bridge.heads=4",
    "bridge.hidden=768",
    "bridge.layers=6",
    "bridge.dropout=0.0",
    "lm.dtype=float32",
    (
        "lm.size={model_type: llama, vocab_size: 32000, hidden_size: 1024, "
        "intermediate_size: 2752, num_hidden_layers: 11, num_attention_heads: 8}"
    ),
)
FULL = ("bridge.dropout=0.0",)
#: Whether the script runs, and nothing else.
TINY = (
    "vision.image_size=56",
    "vision.dim=32",
    "vision.depth=3",
    "vision.heads=4",
    "bridge.dim=32",
    "bridge.heads=4",
    "bridge.hidden=64",
    "bridge.layers=2",
    "bridge.dropout=0.0",
    "lm.dtype=float32",
    (
        "lm.size={model_type: llama, vocab_size: 32000, hidden_size: 64, intermediate_size: 96, "
        "num_hidden_layers: 2, num_attention_heads: 4}"
    ),
)
SIZES = {"tiny": TINY, "small": SMALL, "full": FULL}
#: Tokens of ChangeChat's shortest and longest usual prompts and answers, Vicuna's tokenizer.
PROMPTS, ANSWERS = (12, 60), (4, 32)


def make_batch(count: int, image_size: int, device: str) -> Any:
    """Random pairs and dialogues, padded on the right."""
    draw = torch.Generator().manual_seed(0)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    prompts = [number(*PROMPTS) for _ in range(count)]
    answers = [number(*ANSWERS) for _ in range(count)]
    length = max(a + b for a, b in zip(prompts, answers, strict=True))
    ids = torch.randint(3, 30000, (count, length), generator=draw)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    read_mask = torch.zeros(count, max(prompts), dtype=torch.long)
    for i, (asked, said) in enumerate(zip(prompts, answers, strict=True)):
        mask[i, : asked + said] = 1
        labels[i, asked : asked + said] = ids[i, asked : asked + said]
        read_mask[i, :asked] = 1
    images = torch.randint(
        0, 256, (2 * count, 3, image_size, image_size), dtype=torch.uint8, generator=draw
    )
    tensors = {
        "images": images,
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "instruction_ids": ids[:, : read_mask.shape[1]] % 30000,
        "instruction_mask": read_mask,
    }
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    return SimpleNamespace(**moved, image_rows=[(2 * i, 2 * i + 1) for i in range(count)])


def published(model: DeltaVLM, batch: Any) -> Tensor:
    """The published order of work: everything, everywhere."""
    read = model.embed(batch)
    logits = model.lm.model(
        inputs_embeds=read.inputs_embeds.to(model.lm.dtype),
        attention_mask=read.attention_mask,
        use_cache=False,
    ).logits
    flat = logits[:, :-1].float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, read.labels[:, 1:].flatten())


def ours(model: DeltaVLM, batch: Any, features: Tensor | None = None) -> Tensor:
    """Logits of the supervised positions."""
    return AnswerLoss()(model(batch, features), batch)["answer"]


def step(
    model: DeltaVLM, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], autocast: Any
) -> float:
    """One training step; the loss."""
    optimizer.zero_grad(set_to_none=True)
    with autocast():
        value = loss()
    value.backward()
    optimizer.step()
    return float(value.detach())


def gradients(model: DeltaVLM, loss: Callable[[], Tensor], autocast: Any) -> tuple[float, Tensor]:
    """The loss, and all gradients in one vector."""
    model.zero_grad(set_to_none=True)
    with autocast():
        value = loss()
    value.backward()
    found = [p.grad.float().flatten().cpu() for p in model.parameters() if p.grad is not None]
    return float(value.detach()), torch.cat(found)


def main() -> None:
    """Runs the sides in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="JSON Lines that get the table's rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cuda = args.device.startswith("cuda")
    from options import build

    model = build("deltavlm", SIZES[args.size], args.device).train()
    model.bridge.csrm.eval()  # its dropout would give each side another loss
    batch = make_batch(args.batch, model.image_size, args.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    # A learning rate of 0: every round of every side has the same work and the same loss.
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)

    def half(dtype: torch.dtype) -> Any:
        return (lambda: torch.autocast("cuda", dtype)) if cuda else nullcontext

    with half(torch.bfloat16)():
        features = model.frozen_features(batch.images)
    sides: dict[str, tuple[Callable[[], Tensor], Any]] = {
        "published": (lambda: published(model, batch), half(torch.float16)),
        "ours": (lambda: ours(model, batch), half(torch.bfloat16)),
        "ours, features kept": (lambda: ours(model, batch, features), half(torch.bfloat16)),
    }
    reference, expected = gradients(model, *sides["published"])
    print(f"{platform.machine()}, torch {torch.__version__}, {args.size}, batch {args.batch}")
    for name, (loss, autocast) in sides.items():
        value, found = gradients(model, loss, autocast)
        apart = float((found - expected).norm() / expected.norm())
        print(f"{name}: loss {value:.5f}, gradients {apart:.1e} from the published order's")
        limit = 0.1 if cuda else 1e-4
        if abs(value - reference) > limit * abs(reference) or apart > limit:
            raise SystemExit(f"{name} computes something else.")
    times: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, float] = {}
    for round_ in range(args.rounds + 1):  # the first one warms up
        for name, (loss, autocast) in sides.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            start = time.perf_counter()
            step(model, optimizer, loss, autocast)
            if cuda:
                torch.cuda.synchronize()
                memory[name] = torch.cuda.max_memory_allocated() / 2**30
            if round_:
                times[name].append(time.perf_counter() - start)
    tokens = int(batch.attention_mask.sum()) + 32 * args.batch
    base = statistics.median(times["published"])
    weights = sum(p.numel() for p in model.lm.parameters())
    print("| side | seconds | tokens/s | of published | peak GiB |\n|---|---:|---:|---:|---:|")
    for name, found_times in times.items():
        middle = statistics.median(found_times)
        peak = f"{memory[name]:.1f}" if cuda else "–"
        print(f"| {name} | {middle:.3f} | {tokens / middle:.0f} | {middle / base:.2f} | {peak} |")
        record(
            args.rows,
            part=f"DeltaVLM, Vicuna-7B, batch {args.batch}, {args.size}",
            side=name,
            seconds=middle,
            rate=f"{tokens / middle:.0f} tokens",
            share=share_of_peak(4 * weights * tokens / middle, args.device),
            gib=memory.get(name),
            times=base / middle,
            aim=1 / 0.75 if name == "ours" else None,
        )


if __name__ == "__main__":
    main()
