"""RemoteCLIP's training set: captions, and captions made from boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rsvlm.data.datasets.table_parts import Part, TableParts


def _folders(*archives: str) -> tuple[str, ...]:
    # The archives unpack to a folder of their name, or into the folder they are unpacked in.
    return tuple(f"data/{name}{inner}" for name in archives for inner in ("", f"/{name}"))


class RemoteCLIPPairs(TableParts):
    """RET-3, DET-10 and SEG-4 as released: tab-separated, `filename` and `title`, UTF-8.

    Splits: `train` is `ret3+det10+seg4`, any of which may be had alone; `test_rsicd`,
    `test_rsitmd`, `test_ucm` are the retrieval test sets and are named after them in metrics.

    RET-3 was cleared of images that occur in a test set of the three; the plain training splits of
    RSICD, RSITMD and UCM-Captions are not, and hold images of one another's test sets.

    Args:
        root: see `TableParts`.
    """

    name = "remoteclip"
    title: ClassVar[str] = "RemoteCLIP's training set"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    csv_file/train/Ret-3_train.csv  Det-10.csv  Seg-4.csv\n"
        "    csv_file/test/rsicd_test.csv  rsitmd_test.csv  ucm_test.csv\n"
        "    data/Ret-3_train/  Det-10_part1/  Det-10_part2/  Seg-4/  Ret-3_test/"
    )
    licence = "no licence text; the sources' terms hold, most for research only"
    paper = (
        "F. Liu, D. Chen, Z. Guan, X. Zhou, J. Zhu, Q. Ye, L. Fu, J. Zhou. RemoteCLIP: A vision "
        "language foundation model for remote sensing. IEEE TGRS 62, 2024. arXiv:2306.11029"
    )
    homepage = "https://huggingface.co/datasets/gzqy1026/RemoteCLIP"
    published_counts: ClassVar[dict[str, int]] = {
        "train": 165745,
        "test_rsicd": 1093,
        "test_rsitmd": 452,
        "test_ucm": 210,
    }
    encodings: ClassVar[tuple[str, ...]] = ("utf-8-sig",)
    separators: ClassVar[tuple[str, ...]] = ("\t", ",")
    parts: ClassVar[dict[str, Part]] = {
        "ret3": Part("csv_file/train/Ret-3_train.csv", _folders("Ret-3_train")),
        "det10": Part("csv_file/train/Det-10.csv", _folders("Det-10_part1", "Det-10_part2")),
        "seg4": Part("csv_file/train/Seg-4.csv", _folders("Seg-4")),
        "test_rsicd": Part("csv_file/test/rsicd_test.csv", _folders("Ret-3_test"), "rsicd", 1093),
        "test_rsitmd": Part("csv_file/test/rsitmd_test.csv", _folders("Ret-3_test"), "rsitmd", 452),
        "test_ucm": Part("csv_file/test/ucm_test.csv", _folders("Ret-3_test"), "ucm_captions", 210),
    }
    aliases: ClassVar[dict[str, Sequence[str]]] = {"train": ("ret3", "det10", "seg4")}
