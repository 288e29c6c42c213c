"""Our models as folders that open_clip, transformers, peft or the published code load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rsvlm.encoders.clip.model import CLIP
from rsvlm.errors import UserError, near
from rsvlm.export.clip import WRITERS, write_clip
from rsvlm.export.peft_adapter import write_adapter
from rsvlm.export.pixel import write_geopix, write_merged
from rsvlm.export.published import write_fromage, write_minigpt
from rsvlm.models.hf_vlm.export import write_transformers
from rsvlm.models.llava.export import write_llava

#: Formats of models that write, and what writes them.
OTHERS: dict[str, Callable[[Any, Path], Iterable[Path]]] = {
    "llava_hf": write_llava,
    "transformers": write_transformers,
    "peft": write_adapter,
    "fromage": write_fromage,
    "minigptv2": write_minigpt,
    "geopix": write_geopix,
    "lisa": write_merged,
    "pixellm": write_merged,
}
FORMATS = (*WRITERS, *OTHERS)


def export(model: Any, to: str, out: str | Path) -> list[Path]:
    """Write a model for another library.

    Args:
        model: a CLIP with its activation set, or a model that writes.
        to: of a CLIP, `open_clip`, for `open_clip.create_model_and_transforms("local-dir:<out>")`,
            or `hf_clip`, for `transformers.CLIPModel.from_pretrained("<out>")`; of others, one of
            `OTHERS`.
        out: folder, made if need be; files of the same names are replaced.

    Returns:
        The files written.

    Raises:
        UserError: an unknown format, a model without an activation, or one that the format
            cannot hold.
    """
    folder = Path(out)
    if to in OTHERS:
        folder.mkdir(parents=True, exist_ok=True)
        return list(OTHERS[to](model, folder))
    if to not in WRITERS:
        raise UserError(f"there is no export to {to!r}. {near(to, FORMATS)}")
    if not isinstance(model, CLIP):
        raise UserError(
            f"--to {to} takes a CLIP, not a {type(model).__name__}: choose {', '.join(OTHERS)}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return write_clip(model, to, folder)
