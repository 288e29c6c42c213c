"""Published names of SAM's decoder and its descendants, as parts of a `MaskPredictor` of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rsvlm.checkpoints.dialects import Rows, Sections, Target


def decoder_table(theirs: str, ours: str, levels: int) -> dict[str, Target]:
    """The mask decoder's lines.

    Args:
        theirs: what stands before its published names.
        ours: what stands before ours.
        levels: scales; with one the transformer has no number.
    """
    transformer = "transformer.*" if levels == 1 else "transformer.{}.*"
    number = "transformers.0.*" if levels == 1 else "transformers.{}.*"
    table: dict[str, Target] = {
        f"{theirs}{transformer}": f"{ours}{number}",
        f"{theirs}iou_token.weight": f"{ours}score_token.weight",
        f"{theirs}mask_tokens.weight": f"{ours}mask_tokens.weight",
        f"{theirs}output_upscaling.*": f"{ours}upscaling.*",
        f"{theirs}output_hypernetworks_mlps.*": f"{ours}hyper.*",
        f"{theirs}iou_prediction_head.*": f"{ours}score.*",
    }
    if levels > 1:
        table |= {
            f"{theirs}upsample_2x.*": f"{ours}upsample.*",
            f"{theirs}pe1.*": f"{ours}pe.*",
            f"{theirs}level_embed.weight": f"{ours}level_embed.weight",
        }
    return table


def predictor_table(
    ours: str, *, decoder: str, prompts: str, text: str, levels: int
) -> dict[str, Target]:
    """Decoder, prompt encoder and the map of hidden states.

    Args:
        ours: what stands before our predictor's names.
        decoder: what stands before the published decoder's.
        prompts: of the prompt encoder's.
        text: of the map's layers, which are called 0 and 2.
        levels: scales.
    """
    return {
        **decoder_table(decoder, f"{ours}decoder.", levels),
        f"{prompts}*": f"{ours}prompt_encoder.encoder.*",
        f"{text}*": f"{ours}text.*",
    }


_MEMORY: Mapping[str, Target] = {
    "learnable_memory.memory": "memory",
    "memory_encoder.mask_downsampler.*": "encoder.mask_downsampler.*",
    "memory_encoder.pix_feat_proj.*": "encoder.pix_feat_proj.*",
    "memory_encoder.fuser.*": "encoder.fuser.*",
    "memory_fuser.model.*": "fuser.model.*",
    "memory_attention.layers.0.self_attn.*": "layer.self_attn.*",
    "memory_attention.layers.0.cross_attn_image.*": "layer.cross_attn.*",
    "memory_attention.layers.0.linear1.*": "layer.linear1.*",
    "memory_attention.layers.0.linear2.*": "layer.linear2.*",
    "memory_attention.layers.0.norm1.*": "layer.norm1.*",
    "memory_attention.layers.0.norm2.*": "layer.norm2.*",
    "memory_attention.layers.0.norm3.*": "layer.norm3.*",
    "memory_attention.layers.0.scale": "layer.scale",
    "memory_attention.norm.*": "norm.*",
}
#: Constants of the released attention, and counters of batch norms.
_CONSTANTS = (
    "memory_attention.layers.0.self_attn_pos.pe",
    "memory_attention.layers.0.cross_attn_image_pos.pe",
    "memory_encoder.mask_downsampler.layer{}.bn{}.num_batches_tracked",
    "memory_encoder.mask_downsampler.layer{}.downsample.1.num_batches_tracked",
    "memory_fuser.model.{}.num_batches_tracked",
)


def memory_table(theirs: str, ours: str, *, dropped: bool) -> dict[str, Target]:
    """The class memory's lines.

    Args:
        theirs: what stands before the published names.
        ours: what stands before ours.
        dropped: the model has no memory, and what the file holds of one carries nothing.
    """
    if dropped:
        return {f"{theirs}*": None}
    constants: dict[str, Target] = {f"{theirs}{name}": None for name in _CONSTANTS}
    lines: dict[str, Target] = {f"{theirs}{n}": f"{ours}{t}" for n, t in _MEMORY.items()}
    return constants | lines


def with_words(
    table: Mapping[str, Target], words: Sequence[tuple[str, str]], first: int, new: int, count: int
) -> dict[str, Target]:
    """A table whose word tables hold the rows of new words too.

    Args:
        table: with `Rows` for the language model's table and head.
        words: (end of the published name, our name of the new rows).
        first: id of the first new word.
        new: number of new words.
        count: rows of the published tables.
    """
    out: dict[str, Target] = {}
    for name, target in table.items():
        ours = next((ours for end, ours in words if name.endswith(end)), None)
        if ours is not None and isinstance(target, Rows):
            parts = ((target.name, 0, target.count), (ours, first, first + new))
            target = Sections(parts, count)
        out[name] = target
    return out
