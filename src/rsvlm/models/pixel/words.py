"""A language model's tokenizer with new words at ids that the model knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from rsvlm.errors import UserError, extra


def with_new_words(tokenizer: Any, words: Sequence[str], first: int) -> Any:
    """A copy that has the words; or that has them already, as a published folder's does.

    Args:
        tokenizer: of transformers.
        words: in the order of their ids.
        first: id of the first.

    Raises:
        UserError: it has some of them only, or other words at their ids.
    """
    with extra("language"):
        from tokenizers import AddedToken

    own = copy.deepcopy(tokenizer)
    there = [word for word in words if word in own.get_vocab()]
    ids = [own.convert_tokens_to_ids(word) for word in there]
    wanted = [first + i for i in range(len(words))]
    if there and (len(there) < len(words) or ids != wanted):
        raise UserError(
            f"the tokenizer has {', '.join(there)} at ids {ids}, and the model's rows of these "
            f"words are {wanted}: masks would be drawn from other words. Say "
            f"model.first_id={ids[0]}, or give the tokenizer that the checkpoint was trained with "
            "(model.lm.tokenizer=)."
        )
    if there:
        return own
    if first < len(own):
        word = own.convert_ids_to_tokens(first)
        raise UserError(
            f"model.first_id={first} is the word {word!r} of the tokenizer of {len(own)} words: "
            f"new words need ids from {len(own)} on. Leave model.first_id=null, or give the "
            "tokenizer of the checkpoint (model.lm.tokenizer=)."
        )
    spare = [f"[SPARE{i}]" for i in range(len(own), first)]
    own.add_tokens([AddedToken(word, normalized=False) for word in [*spare, *words]])
    return own
