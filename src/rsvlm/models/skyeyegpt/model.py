"""SkyEyeGPT: one image or several, and whatever is asked of them by a task identifier.

Zhan et al., "SkyEyeGPT: Unifying Remote Sensing Vision-Language Tasks via Instruction Tuning with
Large Language Model" (ISPRS Journal 221, 2025, pp. 64-77; arXiv 2401.09712). Its repository
(ZhanYang-nwpu/SkyEyeGPT) has no code of its own: the weights "can be run directly with MiniGPT-v2"
(Chen et al., arXiv 2310.09478; Vision-CAIR/MiniGPT-4), which is what this file is.

EVA-ViT-g/14 at 448 px (39 blocks, positions interpolated from 16 x 16 to 32 x 32, frozen) →
LayerNorm (frozen) → the class token is left out, four tokens that follow each other in a row are
joined → linear layer, 5,632 to 4,096 → 256 embeddings inside `<Img>` and `</Img>` → LLaMA-2-7B-chat
with LoRA (rank 64, alpha 16, dropout 0.05, on q_proj and v_proj).

Trained: linear layer and LoRA, on the cross entropy of all answers of a dialogue; 56,627,200
parameters. The paper's picture draws the alignment layer frozen with LoRA of its own; the ancestor,
in which the released weights run, trains it as a whole, and so do we.

Prompts: `[INST] <Img>…</Img> [task] text [/INST]`, the answer and `</s>`; each image of a sample
has its own `<Img>…</Img>`, in a video too. Identifiers: `[caption] [vqa] [refer] [identify]
[detection] [grounding]`; an unknown one is told. Boxes are whole numbers 0-100 of the squashed
image. The ancestor's evaluation writes `<s>` twice, its training once; here it is once.

Recipe: two stages, single tasks first, then dialogues of many tasks (abstract). Learning rates,
epochs and machines are not published; the ancestor's finetuning is the best known: AdamW, betas
(0.9, 0.999), weight decay 0.05 but on biases and norms, 1e-5 to 1e-6 by a cosine with 1,000 steps
of warm-up from 1e-6, 50 epochs of 1,000 steps, float16. It cleans captions as LAVIS does
(`chat={clean: blip}` of here also lowers the prompts). RSVQA-HR is 65 % of SkyEye-968k, so sources
need sampling ratios.

Key map: `models/skyeyegpt/layouts.py`. The published file holds what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.text.instructions import system as system_of
from rsvlm.data.transforms import Squash
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.models.chat_vlm import DEFAULTS, ChatVLM, check_language_model
from rsvlm.models.skyeyegpt.layouts import minigpt_dialects

#: The ancestor's evaluation: greedy.
GENERATION = {"num_beams": 1, "max_new_tokens": 500}


class SkyEyeGPT(ChatVLM):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: a `GroupedLinear`, or what builds it.
        lm: a `LanguageModel`.
        system: whose words, format and boxes: `skyeyegpt` or its ancestor `minigptv2`.
        tuning: see `ChatVLM`.
        train_vision: train the tower too, for one that starts from nothing.
        instructions: see `ChatVLM`.
        chat: options of `ChatCollate` where they differ; by default answers have 1,024 tokens at
            most, as published.
        generation: options of `generate` where they differ from `GENERATION`.
        cache_gib, packing: see `VisionLanguageModel`.
    """

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        system: str = "skyeyegpt",
        tuning: str | None = None,
        train_vision: bool = False,
        instructions: Mapping[str, Any] | None = DEFAULTS,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        cache_gib: float = 0.0,
        packing: str = "none",
    ) -> None:
        super().__init__(
            vision,
            bridge,
            lm,
            system=system,
            tuning=tuning,
            train_vision=train_vision,
            instructions=instructions,
            chat={"max_answer": 1024, **(chat or {})},
            generation={**GENERATION, **(generation or {})},
            cache_gib=cache_gib,
            packing=packing,
        )

    @property
    def identifiers(self) -> frozenset[str]:
        """Its own and the ancestor's task identifiers."""
        return self.system.identifiers | system_of("minigptv2").identifiers

    @property
    def preprocess(self) -> Squash:
        """Scales both sides to the image size; normalisation is the tower's own."""
        return Squash(self.image_size)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """MiniGPT-v2's layout, with old and new names of peft."""
        tuned = self.lm.tuned if self.lm.tuning == "lora" else ()
        return minigpt_dialects(len(self.vision.blocks), tuned)

    @property
    def required(self) -> dict[str, str]:
        """What a published checkpoint must hold, whatever weights the towers have."""
        parts = {"bridge.proj": "the alignment layer"}
        if self.lm.tuning == "lora":
            parts |= {"lora_A": "LoRA (A)", "lora_B": "LoRA (B)"}
        return parts

    @property
    def initial(self) -> tuple[str, ...]:
        """The norm behind the tower: the published training neither loads nor trains it."""
        return ("bridge.norm.weight", "bridge.norm.bias")

    def after_load(self, loaded: Loaded) -> list[str]:
        """Makes the norm, which a published file lacks, where the model was built on `meta`."""
        norm = self.bridge.norm
        if norm.weight.is_meta and not self.bridge.proj.weight.is_meta:
            trained = norm.weight.requires_grad
            norm.weight = nn.Parameter(torch.ones(norm.weight.shape), requires_grad=trained)
            norm.bias = nn.Parameter(torch.zeros(norm.bias.shape), requires_grad=trained)
        return []

    def before_load(self, contents: Contents, where: str) -> None:
        """Refuses files of MiniGPT's other architectures, image sizes and language models.

        Raises:
            UserError: the file is of one of these; says which.
        """
        said = contents.recipe.get("model")
        said = said if isinstance(said, Mapping) else {}
        proj = contents.tensors.get("llama_proj.weight")
        joined = self.bridge.proj.in_features
        # Structure decides; of names only the first version's is known to be another model.
        arch = str(said.get("arch", "not named"))
        qformer = any(name.startswith(("query_tokens", "Qformer.")) for name in contents.tensors)
        other = proj is not None and proj.shape[1] != joined
        if arch.startswith("minigpt4") or qformer or other:
            width = f", its llama_proj reads {proj.shape[1]} numbers" if proj is not None else ""
            raise UserError(
                f"{where} is of another architecture ({arch}{width}"
                f"{', it has a Q-Former' if qformer else ''}). This model is MiniGPT-v2: EVA-ViT "
                f"at {self.image_size} px, four tokens joined to {joined} numbers, no Q-Former. "
                "MiniGPT-4's first version (arch minigpt4, Vicuna, 224 px) is not it."
            )
        size = said.get("image_size", self.image_size)
        if size != self.image_size:
            raise UserError(
                f"{where} was trained on images of {size} px, the model takes {self.image_size}: "
                f"say model.vision.image_size={size}."
            )
        check_language_model(
            self.lm, contents.tensors, proj, "LLaMA-2-7B-chat in the published one", where
        )


ROWS = (
    Row(
        model="skyeyegpt",
        tag="released",
        uri="hf://ZhanYang-nwpu/SkyEyeGPT@main/SkyEyeGPT.pth",
        files=("SkyEyeGPT.pth",),
        image_size=448,
        licence="not stated",
        paper="2401.09712",
        homepage="https://github.com/ZhanYang-nwpu/SkyEyeGPT",
        metrics={
            "rsvg/minigpt/acc50": 70.50,
            "dior_rsvg/minigpt/acc50": 88.59,
        },
        notes=(
            "partial: EVA comes from eva_vit_g.pth (model.vision.weights), LLaMA-2-7B-chat from "
            "its folder (model.lm.weights)"
        ),
    ),
)
