"""What bridges share whose Q-Former reads an instruction beside the images: its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from rsvlm.encoders.tokenizers import as_bert, load_tokenizer, word_tokenizer
from rsvlm.errors import UserError
from rsvlm.nn.qformer import QFormer


class InstructionBridge(nn.Module):
    """The base of such a bridge.

    Args:
        tokenizer: of the instruction, or the folder or `hf://` place of BERT's.
        words: a vocabulary in its place (see `encoders.tokenizers.word_list`); builds a tokenizer
            that needs no download.

    Attributes:
        qformer: the bridge's own.
    """

    joint = True
    qformer: QFormer

    def __init__(self, tokenizer: Any = None, words: str | Sequence[str] | None = None) -> None:
        super().__init__()
        self._tokenizer = tokenizer if words is None else word_tokenizer(words)
        self._own_words = words is not None

    def vocab_size(self, given: int) -> int:
        """Size of the Q-Former's vocabulary: that of `words` where they are given."""
        return len(self._tokenizer) if self._own_words else given

    @property
    def tokenizer(self) -> Any:
        """The instruction's tokenizer, read when it is first needed.

        Raises:
            UserError: nothing says where it is, or it has more words than the Q-Former.
        """
        if self._tokenizer is None:
            raise UserError(
                "the Q-Former has no tokenizer: give model.bridge.tokenizer="
                "hf://google-bert/bert-base-uncased, or a folder with it."
            )
        if isinstance(self._tokenizer, str | Path):
            self._tokenizer = as_bert(load_tokenizer(self._tokenizer))
        if len(self._tokenizer) > self.qformer.vocab_size:
            raise UserError(
                f"the Q-Former's tokenizer has {len(self._tokenizer)} words, the Q-Former "
                f"{self.qformer.vocab_size}: give model.bridge.vocab_size={len(self._tokenizer)}, "
                "or the tokenizer of its weights."
            )
        return self._tokenizer
