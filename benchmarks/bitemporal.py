"""MModalCC's caption loop beside the published one: same weights, same captions.

    python benchmarks/bitemporal.py --images 8 --rounds 3 --threads 1

Both sides have MModalCC at its published size. The published order of work (SecondCC
`eval_MModalCC.py`) is written anew here: one image at a time, no cache, all 52 positions of every
beam at every step, the memories copied for each beam, until the last beam has ended. Ours decodes
all images together with a cache and stops when no beam can win any more; `exhaustive` goes on until
the last beam has ended, as the published loop does. The decoder is trained for a moment on the very
pairs that are described, so that its beams end; pairs and sentences come from the generated world.
The captions must be the same, or the script fails.

The loop is timed with the features given, in turn, and once more from the pixels on: two ResNet-101
and the encoder, four images at a time as published, or all of a date together.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.losses.language import CaptionLoss
from rsvlm.models.change_captioning.beam_search import Hypothesis, beam_search
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.change_captioning.mmodalcc import MModalCC
from rsvlm.synthetic.dataset import Scenes

POSITIONS = 52


@dataclass
class Pairs:
    """What a model reads of some pairs."""

    images: Tensor
    semantic: Tensor
    input_ids: Tensor
    caption_lengths: Tensor

    def row(self, i: int) -> Pairs:
        """One pair as a batch."""
        part = slice(i, i + 1)
        return Pairs(
            self.images[part],
            self.semantic[part],
            self.input_ids[part],
            self.caption_lengths[part],
        )


def pairs(count: int, side: int) -> tuple[Pairs, Vocabulary]:
    """The first pairs of the generated world, with one caption each."""
    world = Scenes(
        n=count, size=side, layout="before_after", parts=("captions", "semantic"), change=0.75
    )
    samples = [world[i] for i in range(count)]
    vocabulary = Vocabulary.build([t for s in samples for t in s.texts], more_than=0)
    rows = [vocabulary.encode(sample.texts[0])[0] for sample in samples]
    ids = torch.zeros(count, max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    pictures = [np.stack([np.asarray(image) for image in s.images]) for s in samples]
    return Pairs(
        torch.from_numpy(np.stack(pictures)).permute(0, 1, 4, 2, 3).contiguous(),
        torch.from_numpy(np.stack([np.stack(s.semantic) for s in samples])).long(),
        ids,
        torch.tensor([len(row) for row in rows]),
    ), vocabulary


def fit(model: MModalCC, memories: list[Tensor], given: Pairs, steps: int) -> float:
    """Trains the decoder on the memories for some steps; returns the last loss."""
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=3e-4)
    loss, value = CaptionLoss(), torch.zeros(())
    length = int(given.caption_lengths.max()) - 1
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model.decoder(memories, given.input_ids[:, :length])
        value = loss({"logits": logits}, given)["caption"]
        value.backward()
        optimizer.step()
    return float(value.detach())


@torch.no_grad()
def published_loop(
    decoder: CaptionDecoder, memories: list[Tensor], *, start: int, end: int, beam_size: int
) -> list[tuple[list[int], float]]:
    """One image: memories [1, S, D]. Ids with start and end, and score, of each ended beam."""
    width = beam_size
    table = torch.zeros(width, POSITIONS, dtype=torch.long)
    table[:, 0] = start
    sequences = torch.full((width, 1), start)
    totals = torch.zeros(width, 1)
    copies = [memory.expand(width, -1, -1) for memory in memories]
    ended: list[tuple[list[int], float]] = []
    for step in range(1, POSITIONS):
        logits = decoder([copy.contiguous() for copy in copies], table)
        scores = totals + logits[:, step - 1].log_softmax(-1)
        # At the first step all beams are the same, so one of them is expanded.
        flat = scores[0] if step == 1 else scores.flatten()
        best, place = flat.topk(width)
        beams, words = place // logits.shape[-1], place % logits.shape[-1]
        sequences = torch.cat([sequences[beams], words.unsqueeze(1)], dim=1)
        going = words != end
        for row in (~going).nonzero().flatten().tolist():
            ended.append((sequences[row].tolist(), float(best[row])))
        width = int(going.sum())
        if width == 0:
            break
        sequences, totals = sequences[going], best[going].unsqueeze(1)
        copies = [copy[beams[going]] for copy in copies]
        table = table[:width].clone()
        table[:, : step + 1] = sequences
    return ended


def published(model: MModalCC, memories: list[Tensor], beam_size: int) -> list[list[int] | None]:
    """The published loop over all images; None where no beam ended."""
    found: list[list[int] | None] = []
    for i in range(len(memories[0])):
        ended = published_loop(
            model.decoder,
            [memory[i : i + 1] for memory in memories],
            start=model.start,
            end=model.end,
            beam_size=beam_size,
        )
        found.append(max(ended, key=lambda pair: pair[1])[0][1:-1] if ended else None)
    return found


def ours(
    model: MModalCC, memories: list[Tensor], beam_size: int, *, exhaustive: bool = False
) -> list[Hypothesis]:
    """All images together."""
    found = beam_search(
        model.decoder.begin(memories),
        len(memories[0]),
        start=model.start,
        end=model.end,
        beam_size=beam_size,
        steps=POSITIONS - 1,
        exhaustive=exhaustive,
    )
    return [each[0] for each in found]


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds, processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def compare(theirs: list[list[int] | None], mine: list[Hypothesis]) -> int:
    """Fails where captions differ; returns how many ended.

    Raises:
        SystemExit: they differ.
    """
    for i, (ids, hypothesis) in enumerate(zip(theirs, mine, strict=True)):
        if ids is None:
            if hypothesis.finished:
                raise SystemExit(f"image {i}: ours ended and the published loop did not.")
        elif list(hypothesis.ids) != ids:
            raise SystemExit(f"image {i}: {list(hypothesis.ids)} is not {ids}.")
    return sum(ids is not None for ids in theirs)


def main() -> None:
    """Trains, runs both in turn, compares, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=256, help="of the images, pixels")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60, help="training steps of the decoder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    given, vocabulary = pairs(args.images, args.side)
    words = ["words=null", f"+vocab_size={len(vocabulary)}", "palette=scenes"]
    words += ["encoder_dropout=0.0", "dropout=0.0", "word_dropout=0.0"]
    from options import build

    model = build("mmodalcc", words).eval()
    model.set_words(vocabulary)
    rows = [given.row(i) for i in range(args.images)]
    with torch.no_grad():
        memories, encode_all, _ = timed(lambda: model.memories(given))
    loss = fit(model, memories, given, args.steps)
    print(f"{len(vocabulary)} words, decoder's loss after {args.steps} steps {loss:.3f}")

    def singly() -> list[list[Tensor]]:
        with torch.no_grad():
            return [model.memories(row) for row in rows]

    _, encode_one, _ = timed(singly)
    slow, fast, every = [], [], []
    ended, mine = 0, []
    for _ in range(args.rounds):
        theirs, *seconds = timed(lambda: published(model, memories, args.beam))
        slow.append(seconds)
        mine, *seconds = timed(lambda: ours(model, memories, args.beam))
        fast.append(seconds)
        ended = compare(theirs, mine)
        whole, *seconds = timed(lambda: ours(model, memories, args.beam, exhaustive=True))
        every.append(seconds)
        compare(theirs, whole)
    print(
        f"captions equal: {ended} of {args.images} ended; the first: "
        f"{vocabulary.decode(mine[0].ids)!r}"
    )
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{args.threads} thread(s), {args.images} images, beam {args.beam}"
    )
    print("\n| from | side | s an image | processor s | ratio |\n|---|---|---:|---:|---:|")

    def line(source: str, side: str, wall: float, cpu: float | None, base: float) -> None:
        spent = "–" if cpu is None else f"{cpu / args.images:.3f}"
        print(f"| {source} | {side} | {wall / args.images:.3f} | {spent} | {base / wall:.1f} |")

    def median(times: list[list[float]], place: int) -> float:
        return statistics.median(each[place] for each in times)

    base = median(slow, 0)
    for side, times in (("published loop", slow), ("ours, exhaustive", every), ("ours", fast)):
        line("features", side, median(times, 0), median(times, 1), base)
    line("pixels", "published loop", encode_one + base, None, encode_one + base)
    line("pixels", "ours", encode_all + median(fast, 0), None, encode_one + base)


if __name__ == "__main__":
    main()
