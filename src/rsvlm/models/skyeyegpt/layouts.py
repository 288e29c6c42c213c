"""The layout of MiniGPT-v2, in which SkyEyeGPT's weights are published.

Vision-CAIR/MiniGPT-4, d94738a: `{"model", "optimizer", "config", "scaler", "epoch"}`, where `model`
holds what was trained: `llama_proj` and LoRA, the latter with the names of the peft that wrote it.
EVA comes from `eva_vit_g.pth`, LLaMA-2-chat from its folder.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.encoders.eva_layouts import eva_table
from rsvlm.encoders.language_layouts import language_table, lora_table

_LLAMA = "llama_model.base_model.model."


def minigpt_dialects(depth: int, tuned: Sequence[str]) -> tuple[Dialect, ...]:
    """The layout with the names of peft 0.2, and of later ones.

    Args:
        depth: blocks of the vision tower.
        tuned: layers that LoRA tunes, see `LanguageModel.tuned`.
    """
    shared: dict[str, Target] = {
        **eva_table(depth, "visual_encoder.", "vision."),
        "ln_vision.*": "bridge.norm.*",
        "llama_proj.*": "bridge.proj.*",
    }
    ours = "lm.model."
    old = {
        **shared,
        **lora_table(tuned, _LLAMA, ours, named=False),
        **language_table(tuned, _LLAMA, ours),
    }
    # Later ones call the layer that LoRA wraps as we do, for we use peft too.
    new = {
        **shared,
        **lora_table(tuned, _LLAMA, ours, named=True),
        **language_table((), _LLAMA, ours),
    }
    first = tuned[0].format(0) if tuned else "model.layers.0.self_attn.q_proj"
    return (
        Dialect("MiniGPT-v2 (peft 0.2)", (f"{_LLAMA}{first}.lora_A.weight",), old),
        Dialect("MiniGPT-v2", ("llama_proj.weight",), new),
    )
