"""A batch of dialogues over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from rsvlm.data.geometry import Geometry
from rsvlm.data.sample import Instance, SampleError


@dataclass(slots=True)
class ChatBatch:
    """B dialogues over N images; several dialogues may show the same image.

    Attributes:
        images: uint8 [N, 3, H, W].
        image_rows: for each dialogue the rows of `images` that it shows, in order.
        input_ids: [B, L] long; padded right in training, left for generation.
        attention_mask: [B, L] long, 0 on padding.
        labels: [B, L] long, -100 outside of answers.
        prompts: what is asked, as written with history, without marks.
        answers: the last answer of each dialogue, "" where there is none.
        references: all right answers of each dialogue: its last answer, or all captions.
        targets: for each dialogue the instances that its last answer speaks of, in pixels of the
            image as stored, without masks.
        instructions: what a Q-Former reads.
        instruction_ids: [B, T] long and
        instruction_mask: [B, T] long, of a Q-Former's tokenizer; None without one.
        kinds: the task word of each dialogue's last question.
        index: [B] long, positions in the data set.
        ids: the samples' names.
        geometry: for each dialogue, where the pixels of its images went.
        truncated: dialogues that lost history or the end of an answer.
        lost: questions left out because a transform cut their objects away.
        skipped: one sentence for each sample or dialogue that could not be used.
    """

    images: torch.Tensor
    image_rows: list[tuple[int, ...]]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    prompts: list[str]
    answers: list[str]
    references: list[list[str]]
    targets: list[list[Instance]]
    instructions: list[str]
    instruction_ids: torch.Tensor | None
    instruction_mask: torch.Tensor | None
    kinds: list[str | None]
    index: torch.Tensor
    ids: list[str]
    geometry: list[tuple[Geometry, ...]]
    truncated: int
    lost: int
    skipped: list[str]

    def __len__(self) -> int:
        """The number of dialogues."""
        return len(self.input_ids)

    @property
    def grouped(self) -> torch.Tensor:
        """The images by dialogue, uint8 [B, K, 3, H, W], where each shows K of them.

        Raises:
            SampleError: dialogues show different numbers of images.
        """
        counts = {len(rows) for rows in self.image_rows}
        if len(counts) > 1:
            raise SampleError(
                f"this model takes the same number of images for each dialogue; a batch holds "
                f"dialogues of {', '.join(map(str, sorted(counts)))} images."
            )
        rows = torch.tensor(self.image_rows, dtype=torch.long, device=self.images.device)
        return self.images[rows.reshape(len(self), max(counts, default=0))]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The batch in page-locked memory; DataLoader calls this."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        names = self.__dataclass_fields__
        moved: dict[str, Any] = {
            n: function(v) for n in names if isinstance(v := getattr(self, n), torch.Tensor)
        }
        return replace(self, **moved)


def padded(rows: Sequence[Sequence[int]], fill: int, *, left: bool = False) -> torch.Tensor:
    """Rows as one table [B, L] long, filled up on the right or left."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), fill, dtype=torch.long)
    for i, row in enumerate(rows):
        new = torch.tensor(row, dtype=torch.long)
        if left:
            out[i, out.shape[1] - len(row) :] = new
        else:
            out[i, : len(row)] = new
    return out
