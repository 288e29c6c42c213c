import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rsvlm.data import images
from rsvlm.data.images import BrokenImage, read_any, read_image, size_of
from rsvlm.data.sample import SampleError


def pixels(*shape, dtype=np.uint8, high=256):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def encoded(array_or_image, kind, **options):
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, colour, rows):
    """A PNG by hand: Pillow cannot write 16-bit RGB."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(array, *, extra=False):
    """A little-endian TIFF by hand, [H, W, bands], with bands that Pillow does not write."""
    high, wide, bands = array.shape
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    bits = array.dtype.itemsize * 8
    tags = [
        (256, 3, 1, wide),
        (257, 3, 1, high),
        (258, 3, bands, None),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, None),
        (277, 3, 1, bands),
        (278, 3, 1, high),
        (279, 4, 1, len(data)),
    ]
    if extra:
        tags.append((338, 3, 1, 0))
    depth_at = 8 + 2 + 12 * len(tags) + 4
    data_at = depth_at + 2 * bands
    out = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags))
    for tag, kind, count, value in tags:
        value = {258: depth_at, 273: data_at}.get(tag, value)
        # A single short stands at the low end of the field's four bytes.
        out += struct.pack("<HHII", tag, kind, count, value)
    out += struct.pack("<I", 0) + struct.pack(f"<{bands}H", *[bits] * bands)
    return out + data


RGB8 = pixels(9, 7, 3)
RGB16 = pixels(4, 5, 3, dtype=np.uint16, high=65536)
RGBA16 = pixels(4, 5, 4, dtype=np.uint16, high=65536)
GREY16 = pixels(4, 5, dtype=np.uint16, high=65536)
RGB16_PNG = png(5, 4, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB16))


def clear_palette():
    image = Image.fromarray(RGB8).convert("P", palette=Image.Palette.ADAPTIVE)
    return encoded(image, "PNG", transparency=0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG2000"])
def test_plain_rgb_comes_through(kind, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(RGB8, kind, **options)
    path = tmp_path / "a"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        image = read_image(source)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), RGB8)


def test_jpeg_is_pillows(tmp_path):
    data = encoded(pixels(33, 21, 3), "JPEG", quality=80)
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(np.asarray(read_image(data)), np.asarray(expected))


def test_opaque_palette_is_rgb():
    image = Image.fromarray(RGB8).convert("P", palette=Image.Palette.ADAPTIVE)
    read = read_image(encoded(image, "PNG"))
    assert np.array_equal(np.asarray(read), np.asarray(image.convert("RGB")))


REFUSED = {
    "grey": (encoded(RGB8[..., 0], "PNG"), "1 band"),
    "grey_jpeg": (encoded(RGB8[..., 0], "JPEG"), "1 band"),
    "bilevel": (encoded(Image.fromarray(RGB8[..., 0] > 99), "PNG"), "1 band"),
    "grey_alpha": (encoded(Image.fromarray(RGB8).convert("LA"), "PNG"), "2 bands"),
    "rgba": (encoded(pixels(4, 5, 4), "PNG"), "4 bands"),
    "cmyk": (encoded(Image.fromarray(RGB8).convert("CMYK"), "JPEG"), "4 bands"),
    # Pillow calls this one RGB and drops the fourth band.
    "near_infrared": (tiff(pixels(4, 5, 4), extra=True), "4 bands"),
    "clear_palette": (clear_palette(), "palette with transparency"),
    "grey16": (encoded(GREY16, "PNG"), "16 bits"),
    "grey16_tiff": (encoded(GREY16, "TIFF"), "16 bits"),
    # Pillow calls these RGB and drops the low bytes.
    "rgb16_png": (RGB16_PNG, "16 bits"),
    "rgb16_tiff": (tiff(RGB16), "16 bits"),
    "float": (encoded(pixels(4, 5).astype(np.float32), "TIFF"), "32 bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_8_bit_rgb_is_refused(case, tmp_path):
    data, words = REFUSED[case]
    path = tmp_path / f"{case}.bin"
    path.write_bytes(data)
    with pytest.raises(BrokenImage, match=words) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, SampleError)


def test_jpeg2000_with_more_than_8_bits_is_refused():
    data = bytearray(encoded(RGB8, "JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[at] == 7  # 8 bits, as Pillow wrote it
    data[at : at + 9 : 3] = bytes([11] * 3)
    with pytest.raises(BrokenImage, match="12 bits"):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("grey", np.repeat(RGB8[..., :1], 3, axis=2)),
        ("rgba", pixels(4, 5, 4)[..., :3]),
        ("near_infrared", pixels(4, 5, 4)[..., :3]),
        ("grey16", np.repeat((GREY16 >> 8)[..., None], 3, axis=2)),
        ("grey16_tiff", np.repeat((GREY16 >> 8)[..., None], 3, axis=2)),
        ("rgb16_png", RGB16 >> 8),
        ("rgb16_tiff", RGB16 >> 8),
    ],
)
def test_convert_follows_the_stated_rule(case, expected):
    image = read_image(REFUSED[case][0], convert=True)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("case", sorted(set(REFUSED) - {"float"}))
def test_convert_gives_rgb(case):
    assert read_image(REFUSED[case][0], convert=True).mode == "RGB"


def test_convert_drops_transparency_without_blending():
    array = pixels(4, 5, 4)
    array[..., 3] = 0
    image = read_image(encoded(array, "PNG"), convert=True)
    assert np.array_equal(np.asarray(image), array[..., :3])


def test_convert_does_not_make_black_pictures():
    twelve_bit = encoded(pixels(4, 5, dtype=np.uint16, high=4096), "PNG")
    with pytest.raises(BrokenImage, match="Stretch"):
        read_image(twelve_bit, convert=True)
    with pytest.raises(BrokenImage, match="Scale it to 8 bits"):
        read_image(REFUSED["float"][0], convert=True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_files_cut_short_are_refused(kind, part):
    data = encoded(pixels(64, 64, 3), kind)
    with pytest.raises(BrokenImage, match=r"x\.img"):
        read_image(data[: int(len(data) * part)], name="x.img")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"nothing of the kind", "not a picture"),
        (b"<!DOCTYPE html><html>404</html>", "error page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"II*\0" + bytes(40), "TIFF whose bands"),
        (png(0, 0, 8, 2, b""), "x.img"),
        (png(60000, 60000, 8, 2, b"\0"), "too large"),
    ],
)
def test_other_files_are_refused_with_their_reason(data, words):
    with pytest.raises(BrokenImage, match=words):
        read_image(data, name="x.img")


def test_multispectral_tiff_is_refused():
    with pytest.raises(BrokenImage, match="bands"):
        read_image(tiff(pixels(4, 5, 13)))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(BrokenImage, match=r"gone\.jpg: cannot be opened \(No such file"):
        read_image(tmp_path / "gone.jpg")


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(BrokenImage("a.jpg", "is damaged.")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "is damaged.", "a.jpg: is damaged.")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_picture_too_large_to_be_kept_is_made_smaller_and_a_bomb_refused(
    kind, tmp_path, monkeypatch
):
    path = tmp_path / f"big.{kind.lower()}"
    path.write_bytes(encoded(np.full((40, 80, 3), 90, np.uint8), kind))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(BrokenImage, match="too large to read whole"):
        read_image(path)
    smaller, said = read_any(path)
    assert smaller.size[0] * smaller.size[1] <= 400 and smaller.width >= 20
    assert abs(np.asarray(smaller).astype(int) - 90).max() <= 1
    assert "80 x 40 pixels" in said and f"{smaller.width} x {smaller.height}" in said
    assert size_of(path) == (80, 40) and Image.MAX_IMAGE_PIXELS == 400
    monkeypatch.setattr(images, "LARGEST", 3000)
    with pytest.raises(BrokenImage, match="80 x 40 pixels, and 3,000 are read at most"):
        read_any(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # up to twice of which all is kept
    monkeypatch.setattr(images, "LARGEST", 3200)
    assert read_any(path)[0].size == (80, 40)
