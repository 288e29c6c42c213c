"""Does a router follow the question? Mutual information of a question's kind and the asked expert.

    rsvlm train experiment=rsmoe_tiny_scenes trainer=cpu model.router=learned
    python benchmarks/routing_moe.py --ckpt <run>/last.ckpt

Questions about pictures of the validation split, each with its own picture; then each picture with
the question of another, where kinds stay those of the picture's own: what is left is chance. The
template's routing of the same questions, which needs no training, stands beside it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import torch


def questions_of(dataset: Any, count: int) -> list[tuple[int, str, str]]:
    """Picture, kind and text of all questions about some scenes."""
    from rsvlm.synthetic.questions import questions

    return [(n, q.kind, q.text) for n in range(count) for q in questions(dataset.scene(n))]


@torch.no_grad()
def routed(model: Any, dataset: Any, asked: list[tuple[int, str, str]]) -> dict[str, float]:
    """Statistics of who is asked; the kinds are those of `asked`, whatever the words."""
    from rsvlm.data.loading.transformed import TransformedDataset
    from rsvlm.data.sample import Sample, Turn
    from rsvlm.metrics.routing import routing_statistics

    images = {n: dataset[n].images for n, _, _ in asked}
    samples = []
    for i, (n, kind, text) in enumerate(asked):
        turns = [Turn("user", text, (0,), kind=kind), Turn("assistant", "no", kind=kind)]
        samples.append(Sample(images[n], turns=turns, meta={"id": str(i)}))
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    collate = model.collate(training=False, kinds=sorted({kind for _, kind, _ in asked}))
    found: list[tuple[str, str, float]] = []
    for start in range(0, len(samples), 100):
        batch = collate([view[0, i] for i in range(start, min(len(samples), start + 100))])
        routing = model.route(batch, model.find(batch, model.tokens(batch, None)))
        for each in routing.asked:
            kind = asked[int(batch.ids[each.dialogue])][1]
            found.append((kind, model.tasks[each.task], 1.0))
    return routing_statistics(found, model.tasks)


def main() -> None:
    """Prints the statistics."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--images", type=int, default=80)
    given = parser.parse_args()
    from rsvlm.config.compose import compose
    from rsvlm.config.instantiate import instantiate
    from rsvlm.inference.build import build_model

    words = ["experiment=rsmoe_tiny_scenes", "model.router=learned", f"ckpt={given.ckpt}"]
    cfg = compose("eval", words)
    model = build_model(cfg).eval()
    dataset = instantiate(cfg.data.dataset)(split="val")
    own = questions_of(dataset, given.images)
    texts = [text for _, _, text in own]
    random.Random(0).shuffle(texts)
    other = [(n, kind, text) for (n, kind, _), text in zip(own, texts, strict=True)]
    print(f"{len(own)} questions")
    for name in ("learned", "template"):
        if name == "template":
            model.router.kind, model.router.net = "template", None
        for told, asked in (("own", own), ("shuffled", other)):
            found = routed(model, dataset, asked)
            line = ", ".join(f"{word} {value:.3f}" for word, value in found.items())
            print(f"{name}, {told} instructions: {line}")


if __name__ == "__main__":
    main()
