"""Published names and shapes of the change captioners at full size, and what learns in them."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from golden_case import read_case
from hydra.utils import instantiate
from model_options import build

from rsvlm.checkpoints.load import dialects_of, load_contents
from rsvlm.checkpoints.read import unwrap
from rsvlm.checkpoints.resolve import Source
from rsvlm.errors import UserError

KEYS = Path(__file__).parents[1] / "keys"
CONF = Path(__file__).parents[2] / "conf" / "model"
GOLDEN = os.environ.get("RSVLM_GOLDEN")
#: Option -> what differs from it in the published checkpoint.
BUILD = {
    "mmodalcc": {"variant": "parallel", "normalize": None},
    "rsiccformer": {},
    "chg2cap": {},
}
#: Parameters that the published code never uses, from the specification; None where it has none.
UNUSED = {
    "mmodalcc": {"encoder_feat": 6_405_120, "decoder": 4_253_696},
    "rsiccformer": {},
    "chg2cap": {},
}


def manifest(name):
    lines = [line.split(" ", 1) for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {key: torch.empty(json.loads(shape), device="meta") for key, shape in lines}


def vocabulary(state):
    return next(len(t) for name, t in state.items() if name.endswith("vocab_embedding.weight"))


def is_parameter(name):
    return not re.search(r"(running_\w+|num_batches_tracked|\.pe)$", name)


def load(name, tmp_path, **changes):
    state = manifest(name)
    model = build(name, vocab_size=vocabulary(state), device="meta", **BUILD[name])
    for key, value in changes.items():
        setattr(model, key, value)
    contents = unwrap({"epoch": 1, "model": state}, tmp_path / "best.pth.tar")
    source = Source("best.pth.tar", None)
    return model, load_contents(model, contents, source, dialects=dialects_of(model))


@pytest.mark.parametrize("name", sorted(BUILD))
def test_full_size_model_takes_the_published_names_and_shapes(name, tmp_path):
    model, report = load(name, tmp_path)
    assert report.loaded == report.total == len(model.state_dict()) and report.dialect == name
    assert not report.missing
    state = manifest(name)
    dropped = set(report.dropped)
    for part, count in UNUSED[name].items():
        mine = [key for key in dropped if key.startswith(f"{part}.") and is_parameter(key)]
        assert sum(state[key].numel() for key in mine) == count
    # Nothing that carries weights is dropped beyond what the published forward never calls.
    allowed = (
        r"embedding_1D|position_encoding\.pe|\.attention\.|transformer\.\d\.(norm|linear)[12]\.|"
        r"layers\.0\.(multihead_attn|self_attn)\d?\.|layers\.0\.norm2|fc_alpha|projection[234]|"
        r"to_v"
    )
    assert dropped and all(re.search(allowed, key) for key in dropped)


def test_mmodalcc_has_the_published_number_of_parameters():
    state = manifest("mmodalcc")
    words = vocabulary(state)
    counts = {"encoder_feat": 20_598_784, "decoder": 26_296_320 + 2_049 * words}
    for part, count in counts.items():
        names = [key for key in state if key.startswith(f"{part}.") and is_parameter(key)]
        assert sum(state[key].numel() for key in names) == count


@pytest.mark.parametrize(
    ("name", "first"), [("mmodalcc", 2), ("chg2cap", 2), ("rsiccformer", None)]
)
def test_the_published_parts_of_the_towers_learn(name, first):
    model = build(name, vocab_size=500, device="meta", **BUILD[name])
    for key, parameter in model.named_parameters():
        tower = re.match(r"(rgb|semantic)\.(?:layer(\d))?", key)
        stage = int(tower[2] or 0) if tower else 9
        frozen = tower is not None and (first is None or stage < first)
        assert parameter.requires_grad is not frozen, key


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.parity(n)) for n in ("mmodalcc", "rsiccformer", "chg2cap")],
)
def test_manifests_have_the_names_of_the_golden_cases(name):
    spec = read_case(Path(GOLDEN) / name).spec["state"]
    # The cases' sizes are their own: numbers of layers may differ, the names of one layer may not.
    plain = {re.sub(r"\.\d+\.", ".#.", key) for key in manifest(name)}
    assert {re.sub(r"\.\d+\.", ".#.", key) for key in spec} <= plain


def test_a_published_checkpoint_for_another_variant_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"mmodalcc.*variant=stacked.*model\.variant=parallel"):
        load("mmodalcc", tmp_path, variant="stacked")
    with pytest.raises(UserError, match=r"model\.variant=released"):
        load("chg2cap", tmp_path, variant="paper")
    model = build("rsiccformer", vocab_size=468, device="meta")
    contents = unwrap({"model": manifest("mmodalcc")}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="It looks like MModalCC"):
        load_contents(model, contents, Source("a.pt", None), dialects=dialects_of(model))
    state = manifest("rsiccformer")
    del state["encoder_feat.LN.1.weight"]
    with pytest.raises(UserError, match=r"encoder\.fusion\.norms\.1\.weight"):
        contents = unwrap({"model": state}, tmp_path / "a.pt")
        load_contents(model, contents, Source("a.pt", None), dialects=dialects_of(model))
    with pytest.raises(UserError, match="other"):
        small = build("rsiccformer", vocab_size=400, device="meta")
        contents = unwrap({"model": manifest("rsiccformer")}, tmp_path / "a.pt")
        load_contents(small, contents, Source("a.pt", None), dialects=dialects_of(small))


OPTIONS = [f"{name}{size}" for name in (*BUILD, "mmodalcc_maps") for size in ("", "_tiny")]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_build_what_their_configurations_say(option):
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text(encoding="utf-8"))
    assert node.pop("words")["path"] == "data"
    with torch.device("meta"):
        composed = instantiate(node, vocab_size=50)
    built = build(option, vocab_size=50, device="meta")
    shapes = {k: v.shape for k, v in built.state_dict().items()}
    assert shapes == {k: v.shape for k, v in composed.state_dict().items()}
    words = ("normalize", "batch_norm", "image_size", "steps", "variant", "palette")
    for word in words:
        assert getattr(built, word, None) == getattr(composed, word, None), word
    learns = {k: p.requires_grad for k, p in built.named_parameters()}
    assert learns == {k: p.requires_grad for k, p in composed.named_parameters()}
