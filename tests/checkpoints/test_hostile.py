"""Files that are damaged, too large inside, or say of themselves what cannot be."""

import argparse
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from model_options import build

from rsvlm import checkpoints
from rsvlm.checkpoints import harmless
from rsvlm.checkpoints.read import read
from rsvlm.checkpoints.verify import verify
from rsvlm.errors import UserError
from rsvlm.export.peft_adapter import write_adapter


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"state_dict": {"a": torch.arange(4096.0)}}, path)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_a_namespace_and_numbers_of_numpy_beside_weights_are_read(tmp_path, zipped):
    extra = {"args": argparse.Namespace(lr=1), "best": np.float64(0.5), "n": np.int64(3)}
    path = tmp_path / "a.pth"
    state = {"model": {"a": torch.ones(2)}, **extra}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert list(read(path).tensors) == ["a"]
    held = harmless.load(path)
    assert (held["best"], held["n"]) == (0.5, 3)
    torch.save({"a": torch.ones(2), "evil": np.array([object()], dtype=object)[:1]}, path)
    with pytest.raises(UserError, match="nothing of it was run"):
        read(path)


def flip(path, marker, count=8):
    data = bytearray(path.read_bytes())
    start = data.index(marker) + 16
    for i in range(count):
        data[start + i] ^= 0xFF
    path.write_bytes(data)


def test_flipped_bytes_of_a_tensor_are_found(saved):
    assert read(saved).tensors["a"][-1] == 4095
    flip(saved, struct.pack("<ff", 1000.0, 1001.0))
    with pytest.raises(UserError, match=r"a\.pt is damaged.*CRC"):
        read(saved)


def test_a_file_whose_sums_were_switched_off_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "b.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(tmp_path / "b.pt").tensors["a"].sum() == 3


def deflated(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, size in members.items():
            with file.open(name, "w", force_zip64=True) as part:
                for _ in range(size >> 20):
                    part.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("members", "say"),
    [
        ({"x/data.pkl": 64 << 20}, "would unpack to"),
        ({"weights.pt": 64 << 20}, "nothing was unpacked"),
    ],
)
def test_a_zip_that_is_larger_inside_is_refused_before_it_is_unpacked(tmp_path, members, say):
    deflated(tmp_path / "z.zip", members)
    assert (tmp_path / "z.zip").stat().st_size < 1 << 20
    with pytest.raises(UserError, match=say):
        read(tmp_path / "z.zip")


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(200), b"PK\x05\x06" + bytes(18)]
)
def test_what_begins_like_a_zip_and_is_none(tmp_path, data):
    (tmp_path / "last.ckpt").write_bytes(data)
    with pytest.raises(UserError, match=r"damaged|empty|cut short|0 checkpoints"):
        read(tmp_path / "last.ckpt")
    with pytest.raises(UserError):
        verify(tmp_path / "last.ckpt") if data[:4] != b"PK\x05\x06" else read(
            tmp_path / "last.ckpt"
        )


GOOD = {"format": 1, "config": {}, "model": {"class": "CLIP", "image_size": 32}, "towers": {}}
TOWER = {"source": "x.pt", "shapes": {"visual.a": [2]}, "sums": {"visual.a": [0.0, 1.0]}}


@pytest.mark.parametrize(
    ("change", "say"),
    [
        ({"model": {"image_size": "x"}}, "image_size is 'x', not a number of pixels"),
        ({"model": {"image_size": -1}}, "image_size"),
        ({"model": {"mean": "abc"}}, "mean"),
        ({"model": {"words": ["a"]}}, "words"),
        ({"model": [1]}, "rsvlm.model is"),
        ({"config": "x"}, "rsvlm.config is"),
        ({"towers": {"visual": TOWER | {"source": 3}}}, "source is 3"),
        ({"towers": {"visual": TOWER | {"shapes": {"a": "x"}}}}, "shapes"),
        ({"towers": {"visual": TOWER | {"sums": {"a": [1]}}}}, "sums"),
    ],
)
def test_stored_facts_of_another_type_are_one_error(tmp_path, change, say):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "rsvlm": GOOD | change}, path)
    with pytest.raises(UserError, match=say):
        read(path)
    torch.save({"state_dict": {"a": "x"}, "rsvlm": GOOD}, path)
    with pytest.raises(UserError, match=r"state_dict\.a is 'x', not a tensor"):
        read(path)


@pytest.mark.parametrize("names", [["a.bin"], {"b": 1}, 3, None])
def test_an_index_that_names_no_files_is_one_error(tmp_path, names):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names}}))
    with pytest.raises(UserError, match="weight_map"):
        read(tmp_path)
    index.write_text("[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "alpha"),
    [({}, None), ({"lora_alpha": 64}, "64"), ({"use_rslora": True}, "16"), ({"r": "x"}, "number")],
)
def test_the_scale_of_an_adapter_is_held_and_the_command_of_the_error_works(
    tmp_path, change, alpha
):
    words = ["model.tuning=lora", "model.lm.lora={r: 4, alpha: 8, targets: [q_proj]}"]
    model = build("llava_tiny", words)
    write_adapter(model, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    towers = ["vision", "bridge", "lm"]
    if alpha is None:
        checkpoints.load(model, tmp_path, towers=towers)
        return
    with pytest.raises(UserError, match=alpha) as error:
        checkpoints.load(model, tmp_path, towers=towers)
    if alpha.isdigit():
        word = str(error.value).rpartition("Give ")[2].rstrip(".")
        assert word == f"model.lm.lora.alpha={alpha}"
        checkpoints.load(build("llava_tiny", [*words, word]), tmp_path, towers=towers)
