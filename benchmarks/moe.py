"""Three experts on one set of weights in one pass, beside three models in turn: the same words.

    python benchmarks/moe.py --size 1b --device cuda
    python benchmarks/moe.py --size 135m --images 4 --words 128 --rounds 1 --threads 1

Random weights, the same on both sides. The straightforward side holds three copies of the language
model, each with its expert's LoRA merged into the weights, which is their fastest form, and lets
them write one after another. Ours holds one, and writes all three parts in one batch. Words are
greedy, as many on both sides, and must be the same, or the script fails; so all is float32.

Then torch's grouped matrix product of the mixture of tokens (`rsmoe/token_mixture.py`) beside the
loop over experts, forward and backward: the same numbers.

Memory of a CPU is that of the weights; of a GPU also the peak of tensors while writing.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rows import memory, record

from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.tokenizers import word_tokenizer
from rsvlm.models.rsmoe.adapters import StackedLoRA
from rsvlm.models.rsmoe.experts import Experts, rows_of
from rsvlm.models.rsmoe.router import Asked, Routing
from rsvlm.models.rsmoe.token_mixture import TokenMixture

TASKS = ("theme", "objects", "relations")
SIZES = {"tiny": "tiny", "135m": "smollm2_135m", "1b": "llama3_1b"}
QUERIES = 32


def timed(run: Callable[[], Any], rounds: int, device: str) -> tuple[float, Any]:
    """Median seconds of some rounds behind one that warms up, and what the last gave.

    Of a CPU they are the process' own, since others may share it.
    """
    cuda = device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    found, seconds = run(), []
    for _ in range(rounds):
        if cuda:
            torch.cuda.synchronize()
        begun = clock()
        found = run()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(clock() - begun)
    return statistics.median(seconds), found


def gib(*modules: torch.nn.Module) -> float:
    """GiB of the weights, those that modules share once."""
    held = {p.data_ptr(): p.numel() * p.element_size() for m in modules for p in m.parameters()}
    return sum(held.values()) / 2**30


@torch.no_grad()
def experts(
    size: str, device: str, images: int, words: int, rounds: int, rows: Path | None
) -> None:
    """The first comparison."""
    torch.manual_seed(0)
    lm = LanguageModel(SIZES[size], tokenizer=word_tokenizer("world"), device=device).eval()
    with torch.device(device):
        block = Experts(TASKS, lm, (), dim=QUERIES, lora={"r": 8, "alpha": 8}).eval()
    for name, parameter in block.named_parameters():
        if name.endswith(".up"):
            parameter.normal_(std=0.05)
    visual = torch.randn(images, QUERIES, lm.dim, device=device) * 0.1
    prompt = "Describe the picture in detail. what is near ?"
    asked = [Asked(row, task, prompt) for task in range(3) for row in range(images)]
    updates = torch.eye(3, device=device).repeat_interleave(images, 0)
    routing = Routing(asked, updates, torch.ones(len(asked), device=device))
    options = {"max_new_tokens": words, "min_new_tokens": words, "num_beams": 1}

    def batched() -> list[list[int]]:
        return [t.ids for t in block.write(routing, [lm], visual, visual, **options) if t]

    copies = [merged(lm, block, place) for place in range(3)]

    def in_turn() -> list[list[int]]:
        found = []
        for one in copies:
            given = rows_of(one, visual, [prompt] * images)
            found += [t[0].ids for t in one.generate(given.embeds, given.mask, **options)]
        return found

    memory(device)
    theirs, slow = timed(in_turn, rounds, device)
    peak_theirs = memory(device)
    weights_theirs = gib(*copies)
    del copies[:]
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    memory(device)
    ours, fast = timed(batched, rounds, device)
    peak_ours = memory(device)
    if fast != slow:
        wrong = sum(a != b for a, b in zip(fast, slow, strict=True))
        raise SystemExit(f"{wrong} of {len(slow)} texts differ.")
    weights_ours = gib(lm, block)
    print(
        f"{size}: {images} image(s), {words} words of each expert, {len(fast)} texts, all the same"
    )
    print(f"  three models in turn  {theirs:.3f} s, weights {weights_theirs:.3f} GiB", end="")
    print(f", peak {peak_theirs:.2f} GiB" if peak_theirs else "")
    print(f"  one, batched          {ours:.3f} s, weights {weights_ours:.3f} GiB", end="")
    print(f", peak {peak_ours:.2f} GiB" if peak_ours else "")
    share = weights_ours / weights_theirs
    print(f"  {theirs / ours:.2f} times as fast, {share:.0%} of the weights")
    note = f"{images} images x 3 experts, {words} words"
    for side, seconds, size_gib in (
        ("three models in turn", theirs, peak_theirs or weights_theirs),
        ("one set of weights", ours, peak_ours or weights_ours),
    ):
        record(
            rows,
            part="RS-MoE experts",
            side=side,
            seconds=seconds,
            gib=size_gib,
            times=theirs / seconds,
            aim="2" if side.startswith("one") else None,
            note=note,
        )


def merged(lm: LanguageModel, block: Experts, place: int) -> LanguageModel:
    """A copy of a language model with one expert's updates in its weights."""
    one = copy.deepcopy(lm)
    adapters: Any = block.groups[0].adapters  # type: ignore[union-attr]
    for name in adapters.names:
        layer = one.model.get_submodule(name)
        update = adapters.layers[name.replace(".", "/")]
        assert isinstance(update, StackedLoRA)
        layer.weight += (update.alpha / update.r) * update.up[place] @ update.down[place]
    return one


def mixture(size: str, device: str, rounds: int, rows: Path | None) -> None:
    """The second comparison."""
    dim, tokens = {"tiny": (64, 256), "135m": (576, 2048), "1b": (2048, 16384)}[size]
    kind = torch.bfloat16 if device.startswith("cuda") else torch.float32
    torch.manual_seed(0)
    layer = TokenMixture(dim, experts=8, dropout=0.0, variant="released").to(device, kind)
    x = torch.randn(1, tokens, dim, device=device, dtype=kind)
    found = {}
    for grouped in (False, True):
        layer.grouped = grouped

        def step() -> list[torch.Tensor]:
            layer.zero_grad()
            out, _ = layer(x)
            out.float().square().mean().backward()
            return [
                out.detach(),
                *(p.grad.clone() for p in layer.parameters() if p.grad is not None),
            ]

        found[grouped] = timed(step, rounds, device)
    for one, other in zip(found[False][1], found[True][1], strict=True):
        torch.testing.assert_close(
            one, other, atol=2e-2 if kind == torch.bfloat16 else 1e-4, rtol=1e-2
        )
    slow, fast = found[False][0], found[True][0]
    print(f"mixture of 8 + 2 experts, width {dim}, {tokens} tokens, {kind}: the same numbers")
    print(f"  loop {slow:.4f} s, grouped {fast:.4f} s: {slow / fast:.2f} times as fast")
    for side, seconds in (("loop", slow), ("grouped product", fast)):
        record(rows, part="token mixture", side=side, seconds=seconds, times=slow / seconds)


def main() -> None:
    """Both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="135m", choices=list(SIZES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--words", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else platform.machine()
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    experts(given.size, given.device, given.images, given.words, given.rounds, given.rows)
    mixture(given.size, given.device, given.rounds, given.rows)


if __name__ == "__main__":
    main()
