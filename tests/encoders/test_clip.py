"""Our CLIP against open_clip's: same features, loss and gradients; and what only ours does."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rsvlm.encoders.clip.architectures import OPEN_CLIP_ARCHS, sizes
from rsvlm.encoders.clip.model import ARCHS, CLIP, clip, tokenizer
from rsvlm.encoders.clip.towers import ResNetTower, TextTransformer, VisionTransformer
from rsvlm.losses.contrastive import ClipLoss

VOCAB, CONTEXT, EMBED = 120, 77, 24
EOT = VOCAB - 1


def native(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names to ours; written apart from the table in checkpoints, to check it too."""
    out = {}
    resnet = "visual.conv2.weight" in state
    for key, value in state.items():
        if key.startswith("visual."):
            name = f"visual.trunk.{key[7:]}" if resnet else key
            name = name.replace("visual.transformer.resblocks.", "visual.blocks.")
        elif key in ("logit_scale", "logit_bias"):
            name = key
        else:
            name = "text." + key.replace("transformer.resblocks.", "blocks.")
        if "in_proj_" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                out[name.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            out[name] = value
    return out


def shake(module: nn.Module, seed: int = 0) -> None:
    """Make every parameter and statistic matter; fresh biases and gains are zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += 0.2 * torch.rand(buffer.shape, generator=generator)


def pair(kind: str, quick_gelu: bool = False, **options: float) -> tuple[nn.Module, CLIP]:
    """A small open_clip model and ours with the same weights."""
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    if kind == "vit":
        vision = CLIPVisionCfg(layers=3, width=32, head_width=16, patch_size=16, image_size=48)
        visual: nn.Module = VisionTransformer(
            48, 16, width=32, layers=3, heads=2, embed_dim=EMBED, **options
        )
    else:
        vision = CLIPVisionCfg(layers=(1, 2, 1, 1), width=8, head_width=64, image_size=64)
        visual = ResNetTower(64, width=8, layers=(1, 2, 1, 1), heads=4, embed_dim=EMBED)
    theirs = open_clip.CLIP(
        EMBED,
        vision,
        CLIPTextCfg(width=32, heads=4, layers=2, vocab_size=VOCAB, context_length=CONTEXT),
        quick_gelu=quick_gelu,
        output_dict=True,
    )
    shake(theirs)
    text = TextTransformer(VOCAB, CONTEXT, width=32, layers=2, heads=4, embed_dim=EMBED, **options)
    ours = CLIP(visual, text, arch=kind, activation="quick_gelu" if quick_gelu else "gelu")
    ours.load_state_dict(native(theirs.state_dict()), strict=True)
    return theirs, ours


def captions(count: int, longest: int = 13) -> Tensor:
    """Random ids [count, 77]: words, one end-of-text (the largest id), zeros."""
    ids = torch.zeros(count, CONTEXT, dtype=torch.long)
    for row in range(count):
        length = 3 + row * (longest - 3) // max(count - 1, 1)
        ids[row, :length] = torch.randint(1, EOT, (length,))
        ids[row, length - 1] = EOT
    return ids


def example(model: CLIP, count: int = 6) -> SimpleNamespace:
    torch.manual_seed(1)
    side = model.image_size
    return SimpleNamespace(images=torch.randn(count, 3, side, side), input_ids=captions(count))


@pytest.mark.parametrize(
    ("kind", "quick_gelu"), [("vit", False), ("vit", True), ("resnet", False), ("resnet", True)]
)
def test_features_equal_open_clip(kind: str, quick_gelu: bool) -> None:
    theirs, ours = pair(kind, quick_gelu)
    theirs.eval()
    ours.eval()
    batch = example(ours)
    with torch.no_grad():
        images, texts = theirs.encode_image(batch.images), theirs.encode_text(batch.input_ids)
        # Measured: 3e-6 at most, on features of size 1 (sums in another order).
        torch.testing.assert_close(ours.encode_image(batch.images), images, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(batch.input_ids), texts, atol=1e-5, rtol=1e-5)
        wrong = "gelu" if quick_gelu else "quick_gelu"
        ours.set_activation(wrong)
        assert (ours.encode_text(batch.input_ids) - texts).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_loss_and_gradients_equal_open_clip(kind: str) -> None:
    import open_clip

    theirs, ours = pair(kind, quick_gelu=True)
    batch = example(ours)
    reference = open_clip.ClipLoss()(**theirs(batch.images, batch.input_ids))
    reference.backward()
    batch.input_ids = batch.input_ids[:, :16]
    loss = ClipLoss()(ours(batch), batch)["contrastive"]
    loss.backward()
    # Measured: 1e-7 for the loss, gradients 1e-5 of the largest entry of each tensor. The keys'
    # biases have none (a softmax ignores a constant), only noise of 1e-7.
    torch.testing.assert_close(loss, reference, atol=1e-6, rtol=1e-6)
    grads = native({name: p.grad for name, p in theirs.named_parameters()})
    assert len(grads) > 60
    for name, parameter in ours.named_parameters():
        scale = grads[name].abs().max().item()
        assert parameter.grad is not None, name
        torch.testing.assert_close(
            parameter.grad, grads[name], atol=2e-5 * scale + 2e-7, rtol=1e-4, msg=name
        )


@pytest.mark.parametrize("arch", OPEN_CLIP_ARCHS)
def test_sizes_equal_open_clip(arch: str) -> None:
    import open_clip

    with torch.device("meta"):
        theirs = open_clip.CLIP(**open_clip.get_model_config(arch))
        ours = clip(arch)
    shapes = {name: tuple(value.shape) for name, value in native(theirs.state_dict()).items()}
    assert {name: tuple(value.shape) for name, value in ours.state_dict().items()} == shapes
    assert all(parameter.is_meta for parameter in ours.parameters())
    heads = {name: m.num_heads for name, m in theirs.named_modules() if hasattr(m, "num_heads")}
    assert ours.text.blocks[0].attn.heads == heads["transformer.resblocks.0.attn"]
    if arch == "RN50":
        assert ours.visual.trunk.attnpool.num_heads == heads["visual.attnpool"]
    else:
        assert ours.visual.blocks[0].attn.heads == heads["visual.transformer.resblocks.0.attn"]


def test_fresh_weights_are_distributed_as_open_clips() -> None:
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    theirs = open_clip.CLIP(
        128,
        CLIPVisionCfg(layers=2, width=256, patch_size=16, image_size=64),
        CLIPTextCfg(width=256, heads=4, layers=2, vocab_size=1000),
    )
    visual = VisionTransformer(64, 16, width=256, layers=2, heads=4, embed_dim=128)
    text = TextTransformer(1000, 77, width=256, layers=2, heads=4, embed_dim=128)
    ours = CLIP(visual, text, arch="test")
    reference = native(theirs.state_dict())
    for again in range(2):
        for name, value in ours.state_dict().items():
            # 5 standard errors of the deviation of that many draws, 0 where both are constant.
            margin = 5 / math.sqrt(2 * value.numel()) if value.numel() > 1 else 0
            expected = reference[name].std(correction=0).item()
            assert abs(value.std(correction=0).item() - expected) <= 2 * margin * expected, name
            assert abs((value - reference[name]).mean()) <= 2 * margin * expected + 1e-6, name
        if not again:
            for parameter in ours.parameters():
                nn.init.constant_(parameter, 7.0)
            ours.reset_parameters()


def test_trimmed_text_gives_the_same_features_and_gradients() -> None:
    _, ours = pair("vit")
    ids = captions(6)
    grads = []
    for cut in (ids, ids[:, :16], ids[:, :13]):
        ours.zero_grad()
        features = ours.encode_text(cut)
        features.square().sum().backward()
        grads.append((features.detach(), ours.text.blocks[0].attn.k_proj.weight.grad.clone()))
    for features, grad in grads[1:]:
        torch.testing.assert_close(features, grads[0][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(grad, grads[0][1], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="78 tokens, the text tower takes 77"):
        ours.encode_text(torch.ones(1, 78, dtype=torch.long))


@pytest.mark.parametrize("causal", [False, True])
def test_a_pooled_block_equals_the_full_one(causal: bool) -> None:
    _, ours = pair("vit")
    block = ours.text.blocks[0]
    torch.manual_seed(0)
    x = torch.randn(4, 9, 32, requires_grad=True)
    index = torch.tensor([0, 8, 3, 5])
    full = block(x, causal)
    cases = [(index, full[torch.arange(4), index])] + [(i, full[:, i]) for i in (0, 4)]
    for pool, expected in cases:
        pooled = block(x, causal, pool)
        torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
        mine, reference = (
            torch.autograd.grad(
                out.square().sum(), [x, block.attn.q_proj.weight], retain_graph=True
            )
            for out in (pooled, expected)
        )
        for a, b in zip(mine, reference, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_hidden_states_of_a_layer() -> None:
    theirs, ours = pair("vit")
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        states = theirs.visual.forward_intermediates(
            images, output_fmt="NLC", output_extra_tokens=True
        )
        for layer in (-1, -2, 0):
            tokens = ours.visual.tokens(images, layer)
            parts = ("image_intermediates_prefix", "image_intermediates")
            expected = torch.cat([states[part][layer] for part in parts], dim=1)
            torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_uint8_images_equal_to_tensor_and_normalize() -> None:
    from torchvision.transforms.functional import normalize

    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    model = clip("tiny", activation="gelu", mean=mean, std=std).eval()
    raw = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    plain = normalize(raw.float().div(255), mean, std)
    before = raw.clone()
    with torch.no_grad():
        assert torch.equal(model.encode_image(raw), model.encode_image(plain))
    assert torch.equal(raw, before)
    assert "image_mean" not in model.state_dict()


def test_a_model_built_on_meta_gets_its_constants_back() -> None:
    source = clip("tiny", activation="gelu", mean=(0.1, 0.2, 0.3)).eval()
    batch = SimpleNamespace(
        images=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        input_ids=tokenizer("tiny")(["a pond", "many planes"])[:, :8],
    )
    expected = source(batch)["image_features"]

    def check(model: CLIP) -> None:
        model.set_activation("gelu")
        assert torch.equal(model.eval()(batch)["image_features"], expected)

    with torch.device("meta"):
        models = [clip("tiny", mean=(0.1, 0.2, 0.3)) for _ in range(3)]
    for model in models[:2]:
        model.load_state_dict(source.state_dict(), assign=True)
    check(models[0])
    check(models[1].to("cpu"))
    models[2].to_empty(device="cpu").load_state_dict(source.state_dict())
    check(models[2])
    assert models[2].to(torch.bfloat16).image_mean.dtype == torch.float32


def test_activation_must_be_said() -> None:
    model = clip("tiny")
    with pytest.raises(ValueError, match=r"model\.activation=quick_gelu.*zoo row"):
        model.encode_text(torch.tensor([[1, 49407]]))
    with pytest.raises(ValueError, match="relu"):
        model.set_activation("relu")
    model.set_activation("gelu")
    assert len(ARCHS) >= 8
    assert model.encode_text(torch.tensor([[1, 49407]])).shape == (1, 64)


def test_bad_names_and_sizes_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="Did you mean ViT-B-32"):
        clip("ViT-B32")
    with pytest.raises(ValueError, match=r"Known: .*ViT-B-32"):
        tokenizer("bert")
    with pytest.raises(ValueError, match="multiple of patch_size=16"):
        clip("tiny", image_size=70)
    with pytest.raises(ValueError, match="ResNet and does not have patch_dropout"):
        clip("RN50", patch_dropout=0.5, device="meta")
    with pytest.raises(ValueError, match="gradient checkpointing"):
        clip("RN50", grad_checkpointing=True, device="meta")
    model = clip("tiny", activation="gelu")
    with pytest.raises(ValueError, match=r"images are 32x48, this model takes 64x64"):
        model.encode_image(torch.zeros(1, 3, 32, 48))


@pytest.mark.parametrize("arch", ["small", "tiny"])
def test_own_sizes_train(arch: str) -> None:
    torch.manual_seed(0)
    options = {"dropout": 0.1, "drop_path": 0.1, "patch_dropout": 0.5}
    model = clip(arch, activation="gelu", logit_bias=-1.0, **options)
    count = 4
    batch = SimpleNamespace(
        images=torch.randint(0, 256, (count, 3, *[model.image_size] * 2), dtype=torch.uint8),
        input_ids=tokenizer(arch)([f"{n} planes" for n in ("one", "two", "no", "many")])[:, :8],
    )
    outputs = model(batch)
    assert outputs["image_features"].shape == (count, model.embed_dim)
    assert outputs["logit_scale"].item() == pytest.approx(1 / 0.07)
    assert outputs["logit_bias"].item() == -1
    for key in ("image_features", "text_features"):
        torch.testing.assert_close(outputs[key].norm(dim=-1), torch.ones(count))
    sum(value.sum() for value in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert not torch.equal(model(batch)["image_features"], outputs["image_features"])
    model.eval()
    assert torch.equal(model(batch)["image_features"], model(batch)["image_features"])
    assert hasattr(clip(arch, stem="patch", device="meta").visual, "conv1")


def test_gradient_checkpointing_changes_no_gradient() -> None:
    _, ours = pair("vit", dropout=0.1, drop_path=0.2)
    batch = example(ours)
    grads = []
    for enable in (False, True, "mlp"):
        ours.set_grad_checkpointing(enable)
        ours.zero_grad()
        torch.manual_seed(3)
        ClipLoss()(ours(batch), batch)["contrastive"].backward()
        grads.append([p.grad.clone() for p in ours.parameters()])
    for recomputed in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], recomputed, strict=True))
    with pytest.raises(ValueError, match="true, false or mlp"):
        ours.set_grad_checkpointing("blocks")


@pytest.mark.parametrize("autocast", [False, True])
def test_mlp_checkpointing_keeps_one_hidden_tensor_instead_of_two(autocast: bool) -> None:
    _, ours = pair("vit", quick_gelu=True)
    images = example(ours).images
    kept = []
    for enable in (False, "mlp"):
        ours.set_grad_checkpointing(enable)
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            # Hidden units of 6 images with 10 tokens each; not the weights, which are alike.
            if tensor.ndim > 1 and tensor.shape[-1] == 4 * 32 and tensor.shape[0] in (6, 60):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            features = ours.encode_image(images)
        kept.append(sum(sizes.values()))
        del features
    # Two blocks of all tokens, one of the class token: input and output, then the input only.
    assert kept == [2 * 6 * (10 + 10 + 1) * 128, 6 * (10 + 10 + 1) * 128]


def test_autocast_keeps_activations_small_and_features_close() -> None:
    _, ours = pair("vit", quick_gelu=True)
    batch = example(ours)
    exact = ours(batch)
    seen = set()
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.add(out.dtype))
        for tower in (ours.visual, ours.text)
        for module in tower.blocks.modules()
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = ours(batch)
    for hook in hooks:
        hook.remove()
    assert seen == {torch.bfloat16}
    for key in ("image_features", "text_features"):
        assert half[key].dtype == torch.float32
        # bfloat16 keeps 8 bits: measured 0.006 to 0.011 over seeds.
        assert (half[key] - exact[key]).norm(dim=-1).max() < 0.03


@pytest.mark.slow
def test_compiles_without_graph_breaks() -> None:
    _, ours = pair("vit", quick_gelu=True)
    batch = example(ours)
    images = (batch.images * 40 + 128).clamp(0, 255).to(torch.uint8)
    expected = ours(SimpleNamespace(images=images, input_ids=batch.input_ids))
    for autocast in (False, True):
        torch._dynamo.reset()
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            outputs = compiled(SimpleNamespace(images=images, input_ids=batch.input_ids))
        sum(value.sum() for value in outputs.values()).backward()
        error = (outputs["image_features"] - expected["image_features"]).abs().max()
        assert error < (0.03 if autocast else 1e-5)


@pytest.mark.parametrize("arch", OPEN_CLIP_ARCHS)
def test_the_sizes_are_those_of_open_clips_own_files(arch):
    import open_clip

    size, config = sizes(arch), open_clip.get_model_config(arch)
    vision, text = config["vision_cfg"], config["text_cfg"]
    layers = vision["layers"]
    resnet = isinstance(layers, list)
    heads = vision["width"] * (32 if resnet else 1) // vision.get("head_width", 64)
    assert size.embed_dim == config["embed_dim"]
    assert (size.image_size, size.width, size.heads) == (
        vision["image_size"],
        vision["width"],
        heads,
    )
    assert size.patch_size == (0 if resnet else vision["patch_size"])
    assert size.layers == (tuple(layers) if resnet else layers)
    assert (size.text_width, size.text_layers, size.text_heads) == (
        text["width"],
        text["layers"],
        text["heads"],
    )
    assert (size.context_length, size.vocab_size) == (text["context_length"], text["vocab_size"])


def test_the_tokenizer_is_open_clips_and_travels_to_loader_processes():
    from open_clip.tokenizer import SimpleTokenizer

    texts = ["a baseball field, and 2 trees", "Straße &amp; café"]
    ours = tokenizer("tiny")
    assert torch.equal(ours(texts), SimpleTokenizer()(texts))
    assert pickle.loads(pickle.dumps(ours)) is ours
