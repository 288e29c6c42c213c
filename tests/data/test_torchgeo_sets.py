"""torchgeo's data sets as ours, by a small class with torchgeo's interface."""

import numpy as np
import pytest
import torch

from rsvlm.data.datasets.torchgeo_sets import TorchGeo
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.data.rasters import Rasters, use_rasters
from rsvlm.errors import UserError


class Scenes:
    """As torchgeo's NonGeoDataset: a dictionary of tensors for each sample."""

    def __init__(self, root="data", split="train", bands=("B04", "B03", "B02"), download=True):
        if download:
            raise AssertionError("nothing may be downloaded")
        if root == "nowhere":
            raise RuntimeError("Dataset not found")
        self.classes, self.bands, self.split = ["pond", "road"], bands, split

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.full((len(self.bands), 4, 6), float(10 * index))
        return {"image": image, "label": torch.tensor(index % 2)}


def test_classes_and_pictures():
    data = TorchGeo("data", "test", make=Scenes)
    sample = data[3]
    assert len(data) == 4 and data.inner.split == "test" and data.classes == ["pond", "road"]
    assert sample.label == 1 and sample.images[0].size == (6, 4)
    assert sample.images[0].getpixel((0, 0)) == (30, 30, 30)
    assert "2, 2 images each" in str(describe(data))


def test_bands_by_the_names_of_the_class():
    options = {"bands": ["B02", "B03", "B04", "B08"]}
    data = TorchGeo("data", make=Scenes, options=options)
    with pytest.raises(
        BrokenImage, match=r"4 band\(s\) with values from 10 to 10: .*raster\.bands"
    ):
        data[1]

    class Dark(Scenes):
        rgb_bands = ("B04", "B03", "B02")

    with pytest.raises(BrokenImage, match=r"3 band\(s\) with values from 10 to 10"):
        TorchGeo("data", make=Dark)[1]
    use_rasters(data, Rasters(bands=["B04", "B03", "B02"], range=[0, 100]))
    assert np.asarray(data[2].images[0]).max() == round(255 * 0.2)


def test_captions(monkeypatch):
    monkeypatch.setattr(
        Scenes,
        "__getitem__",
        lambda self, i: {"image": torch.zeros(3, 4, 6), "captions": ["a", "b"]},
    )
    assert TorchGeo("data", make=Scenes)[0].texts == ["a", "b"]


def test_what_cannot_be_read():
    with pytest.raises(UserError, match=r"cannot open 'nowhere'.*not found.*download=True"):
        TorchGeo("nowhere", make=Scenes)
    with pytest.raises(UserError, match="a map without samples of its own"):
        TorchGeo("data", make=lambda paths: None)
    with pytest.raises(UserError, match=r"has no splits: data\.splits\.train=all"):
        TorchGeo("data", "val", make=lambda root: None)

    class Boxes(Scenes):
        def __getitem__(self, index):
            return {"image": torch.zeros(3, 4, 6), "mask": torch.zeros(4, 6)}

    with pytest.raises(UserError, match="have image, mask, and neither a label nor captions"):
        TorchGeo("data", make=Boxes)

    class Many(Scenes):
        def __getitem__(self, index):
            return {"image": torch.zeros(3, 4, 6), "label": torch.zeros(5)}

    with pytest.raises(UserError, match="several classes each"):
        TorchGeo("data", make=Many)


@pytest.mark.slow
def test_the_real_package(tmp_path):
    """Where torchgeo is installed; it is not among what tests need."""
    torchgeo = pytest.importorskip("torchgeo.datasets")
    from PIL import Image

    with pytest.raises(UserError, match="Did you mean EuroSAT"):
        TorchGeo(str(tmp_path), name="EuroSATT")
    with pytest.raises(UserError, match="cannot open"):
        TorchGeo(str(tmp_path), name="EuroSAT")
    for word in ("pond", "road"):
        (tmp_path / "images" / word).mkdir(parents=True)
        Image.new("RGB", (8, 6), (9, 8, 7)).save(tmp_path / "images" / word / "0.png")

    class Folder(torchgeo.NonGeoClassificationDataset):
        def __init__(self, root, split="train"):
            super().__init__(root=root)

    data = TorchGeo(str(tmp_path / "images"), make=Folder)
    assert data.classes == ["pond", "road"] and data[1].images[0].getpixel((0, 0)) == (9, 8, 7)
