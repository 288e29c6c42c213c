"""Image-text models of transformers: any of them, behind one protocol.

The model and its processor do what they were published to do; here they are built (from numbers,
or from a folder), tuned, and run with the losses and the generation of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.encoders.generation import Generated, generate_from
from rsvlm.encoders.hf_vlm_sizes import image_text_sizes_of
from rsvlm.encoders.processors import load_processor, small_processor
from rsvlm.encoders.quantization import checkpoint_layers, leave_state_out, quantised
from rsvlm.encoders.tokenizers import pretrained
from rsvlm.errors import UserError, extra, near
from rsvlm.nn.lora import add_lora, tuned_layers

#: Qwen's own fine-tuning code and transformers' examples tune these; ranks are common, not theirs.
LORA = {
    "r": 16,
    "alpha": 32,
    "dropout": 0.05,
    "targets": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TUNING = ("frozen", "lora", "full")
#: Built where neither sizes nor weights are given.
DEFAULT_SIZE = "qwen2_5_vl_3b"


class ImageTextModel(nn.Module):
    """A model of transformers' `AutoModelForImageTextToText`.

    Args:
        size: a name of `IMAGE_TEXT_SIZES`, a mapping of transformers' config words with
            `model_type`, or None where `weights` says it.
        weights: a folder or `hf://org/repo@rev` as published; None draws random ones.
        processor: a processor, or the folder it lies in; None takes `weights`.
        words: a vocabulary (`tokenizers.word_list`); builds a processor without a download.
        pixels: least and most pixels of an image, for models that take any size.
        backend: what resizes images, `pil` or `torchvision`.
        dtype: float32, bfloat16 or float16.
        tuning: `frozen`, `lora` (peft, on the language model's layers) or `full`.
        train_vision: with `full`, train the image tower too.
        lora: `r`, `alpha`, `dropout`, `targets` where they differ from `LORA`.
        quantize: `nf4` or `int8`, see `encoders.loading.quantised`; None keeps `dtype`.
        grad_checkpointing: compute the layers' inner values again in the backward pass.
        device: where to build; `meta` makes no weights.

    Attributes:
        model: the transformers model.

    Raises:
        UserError: unknown words, weights that cannot be read, or sizes that contradict them.
    """

    def __init__(
        self,
        size: str | Mapping[str, Any] | None = None,
        *,
        weights: str | Path | None = None,
        processor: Any = None,
        words: str | Sequence[str] | None = None,
        pixels: Sequence[int] | None = None,
        backend: str = "pil",
        dtype: str = "float32",
        tuning: str = "frozen",
        train_vision: bool = True,
        lora: Mapping[str, Any] | None = None,
        quantize: str | None = None,
        grad_checkpointing: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        with extra("language"):
            from transformers import AutoConfig, AutoModelForImageTextToText

        for what, word, known in (("dtype", dtype, DTYPES), ("tuning", tuning, TUNING)):
            if word not in known:
                raise UserError(f"model.lm.{what}: {word!r} is not known. {near(word, known)}")
        self.weights, self.tuning, self.dtype = weights, tuning, DTYPES[dtype]
        self.pixels, self.backend = pixels, backend
        self._source, self._processor = (processor or weights), None
        few = quantised(quantize, self.dtype, weights, tuning)
        if weights is not None:
            self.model: Any = self._published(weights, size, few, device)
        else:
            numbers = image_text_sizes_of(DEFAULT_SIZE if size is None else size)
            if words is not None:
                self._processor = small_processor(numbers, words, pixels)
            with torch.device(device or torch.get_default_device()):
                self.model = AutoModelForImageTextToText.from_config(
                    AutoConfig.for_model(**numbers), dtype=self.dtype
                )
        self.model.requires_grad_(tuning == "full")
        if tuning == "full" and not train_vision:
            self.vision.requires_grad_(False)
        if tuning == "lora":
            # By this peft chooses LoRA's form; transformers sets it on the whole model alone.
            for flag in ("is_loaded_in_4bit", "is_loaded_in_8bit"):
                setattr(self.decoder, flag, getattr(self.model, flag, False))
            add_lora(self.decoder, lora or {}, LORA, where="the language model")
        if few:
            leave_state_out(self)
        if grad_checkpointing:
            checkpoint_layers(self.model)
        self.train(self.training)

    def _published(
        self,
        weights: str | Path,
        size: str | Mapping[str, Any] | None,
        few: Mapping[str, Any],
        device: torch.device | str | None,
    ) -> Any:
        with extra("language"):
            from transformers import AutoConfig, AutoModelForImageTextToText

        name, options = pretrained(weights)
        try:
            config = AutoConfig.from_pretrained(name, **options)
            kind = image_text_sizes_of(size)["model_type"] if size is not None else None
            if kind not in (None, config.model_type):
                raise UserError(
                    f"{weights} is a {config.model_type}, the recipe's model a {kind}: choose its "
                    "model option, or model.lm.size=null to take what the folder holds."
                )
            if torch.device(device or torch.get_default_device()).type == "meta":
                with torch.device("meta"):
                    return AutoModelForImageTextToText.from_config(config, dtype=self.dtype)
            return AutoModelForImageTextToText.from_pretrained(
                name, dtype=self.dtype, **options, **few
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{weights} holds no image-text model that transformers can read ({reason})."
            ) from error

    # Parts --------------------------------------------------------------------------------

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head."""
        found: nn.Module = self.model.get_decoder()
        return found

    @property
    def vision(self) -> nn.Module:
        """The image tower.

        Raises:
            UserError: the model does not say which part that is.
        """
        inner = self.model.base_model
        for name in ("visual", "vision_tower", "vision_model"):
            if isinstance(found := getattr(inner, name, None), nn.Module):
                return found
        raise UserError(
            f"a {type(self.model).__name__} does not say which part sees; leave "
            "model.lm.train_vision=true."
        )

    @property
    def kind(self) -> str:
        """The word of transformers for the architecture, such as `qwen2_5_vl`."""
        return str(self.model.config.model_type)

    @property
    def processor(self) -> Any:
        """The processor, read when it is first needed.

        Raises:
            UserError: nothing says where it is.
        """
        if self._processor is None:
            if self._source is None:
                raise UserError(
                    "this model has no processor, which writes prompts and prepares images: give "
                    "model.lm.weights=<folder or hf://…>, or model.lm.processor=<folder>."
                )
            path = isinstance(self._source, str | Path)
            self._processor = (
                load_processor(self._source, pixels=self.pixels, backend=self.backend)
                if path
                else self._source
            )
        return self._processor

    @property
    def tokenizer(self) -> Any:
        """The processor's."""
        return self.processor.tokenizer

    @property
    def image_token_id(self) -> int:
        """The id at an image's place; -1 of a configuration that does not say it."""
        config = self.model.config
        found = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        return -1 if found is None else int(found)

    @property
    def eos_token_ids(self) -> list[int]:
        """Ids that end an answer: the tokenizer's end token first, then the model's others."""
        config = self.model.generation_config
        listed = getattr(config, "eos_token_id", None)
        more = listed if isinstance(listed, list) else [listed]
        first = self.tokenizer.eos_token_id
        return list(dict.fromkeys(end for end in (first, *more) if end is not None))

    @property
    def context_length(self) -> int:
        """Most positions of a row."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def idle(self) -> list[str]:
        """Names of parameters that no output depends on.

        Of LLaVA and its kin, which read a block before the last: those behind it. Of Janus: what
        makes pictures.
        """
        if self.kind == "janus":
            return [
                name
                for name, _ in self.named_parameters()
                if name.startswith(("model.model.vqmodel.", "model.model.generation_"))
            ]
        layer = getattr(self.model.config, "vision_feature_layer", None)
        if not isinstance(layer, int) or layer >= 0:
            return []
        count = self.model.config.vision_config.num_hidden_layers
        unread = [f".encoder.layers.{i}." for i in range(count + 1 + layer, count)]
        return [
            name
            for name, _ in self.named_parameters()
            if "vision_tower." in name
            and any(part in name for part in (*unread, ".post_layernorm."))
        ]

    @property
    def tuned(self) -> list[str]:
        """Names of the layers within `model` that LoRA tunes; numbers stand as {}."""
        return tuned_layers(self.model)

    def train(self, mode: bool = True) -> ImageTextModel:
        """What is frozen stays in eval mode; the dropout of LoRA follows `mode`."""
        super().train(mode)
        if self.tuning != "full":
            self.model.eval()
            for name, module in self.model.named_modules():
                if name.rpartition(".")[2].startswith("lora_"):
                    module.train(mode)
        elif not any(p.requires_grad for p in self.model.parameters()):
            self.model.eval()
        return self

    # Use ----------------------------------------------------------------------------------

    def forward(self, inputs: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Logits where something is to be learned.

        The head runs on the columns in which some row learns; its logits are those of a full pass.

        Args:
            inputs: what the model takes: `input_ids` [B, L], `attention_mask`, pixels, ...
            labels: [B, L], -100 where nothing is learned; the position before predicts a label.

        Returns:
            `logits` [N, vocabulary] and `targets` [N] of the N supervised positions, row by row.
        """
        supervised = labels[:, 1:] != -100
        columns = supervised.any(0).nonzero()[:, 0]
        logits = self.model(**self._given(inputs), use_cache=False, logits_to_keep=columns).logits
        return {
            "logits": logits[supervised[:, columns]],
            "targets": labels[:, 1:][supervised],
        }

    @torch.no_grad()
    def generate(self, inputs: Mapping[str, Tensor], **options: Any) -> list[list[Generated]]:
        """Texts that go on from prompts, batched and with a cache.

        Args:
            inputs: see `forward`; padding on the left.
            **options: see `generation.OPTIONS`.

        Returns:
            For each row, `num_return_sequences` texts, best first.

        Raises:
            UserError: an unknown option, more texts than beams, no room, or padding on the right.
        """
        pad = self.tokenizer.pad_token_id
        ends = self.eos_token_ids
        return generate_from(
            self.model, self._given(inputs), ends, ends[0] if pad is None else pad, options
        )

    def _given(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Floating tensors in the weights' dtype."""
        return {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
