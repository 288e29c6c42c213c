"""Small CLIPs of open_clip with random weights, and ours of the same sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from rsvlm.checkpoints.zoo import handed_in
from rsvlm.encoders.clip.model import CLIP
from rsvlm.encoders.clip.towers import ResNetTower, TextTransformer, VisionTransformer
from rsvlm.models.zoo import rows

VOCAB, CONTEXT, EMBED = 100, 12, 24


@pytest.fixture(autouse=True)
def _zoo() -> Iterator[None]:
    """The rows that the one builder hands in."""
    with handed_in(rows()):
        yield


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def _scramble(model: torch.nn.Module) -> torch.nn.Module:
    """Every tensor away from its initial value: zeros and ones would hide a wrong name."""
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor))
                if name.endswith("running_var"):
                    tensor.abs_()
    return model.eval()


@pytest.fixture
def scramble() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """`scramble(model)`: moves every tensor away from its initial value."""
    return _scramble


@pytest.fixture
def reference() -> Callable[..., torch.nn.Module]:
    """`reference(kind, activation)`: open_clip's model; kinds are `vit`, `vit48` and `resnet`."""
    from open_clip.model import CLIP as OpenClip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    def build(kind: str = "vit", activation: str = "gelu") -> torch.nn.Module:
        side = 48 if kind == "vit48" else 32
        vision = (
            CLIPVisionCfg(layers=[1, 2, 1, 1], width=16, head_width=64, image_size=64)
            if kind == "resnet"
            else CLIPVisionCfg(layers=3, width=32, head_width=8, patch_size=8, image_size=side)
        )
        text = CLIPTextCfg(context_length=CONTEXT, vocab_size=VOCAB, width=16, heads=2, layers=2)
        return _scramble(OpenClip(EMBED, vision, text, quick_gelu=activation == "quick_gelu"))

    return build


@pytest.fixture
def ours() -> Callable[..., CLIP]:
    """`ours(kind, activation)`: our model of the same sizes, its weights random and different."""

    def build(
        kind: str = "vit", activation: str | None = None, device: str = "cpu", layers: int = 3
    ) -> CLIP:
        with torch.device(device):
            visual: ResNetTower | VisionTransformer
            if kind == "resnet":
                visual = ResNetTower(64, width=16, layers=(1, 2, 1, 1), heads=8, embed_dim=EMBED)
            else:
                side = 48 if kind == "vit48" else 32
                visual = VisionTransformer(
                    side, 8, width=32, layers=layers, heads=4, embed_dim=EMBED
                )
            text = TextTransformer(VOCAB, CONTEXT, width=16, layers=2, heads=2, embed_dim=EMBED)
            return CLIP(visual, text, arch=f"test-{kind}", activation=activation).eval()

    return build


@pytest.fixture
def inputs() -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """`inputs(side)`: normalised images, and ids whose end-of-text stands at various places."""

    def build(side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.randint(1, VOCAB - 1, (5, CONTEXT))
        ids[torch.arange(5), torch.tensor([2, 5, 11, 7, 3])] = VOCAB - 1
        return torch.randn(5, 3, side, side), ids

    return build
