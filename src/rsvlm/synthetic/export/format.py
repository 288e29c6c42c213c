"""What an export format is, and the one way in which all are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from rsvlm.data.sample import Picture, Sample
from rsvlm.data.transforms import to_pil
from rsvlm.errors import UserError
from rsvlm.synthetic.dataset import Scenes

#: Split → its scenes, a sequence of samples.
Splits = Mapping[str, Scenes]


@dataclass(frozen=True, slots=True)
class Format:
    """How one published data set lies on disk.

    Attributes:
        write: writes the splits below a folder and returns, for each split of the reader, the
            samples as the reader must give them (`Expected`). It passes over what the format has
            no place for, and never what it has.
        layout: `single` or `before_after`: what kind of scenes it takes.
        parts: what the scenes must carry, of `scenes.dataset.PARTS`.
        options: further options of `Scenes`.
        reader: options for the reader in `DATASETS`, beside root and split.
        told: patterns of the problems that the reader must tell, each in one split at least, where
            the published files have defects that the export writes too. It must tell no others.
    """

    write: Callable[[Path, Splits], Expected]
    layout: str = "single"
    parts: tuple[str, ...] = ("captions",)
    options: Mapping[str, Any] = field(default_factory=dict)
    reader: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()


#: Split of the reader → the samples that it must give, in its order. Only what the format holds is
#: filled in. `images` are given as they are before they are stored (lossy files differ a little).
Expected = Mapping[str, Sequence[Sample]]


def export(
    format: Format, out: Path, lengths: Mapping[str, int], *, size: int = 256, seed: int = 0
) -> Expected:
    """Writes a format.

    Args:
        format: which.
        out: the folder, made here; it must be empty.
        lengths: split (`train`, `val`, `test`) → number of scenes.
        size: side of the pictures, pixels.
        seed: which world.

    Returns:
        What a reader must find.

    Raises:
        UserError: the folder holds something already.
    """
    out = Path(out).expanduser()
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; exports do not mix. Name a new folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    splits = {
        split: Scenes(
            split,
            n=n,
            size=size,
            seed=seed,
            layout=format.layout,
            parts=format.parts,
            **format.options,
        )
        for split, n in lengths.items()
    }
    return format.write(out, splits)


def save(image: Picture, path: Path) -> Image.Image:
    """Stores a picture under a name whose ending says how; returns it as it was."""
    picture = to_pil(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        # Full colour resolution: half of it costs small bright things their colour.
        picture.save(path, quality=95, subsampling=0)
    else:
        picture.save(path)
    return picture
