"""LLaVA-1.5 as RS-GPT4V tunes it, and GeoChat, which is LLaVA-1.5 at 504 px.

Xu et al., "RS-GPT4V: A Unified Multimodal Instruction-Following Dataset for Remote Sensing Image
Understanding" (arXiv 2406.12479): data (91,937 images with 991,206 questions to train on) and a
study of three ways to tune LLaVA-1.5-7B (Liu et al., arXiv 2310.03744), without code or weights.
Kuckreja et al., "GeoChat" (arXiv 2311.15826).

CLIP ViT-L/14 at 336 px (OpenAI's, frozen; the tokens behind its last block but one, without the
class token) → two linear layers with a GELU between them → 576 embeddings before the question →
Vicuna-7B-v1.5. GeoChat resizes CLIP's positions to 36 x 36 and has 1,296.

Tuned on the cross entropy of all answers, the projector always, the language model by `tuning`:

- `full`: all of it. LLaVA's recipe: AdamW without weight decay, 2e-5 with 3 % of warm-up and a
  cosine, 128 samples, one epoch, rows of 2,048 tokens.
- `lora`: LoRA on all linear layers. LLaVA's: rank 128, alpha 256, dropout 0.05, 2e-4, the projector
  2e-5. GeoChat's: rank 64, alpha 16.
- `moe_lora`: experts of low rank that a router chooses for each token (`nn/moe_lora.py`). RS-GPT4V
  names it and gives no settings; the numbers are ours: four experts of rank 32, two for a token, a
  load-balancing term of weight 0.01, otherwise as `lora`.

Before any of them comes LLaVA's own first stage (projector alone, 1e-3, 256 samples, prompts
`plain`), or its weights: `init=zoo:llava.v15`; what LoRA or experts add starts fresh.

Images are padded to a square with CLIP's mean colour (`resize=pad`), as LLaVA was trained;
transformers' processor cuts the sides off instead (`resize=crop`), as GeoChat's scripts do, so
answers on pictures that are not square and boxes differ between the two.

Key map: `models/llava/layouts.py`. LLaVA's own LoRA trainings leave two files, which are loaded
one after the other: `non_lora_trainables.bin` (`init_new=[lora_A,lora_B]`) and `adapter_model.bin`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.transforms import Pad, Preprocess, Squash
from rsvlm.encoders.clip.patches import ClipPatches
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.models.chat_vlm import DEFAULTS, ChatVLM, check_language_model
from rsvlm.models.llava.layouts import llava_dialects

GENERATION = {"num_beams": 1, "max_new_tokens": 512}
RESIZE: dict[str, Callable[[int], Pad | Preprocess]] = {
    "pad": Pad,
    "crop": Preprocess,
    "squash": Squash,
}


class LLaVA(ChatVLM):
    """See the head of this file.

    Args:
        vision: a `ClipPatches`.
        bridge: an `MlpProjector`, or what builds it.
        lm: a `LanguageModel`.
        system: whose words, format and boxes: `llava`, `geochat`, ...
        tuning: `full`, `lora`, `moe_lora` or `frozen`; `lm` must have it too.
        resize: `pad`, `crop` or `squash`.
        train_vision: train the tower too, for one that starts from nothing.
        max_length: longest row in training, tokens with those of images; None for the window.
        instructions: see `ChatVLM`.
        chat: options of `ChatCollate` where they differ.
        generation: options of `generate` where they differ from `GENERATION`.
        cache_gib, packing: see `VisionLanguageModel`.
    """

    def __init__(
        self,
        vision: ClipPatches,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        system: str = "llava",
        tuning: str | None = None,
        resize: str = "pad",
        train_vision: bool = False,
        max_length: int | None = 2048,
        instructions: Mapping[str, Any] | None = DEFAULTS,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        cache_gib: float = 0.0,
        packing: str = "none",
    ) -> None:
        if resize not in RESIZE:
            raise UserError(f"model.resize={resize!r} is not known. {near(resize, RESIZE)}")
        super().__init__(
            vision,
            bridge,
            lm,
            system=system,
            tuning=tuning,
            train_vision=train_vision,
            max_length=max_length,
            instructions=instructions,
            chat=chat,
            generation={**GENERATION, **(generation or {})},
            cache_gib=cache_gib,
            packing=packing,
        )
        self.resize = resize

    @property
    def preprocess(self) -> Pad | Preprocess:
        """To a square of the image size; normalisation is the tower's own."""
        return RESIZE[self.resize](self.image_size)

    @property
    def positions(self) -> str:
        """What to do with positions of another image size, see `ClipPatches`."""
        return self.vision.positions

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """LLaVA's, llava-hf's, and adapters over them."""
        words = self.lm.model.get_input_embeddings().num_embeddings
        return llava_dialects(len(self.bridge.layers), self.lm.tuned, words)

    @property
    def required(self) -> dict[str, str]:
        """What a published checkpoint must hold, whatever weights the towers have."""
        alone = "model.tuning=frozen runs a file without"
        if self.lm.tuning == "lora":
            return {"lora_A": "LoRA's A", "lora_B": f"LoRA's B ({alone})"}
        return {"moe": f"the experts ({alone})"} if self.lm.tuning == "moe_lora" else {}

    def before_load(self, contents: Contents, where: str) -> None:
        """Refuses files of another tower, another language model, or LoRA of other layers.

        Raises:
            UserError: the file is of one of these; says which.
        """
        found = {
            name.rpartition(".")[0].rpartition(".")[2]: tensor
            for name, tensor in contents.tensors.items()
            if "mm_projector." in name or "multi_modal_projector." in name
            if name.endswith(".weight") and tensor.ndim == 2
        }
        first, *others = (found[key] for key in sorted(found)) if found else (None,)
        if first is not None and first.shape[1] != self.vision.dim:
            raise UserError(
                f"{where} reads image tokens of width {first.shape[1]}, the tower gives "
                f"{self.vision.dim}: it has another image tower, or joins several layers of it "
                "(as VHM does)."
            )
        last = others[-1] if others else first
        check_language_model(self.lm, contents.tensors, last, "Vicuna-7B in LLaVA-1.5-7B", where)


ROWS = (
    Row(
        model="llava",
        tag="v15",
        uri="hf://liuhaotian/llava-v1.5-7b@main",
        image_size=336,
        licence="Llama 2 Community License",
        paper="2310.03744",
        homepage="https://github.com/haotian-liu/LLaVA",
        notes="whole, without LoRA or experts, which start fresh under init=",
    ),
    Row(
        model="llava",
        tag="v15_hf",
        uri="hf://llava-hf/llava-1.5-7b-hf@main",
        image_size=336,
        licence="Llama 2 Community License",
        paper="2310.03744",
        homepage="https://huggingface.co/llava-hf/llava-1.5-7b-hf",
        notes="the same weights in transformers' layout",
    ),
    Row(
        model="geochat",
        tag="released",
        uri="hf://MBZUAI/geochat-7B@main",
        image_size=504,
        licence="not stated",
        paper="2311.15826",
        homepage="https://github.com/mbzuai-oryx/GeoChat",
        notes="whole, LoRA merged: model.tuning=frozen to run it",
    ),
)
