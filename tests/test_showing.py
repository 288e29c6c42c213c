"""What predict.py prints and draws, and the index that it looks through."""

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm import checkpoints
from rsvlm.__main__ import main
from rsvlm.app import run
from rsvlm.data.sample import Answer
from rsvlm.encoders.clip.model import clip
from rsvlm.errors import UserError
from rsvlm.inference.display import draw_boxes
from rsvlm.models.skyeyegpt.model import SkyEyeGPT

ORANGE = (255, 122, 26)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a b.png"
    Image.new("RGB", (600, 300), (40, 90, 50)).save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "tiny.ckpt"
    torch.save(checkpoints.pack(clip("tiny", activation="gelu"), {}, {}), path)
    return path


def test_the_box_of_an_answer_is_printed_and_drawn(compose, tmp_path, picture, monkeypatch, capsys):
    def generate(self, batch, features=None, **options):
        assert batch.instructions == ["[refer] the storage tank"]
        # The model sees a square; what it writes is in hundredths of it.
        found = self.codec.parse("{<25><50><75><90>}", batch.geometry[0][0])
        return [Answer("{<25><50><75><90>}", boxes=[place.box for place in found.boxes])]

    monkeypatch.setattr(SkyEyeGPT, "generate", generate)
    words = ["model=skyeyegpt_tiny", f"image={picture}", "prompt=[refer] the storage tank"]
    answer = run.predict(compose("predict", words), tmp_path / "run")
    assert answer.boxes == [pytest.approx((150, 150, 450, 270))]
    said = capsys.readouterr().out
    assert "pixels of 600 x 300" in said and "150.0 150.0 450.0 270.0" in said
    assert "answer.png" in said and "no ckpt= is given: the model is random" in said
    drawn = np.array(Image.open(tmp_path / "run" / "answer.png"))
    assert drawn.shape == (300, 600, 3)
    for x, y in ((150, 200), (450, 200), (300, 150), (300, 270)):
        assert tuple(drawn[y, x]) == ORANGE
    assert tuple(drawn[210, 300]) == tuple(drawn[5, 5]) == (40, 90, 50)
    # Elsewhere, by a name of the user's.
    other = tmp_path / "b c.jpg"
    run.predict(compose("predict", [*words, f"out={other}"]), tmp_path / "run")
    assert Image.open(other).size == (600, 300)
    with pytest.raises(UserError, match=r"out=.*\.txt: answers go to a \.jsonl or \.csv file"):
        run.predict(compose("predict", [*words, "out=a.txt"]), tmp_path / "run")


def test_turned_and_small_and_no_boxes(tmp_path, capsys):
    path = tmp_path / "small.png"
    Image.new("RGB", (64, 32), (0, 0, 0)).save(path)
    target = tmp_path / "drawn.png"
    assert draw_boxes(Answer("nowhere"), path, target) is None and not target.exists()
    draw_boxes(Answer("", boxes=[(24, 8, 40, 24)], angles=[45.0]), path, target)
    assert "turned by 45 degrees" in capsys.readouterr().out
    drawn = np.array(Image.open(target))
    assert drawn.shape == (256, 512, 3)  # enlarged eight times
    corner = round(8 * (16 - 8 * 2**0.5))  # the square stands on its corner
    assert tuple(drawn[corner, 256]) == ORANGE
    assert tuple(drawn[8 * 8 + 2, 24 * 8 + 2]) == (0, 0, 0)
    with pytest.raises(UserError, match="cannot be written"):
        draw_boxes(Answer("", boxes=[(1, 1, 9, 9)]), path, path / "x.png")


def test_an_index_of_a_folder_is_looked_through(compose, tmp_path, checkpoint, capsys):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (50 + i, 40), colour).save(folder / f"{colour}.png")
    (folder / "broken.png").write_bytes(b"")
    index = tmp_path / "deep" / "index.safetensors"
    words = ["--model", "clip_tiny", "--ckpt", str(checkpoint), "--gallery", str(folder)]
    assert main(["index", *words, "--out", str(index)]) == 0
    said = capsys.readouterr().out
    assert "3 pictures" in said and "left out:" in said and "broken.png" in said
    ask = ["model=clip_tiny", f"ckpt={checkpoint}", "text=a lake"]
    found = run.predict(compose("predict", [*ask, f"gallery={index}"]), tmp_path / "one")
    again = run.predict(compose("predict", [*ask, f"gallery={folder}"]), tmp_path / "two")
    assert [n for n, _ in found.retrieved] == [n for n, _ in again.retrieved]
    sheets = [Image.open(tmp_path / place / "answer.png") for place in ("one", "two")]
    assert np.array_equal(*map(np.array, sheets))
    # The first cell shows the first picture found.
    first = Image.new("RGB", (1, 1), found.retrieved[0][0].removesuffix(".png")).getpixel((0, 0))
    assert sheets[0].getpixel((12 + 128, 42 + 100)) == first
    # An index may travel without its pictures.
    folder.rename(tmp_path / "gone")
    run.predict(compose("predict", [*ask, f"gallery={index}"]), tmp_path / "three")
    assert "no sheet" in capsys.readouterr().out
    assert not (tmp_path / "three" / "answer.png").exists()


def test_what_makes_no_index(tmp_path, checkpoint, capsys):
    words = ["--model", "clip_tiny", "--ckpt", str(checkpoint), "--gallery", str(tmp_path)]
    for more, message in (
        (["--out", "a.bin"], "an index is a .safetensors file"),
        (["--out", "a.safetensors"], "there are no pictures in it"),
        (["--out", "a.safetensors", "model.archh=tiny"], "archh"),
    ):
        assert main(["index", *words, *more]) == 1
        assert message in capsys.readouterr().err
    words[1] = "clip_tinny"
    assert main(["index", *words, "--out", "a.safetensors"]) == 1
    assert "clip_tinny" in capsys.readouterr().err
