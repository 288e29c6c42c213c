"""What the exports of grounding data sets share."""

from __future__ import annotations

from typing import Any

from rsvlm.data.sample import Instance, Picture, Sample, Turn


def asked(sample: Sample) -> list[Instance]:
    """The objects of a scene that have a phrase of their own."""
    return [instance for instance in sample.instances if instance.phrase]


def questions(instances: list[Instance]) -> list[Turn]:
    """A question and its answer for each phrase."""
    turns = []
    for instance in instances:
        if instance.phrase is not None:
            turns.append(Turn("user", instance.phrase, (0,), kind="refer"))
            turns.append(Turn("assistant", instance.phrase, (), (instance.id,), kind="refer"))
    return turns


def refer(images: list[Picture], instance: Instance, meta: dict[str, Any]) -> Sample:
    """A sample that is one phrase about one picture."""
    return Sample(images=images, instances=[instance], turns=questions([instance]), meta=dict(meta))
