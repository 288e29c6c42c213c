"""Weight averaging: the line between two models, and what is not on one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rsvlm import checkpoints
from rsvlm.cli import average as tool
from rsvlm.encoders.clip.model import CLIP, clip
from rsvlm.errors import UserError
from rsvlm.export.average import average
from rsvlm.inference import api
from rsvlm.nn import adapters


def tiny(seed: int = 0, **options: object) -> CLIP:
    torch.manual_seed(seed)
    return clip("tiny", **({"activation": "gelu"} | options)).eval()


def test_the_ends_are_the_models_and_the_middle_is_their_mean() -> None:
    a, b = tiny(0), tiny(1)
    b.logit_scale.data += 1
    for alpha, end in ((0.0, a), (1.0, b)):
        state = average(a, b, alpha)
        assert state.keys() == end.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in end.state_dict().items())
    state = average(a, b, 0.25)
    for name, value in state.items():
        expected = 0.75 * a.state_dict()[name].double() + 0.25 * b.state_dict()[name].double()
        # Measured: 3e-8 on values of size 0.3; one rounding to float32.
        torch.testing.assert_close(value.double(), expected, atol=5e-7, rtol=1e-6)


def test_half_precision_and_counts() -> None:
    a, b = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    a.half()
    b.num_batches_tracked += 7
    nn.init.constant_(b.running_mean, 0.5)
    state = average(a, b, 0.5)
    assert state["running_mean"].dtype == torch.float16
    assert state["running_mean"].tolist() == [0.25] * 4
    assert state["num_batches_tracked"] == 7


def test_other_models_are_refused() -> None:
    a = tiny()
    with pytest.raises(UserError, match="activation is gelu in the first and quick_gelu"):
        average(a, tiny(activation="quick_gelu"))
    with pytest.raises(UserError, match="arch is tiny in the first and small in the second"):
        average(a, clip("small", activation="gelu", device="meta"))
    with pytest.raises(UserError, match=r"mean is \[0\.48.* in the first and \[0\.5, 0\.5"):
        average(a, tiny(mean=(0.5, 0.5, 0.5)))
    with pytest.raises(UserError, match=r"1 tensors are in one only .*logit_bias"):
        average(a, tiny(logit_bias=-10.0))
    with pytest.raises(UserError, match=r"another shape, such as text\.token_embedding"):
        other = tiny()
        other.text.token_embedding = nn.Embedding(8, 64)
        average(a, other)
    with pytest.raises(UserError, match=r"neither model's activation is set.*=quick_gelu"):
        average(tiny(activation=None), tiny(activation=None))
    with pytest.raises(UserError, match=r"alpha=1\.5"):
        average(a, a, 1.5)


def test_lora_is_averaged_after_it_is_folded() -> None:
    base, tuned, twin = tiny(), tiny(peft="lora"), tiny(peft="lora")
    with pytest.raises(UserError, match=r"adapters\.merge"):
        average(tuned, twin)
    for update in (m for n, m in tuned.named_modules() if n.endswith(".up")):
        nn.init.normal_(update.weight)
    step = tuned.visual.blocks[0].attn.peft.lora["q"].weight().detach()
    adapters.merge(tuned)
    name = "visual.blocks.0.attn.q_proj.weight"
    expected = base.state_dict()[name] + step / 2
    # Measured: 3e-8 on values of size 0.4.
    torch.testing.assert_close(average(base, tuned)[name], expected, atol=2e-6, rtol=1e-6)


def test_the_tool_writes_a_checkpoint_that_loads(tmp_path, capsys) -> None:
    a, b = tiny(0), tiny(1)
    for name, model in {"a": a, "b": b}.items():
        torch.save(checkpoints.pack(model), tmp_path / f"{name}.ckpt")
    out = tmp_path / "new" / "mean.ckpt"
    words = ["--a", str(tmp_path / "a.ckpt"), "--b", str(tmp_path / "b.ckpt"), "--out", str(out)]
    tool.main([*words, "--alpha", "0.3"])
    assert "0.7 of" in capsys.readouterr().out
    model = api.load(out)
    expected = average(a, b, 0.3)
    assert model.activation == "gelu"
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert torch.load(out, weights_only=True)["rsvlm"]["config"]["average"]["alpha"] == 0.3
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    with pytest.raises(UserError, match=r"no best\.ckpt"):
        tool.main(["--a", str(run), *words[2:]])
