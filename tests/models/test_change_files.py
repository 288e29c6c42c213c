"""Whole pickled files of the change captioners, as their training scripts write them."""

import sys

import pytest
import torch
from change_files import PACKAGE, counters, save_pickled
from golden_change import pairs

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.encoders.resnet import ResNet
from rsvlm.errors import UserError
from rsvlm.models.change_captioning.mmodalcc import MMODALCC, MModalCC
from rsvlm.models.change_captioning.rsiccformer import RSICCFORMER, RSICCformer

VOCAB = 12
SIZES = {"dim": 16, "heads": 2, "grid": 2, "decoder_heads": 2}


def tower():
    return ResNet((1, 1, 1), block="basic")


def build(name, seed, **options):
    torch.manual_seed(seed)
    if name == "rsiccformer":
        return RSICCformer(tower(), VOCAB, layers=2, **SIZES, **options).eval()
    return MModalCC(tower(), tower(), VOCAB, **SIZES, **({"variant": "parallel"} | options)).eval()


#: What the published files hold beside the tensors that are used, at these sizes.
UNUSED = {
    "mmodalcc": {
        "encoder_feat.embedding_1D.weight": (4, 16),
        "encoder_feat.transformer.1.attention.in_proj_weight": (48, 16),
        "encoder_feat.transformer.0.linear1.bias": (64,),
        "decoder.transformer.layers.0.multihead_attn2.out_proj.bias": (32,),
        "decoder.transformer.layers.0.norm2.weight": (32,),
        "decoder.position_encoding.pe": (50, 1, 32),
    },
    "rsiccformer": {
        "encoder_feat.projection4.weight": (16, 256, 1, 1),
        "decoder.transformer.layers.0.multihead_attn3.in_proj_weight": (96, 32),
        "decoder.transformer.layers.0.fc_alpha2.weight": (32, 64),
    },
}
DIALECTS = {"mmodalcc": MMODALCC, "rsiccformer": RSICCFORMER}


def write(name, model, folder):
    """The model as a published file, its unused tensors included."""
    state = revert(model.state_dict(), DIALECTS[name])
    state |= {key: torch.randn(shape) for key, shape in UNUSED[name].items()}
    return save_pickled(folder / "BEST.pth.tar", counters(state))


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_pickled_file_loads_without_its_code_and_gives_the_same_logits(name, tmp_path):
    first, second = build(name, 0), build(name, 1)
    file = write(name, first, tmp_path)
    assert PACKAGE not in sys.modules
    report = checkpoints.load(second, file)
    assert PACKAGE not in sys.modules
    assert report.loaded == report.total and report.dialect == name
    assert set(report.dropped) == set(UNUSED[name])
    batch = pairs(2, side=32)
    torch.testing.assert_close(second(batch)["logits"], first(batch)["logits"])


def test_only_models_that_are_published_so_read_pickles_by_themselves(tmp_path):
    file = write("mmodalcc", build("mmodalcc", 0), tmp_path)
    with pytest.raises(UserError, match="holds pickled code, and nothing of it was run"):
        checkpoints.load(tower(), file)
    with pytest.raises(UserError, match=r"variant=stacked.*model\.variant=parallel"):
        checkpoints.load(build("mmodalcc", 0, variant="stacked"), file)
    with pytest.raises(UserError, match="It looks like MModalCC"):
        checkpoints.load(build("rsiccformer", 0), file)
    file.write_bytes(file.read_bytes()[:-4000])
    with pytest.raises(UserError, match=r"cut short or damaged|damaged or cut short"):
        checkpoints.load(build("mmodalcc", 0), file)


def test_autocast_trains_and_generates():
    model = build("mmodalcc", 0).train()
    batch = pairs(3, side=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch)["logits"]
        found = model.hypotheses(batch, steps=6)
    logits.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert len(found) == 3
