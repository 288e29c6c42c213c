"""The layout of transformers' causal language models; ours has one more name in front."""

from __future__ import annotations

from rsvlm.checkpoints.dialects import Dialect, Target

_TABLE: dict[str, Target] = {
    # Constants that older versions saved.
    "model.layers.{}.self_attn.rotary_emb.inv_freq": None,
    "model.rotary_emb.inv_freq": None,
    "model.*": "model.model.*",
    "lm_head.weight": "model.lm_head.weight",
}


def language_dialects() -> tuple[Dialect, ...]:
    """LLaMA's and OPT's, which differ inside of what is carried over whole."""
    sentinels = ("model.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    return (Dialect("transformers", sentinels, _TABLE),)
