"""BLIP-2 with OPT: captions of one image; the captioner of RS5M and the one that GAIA tunes.

Li et al., 2023, "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and
Large Language Models" (arXiv 2301.12597; salesforce/LAVIS, `blip2_opt`). Zhang et al., "RS5M and
GeoRSCLIP" (arXiv 2306.11300; om-ai-lab/RS5M). Zavras et al., "GAIA" (arXiv 2502.09598).

EVA-ViT-g/14 at 224 px (39 blocks) → LayerNorm → Q-Former with 32 queries, without text → linear
layer → 32 embeddings before the start token of OPT, 2.7B or 6.7B. A line break ends a text.

Tuned on the cross entropy of the caption, by `tuning`:

- `bridge`: norm, queries, Q-Former and linear layer, as in LAVIS' second stage.
- `tower`: the vision tower as well, as in LAVIS' tuning for COCO's captions (364 px, prompt "a
  photo of", AdamW, weight decay 0.05, 1e-5 with 1,000 steps of warm-up from 1e-8 and a cosine over
  5 epochs, batch 16 on each GPU, captions of 32 tokens, 5 beams).
- `lora`: RS5M's captioner: LoRA on the tower's `qkv` and `projection` and nothing else (rank 16,
  alpha 16, dropout 0.05; `adapter_config.json`). The released folder's name says 5e-5, weight decay
  0.01, 30 epochs, batch 16, on RSITMD; its schedule is not published. No prompt.
- `lm_lora`: LoRA on the language model. GAIA's demo loads an adapter over OPT-2.7B and does not say
  of which layers; q_proj and k_proj with rank 16, alpha 32 and dropout 0.05 are ours, after peft's
  example for BLIP-2. No prompt, 5 beams, 120 tokens.
- `full`, and `frozen`, which runs a file as it is.

RS3's captions are drawn: 20 candidates by nucleus sampling (`candidates=20`, `SAMPLING`), which
come back with their scores, best first; RS5M ranks them by two CLIPs then.

A data set's question is asked as "Question: ... Short answer:", LAVIS' words for OPT; one that is
typed is asked as it is typed, and without one the prompt asks for a caption.

LAVIS lowers captions and strips their punctuation before training (`chat={clean: blip}`).
transformers' copy runs the norm behind the tower with an eps of 1e-6, LAVIS and we with 1e-5.

Key map: `models/blip2/layouts.py`. An adapter needs the whole under it: `weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.collate.chat import ChatCollate, asked
from rsvlm.data.collate.ret_captions import CaptionInstructions
from rsvlm.data.sample import Answer
from rsvlm.data.transforms import Squash
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.models.blip2.layouts import blip2_dialects, theirs_of
from rsvlm.models.protocols import Kinds
from rsvlm.models.vlm import VisionLanguageModel

#: LAVIS' generation: its 30 tokens come after the prompt.
GENERATION = {"num_beams": 5, "max_new_tokens": 30}
#: RS5M's: top_k is what transformers takes where nothing is said.
SAMPLING = {"do_sample": True, "num_beams": 1, "top_p": 0.95, "top_k": 50, "max_new_tokens": 50}
#: Ours, see above.
LM_LORA = {"r": 16, "alpha": 32, "dropout": 0.05, "targets": ("q_proj", "k_proj")}
#: What `tuning` trains of tower, bridge and language model.
TUNING = {
    "frozen": ("frozen", False, "frozen"),
    "bridge": ("frozen", True, "frozen"),
    "tower": ("full", True, "frozen"),
    "lora": ("lora", False, "frozen"),
    "lm_lora": ("frozen", False, "lora"),
    "full": ("full", True, "full"),
}


class BLIP2(VisionLanguageModel):
    """See the head of this file.

    Args:
        vision: an `EvaViT`.
        bridge: a `QFormerBridge`, or what builds it.
        lm: a `LanguageModel` that nothing tunes, or what `tuning` asks for.
        tuning: a word of `TUNING`.
        lora: `r`, `alpha`, `dropout`, `targets` of `lora` and `lm_lora` where they differ.
        prompt: stands between an image and its caption, in training and after.
        max_length: longest text in training in tokens, prompt and start token included; a longer
            one is cut and does not learn its end. None for the window.
        candidates: more than 1 draws that many texts by `SAMPLING` in place of beams.
        chat: options of `ChatCollate` where they differ.
        generation: options of `generate` where they differ from `GENERATION` or `SAMPLING`.
        weights: where the whole model's weights come from, as those under an adapter; positions are
            interpolated where they are of another image size.
        cache_gib, packing: see `VisionLanguageModel`.

    Raises:
        UserError: an unknown word, or a language model that is tuned otherwise.
    """

    #: It writes a caption where nothing is asked.
    describes = True

    def __init__(
        self,
        vision: EvaViT,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        tuning: str = "bridge",
        lora: Mapping[str, Any] | None = None,
        prompt: str = "a photo of",
        max_length: int | None = 32,
        candidates: int = 1,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        weights: str | Path | None = None,
        cache_gib: float = 0.0,
        packing: str = "none",
    ) -> None:
        if tuning not in TUNING:
            raise UserError(f"model.tuning={tuning!r} is not known. {near(tuning, TUNING)}")
        if candidates < 1:
            raise UserError(f"model.candidates={candidates}: it must be 1 or more.")
        drawn = {**SAMPLING, "num_return_sequences": candidates} if candidates > 1 else GENERATION
        super().__init__(
            vision,
            bridge,
            lm,
            generation={**drawn, **(generation or {})},
            cache_gib=cache_gib,
            packing=packing,
        )
        self.prompt, self.max_length, self._chat = prompt, max_length, dict(chat or {})
        self.weights, self._tuning = weights, tuning
        if weights is not None and not self.bridge.proj.weight.is_meta:
            from rsvlm import checkpoints

            checkpoints.load(self, weights, interpolate=True)
            for part in (self.vision, self.bridge, self.lm):
                part.weights = weights
        self._tune(dict(lora or {}))

    def _tune(self, lora: dict[str, Any]) -> None:
        tower, bridge, language = TUNING[self.tuning]
        self.vision.requires_grad_(tower == "full")
        if tower == "lora":
            self.vision.add_lora(lora)
        self.bridge.requires_grad_(bridge)
        if self.lm.tuning not in ("frozen", language):
            raise UserError(
                f"model.tuning={self.tuning} leaves the language model {language}, and "
                f"model.lm.tuning={self.lm.tuning} tunes it otherwise: leave it at frozen; "
                "model.tuning speaks for the whole model."
            )
        if self.lm.tuning != language:
            self.lm.tune(language, lora={**LM_LORA, **lora})
        self.train(self.training)

    @property
    def tuning(self) -> str:
        """A word of `TUNING`."""
        return self._tuning

    # Words --------------------------------------------------------------------------------

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> ChatCollate:
        """From samples to a batch: padded right with answers, or left up to the answer.

        Rows leave room for an image and, in generation, for the answer. For the arguments see
        `models.protocols.Generator`; `instructions` are its own, a caption's.
        """
        del instructions
        room = self.lm.context_length - self.bridge.count(self.vision.tokens)
        if not training:
            room -= int(self.generation["max_new_tokens"])
        elif self.max_length is not None:
            room = min(room, self.max_length)
        options = {"max_length": room, "generation": not training, **self._chat}
        own = CaptionInstructions(self.prompt, "blip2", measuring=not training)
        return ChatCollate(
            self.tokenizer, **{"format": "blip2", "instructions": own, **options, **asked(kinds)}
        )

    @property
    def preprocess(self) -> Squash:
        """Scales both sides to the image size; normalisation is the tower's own."""
        return Squash(self.image_size)

    def generate(self, batch: Any, features: Tensor | None = None, **options: Any) -> list[Answer]:
        """See `VisionLanguageModel.generate`.

        With `candidates`, or `num_return_sequences` as an option, `Answer.candidates` holds all
        texts with their scores, best first: the mean log-probability of a text's tokens.
        """
        return super().generate(batch, features, **options)

    # Weights ------------------------------------------------------------------------------

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """LAVIS', transformers', and adapters of peft over the latter."""
        words = self.lm.model.get_input_embeddings().num_embeddings
        return blip2_dialects(len(self.vision.blocks), self.vision.tuned, self.lm.tuned, words)

    @property
    def required(self) -> dict[str, str]:
        """What a published checkpoint must hold, whatever weights the towers have."""
        if self.tuning not in ("lora", "lm_lora"):
            return {}
        return {"lora_A": "LoRA's A", "lora_B": "LoRA's B (model.tuning=frozen runs it without)"}

    @property
    def initial(self) -> tuple[str, ...]:
        """OPT's head, which is its word table and not always saved beside it."""
        tied = self.lm.model.config.get_text_config().tie_word_embeddings
        return ("lm.model.lm_head.weight",) if tied else ()

    def after_load(self, loaded: Loaded) -> list[str]:
        """Ties the head to the word table again, where the model was built on `meta`."""
        if self.initial and self.initial[0] not in loaded.names:
            table = self.lm.model.get_input_embeddings()
            self.lm.model.get_output_embeddings().weight = table.weight
        return []

    def tuning_of(self, names: Collection[str]) -> str | None:
        """Which word of `TUNING` adds something of these names; None where nothing is added."""
        parts = {name.partition(".")[0] for name in names if ".lora_A." in name}
        return "lora" if "vision" in parts else "lm_lora" if parts else None

    def before_load(self, contents: Contents, where: str) -> None:
        """Refuses files of another language model, and adapters of other layers.

        Raises:
            UserError: the file is of one of these; says which.
        """
        names = contents.tensors
        if "t5_proj.weight" in names or any(n.startswith("language_model.enc") for n in names):
            raise UserError(f"{where} is a BLIP-2 with FLAN-T5; this one writes with OPT.")
        for name in ("language_projection.weight", "opt_proj.weight"):
            if name in names and len(names[name]) != self.lm.dim:
                raise UserError(
                    f"{where} was trained with a language model of width {len(names[name])}, this "
                    f"one has {self.lm.dim} (OPT-2.7B 2560, model=blip2_opt; OPT-6.7B 4096, "
                    "model=blip2_opt_6_7b): choose the model or model/lm option that fits."
                )
        theirs: dict[str, int] = {}
        for name, value in names.items():
            layer, letter, _ = name.partition(".lora_A.")
            if letter:
                theirs[layer.rpartition(".")[2]] = len(value)
        ours = {theirs_of(layer).rpartition(".")[2] for layer in self.vision.tuned}
        ours |= {layer.rpartition(".")[2] for layer in self.lm.tuned}
        if theirs and set(theirs) != ours:
            seen = {"qkv": "attn.qkv", "projection": "attn.proj"}
            word = "lora" if set(theirs) & set(seen) else "lm_lora"
            targets = ",".join(sorted(seen.get(layer, layer) for layer in theirs))
            raise UserError(
                f"{where} holds LoRA of {', '.join(sorted(theirs))}; the model has LoRA of "
                f"{', '.join(sorted(ours)) or 'nothing'}: say model.tuning={word} "
                f"model.lora.targets=[{targets}] model.lora.r={max(theirs.values())}."
            )
        if theirs and set(theirs.values()) != {self._rank()}:
            rank = max(theirs.values())
            raise UserError(
                f"{where} holds LoRA of rank {rank}, the model has {self._rank()}: say "
                f"model.lora.r={rank}, and its model.lora.alpha."
            )
        if theirs and self.weights is None:
            base = "blip2_opt" if self.lm.dim == 2560 else "blip2_opt_6_7b"
            raise UserError(
                f"{where} is an adapter alone, which lies over a whole model: give that one as "
                f"model.weights=zoo:{base}.hf, or where it lies on disk."
            )

    def _rank(self) -> int:
        found = [p for n, p in self.named_parameters() if n.endswith("lora_A.default.weight")]
        return len(found[0]) if found else 0


_LAVIS = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2"
_WORDS = "tokenizer: model.lm.tokenizer=hf://facebook/opt-2.7b"
_PARTS = (
    "partial: EVA comes from eva_vit_g.pth (model.vision.weights), OPT from its folder "
    "(model.lm.weights)"
)
ROWS = (
    *(
        Row(
            model=model,
            tag=tag,
            uri=f"hf://Salesforce/{file}@main",
            image_size=size,
            licence="MIT (its model card); OPT under Meta's OPT licence, research only",
            paper="2301.12597",
            homepage=f"https://huggingface.co/Salesforce/{file}",
            notes=f"whole{more}; {_WORDS}",
        )
        for model, tag, file, size, more in (
            ("blip2_opt", "hf", "blip2-opt-2.7b", 224, ""),
            ("blip2_opt_6_7b", "hf", "blip2-opt-6.7b", 224, ""),
            (
                "blip2_opt_6_7b",
                "coco_hf",
                "blip2-opt-6.7b-coco",
                364,
                ", tuned on COCO's captions: model.vision.image_size=364",
            ),
        )
    ),
    *(
        Row(
            model=model,
            tag=tag,
            uri=f"{_LAVIS}/{file}",
            files=(file,),
            image_size=size,
            licence="BSD-3-Clause (LAVIS)",
            paper="2301.12597",
            homepage="https://github.com/salesforce/LAVIS/tree/main/projects/blip2",
            metrics=metrics,
            notes=notes,
        )
        for model, tag, file, size, metrics, notes in (
            ("blip2_opt", "lavis", "blip2_pretrained_opt2.7b.pth", 224, {}, _PARTS),
            ("blip2_opt_6_7b", "lavis", "blip2_pretrained_opt6.7b.pth", 224, {}, _PARTS),
            (
                "blip2_opt_6_7b",
                "coco",
                "blip2_caption_opt6.7b.pth",
                364,
                {
                    "coco/coco/bleu1": 83.1,
                    "coco/coco/bleu4": 43.4,
                    "coco/coco/meteor": 31.6,
                    "coco/coco/rouge_l": 61.8,
                    "coco/coco/cider": 145.1,
                    "coco/coco/spice": 25.1,
                },
                "model.vision.image_size=364; OPT comes from its folder (model.lm.weights)",
            ),
        )
    ),
)
