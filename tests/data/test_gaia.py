"""GAIA as tars and as JSON with a folder of images."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import GAIA, GAIAShards
from rsvlm.data.images import BrokenImage
from rsvlm.errors import UserError


def picture(value, ext="PNG", size=(8, 6)):
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(out, ext)
    return out.getvalue()


def tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files:
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


CAPTIONS = [f"The image showcases: number {i}." for i in range(5)]
RECORD = {
    "id": 17,
    "image_src": "https://example.org/a.png",
    "image_alt": "alt text",
    "captions": CAPTIONS,
    "lat": 47.5,
    "lon": "19.05",
    "tag": ["Floods"],
    "resolution": "Low",
}


@pytest.mark.parametrize("captions", [CAPTIONS, json.dumps(CAPTIONS), str(CAPTIONS)])
def test_gaia_tars_take_the_captions_of_the_json(tmp_path, captions):
    record = {
        "id": 17,
        "captions": captions,
        "caption": "alt text",
        "url": "u",
        "status": "success",
    }
    files = [
        ("000000000.png", picture(3)),
        ("000000000.txt", b"alt text"),
        ("000000000.json", record),
    ]
    tar(tmp_path / "train/00000.tar", files)
    data = GAIAShards(tmp_path, "train")
    assert data[0].texts == CAPTIONS and data.name == "gaia"
    assert data[0].meta["id"] == "17" and data[0].meta["status"] == "success"
    tar(tmp_path / "val/00000.tar", [("0.png", picture(3)), ("0.json", {"caption": "alt text"})])
    with pytest.raises(BrokenImage, match="save_additional_columns"):
        GAIAShards(tmp_path, "val")[0]


def test_gaia_json(tmp_path):
    others = [RECORD | {"id": "b", "image_src": "https://example.org/b"}, RECORD | {"id": "c"}]
    (tmp_path / "test_data.json").write_text(json.dumps([RECORD, *others]))
    with pytest.raises(UserError, match="no image of split 'test' is there"):
        GAIA(tmp_path, "test")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "17.png").write_bytes(picture(1))
    # As img2dataset writes files: found by address, since its JSON has no id here.
    (tmp_path / "test" / "00000").mkdir(parents=True)
    (tmp_path / "test" / "00000" / "000000004.png").write_bytes(picture(2))
    beside = {"url": "https://example.org/b", "caption": "alt text"}
    (tmp_path / "test" / "00000" / "000000004.json").write_text(json.dumps(beside))
    data = GAIA(tmp_path, "test")
    assert [e.id for e in data.entries] == ["17", "b"]
    assert "1 of 3 images are not in" in data.problems[0] and "c" in data.problems[0]
    sample = data[0]
    assert sample.texts == CAPTIONS and sample.meta["lonlat"] == (19.05, 47.5)
    assert sample.meta["tag"] == ["Floods"] and "captions" not in sample.meta
    assert data[1].images[0].getpixel((0, 0)) == (2, 2, 2)
    assert len(GAIA(tmp_path, "test", missing="keep")) == 3
    with pytest.raises(UserError, match="1 of 3 images"):
        GAIA(tmp_path, "test", missing="error")
    for bad, words in (
        ({"captions": CAPTIONS}, r"\[0\] has no id"),
        ({"id": 1, "captions": 3}, r"\[0\] \(1\): `captions` is not a list"),
        ({"id": 1, "captions": [" "]}, "no caption with a word"),
    ):
        (tmp_path / "test_data.json").write_text(json.dumps([bad]))
        with pytest.raises(UserError, match=words):
            GAIA(tmp_path, "test")
    with pytest.raises(UserError, match=r"no train_data\.json"):
        GAIA(tmp_path, "train")
