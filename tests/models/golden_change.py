"""Published cases of the change captioners, and small models of every kind."""

import os
from pathlib import Path
from types import SimpleNamespace

import torch
from golden_case import read_case

from rsvlm.encoders.resnet import ConvStem
from rsvlm.models.change_captioning.chg2cap import Chg2Cap
from rsvlm.models.change_captioning.mmodalcc import MModalCC
from rsvlm.models.change_captioning.rsiccformer import RSICCformer

GOLDEN = os.environ.get("RSVLM_GOLDEN")
VOCAB = 12


def case(name):
    """The case of that name, for tests that bear it as their marker."""
    return read_case(Path(GOLDEN) / name)


class Features(torch.nn.Module):
    """In a tower's place: its input are the features already."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, images):
        return images


def tiny(kind="mmodalcc", **options):
    """A model that trains in seconds."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "grid": 4, "encoder_dropout": 0.0, "decoder_heads": 2}
    if kind == "rsiccformer":
        given = sizes | {"dropout": 0.0, "word_dropout": 0.0} | options
        return RSICCformer(ConvStem((8, 16)), VOCAB, **given)
    if kind == "chg2cap":
        sizes = {"grid": 8, "heads": 2, "layers": 2, "attention_dim": 16, "hidden": 32, "dim": 32}
        given = sizes | {"dropout": 0.0, "word_dropout": 0.0, "steps": 9} | options
        return Chg2Cap(ConvStem((8, 16)), VOCAB, **given)
    given = sizes | {"dropout": 0.0, "word_dropout": 0.0} | options
    maps = given.pop("maps", True)
    return MModalCC(ConvStem((8, 16)), ConvStem((8, 16)) if maps else None, VOCAB, **given)


def pairs(count=6, side=16, start=VOCAB - 2, end=VOCAB - 1):
    """Pairs of images, maps and captions, all noise but the captions' form."""
    torch.manual_seed(1)
    lengths = 3 + torch.arange(count) % 4
    ids = torch.randint(4, VOCAB - 3, (count, 8))
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = start, end, 0
    return SimpleNamespace(
        images=torch.randint(0, 256, (count, 2, 3, side, side), dtype=torch.uint8),
        semantic=torch.randint(0, 6, (count, 2, side, side)),
        input_ids=ids,
        caption_lengths=lengths,
    )
