"""One question to a model that writes, about pictures, with what was said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

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
    _allow(model, len(pictures), prompt, history)
    items = [_item(model, pictures, prompt, history, "the question")]
    (answer,) = _answers(model, items).values()
    if isinstance(answer, str):
        raise UserError(f"the question cannot be asked: {answer}")
    return answer


def ask_many(
    model: Generator, samples: Mapping[str, Sequence[Picture]], prompt: str = ""
) -> dict[str, Answer | str]:
    """The answers to one question about many pictures, or pairs of them, in one batch.

    Args:
        model: see `ask`.
        samples: id -> what is shown.
        prompt: see `ask`.

    Returns:
        Id -> answer, or a sentence on why the picture cannot be asked about.

    Raises:
        UserError: see `ask`.
    """
    for pictures in samples.values():
        _allow(model, len(pictures), prompt, ())
    items = [_item(model, pictures, prompt, (), id) for id, pictures in samples.items()]
    return _answers(model, items)


def _allow(model: Generator, count: int, prompt: str, history: Sequence[Turn]) -> None:
    """Holds a question against what the model takes."""
    name = type(model).__name__
    if not model.takes_prompt and (prompt.strip() or history):
        raise UserError(
            f"a {name} describes what changed and takes no question: leave prompt= out."
        )
    if model.bitemporal and count != 2:
        raise UserError(
            f"a {name} compares two dates, before= and after=; {count} picture"
            f"{'s were' if count != 1 else ' was'} given. Give before=<picture> after=<picture>."
        )
    if model.takes_prompt and not prompt.strip() and not model.describes:
        raise UserError(
            'the question is empty: give prompt="What has changed?".'
            if model.bitemporal
            else 'the question is empty: give prompt="What is in the picture?".'
        )


def _item(
    model: Generator, pictures: Sequence[Picture], prompt: str, history: Sequence[Turn], id: str
) -> TransformedSample:
    layout: Layout = "before_after" if len(pictures) == 2 else "single"
    if len(pictures) > 2:
        layout = "interleaved"
    shown = {i for turn in history for i in turn.image_ids}
    turns = list(history)
    if model.takes_prompt:
        # What no earlier question showed is shown with this one.
        fresh = tuple(i for i in range(len(pictures)) if i not in shown)
        turns.append(Turn("user", prompt, fresh))
    sample = Sample(list(pictures), layout=layout, turns=turns, meta={"id": id})
    view = TransformedDataset([sample], model.preprocess, training=False, caption="all")
    item = view[(0, 0)]
    if not isinstance(item, TransformedSample):
        raise UserError(item.reason)
    return item


def _answers(model: Generator, items: Sequence[TransformedSample]) -> dict[str, Answer | str]:
    # What a recipe learns from is no limit to what may be asked.
    batch = model.collate(training=False, kinds="all")(items)
    found: dict[str, Answer | str] = {}
    if len(batch):
        assert isinstance(model, nn.Module)
        device = next(model.parameters()).device
        with torch.no_grad():
            answers = model.generate(batch.to(device))
        found = dict(zip(batch.ids, answers, strict=True))
    for item in items:
        id = str(item.sample.meta["id"])
        front = f"sample {id!r}: "
        why = [text.removeprefix(front) for text in batch.skipped if text.startswith(front)]
        found.setdefault(id, "; ".join(why or batch.skipped) or "it was left out")
    return found
