"""docs/own_data.md: its files are written and its commands run, as a user would copy them."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from rsvlm.__main__ import main

FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"[\w/]+\.(?:png|tif)\b")


def raster(path, i):
    rasterio = pytest.importorskip("rasterio")
    values = np.arange(4 * 64 * 64, dtype=np.uint16).reshape(4, 64, 64) % (500 + 100 * i)
    grid = {"driver": "GTiff", "height": 64, "width": 64, "count": 4, "dtype": "uint16"}
    where = {"crs": "EPSG:32631", "transform": rasterio.transform.from_origin(0, 0, 10, 10)}
    with rasterio.open(path, "w", **grid, **where) as file:
        file.write(values)


def draw(path, i):
    """A picture that a file of the page names: a raster, a mask, or a plain one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        raster(path, i)
    elif "masks" in path.parts:
        mask = np.zeros((64, 64), np.uint8)
        mask[8 : 24 + i, 8:40] = 255 if path.parts[-3] == "my_pairs" else 1
        Image.fromarray(mask).save(path)
    else:
        Image.new("RGB", (64, 64), (40 * i % 256, 90, 60)).save(path)


@pytest.fixture
def page(root, tmp_path, monkeypatch):
    """The page's commands, in a folder with the page's files and the pictures that they name."""
    monkeypatch.chdir(tmp_path)
    commands, files = [], 0
    for kind, name, body in FENCE.findall((root / "docs/own_data.md").read_text(encoding="utf-8")):
        if kind == "sh":
            commands += [shlex.split(line) for line in body.splitlines()]
            continue
        files += 1
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        folder = tmp_path / name.split("/")[0] if name.startswith("my_boxes") else path.parent
        for i, picture in enumerate(dict.fromkeys(PICTURE.findall(body.replace("file://", "")))):
            draw(folder / picture, i)
    draw(tmp_path / "my_dota/train/images/P1.png", 1)
    for i in range(2):
        draw(tmp_path / f"my_masks/images/{i}.png", i)
        draw(tmp_path / f"my_masks/masks/{i}.png", i)
    assert files >= 11 and len(commands) >= 20
    assert all(words[0] == "rsvlm" for words in commands)
    return commands


def test_every_file_is_read_and_every_recipe_composes(page, capsys, compose):
    from hydra.utils import instantiate

    for words in page:
        if words[1] == "inspect":
            assert main(words[1:]) == 0, (words, capsys.readouterr().err)
            said = capsys.readouterr().out
            assert "split train" in said or "split all" in said
            bad = [line for line in said.splitlines() if " problem " in line]
            told = r"divided|was written|as .* says|caption\(s\)|margin"
            assert all(re.search(told, line) for line in bad), bad
            continue
        cfg = compose(words[1], [word for word in words[2:] if word != "trainer=cpu"])
        data = instantiate(cfg.data)
        stages = [stage for stage in ("train", "test") if data.has(stage)]
        assert all(len(data.dataset(stage)) for stage in stages)


@pytest.mark.slow
def test_every_command_runs(page, capsys):
    for words in page:
        extra = ["trainer.max_epochs=1", "logger=csv"] if words[1] == "train" else []
        assert main([*words[1:], *extra]) == 0, (words, capsys.readouterr().err)
