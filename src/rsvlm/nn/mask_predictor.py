"""From a language model's states at [SEG] tokens and an image's features to masks, for all objects.

PixelLM's and GeoPix's predictor: each object has `tokens` states for each of `levels` scales, which
are mapped, weighed and summed to one prompt a scale; the masks of all scales are weighed and summed
on one canvas. With one level and one token it is LISA's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.nn.class_memory import ClassMemory
from rsvlm.nn.length_buckets import in_shards
from rsvlm.nn.mask_decoder import MaskDecoder, PromptEncoder


@dataclass(slots=True)
class Masks:
    """Masks of n objects.

    Attributes:
        logits: [n, S, S] in float32, above 0 within the object.
        levels: of each scale, [n, 1, h, w].
    """

    logits: Tensor
    levels: list[Tensor]


class MaskPredictor(nn.Module):
    """See the head of this file.

    Args:
        dim_text: width of the language model.
        dim: width of prompts and features.
        grid: side of the features.
        image_size: side of the image, pixels.
        canvas: side of the masks.
        levels: scales.
        tokens: states of an object for each scale.
        token_weight: the weight of a state at the start; None for 1 / tokens. A single token has no
            scalar in published files, so its weight goes into the layer before it.
        memory: a class memory of the same width and levels; None has none.
        decoder: a `MaskDecoder`; None builds the published one.
        mask_channels: of the prompt encoder.
        train_prompts: train what a missing mask is given as.
        chunk: most objects in one pass where nothing is learned.

    Raises:
        UserError: parts that do not fit each other.
    """

    def __init__(
        self,
        dim_text: int,
        *,
        dim: int = 256,
        grid: int = 32,
        image_size: int = 448,
        canvas: int = 128,
        levels: int = 2,
        tokens: int = 3,
        token_weight: float | None = None,
        memory: ClassMemory | None = None,
        decoder: MaskDecoder | None = None,
        mask_channels: int = 16,
        train_prompts: bool = True,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        decoder = MaskDecoder(dim, levels=levels) if decoder is None else decoder
        for what, theirs in (("memory", memory), ("mask decoder", decoder)):
            if theirs is not None and theirs.levels != levels:
                raise UserError(
                    f"the {what} has {theirs.levels} levels and the predictor {levels}: give both "
                    "the same number."
                )
        if memory is not None and memory.variant != "none" and memory.dim != dim:
            raise UserError(
                f"model.memory.dim={memory.dim} and model.masks.dim={dim}: the memory is read by "
                "the features, so give both the same width."
            )
        self.levels, self.tokens, self.canvas, self.chunk = levels, tokens, canvas, chunk
        self.grid = grid
        self.text = nn.Sequential(
            nn.Linear(dim_text, dim_text), nn.ReLU(), nn.Linear(dim_text, dim)
        )
        self.prompt_encoder = PromptEncoder(
            dim, grid, image_size, mask_channels=mask_channels, train=train_prompts
        )
        self.decoder, self.memory = decoder, memory
        start = 1 / tokens if token_weight is None else token_weight
        # Scalars by themselves, as published files have them.
        self.token_weights = _scalars(tokens if tokens > 1 else 0, start)
        self.level_weights = _scalars(levels if levels > 1 else 0, 1 / levels)
        if tokens == 1 and token_weight is not None:
            with torch.no_grad():
                for parameter in self.text[-1].parameters():
                    parameter.mul_(token_weight)

    def prompts(self, hidden: Tensor) -> Tensor:
        """One prompt for each object and scale.

        Args:
            hidden: [n, levels * tokens, dim_text], scale by scale.

        Returns:
            [n, levels, dim].
        """
        rows = self.text(hidden.to(next(self.text.parameters()).dtype)).unflatten(
            1, (self.levels, self.tokens)
        )
        if not len(self.token_weights):
            return rows.sum(2)
        weights = torch.stack(list(self.token_weights)).to(rows.dtype)
        return torch.einsum("nltd,t->nld", rows, weights)

    def forward(
        self,
        features: Sequence[Tensor],
        prompts: Tensor,
        rows: Tensor,
        classes: Tensor | None = None,
    ) -> Masks:
        """Masks of all objects of all images, in one pass.

        Args:
            features: for each level [M, dim, grid, grid] of M images.
            prompts: [n, levels, dim].
            rows: [n] long, the image of each object.
            classes: [n] long, its class in the memory; None for a predictor without one.

        Returns:
            Masks of n objects; none at all with a defined gradient.
        """
        count = len(rows)
        if not count:
            # One for nothing, so that every weight has a gradient in each process.
            nothing = rows.new_zeros(1)
            prompt = prompts.new_zeros(1, *prompts.shape[1:]) + prompts.sum()
            found = self._decode(features, prompt, nothing, nothing)
            return Masks(found.logits[:0], [mask[:0] for mask in found.levels])
        # In shards as many passes as other processes: one.
        if torch.is_grad_enabled() or count <= self.chunk or in_shards(self):
            return self._decode(features, prompts, rows, classes)
        parts = [
            self._decode(features, prompts[part], rows[part], _at(classes, part))
            for part in torch.arange(count, device=rows.device).split(self.chunk)
        ]
        levels = [torch.cat(level) for level in zip(*(part.levels for part in parts), strict=True)]
        return Masks(torch.cat([part.logits for part in parts]), levels)

    def _decode(
        self, features: Sequence[Tensor], prompts: Tensor, rows: Tensor, classes: Tensor | None
    ) -> Masks:
        positions, dense = self.prompt_encoder.positions(), self.prompt_encoder.dense()
        remembers = self.memory is not None and self.memory.variant != "none"
        found: list[Tensor] = []
        total: Tensor | None = None
        for level in range(self.levels):
            images = features[level][rows]
            prompt = prompts[:, level, None]
            before = found[-1] if found else None

            def draw(
                seen: Tensor,
                prompt: Tensor = prompt,
                level: int = level,
                before: Tensor | None = before,
            ) -> Tensor:
                return self.decoder(seen, prompt, positions, dense, level=level, before=before)[0]

            if remembers:
                assert self.memory is not None and classes is not None
                side = (4 * self.grid, 4 * self.grid)
                images = self.memory(images, resized(draw(images), side), classes, level)
            mask = draw(images)
            found.append(mask)
            # In float32 from here on: what is small beside the threshold is lost in half of it.
            drawn = resized(mask.float(), (self.canvas, self.canvas))[:, 0]
            if len(self.level_weights):
                drawn = drawn * self.level_weights[level].to(drawn.dtype)
            total = drawn if total is None else total + drawn
        assert total is not None
        return Masks(total, found)


def resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [n, m, h, w] at another size, bilinear."""
    if masks.shape[-2:] == torch.Size(size):
        return masks
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def mask_scores(logits: Tensor) -> Tensor:
    """How sure a mask is: the mean probability of its pixels; 0 of an empty one.

    Args:
        logits: [n, H, W].

    Returns:
        [n] in 0..1.
    """
    inside = logits > 0
    chances = torch.where(inside, logits.float().sigmoid(), 0.0)
    return chances.flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)


def _scalars(count: int, value: float) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.tensor(float(value))) for _ in range(count))


def _at(classes: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if classes is None else classes[rows]
