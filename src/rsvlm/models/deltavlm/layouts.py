"""The layout that DeltaVLM is published in, which is LAVIS' InstructBLIP with a CSRM beside it.

A published file is `{"model", "optimizer", "config", "scaler", "epoch"}`; `model` holds what was
trained and the buffers. The first blocks of EVA come from `eva_vit_g.pth`, the language model from
its own folder.
"""

from __future__ import annotations

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.encoders.eva_layouts import eva_table

_LAYER, _OURS = "Qformer.bert.encoder.layer.{}.", "bridge.qformer.layers.{}."
#: BERT's blocks of one layer, published to ours; each has a weight and a bias.
_BLOCKS = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention.norm",
    "crossattention.self.query": "cross.query",
    "crossattention.self.key": "cross.key",
    "crossattention.self.value": "cross.value",
    "crossattention.output.dense": "cross.out",
    "crossattention.output.LayerNorm": "cross.norm",
    "intermediate.dense": "mlp_text.fc1",
    "output.dense": "mlp_text.fc2",
    "output.LayerNorm": "mlp_text.norm",
    "intermediate_query.dense": "mlp_query.fc1",
    "output_query.dense": "mlp_query.fc2",
    "output_query.LayerNorm": "mlp_query.norm",
}


def qformer_table() -> dict[str, Target]:
    """Vision norm, queries and Q-Former of LAVIS, as parts of a bridge of ours."""
    table: dict[str, Target] = {
        "ln_vision.*": "bridge.norm.*",
        "query_tokens": "bridge.qformer.queries",
        "Qformer.bert.embeddings.word_embeddings.weight": "bridge.qformer.words.weight",
        "Qformer.bert.embeddings.position_embeddings.weight": "bridge.qformer.positions.weight",
        "Qformer.bert.embeddings.LayerNorm.*": "bridge.qformer.norm.*",
        "Qformer.bert.embeddings.position_ids": None,
    }
    return table | {f"{_LAYER}{theirs}.*": f"{_OURS}{ours}.*" for theirs, ours in _BLOCKS.items()}


_CSRM: dict[str, Target] = {
    "context1.weight": "bridge.csrm.both.context_difference.weight",
    "context2.*": "bridge.csrm.both.context_features.*",
    "gate1.weight": "bridge.csrm.both.gate_difference.weight",
    "gate2.*": "bridge.csrm.both.gate_features.*",
    "context3.*": "bridge.csrm.both.fuse.*",
}
#: The head of a contrastive loss that the published training does not compute.
_CONTRAST: dict[str, Target] = {
    "temp": "contrast.temp",
    "vision_proj.*": "contrast.vision_proj.*",
    "text_proj.*": "contrast.text_proj.*",
}
#: Constants.
_UNUSED: dict[str, Target] = {"llm_model.model.layers.{}.self_attn.rotary_emb.inv_freq": None}


def deltavlm_dialect(depth: int, variant: str, *, contrast: bool = False) -> Dialect:
    """The published layout.

    Args:
        depth: blocks of the vision tower.
        variant: of the model's CSRM; `bypass` has no place for the published one and drops it, for
            `paper` the weights are of another form, which the error says.
        contrast: the model has a contrast head; without one its tensors are dropped.
    """
    bypass = variant == "bypass"
    return Dialect(
        "DeltaVLM",
        ("query_tokens", "llm_proj.weight"),
        {
            **eva_table(depth, "visual_encoder.", "vision."),
            **qformer_table(),
            **(dict.fromkeys(_CSRM) if bypass else _CSRM),
            "llm_proj.*": "bridge.proj.*",
            **(_CONTRAST if contrast else dict.fromkeys(_CONTRAST)),
            **_UNUSED,
        },
        facts={} if bypass else {"variant": "released"},
    )
