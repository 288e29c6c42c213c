"""The layouts that InstructBLIP with Vicuna is published in: LAVIS' and transformers'.

LAVIS' file (`instruct_blip_vicuna7b_trimmed.pth`) holds Q-Former, queries, norm and linear layer;
EVA lies in `eva_vit_g.pth`, Vicuna in its own folder. A file of transformers holds all of it, and
its word table has one row more for a token that stands for an image.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.encoders.eva_layouts import eva_table
from rsvlm.encoders.language_layouts import language_table
from rsvlm.models.blip2.layouts import qformer_table as hf_qformer_table
from rsvlm.models.blip2.layouts import tower_table
from rsvlm.models.deltavlm.layouts import qformer_table

#: What the Q-Former has for the text beside what BLIP-2's has, transformers' to ours.
_TEXT = {
    "intermediate.dense": "mlp_text.fc1",
    "output.dense": "mlp_text.fc2",
    "output.LayerNorm": "mlp_text.norm",
}
_LAYER, _OURS = "qformer.encoder.layer.{}.", "bridge.qformer.layers.{}."


def instructblip_dialects(
    depth: int, tuned: Sequence[str], words: int, new_projection: bool = False
) -> tuple[Dialect, ...]:
    """Both layouts.

    Args:
        depth: blocks of the vision tower.
        tuned: layers of the language model that LoRA tunes, see `LanguageModel.tuned`.
        words: rows of its word table.
        new_projection: the file's linear layer and language model are left out, as of another
            language model.
    """
    bridge: dict[str, Target] = {
        "query_tokens": "bridge.qformer.queries",
        "qformer.embeddings.word_embeddings.weight": "bridge.qformer.words.weight",
        "qformer.embeddings.position_embeddings.weight": "bridge.qformer.positions.weight",
        "qformer.embeddings.layernorm.*": "bridge.qformer.norm.*",
        "qformer.embeddings.position_ids": None,
        "language_projection.*": "bridge.proj.*",
    }
    bridge |= {f"{_LAYER}{theirs}.*": f"{_OURS}{ours}.*" for theirs, ours in _TEXT.items()}
    whole = tower_table() | hf_qformer_table() | bridge
    whole |= language_table(tuned, "language_model.", "lm.model.", words)
    lavis = eva_table(depth, "visual_encoder.", "vision.") | qformer_table()
    lavis |= {"llm_proj.*": "bridge.proj.*"}
    lavis |= language_table(tuned, "llm_model.", "lm.model.", words)
    if new_projection:
        for table, heads in (
            (whole, ("language_projection", "language_model")),
            (lavis, ("llm_proj", "llm_model")),
        ):
            for name in [n for n in table if n.startswith(heads)]:
                table[name] = None
    return (
        Dialect("InstructBLIP (transformers)", ("language_projection.weight",), whole),
        Dialect("InstructBLIP (LAVIS)", ("query_tokens", "llm_proj.weight"), lavis),
    )
