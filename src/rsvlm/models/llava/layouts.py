"""The layouts that LLaVA-1.5 and its descendants (GeoChat, GeoGround, ...) are published in.

The original's (haotian-liu/LLaVA), llava-hf's as its files have it, and as transformers 4.52 and
later hold it in memory; in the last two the image tower has or lacks `vision_model.` in its names,
as transformers 5.6 dropped it. Adapters of peft over each of them.

llava-hf's word tables are filled up from 32,000 to 32,064 rows: an image token, a padding token and
nothing. Ours has neither, so rows beyond the model's own are left out and listed as dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsvlm.checkpoints.dialects import Dialect, Target, Transposed
from rsvlm.encoders.clip.layouts import HF_CLIP, tower_table
from rsvlm.encoders.language_layouts import language_table, lora_table

_LM = "lm.model."
#: Layout -> what it puts in the place of `model.` before the language model's layers.
_INNER = {
    "LLaVA": "model.",
    "llava-hf": "language_model.model.",
    "llava-hf (new)": "model.language_model.",
}
_TOWERS = {
    "LLaVA": ("model.vision_tower.vision_tower.vision_model.",),
    "llava-hf": ("vision_tower.vision_model.", "vision_tower."),
    "llava-hf (new)": ("model.vision_tower.vision_model.", "model.vision_tower."),
}


def _tower(theirs: str) -> dict[str, Target]:
    """The image tower's lines, transformers' names behind `theirs`."""
    table: dict[str, Target] = {}
    for name, target in tower_table(HF_CLIP).items():
        if not name.startswith("vision_model."):
            continue
        assert target is None or isinstance(target, str | Transposed)
        ours = target.name if isinstance(target, Transposed) else target
        renamed = None if ours is None else ours.replace("visual.", "vision.tower.", 1)
        table[theirs + name.removeprefix("vision_model.")] = renamed
    return table


def _projector(layout: str, depth: int) -> dict[str, Target]:
    if layout == "LLaVA":
        names = ["model.mm_projector"] if depth == 1 else []
        # The activations between them have the odd numbers.
        names = names or [f"model.mm_projector.{2 * i}" for i in range(depth)]
    else:
        front = "model." if layout == "llava-hf (new)" else ""
        names = [f"{front}multi_modal_projector.linear_{i + 1}" for i in range(depth)]
    return {f"{name}.*": f"bridge.layers.{i}.*" for i, name in enumerate(names)}


def _moved(table: dict[str, Target], layout: str) -> dict[str, Target]:
    """A language model's lines with this layout's names."""
    head = "language_model.lm_head." if layout == "llava-hf" else "lm_head."

    def move(name: str) -> str:
        name = re.sub(r"^model\.", _INNER[layout], name)
        return re.sub(r"^lm_head\.", head, name)

    return {move(name): target for name, target in table.items()}


def llava_dialects(depth: int, tuned: Sequence[str], words: int) -> tuple[Dialect, ...]:
    """All layouts.

    Args:
        depth: linear layers of the projector.
        tuned: layers that LoRA or experts tune in ours, see `LanguageModel.tuned`.
        words: rows of our word tables.
    """
    first = tuned[0].format(0) if tuned else "model.layers.0.self_attn.q_proj"
    whole, adapters = [], []
    for layout in _INNER:
        projector = _projector(layout, depth)
        table = dict(projector)
        for theirs in _TOWERS[layout]:
            table |= _tower(theirs)
        table |= _moved(language_table(tuned, "", _LM, words), layout)
        start = f"{next(iter(projector)).removesuffix('*')}weight"
        whole.append(Dialect(layout, (start,), table))
        lora = {**projector, **_moved(lora_table(tuned, "", _LM, named=False), layout)}
        (mark,) = _moved({f"{first}.lora_A.weight": None}, layout)
        adapters.append(
            Dialect(
                f"{layout} (adapter)",
                # LLaVA's own puts what else was trained into a file of its own.
                (f"base_model.model.{mark}", f"base_model.model.{start}"),
                {f"base_model.model.{name}": target for name, target in lora.items()},
            )
        )
    return (*adapters, *whole)
