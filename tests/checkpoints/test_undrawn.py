"""A model whose weights a file gives is built without drawing them; the rest is as seeded."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsvlm import checkpoints
from rsvlm.checkpoints import undrawn
from rsvlm.checkpoints.undrawn import Undrawn, built_and_loaded
from rsvlm.config.compose import compose
from rsvlm.encoders.language import LanguageModel
from rsvlm.inference.build import build_model


class Draws(TorchDispatchMode):
    """Counts the numbers that are drawn into parameters."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in ("aten::normal_", "aten::uniform_"):
            self.numbers += args[0].numel() if isinstance(args[0], nn.Parameter) else 0
        return func(*args, **(kwargs or {}))


def config(*words):
    return compose("predict", ["model=llava_tiny", "seed=3", *words])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of another seed, and its state."""
    cfg = compose("predict", ["model=llava_tiny", "seed=8"])
    model = build_model(cfg)
    path = tmp_path_factory.mktemp("saved") / "a.ckpt"
    torch.save(checkpoints.pack(model), path)
    return path, model.state_dict()


@pytest.fixture
def from_one_number(monkeypatch):
    monkeypatch.setattr(undrawn, "LEAST", 1)


def test_nothing_is_drawn_that_the_file_gives(saved, from_one_number):
    path, state = saved
    with Draws() as draws:
        model = build_model(config(f"ckpt={path}"))
    assert draws.numbers == 0
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_what_starts_fresh_is_what_the_seed_gives(saved, monkeypatch, tmp_path):
    held = torch.load(saved[0], weights_only=True)
    for name in [name for name in held["state_dict"] if name.startswith("bridge.")]:
        del held["state_dict"][name]
    torch.save(held, tmp_path / "b.ckpt")
    words = (f"init={tmp_path / 'b.ckpt'}", "init_new=[bridge]")
    expected = build_model(config(*words)).state_dict()
    drawn = build_model(config()).state_dict()
    monkeypatch.setattr(undrawn, "LEAST", 1)
    found = build_model(config(*words)).state_dict()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert all(torch.equal(found[n], drawn[n]) for n in found if n.startswith("bridge."))


def test_small_parameters_are_drawn_as_ever(saved):
    with Draws() as draws:
        build_model(config(f"ckpt={saved[0]}"))
    assert draws.numbers > 0


def test_what_no_file_writes_is_drawn_after_all(from_one_number):
    def make():
        torch.manual_seed(0)
        return nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})

    def load(model):
        with torch.no_grad():
            model["a"].weight.fill_(1)
            model["a"].bias.fill_(1)
        return "report"

    model, report = built_and_loaded(make, load)
    assert report == "report" and torch.equal(model["b"].weight, make()["b"].weight)
    assert bool((model["a"].weight == 1).all())


def test_a_cut_normal_distribution_is_left_out_whole_and_a_constant_is_written():
    skipping = Undrawn(least=10)
    with skipping:
        cut, ones, small = (nn.Parameter(torch.zeros(n)) for n in (10, 10, 9))
        nn.init.trunc_normal_(cut, std=0.02)
        nn.init.normal_(ones)
        nn.init.ones_(ones)
        nn.init.normal_(small)
    model = SimpleNamespace(named_parameters=lambda: {"a": cut, "b": ones, "c": small}.items())
    assert skipping.left_in(model) == ["a"]
    assert not cut.any() and bool((ones == 1).all()) and bool(small.any())


def anonymous():
    """Memory of this process without what files are mapped into, MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's counters")
def test_memory_is_that_of_one_model(tmp_path):
    size = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 1024}
    size |= {"intermediate_size": 2752, "num_hidden_layers": 6, "num_attention_heads": 8}
    first = LanguageModel(size)
    whole = sum(p.numel() for p in first.parameters()) * 4 / 2**20
    torch.save(first.state_dict(), tmp_path / "a.pt")
    del first
    before, steps = anonymous(), []

    def load(model):
        steps.append(anonymous() - before)
        report = checkpoints.load(model, tmp_path / "a.pt")
        steps.append(anonymous() - before)
        return report

    built_and_loaded(lambda: LanguageModel(size), load)
    assert whole > 400 and steps[0] < 0.1 * whole and steps[1] < 1.2 * whole
