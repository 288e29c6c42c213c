"""DUBAI-CCD: 500 pairs of Landsat 7 tiles of Dubai with five captions of what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import listed
from rsvlm.data.datasets.change_captions import ChangeCaptions
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError

#: Split → how the name of its JSON begins.
_FILES = {"train": "Train", "val": "Val", "test": "Test"}
_FOLDER = "description_jsontr_te_val"


class DubaiCCD(ChangeCaptions):
    """DUBAI-CCD in its published layout: a JSON per split, a folder of tiles per year.

    There is no `changeflag`, and unchanged pairs have no fixed sentences.

    Args:
        root: the folder datasetDubaiCCPublic.
        images: the folder of 500_2000/ and 500_2010/, relative to `root`.
    """

    name = "dubai_ccd"
    title: ClassVar[str] = "DUBAI-CCD"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    description_jsontr_te_val/Train_Dubai_CC.json  Validation_Dubai_CC.json\n"
        "                              Test_Dubai_CC.json\n"
        "    imgs_tiles/RGB/500_2000/   imgs_tiles/RGB/500_2010/   500 tiles each, 50 x 50"
    )
    image_folders: ClassVar[tuple[str, ...]] = ("imgs_tiles/RGB",)
    licence = "no licence text; for research (Landsat 7 images: public domain, USGS)"
    paper = (
        "G. Hoxha, S. Chouaf, F. Melgani, Y. Smara. Change captioning: A new paradigm for "
        "multitemporal remote sensing image analysis. IEEE TGRS 60, 2022"
    )
    homepage = "https://disi.unitn.it/~melgani/datasets.html"
    published_counts: ClassVar[dict[str, int]] = {"train": 300, "val": 50, "test": 150}

    def pair(self, folder: Path, record: dict[str, Any]) -> tuple[Path, Path]:
        """The images of a record: 2000, 2010."""
        name = Path(record["filename"]).name
        return folder / "500_2000" / name, folder / "500_2010" / name

    def _records(self, annotations: str | None) -> tuple[list[Any], str]:
        if annotations is not None:
            return super()._records(annotations)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        # Older copies have the files in captions/, or beside the tiles.
        places = [self.root / word for word in (_FOLDER, "captions", ".")]
        found = {
            split: [f for place in places for f in sorted(place.glob(f"{word}*.json"))]
            for split, word in _FILES.items()
        }
        lacking = [split for split, files in found.items() if not files]
        if lacking:
            raise self.not_found(f"there is no JSON of split {listed(lacking)}.")
        records: list[Any] = []
        for split, files in found.items():
            self.file = files[0]
            content = read_json(self.file)
            images = content.get("images") if isinstance(content, dict) else content
            if not isinstance(images, list):
                raise UserError(f"{self.file} holds no list of pairs under `images`.")
            # The file decides: its records may call the split otherwise.
            records += [r | {"split": split} if isinstance(r, dict) else r for r in images]
        self.file = self.file.parent
        return records, self.name
