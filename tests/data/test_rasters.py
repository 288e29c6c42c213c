"""Rasters as pictures: bands by number, name and sensor; stretches; no data; what is refused."""

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.images import BrokenImage, read_image
from rsvlm.data.rasters import SENSORS, Rasters, use_rasters
from rsvlm.errors import UserError

rasterio = pytest.importorskip("rasterio")


def write(path, bands, *, names=None, **options):
    """A GeoTIFF of [bands, H, W]."""
    count, high, wide = bands.shape
    shape = {"height": high, "width": wide, "count": count, "dtype": bands.dtype}
    grid = rasterio.transform.from_origin(0, 0, 10, 10)
    where = {"transform": grid, "crs": "EPSG:32631"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **where, **options) as file:
        file.write(bands)
        for i, name in enumerate(names or (), 1):
            file.set_band_description(i, name)
    return str(path)


def stack(n, kind=np.uint16, high=4, wide=5):
    """Band k holds k * 100 in its left half and k * 100 + 50 in its right."""
    base = np.arange(1, n + 1).reshape(n, 1, 1) * 100 + np.zeros((1, high, wide), int)
    base[:, :, wide // 2 :] += 50
    return base.astype(kind)


def test_bands_by_number_name_and_sensor(tmp_path):
    file = write(tmp_path / "a.tif", stack(12), names=[f"B{i:02d}" for i in range(1, 13)])
    scaled = {"stretch": "range", "range": [0, 1200]}
    first = np.asarray(Rasters(bands=[4, 3, 2], **scaled).read(file))
    assert first[0, 0].tolist() == [round(255 * v / 1200) for v in (400, 300, 200)]
    for other in (
        Rasters(bands=["B4", "B3", "B2"], **scaled),
        Rasters(sensor="sentinel2", **scaled),
    ):
        assert np.array_equal(np.asarray(other.read(file)), first)
    # Described in another order, a sensor's bands are found by their names.
    turned = write(tmp_path / "b.tif", stack(12)[::-1], names=[f"B{i}" for i in range(12, 0, -1)])
    assert np.array_equal(np.asarray(Rasters(sensor="sentinel2", **scaled).read(turned)), first)
    own = np.asarray(Rasters(sensor="sentinel2").read(file))
    assert own[0, 0].tolist() == [round(255 * v / 3000) for v in (400, 300, 200)]
    grey = np.asarray(Rasters(bands=[2], stretch="minmax").read(file))
    assert grey.shape == (4, 5, 3) and set(np.unique(grey)) == {0, 255}
    for bands, text in (([1, 2, 13], "no number 13"), (["B1", "B2", "red"], "no band 'red'.*b01")):
        with pytest.raises(BrokenImage, match=text):
            Rasters(bands=bands, stretch="minmax").read(file)
    with pytest.raises(BrokenImage, match=r"12 bands .* does not say.*sentinel2"):
        Rasters(stretch="minmax").read(file)
    few = write(tmp_path / "c.tif", stack(3))
    with pytest.raises(BrokenImage, match=r"3 band\(s\), and sentinel2 a stack of 12.*\[3,2,1\]"):
        Rasters(sensor="sentinel2").read(few)
    assert all(max(sensor.bands) <= sensor.count for sensor in SENSORS.values())


def test_stretches_and_no_data(tmp_path):
    bands = np.linspace(0, 1, 300, dtype=np.float32).reshape(3, 10, 10)
    bands[:, 0, 0] = np.nan
    bands[:, 0, 1] = -9999
    file = write(tmp_path / "a.tif", bands, nodata=-9999)
    low = np.asarray(Rasters(bands=[1, 2, 3], stretch="minmax").read(file))
    assert not low[0, :2].any() and low.max() == 255
    assert low[0, 2, 0] == 0 and low[-1, -1].tolist() == [255, 255, 255]
    cut = np.asarray(Rasters(bands=[1, 2, 3], stretch="percentile").read(file))
    assert (cut == 255).sum() >= 6 and not cut[0, :2].any()
    wide = Rasters(bands=[1, 2, 3], stretch="percentile", percentiles=[0, 100]).read(file)
    assert np.array_equal(np.asarray(wide), low)
    fixed = np.asarray(Rasters(bands=[1, 2, 3], range=[0, 2]).read(file))
    assert fixed.max() == 128  # the greatest value is 1
    with pytest.raises(BrokenImage, match=r"float32, from 0\.00\d+ to 1: .*stretch=percentile"):
        Rasters(bands=[1, 2, 3]).read(file)
    with pytest.raises(BrokenImage, match=r"holds no data"):
        Rasters(bands=[1], stretch="minmax", nodata=7).read(
            write(tmp_path / "b.tif", np.full((1, 4, 4), 7, np.uint16))
        )
    plain = stack(3, np.uint8)
    file = write(tmp_path / "c.tif", plain, photometric="RGB")
    assert np.array_equal(np.asarray(Rasters(nodata=0).read(file)), plain.transpose(1, 2, 0))
    flat = write(tmp_path / "d.tif", np.full((1, 4, 4), 7, np.uint16))
    assert (np.asarray(Rasters(bands=[1], stretch="minmax").read(flat)) == 128).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"stretch": "percentil"}, "Did you mean percentile"),
        ({"sensor": "sentinel"}, "Did you mean sentinel2"),
        ({"bands": [1, 2]}, "three bands"),
        ({"range": [5, 1]}, "the smaller first"),
        ({"stretch": "range"}, r"needs data\.raster\.range="),
    ],
)
def test_words_that_are_none(words, text):
    with pytest.raises(UserError, match=text):
        Rasters(**words)


def test_a_tiff_of_16_bits_says_what_to_do_and_a_data_set_reads_it(tmp_path):
    file = write(tmp_path / "a.tif", stack(3))
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes())
    for path in (file, write(tmp_path / "f.tif", stack(5, np.float32))):
        with pytest.raises(BrokenImage, match=r"data\.raster\.bands=\[3,2,1\] data\.raster\.stret"):
            read_image(path)
    (tmp_path / "train.csv").write_text("image,caption\na.tif,x\nb.tif,y\n")
    data = PairsTable(tmp_path, "train")
    with pytest.raises(BrokenImage, match=r"16 bits per band|Pillow cannot read"):
        data[0]
    use_rasters(data, Rasters())
    assert data.raster is None
    use_rasters(data, Rasters(bands=[3, 2, 1], stretch="percentile"))
    assert data[0].images[0].getpixel((0, 0)) == (0, 0, 0)
    assert "bands [3, 2, 1], stretch percentile, percentiles [2, 98]" in data.notes[-1]
    with pytest.raises(UserError, match="leave it out"):
        use_rasters([], Rasters(bands=[1]))


def test_a_file_of_another_kind_is_not_opened(tmp_path):
    # GDAL would follow the names of files within it.
    (tmp_path / "a.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    with pytest.raises(BrokenImage, match="no raster that can be read"):
        Rasters(bands=[1]).read(str(tmp_path / "a.tif"))
    with pytest.raises(BrokenImage, match="no such file"):
        Rasters(bands=[1]).read("/vsicurl/http://127.0.0.1/a.tif")


def test_real_rasters(real_data):
    folder = real_data / "geotiff"
    crowns = Rasters(stretch="uint8").read(str(folder / "OSBS_029.tif"))
    assert crowns.size == (400, 400)
    landsat = str(folder / "landsat8_bgr_uint16.tif")
    with pytest.raises(BrokenImage, match=r"uint16, from \d+ to \d+: say which"):
        Rasters(bands=[3, 2, 1]).read(landsat)
    shown = np.asarray(Rasters(bands=[3, 2, 1], stretch="percentile").read(landsat))
    assert shown.shape == (1860, 2041, 3) and 60 < shown.mean() < 190
    assert shown.std((0, 1)).min() > 20
    with Image.open(folder / "rgbn.tif") as plain:
        expected = np.asarray(plain)[..., :3]
    assert np.array_equal(
        np.asarray(Rasters(stretch="uint8").read(str(folder / "rgbn.tif"))), expected
    )
    one = np.asarray(Rasters(stretch="minmax").read(str(folder / "landsat7_float64_epsg8858.tif")))
    assert one.shape == (168, 168, 3) and (one[..., 0] == one[..., 2]).all() and one.max() == 255
    part = np.asarray(Rasters(stretch="uint8").read(str(folder / "rgbn_suba.tif")))
    assert part.any()
