"""One question to a model that writes, about pictures, with what was said before."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Answer, Layout, Picture, Sample, Turn
from rsvlm.errors import UserError
from rsvlm.models.protocols import Generator


def ask(
    model: Generator, pictures: Sequence[Picture], prompt: str = "", history: Sequence[Turn] = ()
) -> Answer:
    """The model's answer.

    Args:
        model: a model of the zoo that writes.
        pictures: what is shown; before and after for a model of two dates.
        prompt: the question; a captioner takes none, and a model that `describes` needs none.
        history: earlier turns, whose questions say which pictures they showed; the others are shown
            with this question.

    Raises:
        UserError: a question where the model takes none, none where it needs one, or a number of
            pictures that it does not take.
    """
    # What a recipe learns from is no limit to what may be asked.
    collate = model.collate(training=False, kinds="all")
    if not model.takes_prompt:
        if prompt.strip() or history:
            raise UserError(
                f"a {type(model).__name__} describes what changed and takes no question: leave "
                "prompt= out."
            )
        if len(pictures) != 2:
            raise UserError(
                f"a {type(model).__name__} compares two dates, before= and after=; "
                f"{len(pictures)} picture(s) were given."
            )
    elif not prompt.strip() and not model.describes:
        raise UserError('the question is empty: give prompt="What has changed?".')
    layout: Layout = "before_after" if len(pictures) == 2 else "single"
    if len(pictures) > 2:
        layout = "interleaved"
    shown = {i for turn in history for i in turn.image_ids}
    turns = list(history)
    if model.takes_prompt:
        # What no earlier question showed is shown with this one.
        fresh = tuple(i for i in range(len(pictures)) if i not in shown)
        turns.append(Turn("user", prompt, fresh))
    sample = Sample(list(pictures), layout=layout, turns=turns, meta={"id": "the question"})
    view = TransformedDataset([sample], model.preprocess, training=False, caption="all")
    item = view[(0, 0)]
    if not isinstance(item, TransformedSample):
        raise UserError(item.reason)
    batch = collate([item])
    if not len(batch):
        told = "; ".join(batch.skipped).removeprefix("sample 'the question': ")
        raise UserError(f"the question cannot be asked: {told}")
    device = next(model.parameters()).device
    with torch.no_grad():
        return model.generate(batch.to(device))[0]
