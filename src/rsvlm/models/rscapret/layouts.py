"""The layout that FROMAGe's training saves, which RS-CapRet's is taken to share.

kohjingyu/fromage, b36a188: `prune_model_ckpt.py` keeps what was trained; a file that was not pruned
holds the language model and the vision tower as well, and the embedding table twice.
"""

from __future__ import annotations

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.encoders.clip.layouts import HF_CLIP

_TRAINED: dict[str, Target] = {
    "model.logit_scale": "logit_scale",
    "model.visual_embeddings.*": "bridge.proj.*",
    "model.visual_fc.*": "image_map.*",
    "model.text_hidden_fcs.0.0.*": "text_map.*",
    "ret_input_embeddings.weight": "ret.row",
}


def _tower() -> dict[str, Target]:
    """The vision tower of transformers in our tower's names."""
    table: dict[str, Target] = {}
    for name, target in HF_CLIP.table.items():
        if name.startswith("vision_model.") and (target is None or isinstance(target, str)):
            ours = target and f"vision.tower.{target.removeprefix('visual.')}"
            table[f"model.visual_model.{name}"] = ours
    return table


def fromage_dialect() -> Dialect:
    """Pruned or whole."""
    table = {
        **_TRAINED,
        **_tower(),
        "model.lm.*": "lm.model.*",
        # The table of the language model once more.
        "model.input_embeddings.weight": None,
    }
    return Dialect("FROMAGe", ("model.visual_embeddings.weight",), table)
