"""What the change captioners share: two dates in, a caption out.

A model file gives `memories(batch)`, what the decoder reads; this class does the rest.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.data.collate.change_captions import ChangeCollate
from rsvlm.data.sample import Answer
from rsvlm.data.text.vocabulary import Vocabulary as Words
from rsvlm.data.transforms import Squash
from rsvlm.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD, prepare
from rsvlm.errors import UserError, near
from rsvlm.models.base import GenerativeModel
from rsvlm.models.change_captioning.attention import batch_norms
from rsvlm.models.change_captioning.beam_search import Hypothesis, beam_search
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.protocols import Kinds

BATCH_NORM = ("train", "frozen")
Triple = tuple[float, float, float]
#: Per-channel mean and deviation of images in 0..1. Those of data sets are Chg2Cap's, which states
#: them for pixels in 0..255.
NORMALIZE: dict[str, tuple[Triple, Triple]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "levir_cc": ((0.394820, 0.390205, 0.333307), (0.199929, 0.190133, 0.175316)),
    "dubai_cc": ((0.612039, 0.451333, 0.361059), (0.300039, 0.204157, 0.174196)),
}


class ChangeCaptioner(GenerativeModel):
    """Images of two dates, an encoder of their difference, a caption decoder.

    Args:
        decoder: the caption decoder.
        normalize: whose mean and deviation images are normalised with, of `NORMALIZE`; `none`
            leaves them in 0..1.
        batch_norm: `train` computes batch statistics in training, date by date, as published;
            `frozen` keeps the running ones, so that the size of the batch, and how it is spread
            over processes, changes nothing.
        start: id of the start word; by default the last but one, as in the published word maps.
        end: id of the end word; by default the last.
        pad: id of the padding.
        steps: most words of a caption, the end included.
        image_size: side that images are resized to, pixels.
        words: the vocabulary, see `set_words`; start, end and padding are then its own.

    Attributes:
        words: the vocabulary, which `generate` writes with.
    """

    dialects: Any = ()
    takes_prompt = False
    bitemporal = True
    #: Whether the memories' places run down the columns.
    transposed = False

    def __init__(
        self,
        decoder: CaptionDecoder,
        *,
        normalize: str = "imagenet",
        batch_norm: str = "train",
        start: int | None = None,
        end: int | None = None,
        pad: int = 0,
        steps: int = 51,
        image_size: int = 256,
        words: Words | None = None,
    ) -> None:
        super().__init__()
        for word, value, known in (
            ("normalize", normalize, NORMALIZE),
            ("batch_norm", batch_norm, BATCH_NORM),
        ):
            if value not in known:
                raise UserError(f"model.{word}={value!r}. {near(value, known)}")
        self.decoder = decoder
        self.normalize, self.batch_norm = normalize, batch_norm
        if words is not None:
            start, end, pad = words.start, words.end, words.pad
        self.start = decoder.vocab_size - 2 if start is None else start
        self.end = decoder.vocab_size - 1 if end is None else end
        self.pad, self.steps = pad, steps
        self.image_size = image_size
        if words is not None:
            self.set_words(words)

    @property
    def mean(self) -> Triple:
        """Per-channel mean that is taken off images in 0..1."""
        return NORMALIZE[self.normalize][0]

    @property
    def std(self) -> Triple:
        """Per-channel deviation that images are divided by."""
        return NORMALIZE[self.normalize][1]

    def set_words(self, words: Words) -> None:
        """Take the vocabulary of the data, such as a `data.vocabulary.Vocabulary`.

        Raises:
            UserError: it is not the one that the model is built for.
        """
        size = self.decoder.vocab_size
        if len(words) != size:
            raise UserError(
                f"the vocabulary has {len(words)} words and the model {size}: build it with "
                f"+model.vocab_size={len(words)}, or read the word map it was trained with."
            )
        mine, theirs = ((x.start, x.end, x.pad) for x in (self, words))
        if mine != theirs:
            raise UserError(
                f"start, end and padding are {theirs} in the vocabulary and {mine} in the model: "
                "one of them is in RSICCformer's order and the other in Chg2Cap's."
            )
        self.words = words

    @property
    def tokenizer(self) -> Words:
        """The vocabulary, with `encode` and `decode`.

        Raises:
            UserError: the model has none.
        """
        if self.words is None:
            raise UserError(
                "the model has no words to write with: give it the vocabulary that it was trained "
                "with, model.set_words(Vocabulary.read(<word map>))."
            )
        return self.words

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> ChangeCollate:
        """From samples to a batch; the captions' ids are those of the model's words.

        For the arguments see `models.protocols.Generator`; a model that is asked nothing needs
        none of them, and evaluation reads the same batch as training and leaves its ids alone.
        """
        del training, kinds, instructions
        return ChangeCollate(self.words, max_words=self.steps - 1)

    @property
    def preprocess(self) -> Squash:
        """Resizes both dates; normalisation is the model's own."""
        return Squash(self.image_size)

    def train(self, mode: bool = True) -> ChangeCaptioner:
        """Switches the mode; `frozen` batch norm stays in eval mode."""
        super().train(mode)
        if self.batch_norm == "frozen":
            for norm in batch_norms(self):
                norm.eval()
        return self

    def dates(self, tower: nn.Module, images: Tensor) -> Tensor:
        """Features of both dates, [B, 2, D, h, w].

        While batch statistics are learned each date is a batch of its own, as published; otherwise
        both go through the tower together.

        Args:
            tower: [N, 3, H, W] to [N, D, h, w].
            images: [B, 2, 3, H, W]; uint8 is scaled and normalised here, float taken as ready.
        """
        images = prepare(images, self.mean, self.std)
        if self.training and self.batch_norm == "train":
            return torch.stack([tower(images[:, date]) for date in (0, 1)], dim=1)
        return tower(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def memories(self, batch: Any) -> list[Tensor]:
        """What the decoder reads of a batch, [B, S, D] each."""
        raise AssertionError("a model file gives this")

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Teacher-forced logits.

        Args:
            batch: `images` [B, 2, 3, H, W], `input_ids` [B, L] from start to end and padded,
                `caption_lengths` [B] with start and end.

        Returns:
            `logits` [B, T, V], T the longest caption's length minus 1; row t predicts word t + 1.
        """
        length = int(batch.caption_lengths.max()) - 1
        return {"logits": self.decoder(self.memories(batch), batch.input_ids[:, :length])}

    @torch.no_grad()
    def hypotheses(
        self,
        batch: Any,
        *,
        beam_size: int = 4,
        steps: int | None = None,
        exhaustive: bool = False,
    ) -> list[list[Hypothesis]]:
        """Generated ids for each pair of the batch, best first; see `beam_search`."""
        with evaluating(self):
            memory = self.memories(batch)
            return beam_search(
                self.decoder.begin(memory),
                len(memory[0]),
                start=self.start,
                end=self.end,
                beam_size=beam_size,
                steps=steps or self.steps,
                exhaustive=exhaustive,
                device=memory[0].device,
            )

    def generate(
        self,
        batch: Any,
        *,
        beam_size: int = 4,
        steps: int | None = None,
        candidates: bool = False,
    ) -> list[Answer]:
        """Captions of a batch.

        Args:
            batch: as for `forward`; its captions are not read.
            beam_size: beams; 1 is greedy.
            steps: most words, the end included.
            candidates: give every sequence that ended, not the best alone.

        Returns:
            For each pair the caption and its summed log-probability; `finished` is False where no
            beam ended within `steps` words.

        Raises:
            UserError: the model has no vocabulary.
        """
        words, answers = self.tokenizer, []
        found = self.hypotheses(batch, beam_size=beam_size, steps=steps, exhaustive=candidates)
        for best, *others in found:
            texts = [(words.decode(h.ids), h.score) for h in (best, *others)]
            answers.append(
                Answer(
                    text=texts[0][0],
                    score=best.score,
                    candidates=texts if candidates else [],
                    finished=best.finished,
                )
            )
        return answers

    @torch.no_grad()
    def attention(self, batch: Any, hypotheses: Sequence[Hypothesis]) -> list[Tensor]:
        """Where the decoder looked for each word of one caption per pair.

        Args:
            batch: as for `forward`.
            hypotheses: one of each pair.

        Returns:
            For each pair [memories, T, S], mean over heads, T its words and the end.
        """
        with evaluating(self):
            memory = self.memories(batch)
            longest = max(len(h.ids) for h in hypotheses) + 1
            ids = torch.full((len(hypotheses), longest), self.pad, dtype=torch.long)
            for row, h in enumerate(hypotheses):
                ids[row, : len(h.ids) + 1] = torch.tensor((self.start, *h.ids))
            weights = self.decoder.attention(memory, ids.to(memory[0].device))
        return [weights[:, row, : len(h.ids) + 1] for row, h in enumerate(hypotheses)]

    @torch.no_grad()
    def maps(self, batch: Any) -> dict[str, Tensor]:
        """What a caption rests on, [B, G, G] each; for pictures.

        Args:
            batch: as for `forward`; its captions are not read.

        Returns:
            `difference`, the length of the difference of the dates' image features; `attention`
            for each memory the decoder reads (`attention_maps` for that of semantic maps), its mean
            over the words of the greedy caption.
        """
        with evaluating(self):
            tower: Any = self.get_submodule("rgb")
            before, after = self.dates(tower, batch.images).unbind(1)
            best = [each[0] for each in self.hypotheses(batch, beam_size=1)]
            looks = torch.stack([each.mean(1) for each in self.attention(batch, best)], dim=1)
        side = math.isqrt(looks.shape[2])
        found = {"difference": (after - before).float().norm(dim=1)}
        for name, grid in zip(("attention", "attention_maps"), looks, strict=False):
            square = grid.unflatten(1, (side, side))
            found[name] = square.transpose(1, 2) if self.transposed else square
        return found


def vocabulary_size(size: int | None, words: Words | None) -> int:
    """How many words a decoder is built for.

    Raises:
        UserError: neither a size nor a vocabulary is given.
    """
    if size is None and words is None:
        raise UserError(
            "the model needs its words: model.words.path=<word map> (or data: the words of the "
            "training captions), or a bare size with +model.vocab_size=<number>."
        )
    return size if size is not None else len(words or ())


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, every part's own mode again afterwards."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, training in modes:
            each.training = training
