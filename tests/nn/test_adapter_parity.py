"""PEFT inside CLIP against the libraries that publish it: peft's LoRA, AdapterHub's four presets.

AdapterHub pins an older transformers than this house, so that test is run by hand:

    pip install --target /tmp/hub --no-deps adapters==1.3.0 transformers==4.57.6 \\
        "tokenizers<0.23" "huggingface_hub<1"
    PYTHONPATH=/tmp/hub python -m pytest tests/nn/test_adapter_parity.py
"""

from __future__ import annotations

import pytest
import torch
from test_adapters import EOT, KINDS, VOCAB, batch, build
from torch import Tensor, nn

from rsvlm.nn import adapters
from rsvlm.nn.adapter_settings import settings
from rsvlm.nn.transformer import Attention, Extra


def test_lora_equals_the_peft_library() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    ours = Attention(32, 4)
    plain = nn.ModuleDict({name: nn.Linear(32, 32) for name in ("q_proj", "k_proj", "v_proj")})
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if "out_proj" not in k})
    config = peft.LoraConfig(r=8, lora_alpha=2, target_modules=["q_proj", "v_proj"])
    theirs = peft.inject_adapter_in_model(config, plain)
    ours.peft = adapters._AttentionPeft(32, settings("lora", {"lora": {"alpha": 2}}))
    assert theirs["q_proj"].lora_B["default"].weight.count_nonzero() == 0
    for name in "qv":
        mine, other = ours.peft.lora[name], theirs[f"{name}_proj"]
        nn.init.normal_(other.lora_B["default"].weight)
        mine.down.load_state_dict(other.lora_A["default"].state_dict())
        mine.up.load_state_dict(other.lora_B["default"].state_dict())
    x = torch.randn(2, 5, 32)
    q, k, v = (getattr(ours, f"{name}_proj")(x) for name in "qkv")
    for mine, name in zip(ours.peft(x, x, q, k, v, Extra()), "qkv", strict=True):
        # Measured: 0; both add the scaled update to the layer's output.
        torch.testing.assert_close(mine, theirs[f"{name}_proj"](x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_adapterhubs(kind: str) -> None:
    hub = pytest.importorskip("adapters")
    from transformers import CLIPConfig, CLIPModel

    from rsvlm.checkpoints.dialects import convert
    from rsvlm.encoders.clip.layouts import HF_CLIP

    torch.manual_seed(0)
    shape = {"hidden_act": "quick_gelu", "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": VOCAB, "eos_token_id": EOT, "bos_token_id": 1, "pad_token_id": 0}
    theirs = CLIPModel(
        CLIPConfig(
            projection_dim=24,
            text_config=shape | tokens | {"hidden_size": 32, "intermediate_size": 128},
            vision_config=shape
            | {"num_hidden_layers": 3, "num_attention_heads": 3, "hidden_size": 48}
            | {"intermediate_size": 192, "image_size": 32, "patch_size": 16},
        )
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.1)
    base = convert(theirs.state_dict(), HF_CLIP, "here").state
    hub.init(theirs)
    config = {
        "lora": hub.LoRAConfig(),
        "pfeiffer": hub.SeqBnConfig(),
        "prefix": hub.PrefixTuningConfig(),
        "unipelt": hub.UniPELTConfig(),
    }[kind]
    theirs.add_adapter("x", config=config)
    theirs.train_adapter("x")
    theirs.eval()
    trained = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    ours = build(kind)
    assert adapters.counts(ours)["trained"] == sum(p.numel() for p in trained.values())
    for parameter in trained.values():
        nn.init.normal_(parameter, std=0.2)

    state = dict(base)
    for name in [name for name in ours.state_dict() if adapters.is_peft(name)]:
        state[name] = hub_value(name, trained)
    ours.load_state_dict(state)
    example = batch()
    # No padding: AdapterHub's gates would average over it.
    example.input_ids = example.input_ids[:, :12].clamp(min=1).clamp(max=EOT - 1)
    example.input_ids[:, -1] = EOT
    plain = build("none")
    plain.load_state_dict(base)
    with torch.no_grad():
        outputs, untuned = ours(example), plain(example)
        published = theirs(input_ids=example.input_ids, pixel_values=example.images)
    for word in ("image", "text"):
        feature = outputs[f"{word}_features"]
        assert (feature - untuned[f"{word}_features"]).abs().max() > 0.02
        # Measured: 2e-7 at most, on features of unit length.
        torch.testing.assert_close(feature, published[f"{word}_embeds"], atol=2e-6, rtol=1e-5)


def hub_value(name: str, trained: dict[str, Tensor]) -> Tensor:
    """One of our parameters out of AdapterHub's."""
    tower, _, rest = name.partition(".")
    model = {"visual": "vision_model", "text": "text_model"}[tower]
    if rest.startswith("peft.prefix."):
        words = {"embedding": "wte", "down": "control_trans.0", "up": "control_trans.2"}
        part, leaf = rest.removeprefix("peft.prefix.").split(".")
        word = {"visual": "vision", "text": "text"}[tower]
        ends = [n for n in trained if f"clip_{word}_model_self_prefix.{words[part]}.{leaf}" in n]
        assert len(ends) == 1, (name, [n for n in trained if "prefix" in n])
        return trained[ends[0]]
    index = rest.split(".")[1]
    layer = f"{model}.encoder.layers.{index}"
    if ".attn.peft.gates." in rest:
        leaf = rest.rpartition(".")[2]
        gates = [f"self_attn.{t}_proj.loras.x.gate" for t in "qv"]
        gates.append("self_attn.prefix_tuning.prefix_gates.x")
        return torch.cat([trained[f"{layer}.{gate}.{leaf}"] for gate in gates])
    if ".attn.peft.lora." in rest:
        target, part = rest.split(".")[-3], rest.split(".")[-2]
        return trained[
            f"{layer}.self_attn.{target}_proj.loras.x.lora_{'A' if part == 'down' else 'B'}"
        ]
    part, leaf = rest.split(".")[-2:]
    words = {"down": "adapter_down.0", "up": "adapter_up", "gate": "gate"}
    return trained[f"{layer}.output_adapters.adapters.x.{words[part]}.{leaf}"]
