"""LLaVA tuned by LoRA and its answers, beside the straightforward loops: same numbers.

    python benchmarks/captioner.py --size full --device cuda --rounds 10
    python benchmarks/captioner.py --size small --rounds 3 --threads 1

Random weights, the same on both sides. The straightforward step is `LlavaForConditionalGeneration`
with peft: dialogues padded to the longest, an image for each of them, logits at every position.
Ours packs dialogues into one row without padding, gives logits where a word is supervised, and with
`shared` reads an image once for all questions on it. Losses and gradients must be the same, or the
script fails; so LoRA has no dropout here.

Dialogues are random ids. The mixture: of eight, four short questions (8 to 25 tokens, answers of 2
to 4), two captions (prompts of 8 to 12 tokens, captions of 20 to 60) and two dialogues of 5 to 10
turns (questions of 10 to 25 tokens, answers of 30 to 90); before each stand 40 tokens of system
text and prompt and the 576 of its image. Shared: four short questions on each image.

Captions: 64 of them one by one, with a cache and without, beside one batch with a cache; the same
texts.

`small` is an eighth of Vicuna-7B's width with 2 of its 32 layers; vocabulary and rank of LoRA keep
their share of the work. Only `full` on a GPU speaks of the full size.
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
from rows import memory, record, share_of_peak
from torch import Tensor

from rsvlm.checkpoints.dialects import revert
from rsvlm.losses.language import AnswerLoss
from rsvlm.models.llava.model import LLaVA

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
#: LLaVA's rank at its width of 4,096.
LORA: dict[str, Any] = {"r": 128, "alpha": 256, "dropout": 0.0, "targets": LINEAR}
SMALL = (
    "vision.arch={image_size: 336, patch_size: 14, width: 128, layers: 2, heads: 4}",
    (
        "lm.size={model_type: llama, vocab_size: 256, hidden_size: 512, intermediate_size: 1376, "
        "num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 4096}"
    ),
)
FULL = ("lm.dtype=bfloat16",)
#: Whether the script runs, and nothing else.
TINY = (
    "vision.arch={image_size: 56, patch_size: 14, width: 32, layers: 2, heads: 4}",
    (
        "lm.size={model_type: llama, vocab_size: 256, hidden_size: 64, intermediate_size: 96, "
        "num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 4096}"
    ),
)
SIZES = {"tiny": TINY, "small": SMALL, "full": FULL}
FRONT, IMAGE = 40, -200

Dialogue = tuple[int, list[tuple[int, int]]]


def mixture(draw: Callable[[int, int], int], count: int) -> list[Dialogue]:
    """An image and the lengths of questions and answers, for each dialogue."""
    found: list[Dialogue] = []
    # Four dialogues hold half of eight's.
    order = "qqqqccdd" if count > 4 else "qcdq"
    for i in range(count):
        what = order[i % len(order)]
        if what == "q":
            turns = [(draw(8, 25), draw(2, 4))]
        elif what == "c":
            turns = [(draw(8, 12), draw(20, 60))]
        else:
            turns = [(draw(10, 25), draw(30, 90)) for _ in range(draw(5, 10))]
        found.append((i, turns))
    return found


def questions(draw: Callable[[int, int], int], images: int, each: int) -> list[Dialogue]:
    """Short questions, several on each image."""
    return [(i, [(draw(8, 25), draw(2, 4))]) for i in range(images) for _ in range(each)]


def make_batch(model: LLaVA, kind: str, count: int, device: str) -> Any:
    """A `ChatBatch`'s fields, padded on the right, and `tokens`, how many of them are real."""
    random = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    told = mixture(draw, count) if kind == "mixture" else questions(draw, count // 4, 4)
    words = model.lm.model.config.vocab_size - 1  # the last one stands for images, over there
    rows, learned = [], []
    for _, turns in told:
        ids = [1] + [IMAGE] * model.image_tokens
        ids += torch.randint(
            3, 50, (FRONT - 1,), generator=torch.Generator().manual_seed(1)
        ).tolist()
        labels = [-100] * len(ids)
        for asked, said in turns:
            new = torch.randint(3, words, (asked + said,), generator=random).tolist()
            ids, labels = ids + new, labels + [-100] * asked + new[asked:]
        rows.append(ids)
        learned.append(labels)
    width = max(map(len, rows))
    side = model.image_size
    images = torch.randint(
        0, 256, (1 + max(i for i, _ in told), 3, side, side), dtype=torch.uint8, generator=random
    )
    table = {
        "input_ids": [row + [0] * (width - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
        "labels": [row + [-100] * (width - len(row)) for row in learned],
    }
    return SimpleNamespace(
        images=images.to(device),
        image_rows=[(i,) for i, _ in told],
        tokens=sum(map(len, rows)),
        **{name: torch.tensor(rows, device=device) for name, rows in table.items()},
    )


def transformers_model(model: LLaVA, lora: dict[str, Any], device: str) -> Any:
    """Gives transformers' LLaVA with peft's LoRA and the weights of ours, which has no LoRA yet."""
    from peft import LoraConfig, get_peft_model
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    tower, text = model.vision.tower, model.lm.model.config
    block = tower.blocks[0]
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=model.vision.dim,
            intermediate_size=block.mlp.c_fc.out_features,
            num_hidden_layers=len(tower.blocks),
            num_attention_heads=block.attn.heads,
            image_size=model.image_size,
            patch_size=tower.patch_size,
            hidden_act="quick_gelu",
        ),
        text_config=text,
        image_token_id=text.vocab_size - 1,
        vision_feature_layer=model.vision.layer,
        vision_feature_select_strategy="default",
    )
    with torch.device(device):
        theirs = LlavaForConditionalGeneration._from_config(config, dtype=model.lm.dtype)
    new = next(dialect for dialect in model.dialects if dialect.name == "llava-hf (new)")
    state = revert(model.state_dict(), new)
    # Since 5.6, transformers has no `vision_model` within the tower.
    level = (
        "" if not any("vision_model" in name for name in theirs.state_dict()) else "vision_model."
    )
    state = {name.replace("vision_model.", level): value for name, value in state.items()}
    theirs.load_state_dict({name: value.to(model.lm.dtype) for name, value in state.items()})
    theirs.requires_grad_(False)
    theirs = get_peft_model(
        theirs,
        LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=rf".*language_model.*\.({'|'.join(LINEAR)})",
        ),
    )
    for name, parameter in theirs.named_parameters():
        if "multi_modal_projector" in name:
            parameter.requires_grad_(True)
    return theirs


def same_lora(model: LLaVA, theirs: Any) -> list[tuple[Tensor, Tensor]]:
    """Draws LoRA's weights on one side, copies them, and pairs what both sides train."""
    named = dict(theirs.named_parameters())
    pairs = []
    for name, ours in model.lm.model.named_parameters():
        if ours.requires_grad:
            other = named[f"base_model.model.model.language_model.{name.removeprefix('model.')}"]
            torch.nn.init.normal_(ours, std=0.02)
            other.data.copy_(ours.data)
            pairs.append((ours, other))
    projector = [p for name, p in named.items() if "multi_modal_projector" in name]
    return pairs + list(zip(model.bridge.parameters(), projector, strict=True))


def straightforward(theirs: Any, model: LLaVA, batch: Any) -> Tensor:
    """Padded rows, an image each, logits everywhere."""
    shown = batch.images[[row[0] for row in batch.image_rows]]
    last = model.lm.model.config.vocab_size - 1
    return theirs(
        input_ids=batch.input_ids.masked_fill(batch.input_ids == IMAGE, last),
        attention_mask=batch.attention_mask,
        pixel_values=model.vision.normalised(shown).to(model.lm.dtype),
        labels=batch.labels,
        use_cache=False,
    ).loss


def ours(model: LLaVA, batch: Any, packing: str) -> Tensor:
    """The model's own step."""
    model.packing = packing
    return AnswerLoss()(model(batch), batch)["answer"]


class Clock:
    """Seconds by the clock and of the processor, of each side."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.clock: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Does some work and keeps what it took."""
        if self.cuda:
            torch.cuda.synchronize()
        start, busy = time.perf_counter(), time.process_time()
        out = work()
        if self.cuda:
            torch.cuda.synchronize()
        self.clock.setdefault(name, []).append(time.perf_counter() - start)
        self.processor.setdefault(name, []).append(time.process_time() - busy)
        return out

    def median(self, name: str) -> float:
        """Of what counts: the processor's, where it does the work."""
        return statistics.median((self.clock if self.cuda else self.processor)[name])


def train(
    kind: str, model: LLaVA, theirs: Any, pairs: list[tuple[Tensor, Tensor]], args: Any
) -> None:
    """One table of training steps."""
    cuda = args.device.startswith("cuda")
    batch = make_batch(model, kind, args.batch, args.device)
    half = (lambda: torch.autocast("cuda", torch.bfloat16)) if cuda else nullcontext
    words = ("none", "rows") if kind == "mixture" else ("rows", "shared")
    sides: dict[str, Callable[[], Tensor]] = {
        "transformers and peft, padded": lambda: straightforward(theirs, model, batch),
        **{
            f"ours, packing={word}": lambda word=word: ours(model, batch, word)  # type: ignore[misc]
            for word in words
        },
    }

    def step(name: str, kept: bool = True) -> tuple[float, Tensor]:
        for pair in pairs:
            for parameter in pair:
                parameter.grad = None
        with half():
            loss = sides[name]()
        loss.backward()
        if not kept:  # to copy them would be timed too
            return 0.0, loss
        side = 1 if name.startswith("transformers") else 0
        found = [pair[side].grad.float().flatten().cpu() for pair in pairs]
        return float(loss.detach()), torch.cat(found)

    first, *others = sides
    reference, expected = step(first)
    real, padded = batch.tokens, batch.input_ids.numel()
    print(f"\n{kind}: {len(batch.input_ids)} dialogues, {real} tokens, {padded} with padding")
    for name in others:
        value, found = step(name)
        apart = float((found - expected).norm() / expected.norm())
        print(f"{name}: loss {value:.5f} and {reference:.5f}, gradients {apart:.1e} apart")
        limit = 0.1 if cuda else 1e-4
        if abs(value - reference) > limit * abs(reference) or apart > limit:
            raise SystemExit("they compute something else.")
    clock = Clock(cuda)
    most: dict[str, float | None] = {}
    memory(args.device)
    for _ in range(args.rounds):
        for name in sides:
            clock(name, lambda name=name: step(name, kept=False))
            most[name] = memory(args.device)
    weights = sum(p.numel() for p in model.lm.model.model.layers.parameters())
    print(
        "| training step | clock, s | processor, s | tokens/s | TFLOP/s of 4·P·T | faster |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    for name in sides:
        middle = clock.median(name)
        rate = 4 * weights * real / middle / 1e12
        print(
            f"| {name} | {statistics.median(clock.clock[name]):.2f} | "
            f"{statistics.median(clock.processor[name]):.2f} | {real / middle:.0f} | {rate:.3f} | "
            f"{clock.median(first) / middle:.2f} |"
        )
        record(
            args.rows,
            part=f"LLaVA by LoRA, {kind} of {args.batch} dialogues, {args.size}",
            side=name,
            seconds=middle,
            rate=f"{real / middle:.0f} tokens",
            share=share_of_peak(rate * 1e12, args.device),
            gib=most[name],
            times=clock.median(first) / middle,
            aim={"ours, packing=rows": 1.15, "ours, packing=shared": 2.0}.get(name),
        )


def write_alone(model: LLaVA, batch: Any, count: int) -> list[list[int]]:
    """Greedy texts one by one, the whole row anew for each token."""
    texts = []
    with torch.no_grad():
        embedded = model.embed(batch)
        for row in embedded.inputs_embeds:
            embeds, ids = row[None], list[int]()
            for _ in range(count):
                hidden = model.lm.hidden(embeds, torch.ones_like(embeds[..., 0]).long())
                logits = model.lm.model.get_output_embeddings()(hidden[:, -1])
                logits[:, model.lm.tokenizer.eos_token_id] = -torch.inf
                ids.append(int(logits.argmax()))
                new = torch.tensor([ids[-1:]], device=embeds.device)
                embeds = torch.cat([embeds, model.embed_words(new)], dim=1)
            texts.append(ids)
    return texts


def captions(count: int, rounds: int, device: str, tokens: int = 32) -> None:
    """The table of captions, at tiny size."""
    torch.manual_seed(0)
    from options import build

    model = build("llava_tiny", device=device).eval()
    side, places = model.image_size, model.image_tokens
    ids = torch.tensor([[1] + [IMAGE] * places + list(range(20, 32))]).repeat(count, 1)
    shared = {"attention_mask": torch.ones_like(ids), "labels": torch.full_like(ids, -100)}
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)

    def part(rows: slice) -> Any:
        seen = images[rows].to(device)
        return SimpleNamespace(
            images=seen,
            image_rows=[(i,) for i in range(len(seen))],
            input_ids=ids[rows].to(device),
            **{name: tensor[rows].to(device) for name, tensor in shared.items()},
            geometry=[()] * len(seen),
        )

    # As long as they may be: without an end no side saves anything by stopping.
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    alone = [part(slice(i, i + 1)) for i in range(count)]
    together = part(slice(0, count))
    clock = Clock(device.startswith("cuda"))
    texts: dict[str, list[str]] = {}
    sides: dict[str, Callable[[], list[str]]] = {
        "one by one, without a cache": lambda: [
            model.decode(row) for one in alone for row in write_alone(model, one, tokens)
        ],
        "one by one, with a cache": lambda: [
            model.generate(one, **options)[0].text for one in alone
        ],
        "one batch, with a cache": lambda: [a.text for a in model.generate(together, **options)],
    }
    for _ in range(rounds):
        for name, side in sides.items():
            texts[name] = clock(name, side)
    print(f"\n| {count} captions of {tokens} tokens | clock, s | processor, s | the batch faster |")
    print("|---|---:|---:|---:|")
    last = clock.median("one batch, with a cache")
    for name in sides:
        seconds, busy = (statistics.median(t[name]) for t in (clock.clock, clock.processor))
        print(f"| {name} | {seconds:.2f} | {busy:.2f} | {clock.median(name) / last:.1f} |")
    batched = texts["one batch, with a cache"]
    for name, told in texts.items():
        same = sum(a == b for a, b in zip(told, batched, strict=True))
        print(f"{name}: the same text {same} of {count} times")
        if same < count and device == "cpu":
            raise SystemExit("they write something else.")


def main() -> None:
    """Runs all sides in turn and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="dialogues of a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--captions", type=int, default=64, help="0 leaves them out")
    parser.add_argument("--only", choices=("mixture", "shared", "captions"))
    parser.add_argument("--rows", type=Path, help="JSON Lines that get the table's rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"{platform.machine()}, torch {torch.__version__}, {args.size} on {args.device}")
    if args.size != "full":
        print("reduced size: it says nothing of the full one's speed")
    if args.only != "captions":
        from options import build

        model = build("llava", ["tuning=frozen", "packing=none", *SIZES[args.size]], args.device)
        lora = {**LORA, "r": model.lm.dim // 32}
        theirs = transformers_model(model, lora, args.device).train()
        model.lm.tune("lora", lora=lora)
        model.to(args.device).train()
        pairs = same_lora(model, theirs)
        for kind in ("mixture", "shared"):
            if args.only in (None, kind):
                train(kind, model, theirs, pairs, args)
        del model, theirs, pairs
    if args.captions and args.only in (None, "captions"):
        captions(args.captions, args.rounds, args.device)


if __name__ == "__main__":
    main()
