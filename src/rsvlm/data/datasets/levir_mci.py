"""LEVIR-MCI: LEVIR-CC's pairs and captions with masks of changed roads and buildings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.base import Entry
from rsvlm.data.datasets.change_captions import ChangeCaptions
from rsvlm.data.palette import check_size, read_greys
from rsvlm.data.sample import Sample
from rsvlm.data.text.no_change import NO_CHANGE

#: Grey value → class of change.
GREYS = {0: 0, 128: 1, 255: 2}


class LevirMCI(ChangeCaptions):
    """LEVIR-MCI as published: LEVIR-CC's layout with label/ beside A/ and B/.

    `meta["change_mask"]` is a [H, W] uint8 map of `change_classes`; what is not 0 has changed.
    (label_rgb/ shows the same in colours and is not read.)

    Args:
        root: folder with LevirCCcaptions.json and images/.
    """

    name = "levir_mci"
    title: ClassVar[str] = "LEVIR-MCI"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    LevirCCcaptions.json\n"
        "    images/train/A/train_000001.png ...  images/train/B/  images/train/label/\n"
        "    and val/, test/"
    )
    file_names: ClassVar[tuple[str, ...]] = ("LevirCCcaptions.json", "LevirCCcaptions_v1.json")
    image_folders: ClassVar[tuple[str, ...]] = ("images",)
    no_change: ClassVar[frozenset[str]] = frozenset(NO_CHANGE["levir_cc"])
    published_counts: ClassVar[dict[str, int]] = {"train": 6815, "val": 1333, "test": 1929}
    change_classes: ClassVar[tuple[str, ...]] = ("no change", "road", "building")
    licence = "no licence text; Google Earth's images for academic use only"
    paper = (
        "C. Liu, K. Chen, H. Zhang, Z. Qi, Z. Zou, Z. Shi. Change-Agent: Toward interactive "
        "comprehensive remote sensing change interpretation and analysis. IEEE TGRS 62, 2024. "
        "arXiv:2403.19646"
    )
    homepage = "https://huggingface.co/datasets/lcybuaa/LEVIR-MCI"

    def further(self, entry: Entry) -> Sequence[str]:
        """The mask."""
        return (self.label_path(entry),)

    def label_path(self, entry: Entry) -> str:
        """Where the mask of a pair lies."""
        before = Path(entry.path)
        return str(before.parents[1] / "label" / before.name)

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds `change_mask`.

        Raises:
            BrokenImage: the mask cannot be read, has other values than 0, 128 and 255, or another
                size than the images.
        """
        path = self.label_path(self.entries[index])
        mask = read_greys(path, GREYS)
        check_size(path, mask, sample.images[0])
        sample.meta["change_mask"] = mask
