"""CLIP: two towers into one space.

After Radford et al., 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(arXiv 2103.00020). Features and gradients equal open_clip's. What differs is the cost: query, key
and value are separate layers over PyTorch's fused attention, each tower's last block computes its
pooled token only, the text tower takes batches cut to their longest caption, and images arrive as
`uint8`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.clip.architectures import ARCHS, check_arch, sizes
from rsvlm.encoders.clip.loading_hooks import ClipLoadingHooks
from rsvlm.encoders.clip.text_tokenizer import open_clip_tokenizer
from rsvlm.encoders.clip.towers import Blocks, ResNetTower, TextTransformer, VisionTransformer
from rsvlm.errors import UserError, near
from rsvlm.nn import adapters
from rsvlm.nn.adapter_settings import changes, settings
from rsvlm.nn.transformer import ACTIVATIONS, Mlp

__all__ = ["ARCHS", "CLIP", "OPENAI_MEAN", "OPENAI_STD", "clip", "tokenizer"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
INIT_LOGIT_SCALE = math.log(1 / 0.07)
#: Mean and deviation of a channel by name: OpenAI's, and what RS5M's `inference_tool.py` offers
#: (084cdd9). Its `pub11` are what the paper's table IV calls RS5M's.
STATISTICS = {
    "clip": (OPENAI_MEAN, OPENAI_STD),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "rs5m": ((0.406, 0.423, 0.390), (0.188, 0.175, 0.185)),
    "pub11": ((0.445, 0.469, 0.441), (0.208, 0.193, 0.213)),
    "rs3": ((0.350, 0.356, 0.316), (0.158, 0.147, 0.143)),
    "geometa": ((0.320, 0.322, 0.285), (0.179, 0.168, 0.166)),
}


class CLIP(ClipLoadingHooks, nn.Module):
    """Two towers, one temperature.

    Attributes:
        arch: the name it was built by.
        activation: `gelu`, `quick_gelu`, or None where nothing has said yet; `set_activation`
            changes it.
        image_size: side of the images, pixels.
        context_length: most tokens per caption.
        embed_dim: length of the features.
        mean: per-channel mean of the images in 0..1, as in the buffer `image_mean`.
        std: per-channel deviation, as in the buffer `image_std`.
        interpolation: of the resize; a zoo row may say another one.
    """

    image_mean: Tensor
    image_std: Tensor
    logit_bias: nn.Parameter | None

    def __init__(
        self,
        visual: VisionTransformer | ResNetTower,
        text: TextTransformer,
        *,
        arch: str,
        activation: str | None = None,
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
        logit_scale: float = INIT_LOGIT_SCALE,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.visual, self.text = visual, text
        self.image_size, self.context_length = visual.image_size, text.context_length
        self.embed_dim = text.text_projection.shape[1]
        self.mean, self.std = tuple(mean), tuple(std)
        self.interpolation: Literal["bicubic", "bilinear"] = "bicubic"
        self._logit_init = (logit_scale, logit_bias)
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = (
            None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))
        )
        self.register_buffer("image_mean", self._channels(self.mean), persistent=False)
        self.register_buffer("image_std", self._channels(self.std), persistent=False)
        self.set_activation(activation)

    @staticmethod
    def _channels(values: Sequence[float], device: torch.device | None = None) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)

    def _fill_buffers(self, device: torch.device) -> None:
        self.image_mean = self._channels(self.mean, device)
        self.image_std = self._channels(self.std, device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CLIP:
        # The two constants are not in checkpoints, so a model that was built on `meta` must get
        # them back when it becomes real (to, to_empty); they stay float32 in a bf16 model.
        if self.image_mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.image_mean.device)
        return self

    def reset_parameters(self) -> None:
        """Draw all parameters afresh, for a model that was made real by `to_empty`."""
        self.visual.reset_parameters()
        self.text.reset_parameters()
        with torch.no_grad():
            self.logit_scale.fill_(self._logit_init[0])
            if self.logit_bias is not None and self._logit_init[1] is not None:
                self.logit_bias.fill_(self._logit_init[1])
        self._fill_buffers(self.logit_scale.device)

    def set_activation(self, name: str | None) -> None:
        """Set the activation of all blocks: `gelu`, `quick_gelu`, or None for not known yet.

        Raises:
            UserError: another word.
        """
        if name is not None and name not in ACTIVATIONS:
            raise UserError(f"activation={name!r}: it must be one of {', '.join(ACTIVATIONS)}.")
        self.activation = name
        for module in self.modules():
            if isinstance(module, Mlp):
                module.activation = name

    def set_grad_checkpointing(self, enable: bool | str = True) -> None:
        """Compute again in the backward pass what the forward pass then need not keep.

        Args:
            enable: True for whole blocks: a third more work, a fraction of the memory. `mlp` for
                the activations of the MLPs: a quarter less memory for next to no work.

        Raises:
            UserError: another word; or True for a ResNet, whose batch statistics would be counted
                twice.
        """
        if enable not in (False, True, "mlp"):
            raise UserError(f"grad_checkpointing={enable!r}: it must be true, false or mlp.")
        if enable is True and not isinstance(self.visual, VisionTransformer):
            raise UserError(
                f"{self.arch} has no gradient checkpointing: use a ViT, or turn it off."
            )
        for module in self.modules():
            if isinstance(module, Blocks):
                module.grad_checkpointing = enable is True
            elif isinstance(module, Mlp):
                module.recompute = enable == "mlp"

    @property
    def peft(self) -> str:
        """The preset of parameter-efficient tuning that the towers have, or `none`."""
        return self.text.peft.kind if isinstance(self.text.peft, adapters.TowerPeft) else "none"

    @property
    def peft_options(self) -> dict[str, Any]:
        """What differs from that preset; `clip(..., peft=, peft_options=)` builds the same."""
        peft = self.text.peft
        return changes(peft.kind, peft.settings) if isinstance(peft, adapters.TowerPeft) else {}

    @property
    def adapter_parts(self) -> tuple[str, ...]:
        """What parameter-efficient tuning adds."""
        return () if self.peft == "none" else ("peft",)

    @torch.no_grad()
    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Keep the temperature in [1, maximum], after each optimizer step, as CLIP's training.

        A frozen one is left as it is.
        """
        if self.logit_scale.requires_grad:
            self.logit_scale.clamp_(0, math.log(maximum))

    @property
    def preprocess(self) -> Preprocess:
        """From a PIL image to uint8 [3, S, S]; normalisation is the model's own."""
        return Preprocess(self.image_size, interpolation=self.interpolation)

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Texts to ids [B, context_length], as its text tower reads them."""
        return tokenizer(self.arch)

    def _normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] to normalised float32; the numbers of ToTensor and Normalize."""
        if images.is_floating_point():
            return images
        if self.image_mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        return images.float().div_(255).sub_(self.image_mean).div_(self.image_std)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Image features [B, embed_dim].

        Args:
            images: [B, 3, S, S]; uint8 is scaled and normalised here, float is taken as normalised.
            normalize: give float32 features of unit length.
        """
        features = self.visual(self._normalise(images))
        return F.normalize(features.float(), dim=-1) if normalize else features

    def encode_text(self, input_ids: Tensor, normalize: bool = False) -> Tensor:
        """Text features [B, embed_dim].

        Args:
            input_ids: [B, L] with any L up to `context_length`, each row with its end-of-text.
            normalize: give float32 features of unit length.
        """
        features = self.text(input_ids)
        return F.normalize(features.float(), dim=-1) if normalize else features

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Features of unit length and the temperature, for a contrastive loss.

        Args:
            batch: has `images` [B, 3, S, S] and `input_ids` [T, L].

        Returns:
            `image_features` [B, D], `text_features` [T, D], `logit_scale` (a scalar, the factor
            itself, not its logarithm), and `logit_bias` where the model has one.
        """
        outputs = {
            "image_features": self.encode_image(batch.images, normalize=True),
            "text_features": self.encode_text(batch.input_ids, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            outputs["logit_bias"] = self.logit_bias
        return outputs


def clip(
    arch: str,
    *,
    activation: str | None = None,
    image_size: int | None = None,
    mean: Sequence[float] = OPENAI_MEAN,
    std: Sequence[float] = OPENAI_STD,
    statistics: str | None = None,
    stem: str | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    patch_dropout: float = 0.0,
    grad_checkpointing: bool | str = False,
    peft: str = "none",
    peft_options: Mapping[str, Any] | None = None,
    logit_scale: float | None = None,
    logit_bias: float | None = None,
    device: torch.device | str | None = None,
) -> CLIP:
    """Build a CLIP with random weights, initialised as open_clip does.

    Args:
        arch: one of `ARCHS`.
        activation: `gelu` or `quick_gelu`; None leaves it to the zoo row that is loaded.
        image_size: another side than the architecture's own, pixels.
        mean: per-channel mean of images in 0..1.
        std: per-channel deviation of images in 0..1.
        statistics: one of `STATISTICS` in the place of `mean` and `std`.
        stem: `patch` or `conv` instead of the architecture's own.
        dropout: on attention weights, hidden MLP units and residual branches, both towers.
        drop_path: stochastic depth of the last block, growing linearly from 0, both towers.
        patch_dropout: share of patches left out of each image in training; in eval mode all are
            there.
        grad_checkpointing: see `CLIP.set_grad_checkpointing`.
        peft: `lora`, `pfeiffer`, `prefix` or `unipelt`: freeze the model and train what is added
            to both towers, with AdapterHub's settings.
        peft_options: other numbers, as `{"lora": {"r": 16}}`; see `nn.adapter_settings.Settings`.
        logit_scale: initial logarithm of the temperature's inverse; None for CLIP's, log(1 / 0.07).
        logit_bias: initial bias of the logits, for the sigmoid loss; None for no bias.
        device: where to build; `meta` makes no weights.

    Raises:
        UserError: an unknown architecture (names the near ones), or an option it does not have.
    """
    size, tuned = sizes(arch), settings(peft, peft_options)
    if statistics is not None:
        if statistics not in STATISTICS:
            raise UserError(f"model.statistics={statistics!r}. {near(statistics, STATISTICS)}")
        mean, std = STATISTICS[statistics]
    side = image_size or size.image_size
    with torch.device(device) if device is not None else torch.device(torch.get_default_device()):
        visual: VisionTransformer | ResNetTower
        if isinstance(size.layers, tuple):
            asked = {
                "stem": stem,
                "dropout": dropout,
                "drop_path": drop_path,
                "patch_dropout": patch_dropout,
            }
            wrong = [f"{name}={value}" for name, value in asked.items() if value]
            if wrong:
                raise UserError(f"{arch} is a ResNet and does not have {', '.join(wrong)}.")
            visual = ResNetTower(
                side,
                width=size.width,
                layers=size.layers,
                heads=size.heads,
                embed_dim=size.embed_dim,
            )
        else:
            visual = VisionTransformer(
                side,
                size.patch_size,
                width=size.width,
                layers=size.layers,
                heads=size.heads,
                embed_dim=size.embed_dim,
                stem=stem or size.stem,
                dropout=dropout,
                drop_path=drop_path,
                patch_dropout=patch_dropout,
            )
        text = TextTransformer(
            size.vocab_size,
            size.context_length,
            width=size.text_width,
            layers=size.text_layers,
            heads=size.text_heads,
            embed_dim=size.embed_dim,
            dropout=dropout,
            drop_path=drop_path,
        )
        model = CLIP(
            visual,
            text,
            arch=arch,
            activation=activation,
            mean=mean,
            std=std,
            logit_scale=INIT_LOGIT_SCALE if logit_scale is None else logit_scale,
            logit_bias=logit_bias,
        )
        if peft != "none":
            for tower in (model.visual, model.text):
                adapters.attach(tower, peft, tuned)
            adapters.freeze(model, tuned)
    if grad_checkpointing:
        model.set_grad_checkpointing(grad_checkpointing)
    return model


def tokenizer(arch: str) -> Callable[[list[str]], Tensor]:
    """CLIP's byte-pair tokenizer: texts to ids [B, 77], truncated so that end-of-text stays.

    Args:
        arch: one of `ARCHS`; all of them share one vocabulary.

    Raises:
        UserError: an unknown architecture.
    """
    check_arch(arch)
    return open_clip_tokenizer(sizes(arch).context_length)
