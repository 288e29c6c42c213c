"""Sizes of the CLIP models that can be built: open_clip's by name, and two of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rsvlm.errors import UserError, near

OPEN_CLIP_ARCHS = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "RN50")


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
ARCHS = (*OPEN_CLIP_ARCHS, *OWN_SIZES)


def check_arch(arch: str) -> None:
    """Raise a UserError that lists the near names if `arch` is not one of `ARCHS`."""
    if arch not in ARCHS:
        raise UserError(f"there is no CLIP architecture {arch!r}. {near(arch, ARCHS)}")


def sizes(arch: str) -> Sizes:
    """Look up the sizes of an architecture; open_clip's come from its own configuration files.

    Raises:
        UserError: unknown `arch`.
    """
    check_arch(arch)
    if arch in OWN_SIZES:
        return OWN_SIZES[arch]
    import open_clip

    config = open_clip.get_model_config(arch)
    vision: dict[str, Any] = config["vision_cfg"]
    text: dict[str, Any] = config["text_cfg"]
    width, layers = vision["width"], vision["layers"]
    resnet = isinstance(layers, list)
    # open_clip's ModifiedResNet pools with one head per head_width channels of its last stage.
    heads = width * (32 if resnet else 1) // vision.get("head_width", 64)
    return Sizes(
        embed_dim=config["embed_dim"],
        image_size=vision["image_size"],
        patch_size=0 if resnet else vision["patch_size"],
        width=width,
        layers=tuple(layers) if resnet else layers,
        heads=heads,
        text_width=text["width"],
        text_layers=text["layers"],
        text_heads=text["heads"],
        context_length=text["context_length"],
        vocab_size=text["vocab_size"],
    )


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
