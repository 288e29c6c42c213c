"""GeoChat_Instruct: 308,861 conversations over aerial images, some with boxes in the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.conversations import Conversations, Identifiers
from rsvlm.data.datasets.missing import Missing
from rsvlm.errors import UserError


class GeoChatInstruct(Conversations):
    """GeoChat_Instruct, as published: one JSON, and images below a long folder name.

    Boxes stand in the text as `{<x0><y0><x1><y1>|<angle>}`, 0 to 100 of the image, with the angle
    in degrees. Turns whose text begins with [refer], [identify] or [grounding] have that word as
    their kind.

    Args:
        root: folder of GeoChat_Instruct.json and images/.
        split: `train`, the only one.
        identifiers: `keep` or `strip` (see `Conversations`).
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Conversations`.
    """

    name = "geochat_instruct"
    title: ClassVar[str] = "GeoChat_Instruct"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    GeoChat_Instruct.json\n"
        "    images/   as images.zip unpacks (share/softwares/kartik/GeoChat_finetuning/\n"
        "              final_images_llava/), or the images themselves"
    )
    image_folders: ClassVar[tuple[str, ...]] = (
        "images",
        "images/final_images_llava",
        "images/share/softwares/kartik/GeoChat_finetuning/final_images_llava",
        "share/softwares/kartik/GeoChat_finetuning/final_images_llava",
        "final_images_llava",
    )
    licence = "terms of its card; images under the terms of the sources, for research"
    paper = (
        "K. Kuckreja, M. S. Danish, M. Naseer, A. Das, S. Khan, F. S. Khan. GeoChat: Grounded "
        "large vision-language model for remote sensing. CVPR 2024. arXiv:2311.15826"
    )
    homepage = "https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct"
    published_counts: ClassVar[dict[str, int]] = {"train": 308861}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | Sequence[str] | None = None,
        identifiers: Identifiers = "keep",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        if split not in ("train", "all"):
            raise UserError(f"{self.title} has no split {split!r}; it has train.")
        super().__init__(
            root,
            split,
            annotations="GeoChat_Instruct.json",
            images=images,
            identifiers=identifiers,
            missing=missing,
            convert=convert,
        )
