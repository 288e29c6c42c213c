"""Captions as a model reads them that finds images: the start token, the words, [RET]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import SampleError
from rsvlm.data.text.instructions import InstructionTemplates
from rsvlm.data.text.prompt_formats import Dialogue

RET = "[RET]"


class CaptionInstructions:
    """A sample's own dialogues, and a caption for its images where it has captions.

    Args:
        prompt: what is asked for a caption.
        of: the system, see `data.text.instructions.InstructionTemplates`, as `options`.
    """

    def __init__(self, prompt: str = "", of: str = "fromage", **options: Any) -> None:
        self.prompt, self.instructions = prompt, InstructionTemplates(of, **options)

    def __call__(self, item: TransformedSample, draws: np.random.Generator) -> list[Dialogue]:
        """See `data.text.instructions.InstructionTemplates`."""

        def asked(turn: Any) -> Any:
            unasked = turn.role == "user" and not turn.text
            return replace(turn, text=self.prompt) if unasked else turn

        return [[asked(turn) for turn in turns] for turns in self.instructions(item, draws)]


class RetTokenizer:
    """Texts to ids [T, L] for `data.collate.PairCollate`; [RET] is the largest id of each row.

    Args:
        tokenizer: a language model's, of transformers, with [RET] in its vocabulary.
        ret_id: the id of [RET].
        context_length: most ids of a text, the two marks included; longer ones keep [RET].
    """

    def __init__(self, tokenizer: Any, ret_id: int, context_length: int) -> None:
        self.tokenizer, self.ret_id, self.context_length = tokenizer, ret_id, context_length

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        """Ids, padded with 0.

        Raises:
            SampleError: a text without words, or one that holds [RET] itself.
        """
        length = context_length or self.context_length
        start = self.tokenizer.bos_token_id
        first = [] if start is None else [start]
        out = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(text, add_special_tokens=False) if text.strip() else []
            if not ids:
                raise SampleError(
                    f"caption {text!r} has no words: there is nothing to write and nothing to find."
                )
            if any(token >= self.ret_id for token in ids):
                raise SampleError(
                    f"caption {text[:80]!r} holds {RET} itself, which marks where a caption ends. "
                    "Take it out of the data set."
                )
            ids = [*first, *ids][: length - 1]
            out[row, : len(ids) + 1] = torch.tensor([*ids, self.ret_id])
        return out
