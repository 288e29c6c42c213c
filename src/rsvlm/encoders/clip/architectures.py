"""Sizes of the CLIP models that can be built: open_clip's by name, and two of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rsvlm.errors import UserError, near


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers that define a CLIP. `patch_size` 0 and a tuple of `layers` mean a ResNet.

    Attributes:
        embed_dim: length of both features.
        stem: `patch`, one convolution per patch, or `conv`, 3x3 convolutions of stride 2.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    layers: int | tuple[int, ...]
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    stem: str = "patch"
    context_length: int = 77
    vocab_size: int = 49408


def _vit(dim: int, patch: int, width: int, layers: int, heads: int, *text: int) -> Sizes:
    text_width, text_layers, text_heads = text
    return Sizes(
        embed_dim=dim,
        image_size=224,
        patch_size=patch,
        width=width,
        layers=layers,
        heads=heads,
        text_width=text_width,
        text_layers=text_layers,
        text_heads=text_heads,
    )


_LARGE = _vit(768, 14, 1024, 24, 16, 768, 12, 12)
# open_clip's model_configs (3.3.0), copied because importing open_clip takes four seconds; a test
# holds them against its files.
OPEN_CLIP_SIZES = {
    "ViT-B-32": _vit(512, 32, 768, 12, 12, 512, 12, 8),
    "ViT-B-16": _vit(512, 16, 768, 12, 12, 512, 12, 8),
    "ViT-L-14": _LARGE,
    "ViT-L-14-336": replace(_LARGE, image_size=336),
    "ViT-H-14": _vit(1024, 14, 1280, 32, 16, 1024, 24, 16),
    # ModifiedResNet pools with one head per 64 channels of its last stage, which has 32 x 64.
    "RN50": replace(_vit(1024, 0, 64, 0, 32, 512, 12, 8), layers=(3, 4, 6, 3)),
}
# The two below keep CLIP's vocabulary, so that one tokenizer serves every model.
OWN_SIZES = {
    # From scratch on some ten thousand images. Four strided 3x3 convolutions in place of one per
    # patch, an eighth of the tower's work (Xiao et al., 2021, "Early convolutions help transformers
    # see better"); `stem=patch` is the other choice.
    "small": Sizes(
        embed_dim=256,
        image_size=128,
        patch_size=16,
        width=384,
        layers=8,
        heads=6,
        text_width=256,
        text_layers=6,
        text_heads=4,
        stem="conv",
    ),
    # From scratch on two CPU cores in the better part of an hour: a tenth of `small`'s work.
    "mini": Sizes(
        embed_dim=128,
        image_size=96,
        patch_size=16,
        width=192,
        layers=6,
        heads=3,
        text_width=128,
        text_layers=3,
        text_heads=2,
        stem="conv",
    ),
    # For tests and the demo: a step on 64 pairs takes well under a second on two CPU cores.
    "tiny": Sizes(
        embed_dim=64,
        image_size=64,
        patch_size=16,
        width=128,
        layers=3,
        heads=4,
        text_width=64,
        text_layers=2,
        text_heads=2,
        stem="conv",
    ),
}
OPEN_CLIP_ARCHS = tuple(OPEN_CLIP_SIZES)
ARCHS = (*OPEN_CLIP_ARCHS, *OWN_SIZES)


def check_arch(arch: str) -> None:
    """Raise a UserError that lists the near names if `arch` is not one of `ARCHS`."""
    if arch not in ARCHS:
        raise UserError(f"there is no CLIP architecture {arch!r}. {near(arch, ARCHS)}")


def sizes(arch: str) -> Sizes:
    """Look up the sizes of an architecture.

    Raises:
        UserError: unknown `arch`.
    """
    check_arch(arch)
    return OPEN_CLIP_SIZES[arch] if arch in OPEN_CLIP_SIZES else OWN_SIZES[arch]


def stem_widths(width: int, patch_size: int) -> list[int]:
    """Output channels of the strided convolutions of a `conv` stem, doubling up to `width`.

    Raises:
        UserError: a patch size that repeated halving does not reach.
    """
    halvings = int(math.log2(patch_size))
    if 2**halvings != patch_size or halvings < 1 or width % 2 ** (halvings - 1):
        raise UserError(
            f"stem=conv halves the image log2(patch_size) times and doubles the channels up to the "
            f"width: patch_size={patch_size}, width={width} does not divide. Use stem=patch."
        )
    return [width >> (halvings - 1 - i) for i in range(halvings)]
