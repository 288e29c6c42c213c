"""Data sets of torchgeo as ours: those whose samples have an image, and a class or captions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from rsvlm.data.datasets.base import metric_word
from rsvlm.data.images import BrokenImage
from rsvlm.data.rasters import Rasters
from rsvlm.data.sample import Sample
from rsvlm.errors import UserError, extra, near

#: Keys under which torchgeo's samples have captions.
CAPTIONS = ("captions", "caption", "text")
#: Attributes of its classes of more bands than colours, whose values are no eight bits even where
#: a dark image has small ones.
SPECTRAL = ("all_bands", "all_band_names", "band_names", "rgb_bands")


class TorchGeo(Dataset[Sample]):
    """A data set class of `torchgeo.datasets`, opened and read as one of ours.

    Its `image` [C, H, W] becomes a picture as it is where it has three bands of whole numbers from
    0 to 255; otherwise `data.raster.bands=` and `data.raster.stretch=` say how, bands by number or
    by the names of the class. `label` is the class of a scene, named by `classes`. Nothing is
    downloaded.

    Args:
        root: the folder of the data, as torchgeo's class takes it.
        split: its split.
        name: the class's name, as EuroSAT.
        options: further arguments of the class, as {bands: [B04, B03, B02]}.
        make: the class itself, in the place of `name`.

    Raises:
        UserError: there is no such class, it has no splits, its data is not there, or its samples
            have neither class nor captions.
    """

    def __init__(
        self,
        root: str | None = None,
        split: str = "train",
        *,
        name: str | None = None,
        options: Mapping[str, Any] | None = None,
        make: Callable[..., Any] | None = None,
    ) -> None:
        kind = make or _class(name)
        self.title: str = name or str(getattr(kind, "__name__", "dataset"))
        self.name, self.split = metric_word(self.title), split
        self.raster: Rasters | None = None
        self.notes: list[str] = []
        known = inspect.signature(kind).parameters
        if "root" not in known:
            raise UserError(
                f"torchgeo's {self.title} is a map without samples of its own (it takes paths=): "
                "cut it into tiles, and read these with data=pairs or data=class_table."
            )
        if "split" not in known and split not in ("train", "all"):
            raise UserError(
                f"torchgeo's {self.title} has no splits: data.splits.train=all "
                "data.splits.val=null data.splits.test=null, or data.splits.test=all to measure it."
            )
        given: dict[str, Any] = {"root": root}
        given |= {"split": split} if "split" in known else {}
        given |= {"download": False} if "download" in known else {}
        try:
            self.inner = kind(**{**given, **_plain(options or {})})
        except UserError:
            raise
        except Exception as error:  # each class has its own way to say that its files are not there
            raise UserError(
                f"torchgeo's {self.title} cannot open {root!r}, split {split!r}: {error}. Get its "
                f"files as torchgeo does, torchgeo.datasets.{self.title}(root=..., download=True), "
                "and set data.root=."
            ) from error
        classes = getattr(self.inner, "classes", None)
        self.classes = [str(each) for each in classes] if classes is not None else None
        first = self.inner[0]
        if not isinstance(first, Mapping) or "image" not in first:
            raise UserError(f"torchgeo's {self.title} gives no image; it cannot be read here.")
        if "label" not in first and not any(key in first for key in CAPTIONS):
            raise UserError(
                f"samples of torchgeo's {self.title} have {', '.join(map(str, first))}, and "
                "neither a label nor captions: nothing here learns from them."
            )
        many = hasattr(first.get("label"), "numel") and first["label"].numel() != 1
        if many:
            raise UserError(
                f"images of torchgeo's {self.title} have several classes each; a scene here has "
                "one."
            )

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample.

        Raises:
            BrokenImage: its bands are no picture without a word on how.
        """
        held = self.inner[index]
        who = f"{self.name}/{self.split}/{index}"
        label = held.get("label")
        return Sample(
            images=[self._picture(held["image"], who)],
            texts=next((_texts(held[key]) for key in CAPTIONS if key in held), []),
            label=None if label is None else int(label),
            meta={"id": who, "dataset": self.name, "split": self.split, "licence": "unknown"},
        )

    def _picture(self, image: Any, who: str) -> Image.Image:
        values = image.detach().cpu().numpy()
        if values.ndim != 3:
            raise BrokenImage(
                who, f"has an image of shape {list(values.shape)}; [C, H, W] is read."
            )
        if self.raster is not None:
            names = getattr(self.inner, "bands", None)
            known = list(names) if isinstance(names, list | tuple) else []
            fits = len(known) == len(values)
            return self.raster.of_array(values, known if fits else [], who)
        whole = values.min() >= 0 and values.max() <= 255 and not (values % 1).any()
        if len(values) != 3 or not whole or any(hasattr(self.inner, word) for word in SPECTRAL):
            raise BrokenImage(
                who,
                f"has {len(values)} band(s) with values from {values.min():g} to "
                f"{values.max():g}: say how they become a picture, as data.raster.bands=[4,3,2] "
                "data.raster.range=[0,3000].",
            )
        return Image.fromarray(values.transpose(1, 2, 0).astype(np.uint8))


def _class(name: str | None) -> Callable[..., Any]:
    with extra("torchgeo"):
        from torchgeo import datasets
    kinds = [word for word in dir(datasets) if isinstance(getattr(datasets, word), type)]
    if name not in kinds:
        said = "" if name is None else f"torchgeo has no data set {name!r}. "
        raise UserError(f"{said}data.name= is one of its classes. {near(name or 'EuroSAT', kinds)}")
    found: Callable[..., Any] = getattr(datasets, name)
    return found


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of the configuration as tuples, which torchgeo's classes compare with."""
    return {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in options.items()}
