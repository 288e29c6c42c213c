"""The layouts that CLIP checkpoints are published in.

Sources: open_clip 3.3 (`CLIP.state_dict`, whose names are OpenAI's), transformers' `CLIPModel`, and
ITRA (ccf87ed, `itra/model/model.py`), in which RemoteCLIP and GeoRSCLIP were trained. Their own
releases are in open_clip's layout.
"""

from __future__ import annotations

from dataclasses import replace

from rsvlm.checkpoints.dialects import Dialect, Target, Transposed

#: open_clip's text tower and temperature.
_TEXT: dict[str, Target] = {
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
    "token_embedding.weight": "text.token_embedding.weight",
    "positional_embedding": "text.positional_embedding",
    "transformer.resblocks.{}.ln_1.weight": "text.blocks.{}.ln_1.weight",
    "transformer.resblocks.{}.ln_1.bias": "text.blocks.{}.ln_1.bias",
    "transformer.resblocks.{}.attn.in_proj_weight": (
        "text.blocks.{}.attn.q_proj.weight",
        "text.blocks.{}.attn.k_proj.weight",
        "text.blocks.{}.attn.v_proj.weight",
    ),
    "transformer.resblocks.{}.attn.in_proj_bias": (
        "text.blocks.{}.attn.q_proj.bias",
        "text.blocks.{}.attn.k_proj.bias",
        "text.blocks.{}.attn.v_proj.bias",
    ),
    "transformer.resblocks.{}.attn.out_proj.weight": "text.blocks.{}.attn.out_proj.weight",
    "transformer.resblocks.{}.attn.out_proj.bias": "text.blocks.{}.attn.out_proj.bias",
    "transformer.resblocks.{}.ln_2.weight": "text.blocks.{}.ln_2.weight",
    "transformer.resblocks.{}.ln_2.bias": "text.blocks.{}.ln_2.bias",
    "transformer.resblocks.{}.mlp.c_fc.weight": "text.blocks.{}.mlp.c_fc.weight",
    "transformer.resblocks.{}.mlp.c_fc.bias": "text.blocks.{}.mlp.c_fc.bias",
    "transformer.resblocks.{}.mlp.c_proj.weight": "text.blocks.{}.mlp.c_proj.weight",
    "transformer.resblocks.{}.mlp.c_proj.bias": "text.blocks.{}.mlp.c_proj.bias",
    "ln_final.weight": "text.ln_final.weight",
    "ln_final.bias": "text.ln_final.bias",
    "text_projection": "text.text_projection",
    # The causal mask, which early versions saved.
    "attn_mask": None,
    # Numbers that the state dicts of OpenAI's archives hold beside the weights.
    "input_resolution": None,
    "context_length": None,
    "vocab_size": None,
}

#: open_clip's vision transformer.
_VIT: dict[str, Target] = {
    "visual.class_embedding": "visual.class_embedding",
    "visual.positional_embedding": "visual.positional_embedding",
    "visual.conv1.weight": "visual.conv1.weight",
    "visual.ln_pre.weight": "visual.ln_pre.weight",
    "visual.ln_pre.bias": "visual.ln_pre.bias",
    "visual.transformer.resblocks.{}.ln_1.weight": "visual.blocks.{}.ln_1.weight",
    "visual.transformer.resblocks.{}.ln_1.bias": "visual.blocks.{}.ln_1.bias",
    "visual.transformer.resblocks.{}.attn.in_proj_weight": (
        "visual.blocks.{}.attn.q_proj.weight",
        "visual.blocks.{}.attn.k_proj.weight",
        "visual.blocks.{}.attn.v_proj.weight",
    ),
    "visual.transformer.resblocks.{}.attn.in_proj_bias": (
        "visual.blocks.{}.attn.q_proj.bias",
        "visual.blocks.{}.attn.k_proj.bias",
        "visual.blocks.{}.attn.v_proj.bias",
    ),
    "visual.transformer.resblocks.{}.attn.out_proj.weight": "visual.blocks.{}.attn.out_proj.weight",
    "visual.transformer.resblocks.{}.attn.out_proj.bias": "visual.blocks.{}.attn.out_proj.bias",
    "visual.transformer.resblocks.{}.ln_2.weight": "visual.blocks.{}.ln_2.weight",
    "visual.transformer.resblocks.{}.ln_2.bias": "visual.blocks.{}.ln_2.bias",
    "visual.transformer.resblocks.{}.mlp.c_fc.weight": "visual.blocks.{}.mlp.c_fc.weight",
    "visual.transformer.resblocks.{}.mlp.c_fc.bias": "visual.blocks.{}.mlp.c_fc.bias",
    "visual.transformer.resblocks.{}.mlp.c_proj.weight": "visual.blocks.{}.mlp.c_proj.weight",
    "visual.transformer.resblocks.{}.mlp.c_proj.bias": "visual.blocks.{}.mlp.c_proj.bias",
    "visual.ln_post.weight": "visual.ln_post.weight",
    "visual.ln_post.bias": "visual.ln_post.bias",
    "visual.proj": "visual.proj",
}

#: open_clip's ResNet, which we wrap whole.
_RESNET: dict[str, Target] = {"visual.*": "visual.trunk.*"}

#: transformers' CLIPModel. Its two projections are linear layers, ours and open_clip's are
#: matrices that multiply from the right.
_HF: dict[str, Target] = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_ids": None,
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.encoder.layers.{}.layer_norm1.weight": "text.blocks.{}.ln_1.weight",
    "text_model.encoder.layers.{}.layer_norm1.bias": "text.blocks.{}.ln_1.bias",
    "text_model.encoder.layers.{}.self_attn.q_proj.weight": "text.blocks.{}.attn.q_proj.weight",
    "text_model.encoder.layers.{}.self_attn.q_proj.bias": "text.blocks.{}.attn.q_proj.bias",
    "text_model.encoder.layers.{}.self_attn.k_proj.weight": "text.blocks.{}.attn.k_proj.weight",
    "text_model.encoder.layers.{}.self_attn.k_proj.bias": "text.blocks.{}.attn.k_proj.bias",
    "text_model.encoder.layers.{}.self_attn.v_proj.weight": "text.blocks.{}.attn.v_proj.weight",
    "text_model.encoder.layers.{}.self_attn.v_proj.bias": "text.blocks.{}.attn.v_proj.bias",
    "text_model.encoder.layers.{}.self_attn.out_proj.weight": "text.blocks.{}.attn.out_proj.weight",
    "text_model.encoder.layers.{}.self_attn.out_proj.bias": "text.blocks.{}.attn.out_proj.bias",
    "text_model.encoder.layers.{}.layer_norm2.weight": "text.blocks.{}.ln_2.weight",
    "text_model.encoder.layers.{}.layer_norm2.bias": "text.blocks.{}.ln_2.bias",
    "text_model.encoder.layers.{}.mlp.fc1.weight": "text.blocks.{}.mlp.c_fc.weight",
    "text_model.encoder.layers.{}.mlp.fc1.bias": "text.blocks.{}.mlp.c_fc.bias",
    "text_model.encoder.layers.{}.mlp.fc2.weight": "text.blocks.{}.mlp.c_proj.weight",
    "text_model.encoder.layers.{}.mlp.fc2.bias": "text.blocks.{}.mlp.c_proj.bias",
    "text_model.final_layer_norm.weight": "text.ln_final.weight",
    "text_model.final_layer_norm.bias": "text.ln_final.bias",
    "text_projection.weight": Transposed("text.text_projection"),
    "vision_model.embeddings.position_ids": None,
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    # The misspelling is transformers' own.
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.encoder.layers.{}.layer_norm1.weight": "visual.blocks.{}.ln_1.weight",
    "vision_model.encoder.layers.{}.layer_norm1.bias": "visual.blocks.{}.ln_1.bias",
    "vision_model.encoder.layers.{}.self_attn.q_proj.weight": "visual.blocks.{}.attn.q_proj.weight",
    "vision_model.encoder.layers.{}.self_attn.q_proj.bias": "visual.blocks.{}.attn.q_proj.bias",
    "vision_model.encoder.layers.{}.self_attn.k_proj.weight": "visual.blocks.{}.attn.k_proj.weight",
    "vision_model.encoder.layers.{}.self_attn.k_proj.bias": "visual.blocks.{}.attn.k_proj.bias",
    "vision_model.encoder.layers.{}.self_attn.v_proj.weight": "visual.blocks.{}.attn.v_proj.weight",
    "vision_model.encoder.layers.{}.self_attn.v_proj.bias": "visual.blocks.{}.attn.v_proj.bias",
    "vision_model.encoder.layers.{}.self_attn.out_proj.weight": (
        "visual.blocks.{}.attn.out_proj.weight"
    ),
    "vision_model.encoder.layers.{}.self_attn.out_proj.bias": "visual.blocks.{}.attn.out_proj.bias",
    "vision_model.encoder.layers.{}.layer_norm2.weight": "visual.blocks.{}.ln_2.weight",
    "vision_model.encoder.layers.{}.layer_norm2.bias": "visual.blocks.{}.ln_2.bias",
    "vision_model.encoder.layers.{}.mlp.fc1.weight": "visual.blocks.{}.mlp.c_fc.weight",
    "vision_model.encoder.layers.{}.mlp.fc1.bias": "visual.blocks.{}.mlp.c_fc.bias",
    "vision_model.encoder.layers.{}.mlp.fc2.weight": "visual.blocks.{}.mlp.c_proj.weight",
    "vision_model.encoder.layers.{}.mlp.fc2.bias": "visual.blocks.{}.mlp.c_proj.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": Transposed("visual.proj"),
}


def _itra(table: dict[str, Target]) -> dict[str, Target]:
    """ITRA's names: both towers under a name of its own, the temperature at the top."""
    renamed: dict[str, Target] = {}
    for name, target in table.items():
        if name.startswith("logit_"):
            renamed[name] = target
        elif name.startswith("visual."):
            renamed["image_backbone." + name.removeprefix("visual.")] = target
        else:
            renamed["text_backbone." + name] = target
    return renamed


_VIT_SENTINELS = ("transformer.resblocks.0.attn.in_proj_weight",)
_RESNET_SENTINELS = ("layer1.0.conv1.weight", "attnpool.positional_embedding")


def _under(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix + name for name in names)


OPEN_CLIP = Dialect(
    "open_clip", (*_under("visual.", _VIT_SENTINELS), *_VIT_SENTINELS), {**_TEXT, **_VIT}
)
OPEN_CLIP_RESNET = Dialect("open_clip", _under("visual.", _RESNET_SENTINELS), {**_TEXT, **_RESNET})
HF_CLIP = Dialect("hf_clip", ("vision_model.pre_layrnorm.weight",), _HF)

#: The more special layouts first: `detect` takes the first whose sentinel it sees.
CLIP_DIALECTS = (
    Dialect(
        "itra",
        _under("image_backbone.", _RESNET_SENTINELS),
        _itra({**_TEXT, **_RESNET}),
    ),
    Dialect(
        "itra",
        (
            *_under("image_backbone.", _VIT_SENTINELS),
            *_under("text_backbone.", _VIT_SENTINELS),
        ),
        _itra({**_TEXT, **_VIT}),
    ),
    OPEN_CLIP_RESNET,
    OPEN_CLIP,
    HF_CLIP,
)


def tower_table(dialect: Dialect) -> dict[str, Target]:
    """A layout's lines for an image tower without its projection, which carries nothing there."""
    projections = ("visual.proj", Transposed("visual.proj"))
    return {n: None if target in projections else target for n, target in dialect.table.items()}


#: The same for an image tower whose patches are read, which has no projection.
TOWER_DIALECTS = tuple(replace(dialect, table=tower_table(dialect)) for dialect in CLIP_DIALECTS)
