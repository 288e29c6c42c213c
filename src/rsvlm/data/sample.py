"""The one record that flows from data sets to models, and the one that flows back.

A data set yields `Sample`s and knows no tokenizer; a collate turns samples into a typed batch; a
model answers with `Answer`s. Everything is checked here, at the edge, so that no later code has to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from rsvlm.errors import UserError

Layout = Literal["single", "before_after", "frames", "interleaved"]
Role = Literal["system", "user", "assistant"]
Picture = Image.Image | torch.Tensor


class SampleError(UserError):
    """A sample that must not reach a model: says which one, what is wrong and what to do."""

    code = "bad_sample"


@dataclass(slots=True)
class Turn:
    """One utterance of a dialogue.

    Attributes:
        role: who speaks.
        text: what is said; never contains an image placeholder, `image_ids` does that.
        image_ids: positions in `Sample.images` that the turn shows, in order.
        instance_ids: ids in `Sample.instances` that the turn speaks of.
        kind: the task identifier of the source (`refer`, `vqa`, ...), free text.
    """

    role: Role
    text: str
    image_ids: tuple[int, ...] = ()
    instance_ids: tuple[int, ...] = ()
    kind: str | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise SampleError(f"Turn.role is {self.role!r}; it must be one of {get_args(Role)}.")


@dataclass(slots=True)
class Instance:
    """One object of an image.

    Attributes:
        id: unique within the sample.
        category: class name.
        category_id: index of the class in its data set, where it has one.
        phrase: a referring expression for exactly this object.
        box: (x0, y0, x1, y1) in pixels of the image as stored, x1 > x0, y1 > y0.
        angle: degrees, counter-clockwise, of an oriented box whose unrotated form is `box`.
        mask: [H, W] bool, at the size of the image as stored.
        image_id: which of the sample's images it lies in.
    """

    id: int
    category: str
    category_id: int | None = None
    phrase: str | None = None
    box: tuple[float, float, float, float] | None = None
    angle: float | None = None
    mask: np.ndarray | None = None
    image_id: int = 0

    def __post_init__(self) -> None:
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if not (x1 > x0 and y1 > y0):
                raise SampleError(
                    f"instance {self.id} has box {self.box}: a box is (x0, y0, x1, y1) in absolute "
                    "pixels with x1 > x0 and y1 > y0. Is the source in xywh or in fractions?"
                )
        if self.mask is not None and (self.mask.ndim != 2 or self.mask.dtype != np.bool_):
            raise SampleError(
                f"instance {self.id} has a mask of shape {self.mask.shape} and type "
                f"{self.mask.dtype}: a mask is [H, W] bool."
            )


@dataclass(slots=True)
class Sample:
    """Images and everything said of them.

    Attributes:
        images: PIL images or uint8 [3, H, W] tensors; sizes may differ.
        layout: how the images belong together.
        texts: captions, as the data set words them.
        turns: a dialogue.
        instances: objects with boxes and masks.
        semantic: one [H, W] integer map per date.
        label: index of the scene class.
        meta: `id`, `dataset`, `split`, `licence`, and where known `gsd` (metres), `lonlat`, `crs`,
            `transform`, `window`, `dates`, `sensor`; unknown keys are kept.

    Raises:
        SampleError: a part does not hold to the above.
    """

    images: list[Picture]
    layout: Layout = "single"
    texts: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    semantic: list[np.ndarray] = field(default_factory=list)
    label: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        who = f"sample {self.meta.get('id', '?')!r} of {self.meta.get('dataset', '?')!r}"
        if self.layout not in get_args(Layout):
            raise SampleError(f"{who}: layout {self.layout!r} is none of {get_args(Layout)}.")
        expected = {"single": 1, "before_after": 2}.get(self.layout)
        if expected is not None and len(self.images) != expected:
            raise SampleError(
                f"{who}: layout {self.layout!r} needs {expected} image(s), got {len(self.images)}."
            )
        for image in self.images:
            if isinstance(image, torch.Tensor) and (
                image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3
            ):
                raise SampleError(
                    f"{who}: an image tensor is uint8 [3, H, W], got {image.dtype} "
                    f"{list(image.shape)}. Scale and order the bands in the reader."
                )
        if not all(isinstance(text, str) for text in self.texts):
            raise SampleError(f"{who}: `texts` holds something that is not a string.")
        for turn in self.turns:
            if any(not 0 <= i < len(self.images) for i in turn.image_ids):
                raise SampleError(
                    f"{who}: a turn shows image {turn.image_ids}, which is not there."
                )


@dataclass(slots=True)
class Part:
    """What one expert of several gave to an answer.

    Attributes:
        expert: its task.
        prompt: what it was asked.
        text: what it wrote; empty where it had nothing to say.
        weight: how much it counted.
        score: of its text, as of an `Answer`.
    """

    expert: str
    prompt: str
    text: str
    weight: float = 1.0
    score: float | None = None


@dataclass(slots=True)
class Passage:
    """A text of a knowledge base that a model was given with a question.

    Attributes:
        record: id of the record that it is of.
        type: of the text, such as `basic_info_and_history`.
        text: as it was given.
        span: first and last character within the record's whole text of that type.
        score: by which it was chosen.
        cited: whether the answer cites it.
    """

    record: str
    type: str
    text: str
    span: tuple[int, int]
    score: float
    cited: bool = False


@dataclass(slots=True)
class Answer:
    """What a model gives back for one sample; a field is empty unless the model gives it.

    Attributes:
        text: the answer.
        score: its score; the model's docstring says which (log-probability, cosine, ...).
        candidates: (text, score) pairs, best first.
        boxes: (x0, y0, x1, y1) in pixels of the original image.
        angles: of `boxes`, in degrees, counter-clockwise about the box's centre, None of an upright
            one; empty where all are upright.
        masks: [H, W] bool at the original size.
        mask_scores: of `masks`: the mean probability of a mask's pixels.
        mask_classes: of `masks`, where the model has a class memory: the class that it read, and
            where that is from: `user`, `text` or `fallback`.
        notes: sentences on what the answer leaves out.
        retrieved: (id, score) pairs, best first.
        sources: where retrieved knowledge comes from.
        passages: what a model with a knowledge base was given, best first.
        own_records: ids of the base's records on the question's own picture; None of a model
            without a base.
        finished: False where a generated text was cut at its greatest length.
        parts: what each expert gave to it, of a model with experts.
        asked: of a model behind an endpoint: `tokens` of question and answer, as it counts them,
            and `note`, why there is no text.
    """

    text: str = ""
    score: float | None = None
    candidates: list[tuple[str, float]] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    angles: list[float | None] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    mask_scores: list[float] = field(default_factory=list)
    mask_classes: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    retrieved: list[tuple[str, float]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    own_records: list[str] | None = None
    finished: bool = True
    parts: list[Part] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
