"""RS5M: five million remote-sensing images with captions, in 128 tars."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.base import Entry
from rsvlm.data.datasets.shards import Shards


class RS5M(Shards):
    """RS5M as released: members `img_content`, `img_name` and `caption`, no usual endings.

    PUB11 (3,007,809 images found on the web) and RS3 (2,062,377 of FMoW, BigEarthNet and
    MillionAID, captioned by a model) lie in tars of their own; `subset` in `meta` says which. Five
    per cent of either are the validation split; there is no test split.

    Args:
        root: folder of train/ and val/.
    """

    name = "rs5m"
    title: ClassVar[str] = "RS5M"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    train/pub11-train-0000.tar ... 0031, rs3-train-0000.tar ... 0031\n"
        "    val/pub11-val-0000.tar ... 0031, rs3-val-0000.tar ... 0031"
    )
    licence = "no licence text for the whole; the sources' terms hold, for research"
    paper = (
        "Z. Zhang, T. Zhao, Y. Guo, J. Yin. RS5M and GeoRSCLIP: A large-scale vision-language "
        "dataset and a large vision-language model for remote sensing. IEEE TGRS 62, 2024. "
        "arXiv:2306.11300"
    )
    homepage = "https://huggingface.co/datasets/omlab/RS5M"
    image_fields: ClassVar[tuple[str, ...]] = ("img_content",)
    side_fields: ClassVar[tuple[str, ...]] = ("img_name", "caption")
    needed_fields: ClassVar[tuple[str, ...]] = ("img_name", "caption")

    def patterns(self) -> list[str]:
        """The published names."""
        if self.split not in ("train", "val"):
            raise self.not_found(f"it has no split {self.split!r}, but train and val.")
        return [f"{self.split}/{{pub11,rs3}}-{self.split}-{{0000..0031}}.tar"]

    def sample_facts(self, parts: dict[str, bytes]) -> Entry:
        """Name and caption, both UTF-8."""
        caption = parts["caption"].decode("utf-8").strip()
        return Entry(
            id=parts["img_name"].decode("utf-8").strip(),
            path="",
            texts=(caption,) if caption else (),
        )

    def _entry(self, index: int, field: str, parts: dict[str, bytes]) -> Entry:
        entry = super()._entry(index, field, parts)
        stem = self._reader.paths[self._tar[index]].name
        entry.meta["subset"] = stem.split("-", 1)[0]
        return entry
