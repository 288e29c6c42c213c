"""Masks of the true answers: what a model draws where its words are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rsvlm.data.sample import Answer
from rsvlm.encoders.generation import Generated


@torch.no_grad()
def teacher_forced(model: Any, batch: Any, classes: Sequence[str] = ()) -> list[Answer]:
    """Answers whose text is the true one, with the masks that the model draws for it.

    LISA's own evaluation measures so; the rate of answers without a mask cannot be seen in it.

    Args:
        model: a `PixelModel`.
        batch: of its `collate(training=False)`.
        classes: see `PixelModel.generate`.
    """
    mode = model.training
    model.eval()
    try:
        tokens = model.tokens(batch)
        full, start = _with_answers(batch)
        embedded = model.merge_embeddings(full, model.project(full, tokens))
        hidden, _ = model.lm.states(embedded.inputs_embeds, embedded.attention_mask)
        texts = [
            [Generated(ids, 0.0, True, states=hidden[i, start - 1 : start - 1 + len(ids)])]
            for i, ids in enumerate(batch.answer_ids)
        ]
        return model._answers(replace(batch, said=list(classes)), tokens, texts)
    finally:
        model.train(mode)


def _with_answers(batch: Any) -> tuple[Any, int]:
    """Prompts padded on the left with their answers padded on the right, and where these start."""
    longest = max((len(ids) for ids in batch.answer_ids), default=0)
    shape = (len(batch.input_ids), longest)
    ids, mask = batch.input_ids.new_zeros(shape), batch.attention_mask.new_zeros(shape)
    for i, row in enumerate(batch.answer_ids):
        ids[i, : len(row)] = torch.tensor(row, dtype=ids.dtype)
        mask[i, : len(row)] = 1

    def joined(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], dim=1)

    input_ids = joined(batch.input_ids, ids)
    full = SimpleNamespace(
        image_rows=batch.image_rows,
        input_ids=input_ids,
        attention_mask=joined(batch.attention_mask, mask),
        labels=torch.full_like(input_ids, -100),
    )
    return full, batch.input_ids.shape[1]
