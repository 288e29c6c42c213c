"""Every model option keeps the protocols; a class of one's own is told what it lacks."""

from __future__ import annotations

import inspect

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from rsvlm.config import config_dir
from rsvlm.config.compose import options
from rsvlm.config.instantiate import instantiate
from rsvlm.data.sample import Answer
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.errors import UserError
from rsvlm.models import protocols
from rsvlm.models.base import GenerativeModel
from rsvlm.models.protocols import (
    Generator,
    ImageTextEncoder,
    Retriever,
    check_model,
    is_generator,
    is_image_text_encoder,
    is_retriever,
    members,
    missing,
)

#: Class -> what makes it small, wherever it stands in an option.
SMALL = {
    "APIModel": {"url": "http://127.0.0.1:8000/v1", "name": "gpt-4o"},
    "LanguageModel": {"size": "tiny", "special": "own"},
    "ImageTextModel": {"size": "tiny_qwen2_5_vl", "words": "world"},
    "EvaViT": {"depth": 2},
    "SentenceEncoder": {"words": "world"},
}


@pytest.fixture(scope="module")
def word_map(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.json"
    Vocabulary.build(["a road is built", "nothing has changed"], more_than=0).write(path)
    return str(path)


def small(node, word_map):
    """An option's node with small parts and words that need no download."""
    for part in list(node.values()):
        if isinstance(part, DictConfig):
            small(part, word_map)
    kind = str(node.get("_target_", "")).rpartition(".")[2]
    node.update({key: value for key, value in SMALL.get(kind, {}).items() if key in node})
    if "tokenizer" in node and "words" in node:
        node.tokenizer, node.words = None, "world"
    if kind == "read_words":
        node.path = word_map
    return node


@pytest.fixture(scope="module")
def built(word_map):
    with initialize_config_dir(str(config_dir()), version_base=None):
        nodes = {name: hydra_compose(f"model/{name}").model for name in options("model")}

    def build(name):
        node = nodes[name]
        OmegaConf.set_struct(node, False)
        with torch.device("meta"):
            return instantiate(small(node, word_map))

    return build


def same_arguments(model, protocol):
    """Each method takes what its protocol says."""
    for name in members(protocol):
        said = inspect.getattr_static(protocol, name)
        if not inspect.isfunction(said):
            continue
        _, *asked = inspect.signature(said).parameters.values()
        taken = inspect.signature(getattr(model, name))
        named = {p.name: None for p in asked if p.kind is p.KEYWORD_ONLY}
        taken.bind(*(p.name for p in asked if p.kind is p.POSITIONAL_OR_KEYWORD), **named)


@pytest.mark.parametrize("name", options("model"))
def test_every_model_option_keeps_the_protocols(built, name):
    model = built(name)
    check_model(model)
    assert is_generator(model) or is_image_text_encoder(model)
    found = [(is_retriever, Retriever), (is_generator, Generator)]
    found.append((is_image_text_encoder, ImageTextEncoder))
    for fits, protocol in found:
        if fits(model):
            assert not missing(model, protocol)
            same_arguments(model, protocol)
    assert isinstance(model.image_size, int)
    seen = model.preprocess(Image.new("RGB", (40, 30)))
    assert seen.dtype == torch.uint8 and seen.ndim == 3
    assert callable(model.tokenizer) or model.tokenizer.encode("a road")
    if is_generator(model):
        for training in (True, False):
            assert callable(model.collate(training, kinds="all", instructions={}))
        flags = (model.describes, model.takes_prompt, model.bitemporal)
        assert all(isinstance(flag, bool) for flag in flags)


class Own(GenerativeModel):
    """The least that a model of one's own gives."""

    image_size = 32
    tokenizer = None

    @property
    def preprocess(self):
        raise AssertionError("a check evaluates no property")

    def collate(self, training, *, kinds=None, instructions=None):
        return list

    def generate(self, batch, **options):
        return [Answer("yes")] * len(batch)


class Bare(nn.Module):
    image_size = 32

    def generate(self, batch):
        return []


class OldCollate(Own):
    def collate(self, training):
        return list


class Half(nn.Module):
    image_size = 32
    preprocess = tokenizer = staticmethod(list)

    def encode_image(self, images, normalize=False):
        return images


def test_a_class_of_ones_own_is_told_what_it_lacks():
    check_model(Own())
    for model, message in (
        (Bare(), r"Bare lacks after_step, .*collate.*preprocess.*Inherit .*GenerativeModel"),
        (OldCollate(), r"OldCollate.collate must be collate\(self, training, .*'kinds'"),
        (Half(), r"Half lacks encode_text, logit_scale: rsvlm.models.protocols.ImageTextEncoder"),
        (nn.Linear(1, 1), "Linear is no model that can be used here: it has neither generate"),
    ):
        with pytest.raises(UserError, match=message):
            check_model(model)


def test_it_is_told_where_a_model_is_built(compose):
    from rsvlm.inference.build import build_model

    cfg = compose("predict", ["model=clip_tiny"])
    OmegaConf.set_struct(cfg, False)
    cfg.model = {"_target_": f"{__name__}.Half"}
    with pytest.raises(UserError, match="Half lacks encode_text"):
        build_model(cfg)


def test_protocols_and_defaults_name_the_same_attributes():
    defaults = {name for name in vars(GenerativeModel) if not name.startswith("_")}
    assert defaults < set(members(protocols.Generator))
