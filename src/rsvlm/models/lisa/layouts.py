"""LISA's merged folder, and SAM's own files.

The folder is LLaVA's layout (`model.layers…`, `model.mm_projector`, `lm_head`) with
`model.visual_model.` (a whole SAM) and `model.text_hidden_fcs.0.` beside it. CLIP is not in it. Its
word tables end with [SEG], <im_start> and <im_end>.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.models.llava.layouts import llava_dialects
from rsvlm.models.pixel.layouts import decoder_table, predictor_table, with_words

_VISUAL = "model.visual_model."
WORDS = (("embed_tokens.weight", "new.row"), ("lm_head.weight", "new.head"))


def lisa_dialects(
    depth: int, tuned: Sequence[str], *, words: int, first: int, new: int
) -> tuple[Dialect, ...]:
    """LISA's folder, and LLaVA's layouts for a start.

    Args:
        depth: linear layers of the projector.
        tuned: layers that LoRA tunes in ours.
        words: rows of our word tables.
        first: id of the first new word.
        new: number of new words.
    """
    llava = llava_dialects(depth, tuned, words)
    whole = next(dialect for dialect in llava if dialect.name == "LLaVA")
    table: dict[str, Target] = {
        f"{_VISUAL}image_encoder.*": "sam.encoder.*",
        **predictor_table(
            "masks.",
            decoder=f"{_VISUAL}mask_decoder.",
            prompts=f"{_VISUAL}prompt_encoder.",
            text="model.text_hidden_fcs.0.",
            levels=1,
        ),
        # Constants that some merged files hold.
        f"{_VISUAL}pixel_mean": None,
        f"{_VISUAL}pixel_std": None,
        **with_words(whole.table, WORDS, first, new, first + new),
    }
    return (Dialect("LISA", ("model.text_hidden_fcs.0.0.weight",), table), *llava)


def sam_masks_dialect() -> Dialect:
    """SAM's own files, for a `MaskPredictor` of one level."""
    table: dict[str, Target] = {
        **decoder_table("mask_decoder.", "decoder.", 1),
        "prompt_encoder.*": "prompt_encoder.encoder.*",
        "image_encoder.*": None,
    }
    return Dialect("SAM", ("mask_decoder.iou_token.weight",), table)
