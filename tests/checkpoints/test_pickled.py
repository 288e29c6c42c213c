"""The restricted reader: tensors of whole pickled modules, and never their code."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from rsvlm import checkpoints
from rsvlm.checkpoints.pickled import read_pickled
from rsvlm.errors import UserError


@pytest.fixture
def published():
    """Classes of a package that the reader cannot import, with code that must not run."""
    module = types.ModuleType("published_code")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.low = nn.Parameter(torch.randn(2, 2).to(torch.bfloat16))
            self.stack = nn.ModuleList([nn.Linear(2, 2), nn.LSTM(2, 2)])
            self.register_buffer("kept", torch.arange(3))
            self.register_buffer("hidden", torch.arange(3), persistent=False)
            self.tied = self.conv.weight

        def __setstate__(self, state):
            raise AssertionError("the reader ran the file's code")

    class Words(dict):
        def __setstate__(self, state):
            raise AssertionError("the reader ran the file's code")

    for kind in (Net, Words):
        kind.__module__, kind.__qualname__ = "published_code", kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules["published_code"] = module
    yield module
    sys.modules.pop("published_code", None)


def test_tensors_are_those_of_the_state_dicts(published, tmp_path):
    encoder, decoder = published.Net(), published.Net()
    words = published.Words({"a": 1})
    words.extra = 2
    optimizer = torch.optim.AdamW(decoder.parameters())
    decoder.conv(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "encoder": nn.DataParallel(encoder),
        "decoder": decoder,
        "decoder_optimizer": optimizer,
        "bleu-4": 0.5,
        "words": words,
        "extra": [torch.ones(2)],
    }
    torch.save(content, tmp_path / "a.pth.tar")
    expected = {
        f"{part}.{name}": value
        for part, net in (("encoder", encoder), ("decoder", decoder))
        for name, value in net.state_dict().items()
    }
    del sys.modules["published_code"]
    found = read_pickled(tmp_path / "a.pth.tar")
    assert "published_code" not in sys.modules
    torch.testing.assert_close(found.pop("extra.0"), torch.ones(2))
    assert found.keys() == expected.keys() and "encoder.tied" in found
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value.detach()), name


def test_through_load(published, tmp_path):
    net = published.Net()
    torch.save(net, tmp_path / "a.pt")
    fresh = published.Net()
    with pytest.raises(UserError, match=r"published_code\.Net(.|\n)*pickled=True"):
        checkpoints.load(fresh, tmp_path / "a.pt")
    report = checkpoints.load(fresh, tmp_path / "a.pt", pickled=True)
    assert report.loaded == report.total and torch.equal(fresh.low, net.low)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        lambda t: Call(os.system, f"touch {t}"),
        lambda t: Call(eval, f"open({str(t)!r}, 'w')"),
        lambda t: Call(Path.touch, t),
        lambda t: Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {t}"))),
        lambda t: Call(map, os.system, [f"touch {t}"]),
        lambda t: Call(nn.Linear, 2, 2, state={"__class__": Call(os.system, f"touch {t}")}),
        lambda t: Call(torch.load, str(t)),
    ],
)
def test_nothing_is_run(tmp_path, attack):
    target = tmp_path / "ran"
    content = {"net": nn.Linear(2, 2), "bad": attack(target)}
    torch.save(content, tmp_path / "a.pt")
    assert read_pickled(tmp_path / "a.pt").keys() == {"net.weight", "net.bias"}
    assert not target.exists()


def write(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)
        file.writestr("a/data/0", b"\0" * 16)
    return path


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "data",
    [
        # BUILD with a slot state sets attributes: on the reader's own function, then on a class.
        opcodes(REBUILD, b"N}X\x04\x00\x00\x00_runX\x01\x00\x00\x00xs\x86b"),
        opcodes(b"ccollections\nOrderedDict\n", b"N}X\x03\x00\x00\x00getX\x01\x00\x00\x00xs\x86b"),
        opcodes(b"cos\nsystem\n", b"N}X\x03\x00\x00\x00getX\x01\x00\x00\x00xs\x86b"),
        opcodes(b"ctorch\nfloat32\n", b"}X\x01\x00\x00\x00aX\x01\x00\x00\x00xsb"),
        opcodes(REBUILD, b"X\x01\x00\x00\x00a\x85R"),
        opcodes(b"X\x01\x00\x00\x00aQ"),
        b"\x80\x02}",
        b"",
    ],
)
def test_malformed_pickles_are_errors(tmp_path, data):
    with pytest.raises(UserError, match=r"cannot be read safely|no modules and no tensors"):
        read_pickled(write(tmp_path / "a.pt", data))
    fresh = torch.save({"w": torch.ones(1)}, tmp_path / "b.pt") or read_pickled(tmp_path / "b.pt")
    assert torch.equal(fresh["w"], torch.ones(1))  # the reader itself is unharmed


def test_a_tensor_cannot_reach_outside_of_its_storage(tmp_path):
    class Wide:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (torch.ones(2).untyped_storage(), 0, (9,), (1,))

    buffer = io.BytesIO()
    torch.save({"w": torch.ones(4)}, buffer)
    source = zipfile.ZipFile(buffer)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        for name in source.namelist():
            data = source.read(name)
            file.writestr(name, data[:4] if name.endswith("data/0") else data)
    with pytest.raises(UserError, match="cannot be read safely"):
        read_pickled(tmp_path / "a.pt")


def test_files_that_are_no_torch_files(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"PK but no more")
    with pytest.raises(UserError, match="not a whole torch file"):
        read_pickled(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as file:
        file.writestr("readme", "x")
    with pytest.raises(UserError, match=r"no data\.pkl"):
        read_pickled(tmp_path / "b.pt")
    torch.save({"epoch": 1}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="no modules and no tensors"):
        read_pickled(tmp_path / "c.pt")
