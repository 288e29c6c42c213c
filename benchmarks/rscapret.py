"""RS-CapRet's training step and its captions, beside the straightforward loops: same numbers.

    python benchmarks/rscapret.py --size full --device cuda --batch 96 --rounds 10
    python benchmarks/rscapret.py --size small --batch 32 --rounds 5 --threads 1

Random weights, frozen language model. The straightforward step runs the language model twice on
rows padded to the longest, with a graph through both passes and logits at every position (FROMAGe's
order of work, b36a188, without its gradient of the whole embedding table, which makes that one
slower still). Ours gives logits where a word is supervised, runs the text behind a cache up to
[RET], the first thing in it that learns, and pads rows to the longest of a group by length only.
Losses and gradients must be the same, or the script fails.

Captions: 64 of them one by one without a cache, as FROMAGe writes with OPT, beside one batch with a
cache; the same texts.

Lengths are those of RSICD's training captions in words, a third more in tokens. `small` keeps the
proportions of LLaMA-2-7B, a sixteenth of the width; only `full` on a GPU speaks of the full size.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rows import memory, record, share_of_peak
from torch import Tensor
from torch.nn import functional as F

from rsvlm.losses.caption_retrieval import CaptionRetrievalLoss
from rsvlm.models.rscapret.model import RSCapRet
from rsvlm.nn.packing import Embedded

SMALL = (
    "vision.arch=ViT-B-32",
    (
        "lm.size={model_type: llama, vocab_size: 32000, hidden_size: 512, intermediate_size: 1376, "
        "num_hidden_layers: 16, num_attention_heads: 8}"
    ),
)
FULL = ("lm.dtype=bfloat16",)
#: Whether the script runs, and nothing else.
TINY = (
    "vision.arch=tiny",
    (
        "lm.size={model_type: llama, vocab_size: 32000, hidden_size: 64, intermediate_size: 96, "
        "num_hidden_layers: 2, num_attention_heads: 4}"
    ),
)
SIZES = {"tiny": TINY, "small": SMALL, "full": FULL}
#: Words of RSICD's training captions at every tenth of them.
TENTHS = (1, 8, 9, 10, 11, 11, 12, 13, 14, 16, 35)
RET = 32000


def make_batch(model: RSCapRet, count: int, device: str) -> Any:
    """Random captions of RSICD's lengths with their images' vectors, which a run keeps."""
    draw = torch.Generator().manual_seed(0)
    place = torch.rand(count, generator=draw) * (len(TENTHS) - 1)
    low, tenths = place.long(), torch.tensor(TENTHS, dtype=torch.float)
    words = tenths[low] + (place - low) * (tenths[low + 1] - tenths[low])
    lengths = (words * 4 / 3).round().long() + 2
    ids = torch.randint(3, RET, (count, int(lengths.max())), generator=draw)
    ids[:, 0] = 1
    for row, length in zip(ids, lengths.tolist(), strict=True):
        row[length - 1] = RET
        row[length:] = 0
    features = torch.randn(count, 1, model.vision.dim, generator=draw)
    images = torch.zeros(count, 3, 1, 1, dtype=torch.uint8)
    return SimpleNamespace(
        images=images.to(device),
        input_ids=ids.to(device),
        features=features.to(device),
        tokens=2 * int(lengths.sum()),
    )


def ours(model: RSCapRet, batch: Any) -> Tensor:
    """The model's own step."""
    return torch.stack(
        list(CaptionRetrievalLoss()(model(batch, batch.features), batch).values())
    ).sum()


def straightforward(model: RSCapRet, batch: Any) -> Tensor:
    """Two passes over padded rows."""
    view = model.ret.view(model.lm, RET)
    ids, rows = batch.input_ids, torch.arange(len(batch.input_ids), device=batch.input_ids.device)
    ends = (ids == RET).int().argmax(1)
    places = torch.arange(ids.shape[1], device=ids.device)
    mask = (places <= ends[:, None]).long()

    def entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())

    visual = model.bridge(batch.features)
    words = view.get_input_embeddings()(ids)
    embeds = torch.cat([visual.to(words.dtype), words], dim=1)
    ones, nothing = mask.new_ones(len(ids), 1), ids.new_full((len(ids), 1), -100)
    labels = torch.cat([nothing, ids.masked_fill(places >= ends[:, None], -100)], dim=1)
    out = view(inputs_embeds=embeds, attention_mask=torch.cat([ones, mask], dim=1))
    caption = entropy(out.logits, labels)
    out = view(inputs_embeds=words, attention_mask=mask, output_hidden_states=True)
    text = entropy(out.logits, ids.masked_fill(mask == 0, -100))
    last = model.text_map(out.hidden_states[-1][rows, ends].float())
    pairs = {
        "image_features": F.normalize(model.image_map(batch.features[:, 0]), dim=-1),
        "text_features": F.normalize(last, dim=-1),
    }
    logits = model.logit_scale.exp() * pairs["image_features"] @ pairs["text_features"].T
    found = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    return caption + text + found


def gradients(model: RSCapRet, loss: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """The loss, and all gradients in one vector."""
    model.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    found = [p.grad.float().flatten().cpu() for p in model.parameters() if p.grad is not None]
    return float(value.detach()), torch.cat(found)


def write_alone(model: RSCapRet, embedded: Embedded, count: int) -> list[list[int]]:
    """Greedy texts one by one, the whole row anew for each token."""
    texts = []
    with torch.no_grad():
        for row in embedded.inputs_embeds:
            embeds, ids = row[None], list[int]()
            for _ in range(count):
                seen = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
                hidden = model.lm.hidden(embeds, seen)
                ids.append(int(model.ret.logits(model.lm, hidden[:, -1], RET).argmax()))
                new = torch.tensor([ids[-1:]], device=embeds.device)
                embeds = torch.cat([embeds, model.embed_words(new)], dim=1)
            texts.append(ids)
    return texts


def timed(cuda: bool, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    out = work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, out


def main() -> None:
    """Runs both sides in turn and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--captions", type=int, default=64, help="0 leaves them out")
    parser.add_argument("--rows", type=Path, help="JSON Lines that get the table's rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cuda = args.device.startswith("cuda")
    options = ["vision.weights=null", "caption_end=none", "concat=0.0", f"ret_id={RET}"]
    from options import build

    model = build("rscapret", [*options, *SIZES[args.size]], args.device).train()
    batch = make_batch(model, args.batch, args.device)
    sides = {"straightforward": straightforward, "ours": ours}
    reference, expected = gradients(model, lambda: straightforward(model, batch))
    value, found = gradients(model, lambda: ours(model, batch))
    apart = float((found - expected).norm() / expected.norm())
    print(f"{platform.machine()}, torch {torch.__version__}, {args.size}, batch {args.batch}")
    print(f"loss {value:.5f} and {reference:.5f}, gradients {apart:.1e} apart")
    limit = 0.1 if cuda else 1e-4
    if abs(value - reference) > limit * abs(reference) or apart > limit:
        raise SystemExit("they compute something else.")
    times: dict[str, list[float]] = {name: [] for name in sides}
    most: dict[str, float | None] = {}
    memory(args.device)
    for round_ in range(args.rounds + 1):  # the first one warms up
        for name, side in sides.items():
            seconds, _ = timed(cuda, lambda side=side: gradients(model, lambda: side(model, batch)))
            most[name] = memory(args.device)
            if round_:
                times[name].append(seconds)
    base = statistics.median(times["straightforward"])
    weights = sum(p.numel() for p in model.lm.parameters())
    print(
        "| training step | seconds | tokens/s | TFLOP/s of 4·P·T | faster |\n"
        "|---|---:|---:|---:|---:|"
    )
    for name, found_times in times.items():
        middle = statistics.median(found_times)
        rate = 4 * weights * batch.tokens / middle / 1e12
        speed = f"{batch.tokens / middle:.0f} | {rate:.3f} | {base / middle:.2f}"
        print(f"| {name} | {middle:.3f} | {speed} |")
        record(
            args.rows,
            part=f"RS-CapRet, LLaMA-2-7B's shapes, batch {args.batch}, {args.size}",
            side=name,
            seconds=middle,
            rate=f"{batch.tokens / middle:.0f} tokens",
            share=share_of_peak(rate * 1e12, args.device),
            gib=most[name],
            times=base / middle,
            aim=1.5 if name == "ours" else None,
        )

    if not args.captions:
        return
    model.eval()
    count = 16
    start = model.bridge(torch.randn(args.captions, 1, model.vision.dim, device=args.device))
    first = model.embed_words(torch.ones(args.captions, 1, dtype=torch.long, device=args.device))
    embeds = torch.cat([start.to(first.dtype), first], dim=1).detach()
    embedded = Embedded(embeds, torch.ones_like(embeds[..., 0]).long(), torch.empty(0))
    greedy: dict[str, Any] = {"ends": [RET + 1], "max_new_tokens": count, "num_beams": 1}
    alone, one = timed(cuda, lambda: write_alone(model, embedded, count))
    together, many = timed(cuda, lambda: model.write(embedded, **greedy))
    same = sum(a == b[0].ids for a, b in zip(one, many, strict=True))
    print(f"| {args.captions} captions of {count} tokens | seconds | faster |\n|---|---:|---:|")
    print(f"| one by one, without a cache | {alone:.2f} | 1.0 |")
    print(f"| one batch with a cache | {together:.2f} | {alone / together:.1f} |")
    print(f"same text: {same} of {args.captions}")
    if same < args.captions and not cuda:
        raise SystemExit("they write something else.")


if __name__ == "__main__":
    main()
