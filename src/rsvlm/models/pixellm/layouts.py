"""PixelLM's merged folder.

LLaVA's layout with `model.prompt_encoder`, `model.mask_decoder`, `model.image_feature_neck`,
`model.out_mm_projector` and `model.text_hidden_fcs.0` beside it. CLIP is not in it, nor are the
scalars that weigh tokens and scales, which no module holds and no optimiser sees: they stay as they
start. Word tables end with [SEG0] to [SEG5], <im_start> and <im_end>.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.models.llava.layouts import llava_dialects
from rsvlm.models.pixel.layouts import predictor_table, with_words

WORDS = (("embed_tokens.weight", "new.row"), ("lm_head.weight", "new.head"))


def pixellm_dialects(
    tuned: Sequence[str], *, words: int, first: int, new: int
) -> tuple[Dialect, ...]:
    """The folder, and LLaVA's layouts for a start.

    Args:
        tuned: layers that LoRA tunes in ours.
        words: rows of our word tables.
        first: id of the first new word.
        new: number of new words.
    """
    llava = llava_dialects(2, tuned, words)
    whole = next(dialect for dialect in llava if dialect.name == "LLaVA")
    table: dict[str, Target] = {
        **predictor_table(
            "masks.",
            decoder="model.mask_decoder.",
            prompts="model.prompt_encoder.",
            text="model.text_hidden_fcs.0.",
            levels=2,
        ),
        "model.image_feature_neck.*": "neck.*",
        "model.out_mm_projector.0.*": "mask_projector.layers.0.*",
        "model.out_mm_projector.2.*": "mask_projector.layers.1.*",
        **with_words(whole.table, WORDS, first, new, first + new),
    }
    return (Dialect("PixelLM", ("model.mask_decoder.iou_token.weight",), table), *llava)
