"""GeoRSCLIP's retrieval test tables, as its evaluation archive has them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.table_parts import Part, TableParts


class GeoRSCLIPEval(TableParts):
    """RSICD's and RSITMD's test captions: comma-separated, `filename` and `title`.

    RSICD's table is GB 18030, which the published code assumes wherever a path contains `rsicd`;
    here a table is UTF-8 if it can be read so.

    Args:
        root: the folder rs5m_test_data.
        split: `rsicd` or `rsitmd`; metrics are named after it.
        missing: see `TableParts`.
        convert: see `TableParts`.
    """

    name = "georsclip_eval"
    title: ClassVar[str] = "GeoRSCLIP's evaluation data"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    rsicd/rsicd_test.csv    rsicd/RSICD_images/\n"
        "    rsitmd/rsitmd_test.csv  rsitmd/images/"
    )
    licence = "no licence text; for research (RSICD and RSITMD)"
    paper = (
        "Z. Zhang, T. Zhao, Y. Guo, J. Yin. RS5M and GeoRSCLIP: A large-scale vision-language "
        "dataset and a large vision-language model for remote sensing. IEEE TGRS 62, 2024. "
        "arXiv:2306.11300"
    )
    homepage = "https://huggingface.co/Zilun/GeoRSCLIP"
    published_counts: ClassVar[dict[str, int]] = {"rsicd": 1093, "rsitmd": 452}
    parts: ClassVar[dict[str, Part]] = {
        "rsicd": Part("rsicd/rsicd_test.csv", ("rsicd/RSICD_images",), "rsicd", 1093),
        "rsitmd": Part("rsitmd/rsitmd_test.csv", ("rsitmd/images",), "rsitmd", 452),
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "rsicd",
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, missing=missing, convert=convert)
