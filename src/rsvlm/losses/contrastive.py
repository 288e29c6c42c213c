"""Contrastive losses over the global batch: CLIP's softmax and SigLIP's sigmoid.

Each takes a model's outputs and the batch and returns `{"contrastive": scalar}`. The maths is in
float32 whatever the precision of the towers: at a temperature of 100 a bfloat16 logit is off by up
to a quarter, and the products cost next to nothing beside the towers.

With several processes, features are gathered with their gradient. Each process gives its own part
of the loss; the mean over processes is the loss of the global batch, and after the mean that
`DistributedDataParallel` takes, so are the gradients. All processes need the same batch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsvlm.errors import UserError, near
from rsvlm.nn.precision import no_autocast

DUPLICATES = ("negatives", "positives", "masked")
# Finite, so that a chunk whose logits are all left out has a defined gradient (of zero).
_LEFT_OUT = -1e30


def _world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _all_gather(local: Tensor) -> Tensor:
    """[b, ...] of each process to [world * b, ...], without gradient."""
    whole = local.new_empty(dist.get_world_size() * len(local), *local.shape[1:])
    # PyTorch 2.14 renamed both collectives.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(whole, local.contiguous())
    return whole


class _Gather(torch.autograd.Function):
    """`_all_gather` with gradient; see `gather`."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, same_everywhere: bool) -> Tensor:
        ctx.same_everywhere = same_everywhere
        return _all_gather(local)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rank, world = _world()
        if ctx.same_everywhere:
            return grad.chunk(world)[rank] * world, None
        own = grad.new_empty(len(grad) // world, *grad.shape[1:])
        reduce = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        reduce(own, grad.contiguous())
        return own, None


def gather(local: Tensor, *, same_everywhere: bool = False) -> Tensor:
    """Join the tensors of all processes, in rank order, with gradient.

    Args:
        local: [b, ...], the same shape on every process.
        same_everywhere: all processes go on to compute the very same number from the result. The
            gradients then need no communication: each is the own rows' share times their count.

    Returns:
        [world * b, ...].
    """
    return _Gather.apply(local, same_everywhere)


def caption_groups(texts: Sequence[str], device: torch.device | None = None) -> Tensor:
    """[b] int64, equal where captions are equal, on whichever process they are."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    numbers = [int.from_bytes(digest, "little", signed=True) for digest in digests]
    return torch.tensor(numbers, dtype=torch.long, device=device)


class _Pairs(nn.Module):
    """What both losses share: the features of the batch, and which captions are the same."""

    def __init__(self, *, chunk: int | None, duplicates: str) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise UserError(
                f"loss.chunk={chunk}: it must be a positive number of columns, or null."
            )
        if duplicates not in DUPLICATES:
            raise UserError(f"loss.duplicates={duplicates!r}. {near(duplicates, DUPLICATES)}")
        self.chunk = chunk
        self.duplicates = duplicates

    def _features(self, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        images, texts = outputs["image_features"].float(), outputs["text_features"].float()
        if images.shape != texts.shape:
            raise ValueError(
                f"a contrastive loss pairs row with row, but image_features are "
                f"{list(images.shape)} and text_features {list(texts.shape)}. The training collate "
                "must give one caption per image."
            )
        return images, texts

    def _groups(self, batch: Any, count: int, device: torch.device) -> Tensor | None:
        """[count] caption groups of the local batch, None where equal captions do not matter."""
        if self.duplicates == "negatives":
            return None
        texts = getattr(batch, "texts", None)
        if texts is None or len(texts) != count:
            raise ValueError(
                f"loss.duplicates={self.duplicates} compares captions: batch.texts must hold the "
                f"{count} captions of the batch."
            )
        return caption_groups(texts, device)

    def _blocks(self, block: Any, rows: Tensor, columns: Sequence[Tensor | None]) -> Tensor:
        """`block(rows, *columns)`, stacked over chunks of the columns.

        Chunks are computed again in the backward pass, so that no two of them are held at once.
        """
        if self.chunk is None:
            return block(rows, *columns).unsqueeze(0)
        pieces = [None if part is None else part.split(self.chunk) for part in columns]
        count = max(len(piece) for piece in pieces if piece is not None)
        results = []
        for index in range(count):
            part = [None if piece is None else piece[index] for piece in pieces]
            results.append(
                checkpoint(block, rows, *part, use_reentrant=False, preserve_rng_state=False)
            )
        return torch.stack(results)


class ClipLoss(_Pairs):
    """Symmetric InfoNCE (Radford et al., 2021, arXiv 2103.00020, figure 3).

    The mean of two cross entropies: each image against all texts, each text against all images.

    Args:
        local_loss: with several processes, each compares its own rows with all columns; else each
            compares all with all. Same values; the second costs world times as much.
        chunk: compute logits in blocks of that many columns, again in the backward pass, so that
            memory grows with local batch times `chunk` instead of local times global batch. Loss
            and gradients are exact.
        label_smoothing: share of the target that is spread over all columns.
        duplicates: what equal captions of other images are: `negatives`, as published;
            `positives`, which share the target evenly; `masked`, which are left out.
    """

    def __init__(
        self,
        local_loss: bool = True,
        *,
        chunk: int | None = None,
        label_smoothing: float = 0.0,
        duplicates: str = "negatives",
    ) -> None:
        super().__init__(chunk=chunk, duplicates=duplicates)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"loss.label_smoothing={label_smoothing}: it must lie in [0, 1).")
        self.local_loss = local_loss
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Mapping[str, Tensor], batch: Any = None) -> dict[str, Tensor]:
        """The loss of this process.

        Args:
            outputs: `image_features` [b, D] and `text_features` [b, D] of unit norm, row by row a
                pair; `logit_scale`, a scalar, the factor itself; `logit_bias` has no effect on a
                softmax and is not read.
            batch: has `texts`, b captions; needed only where `duplicates` is not `negatives`.

        Returns:
            `contrastive`, a float32 scalar.
        """
        with no_autocast(outputs["image_features"].device.type):
            images, texts = self._features(outputs)
            scale = outputs["logit_scale"].float()
            groups = self._groups(batch, len(images), images.device)
            all_images, all_texts, all_groups = images, texts, groups
            rank, world = _world()
            start = 0
            if world > 1:
                both = gather(torch.cat([images, texts], 1), same_everywhere=not self.local_loss)
                all_images, all_texts = both.chunk(2, dim=1)
                all_groups = None if groups is None else _all_gather(groups)
                if self.local_loss:
                    start = rank * len(images)
                else:
                    images, texts = all_images, all_texts
            to_text = self._direction(images, all_texts, scale, start, all_groups)
            to_image = self._direction(texts, all_images, scale, start, all_groups)
            return {"contrastive": (to_text + to_image) / 2}

    def _direction(
        self, rows: Tensor, columns: Tensor, scale: Tensor, start: int, groups: Tensor | None
    ) -> Tensor:
        """Mean cross entropy of rows [b, D], whose partners are columns start to start + b.

        The logits' mean under the target is a product with the target's mean column, so only the
        log-sum-exp needs the logits themselves.
        """
        mine = slice(start, start + len(rows))
        target, spread = columns[mine], columns.mean(0)
        if groups is not None:
            _, inverse, counts = groups.unique(return_inverse=True, return_counts=True)
            size = counts[inverse[mine]].unsqueeze(1)
            sums = columns.new_zeros(len(counts), columns.shape[1]).index_add(0, inverse, columns)
            same = sums[inverse[mine]]
            if self.duplicates == "positives":
                target = same / size
            else:
                spread = (columns.sum(0) - same + target) / (len(columns) - size + 1)
        target = torch.lerp(target, spread.expand_as(target), self.label_smoothing)
        masked = groups if self.duplicates == "masked" else None
        row_groups = None if masked is None else masked[mine]
        places = torch.arange(len(columns), device=columns.device)
        row_places = places[mine].unsqueeze(1)

        def log_sum_exp(
            rows: Tensor, columns: Tensor, places: Tensor, groups: Tensor | None
        ) -> Tensor:
            logits = rows @ columns.T
            if row_groups is not None:
                others = (row_groups.unsqueeze(1) == groups) & (row_places != places)
                logits = logits.masked_fill(others, _LEFT_OUT)
            return logits.logsumexp(1)

        normalisers = self._blocks(log_sum_exp, rows * scale, (columns, places, masked))
        return (normalisers.logsumexp(0) - scale * (rows * target).sum(1)).mean()


class SigLipLoss(_Pairs):
    """Pairwise sigmoid loss (Zhai et al., 2023, arXiv 2303.15343, algorithm 1).

    Each pair of an image and a text is a binary decision; the sum is divided by the batch size.
    The model needs a bias: `model.logit_bias=-10 model.logit_scale=2.3026` are the paper's values.

    Args:
        chunk: as in `ClipLoss`.
        duplicates: as in `ClipLoss`; `positives` all count as matching pairs.
    """

    def __init__(self, *, chunk: int | None = None, duplicates: str = "negatives") -> None:
        super().__init__(chunk=chunk, duplicates=duplicates)

    def forward(self, outputs: Mapping[str, Tensor], batch: Any = None) -> dict[str, Tensor]:
        """The loss of this process: its images against all texts.

        Args:
            outputs: as in `ClipLoss`, with `logit_bias`, a scalar.
            batch: as in `ClipLoss`.

        Returns:
            `contrastive`, a float32 scalar.
        """
        if outputs.get("logit_bias") is None:
            raise UserError(
                "the sigmoid loss needs a bias that the model learns: say model.logit_bias=-10 "
                "(and model.logit_scale=2.3026), as in the SigLIP paper."
            )
        with no_autocast(outputs["image_features"].device.type):
            images, texts = self._features(outputs)
            groups = self._groups(batch, len(images), images.device)
            all_groups = groups
            rank, world = _world()
            if world > 1:
                texts = gather(texts)
                all_groups = None if groups is None else _all_gather(groups)
            places = torch.arange(len(texts), device=texts.device)
            row_places = places[rank * len(images) :][: len(images)].unsqueeze(1)
            bias = outputs["logit_bias"].float()
            positives = self.duplicates == "positives"

            def block(
                rows: Tensor, columns: Tensor, places: Tensor, column_groups: Tensor | None
            ) -> Tensor:
                logits = rows @ columns.T + bias
                match, others = row_places == places, None
                if groups is not None and column_groups is not None:
                    same = groups.unsqueeze(1) == column_groups
                    match, others = (same, None) if positives else (match, same & ~match)
                losses = F.softplus(torch.where(match, -logits, logits))
                return (losses if others is None else losses.masked_fill(others, 0.0)).sum()

            rows = images * outputs["logit_scale"].float()
            parts = self._blocks(block, rows, (texts, places, all_groups))
            return {"contrastive": parts.sum() / len(images)}
