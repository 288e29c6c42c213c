"""The layouts that BLIP-2 with OPT is published in: LAVIS', transformers', and adapters of peft.

LAVIS saves what it trains: Q-Former, queries, norm and linear layer, and the vision tower where
that is tuned (its captioning models); the towers of the others have files of their own. A file of
transformers holds all of it. There the three biases of a tower's query, key and value are one
tensor; the key's has no influence on attention, ours is a constant zero, and it is left out.

OPT's word table has 50,272 rows; newer files of transformers fill it up to 50,304, with a token
that stands for an image and nothing behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.encoders.eva_layouts import eva_table
from rsvlm.encoders.language_layouts import language_table, lora_table
from rsvlm.models.deltavlm.layouts import qformer_table as lavis_qformer_table

_BLOCK, _LAYER = "vision_model.encoder.layers.{}.", "qformer.encoder.layer.{}."
#: Layers of a block of the tower, ours to transformers'.
_TOWER = {
    "norm1": "layer_norm1",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
#: Layers of the Q-Former, transformers' to ours.
_QFORMER = {
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention.norm",
    "crossattention.attention.query": "cross.query",
    "crossattention.attention.key": "cross.key",
    "crossattention.attention.value": "cross.value",
    "crossattention.output.dense": "cross.out",
    "crossattention.output.LayerNorm": "cross.norm",
    "intermediate_query.dense": "mlp_query.fc1",
    "output_query.dense": "mlp_query.fc2",
    "output_query.LayerNorm": "mlp_query.norm",
}


def theirs_of(layer: str) -> str:
    """What transformers calls a layer of our tower, as `blocks.{}.attn.qkv`."""
    return f"{_BLOCK}{_TOWER[layer.removeprefix('blocks.{}.')]}"


def tower_table(tuned: Sequence[str] = ()) -> dict[str, Target]:
    """The vision tower of transformers, and the norm behind it; `tuned` see `EvaViT.tuned`."""
    ours = "vision.blocks.{}."
    table: dict[str, Target] = {
        "vision_model.embeddings.class_embedding": "vision.cls_token",
        "vision_model.embeddings.position_embedding": "vision.pos_embed",
        "vision_model.embeddings.patch_embedding.*": "vision.patch_embed.*",
        "vision_model.post_layernorm.*": "bridge.norm.*",
        f"{_BLOCK}self_attn.qkv.bias": (f"{ours}attn.q_bias", None, f"{ours}attn.v_bias"),
    }
    for layer, theirs in _TOWER.items():
        base = ".base_layer" if f"blocks.{{}}.{layer}" in tuned else ""
        table[f"{_BLOCK}{theirs}.*"] = f"{ours}{layer}{base}.*"
    return table


def qformer_table() -> dict[str, Target]:
    """The Q-Former's layers of transformers, those of a text left out."""
    return {
        f"{_LAYER}{theirs}.*": f"bridge.qformer.layers.{{}}.{ours}.*"
        for theirs, ours in _QFORMER.items()
    }


def blip2_dialects(
    depth: int, seen: Sequence[str], tuned: Sequence[str], words: int
) -> tuple[Dialect, ...]:
    """All layouts.

    Args:
        depth: blocks of the vision tower.
        seen: layers of the tower that LoRA tunes, see `EvaViT.tuned`.
        tuned: those of the language model, see `LanguageModel.tuned`.
        words: rows of its word table.
    """
    bridge: dict[str, Target] = {
        "query_tokens": "bridge.qformer.queries",
        "qformer.layernorm.*": "bridge.qformer.norm.*",
        "language_projection.*": "bridge.proj.*",
    }
    bridge |= qformer_table()
    whole = (
        tower_table(seen) | bridge | language_table(tuned, "language_model.", "lm.model.", words)
    )
    adapter = lora_table(tuned, "base_model.model.language_model.", "lm.model.", named=False)
    for layer in seen:
        for letter in "AB":
            name = f"base_model.model.{theirs_of(layer)}.lora_{letter}.weight"
            adapter[name] = f"vision.{layer}.lora_{letter}.default.weight"
    lavis = eva_table(depth, "visual_encoder.", "vision.", seen) | lavis_qformer_table()
    lavis |= {"opt_proj.*": "bridge.proj.*"}
    lavis |= language_table(tuned, "opt_model.", "lm.model.", words)
    return (
        Dialect("BLIP-2 (adapter)", tuple(name.format(0) for name in adapter), adapter),
        Dialect("BLIP-2 (transformers)", ("language_projection.weight",), whole),
        Dialect("BLIP-2 (LAVIS)", ("opt_proj.weight",), lavis),
    )
