"""A model of transformers that was tuned here, as a folder that transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.checkpoints.merge_lora import merged
from rsvlm.errors import UserError, extra


def write_transformers(model: Any, folder: Path) -> list[Path]:
    """The model's and its processor's own files, LoRA folded in.

    Args:
        model: an `rsvlm.models.hf_vlm.model.HFVLM`.
        folder: there already.

    Returns:
        The files written.

    Raises:
        UserError: another model, or weights in few bits.
    """
    with extra("language"):
        from transformers import AutoModelForImageTextToText

    from rsvlm.models.hf_vlm.model import HFVLM

    if not isinstance(model, HFVLM):
        raise UserError(
            f"--to transformers takes a model of transformers, not a {type(model).__name__}; a "
            "LLaVA goes to llava_hf."
        )
    inner = model.lm.model
    state = merged(inner)
    before = set(folder.iterdir())
    if model.lm.tuning == "lora":
        # Its names are those of the model without LoRA, which says how they are saved.
        bare = AutoModelForImageTextToText.from_config(inner.config, dtype=model.lm.dtype)
        bare.load_state_dict(state)
        bare.generation_config = inner.generation_config
        inner = bare
    inner.save_pretrained(str(folder))
    model.lm.processor.save_pretrained(str(folder))
    return sorted(set(folder.iterdir()) - before)
