"""RS-CapRet: a frozen language model that captions images and finds them.

Silva et al., 2024, "Large Language Models for Captioning and Retrieving Remote Sensing Images"
(arXiv 2402.06475), which has no public code, after Koh et al., 2023, FROMAGe (arXiv 2301.13823;
kohjingyu/fromage, b36a188).

A frozen CLIP's pooled vector → linear map W_c → `tokens` embeddings before the text of a frozen
language model, which writes the caption. A new word [RET] behind a text: its last hidden state,
through the map W_t, meets the image's vector, through W_i, in one space of 256 numbers.

Trained: W_c, W_i, W_t, [RET]'s row of the embedding table, and of the head where that is not tied
(models/extra_token.py), and a temperature: 5,513,729 parameters with CLIP L/14 and
OPT-6.7B, 5,517,825 with LLaMA-2-7B.

Three losses, all of weight 1 (losses/caption_retrieval.py): the caption behind its image; the same
text alone up to [RET]; InfoNCE between images and [RET]s of the batch. In half of the steps two
images and their captions stand in one row, so that the model learns to read several.

Known of RS-CapRet: LLaMA-2-7B, CLIP-Cap-4 (zoo:clip_vitl14.cap4), training on Cap-4, [RET]. Of
FROMAGe: all of the form, and its recipe: AdamW with rate 3e-4, betas (0.9, 0.95), no decay, 100
steps of warm-up, a tenth every 20,000 steps, batch 180, texts of 24 tokens, clipping at 1,
bfloat16. Ours: L/14 as CLIP-Cap-4's size; a row of the head of its own for LLaMA;
`caption_end=eos`, which closes a caption behind its image with the end token and learns it, where
FROMAGe's has no end (`none`); 64 tokens; the temperature's inverse is kept in [1, 100]; the head's
row keeps the mean norm of the head's rows, as FROMAGe keeps the table's.

Key map: `models/rscapret/layouts.py`, FROMAGe's file as pruned, over towers with own weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.collate.chat import ChatCollate, asked
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.collate.ret_captions import RET, CaptionInstructions, RetTokenizer
from rsvlm.data.sample import Answer
from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.clip.pooled import ClipPooled
from rsvlm.encoders.generation import Generated
from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.timm_grid import TimmGrid
from rsvlm.errors import UserError, extra, near
from rsvlm.models.protocols import Kinds
from rsvlm.models.rscapret.layouts import fromage_dialect
from rsvlm.models.rscapret.projector import LinearProjector
from rsvlm.models.rscapret.retrieval import ImageRetriever
from rsvlm.nn.packing import Embedded
from rsvlm.retrieval.gallery import Gallery

#: What a picture is looked for with: see `RSCapRet.generate`.
QUERIES = ("prompt", "own", "answer", "caption")
#: Where an image stands in the ids of a dialogue: no word of any vocabulary.
PLACE = -1


class RSCapRet(ImageRetriever):
    """See the head of this file.

    Args:
        vision: a `ClipPooled`, or a tower of several tokens of which the first stands for the whole
            image (`encoders.timm_grid`); it is frozen here.
        bridge: a `LinearProjector`, a `GridProjector`, or what builds it.
        lm: a `LanguageModel`.
        shared_dim: numbers of a feature.
        ret_id: the id of [RET]; None for the first that the tokenizer leaves free. FROMAGe's is one
            further, 50266, behind a word for images.
        prompt: stands between an image and its caption, and before a text, in training and after.
        max_text: longest caption in tokens, with its two marks.
        caption_end: what ends a caption, see above: `eos` or `none`.
        concat: share of the steps that put two captions in a row.
        dropout: on both features.
        logit_scale: initial logarithm of the temperature's inverse.
        groups: see `ImageRetriever`; speed only.
        packing: likewise, `none` or `rows`.
        retrieval: False leaves out [RET] and the space of features: the caption behind its image
            alone is learned (`loss=answer`), at half the cost.
        cache_gib: see `VisionLanguageModel`; RSICD's 8,734 training pictures take 36 MB.
        cache_folder: likewise.
        chat: further options of `ChatCollate`.
        generation: options of `generate` where they differ from the language model's defaults.

    Raises:
        UserError: an unknown word.
    """

    #: It writes a caption where nothing is asked.
    describes = True

    def __init__(
        self,
        vision: ClipPooled | TimmGrid,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        *,
        shared_dim: int = 256,
        ret_id: int | None = None,
        prompt: str = "",
        max_text: int = 64,
        caption_end: str = "eos",
        concat: float = 0.5,
        dropout: float = 0.0,
        logit_scale: float = math.log(1 / 0.07),
        groups: int = 4,
        retrieval: bool = True,
        packing: str = "none",
        cache_gib: float = 0.0,
        cache_folder: str | Path | None = None,
        chat: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        if caption_end not in ("eos", "none"):
            known = ("eos", "none")
            raise UserError(f"model.caption_end={caption_end!r}. {near(caption_end, known)}")
        if not 0 <= concat <= 1:
            raise UserError(f"model.concat={concat}: it must lie in [0, 1].")
        super().__init__(
            vision,
            bridge,
            lm,
            shared_dim=shared_dim,
            prompt=prompt,
            end=caption_end,
            concat=concat,
            dropout=dropout,
            logit_scale=logit_scale,
            groups=groups,
            retrieval=retrieval,
            packing=packing,
            cache_gib=cache_gib,
            cache_folder=cache_folder,
            image_token_id=PLACE,
            generation=generation,
        )
        self.max_text, self._chat = max_text, dict(chat or {})
        self._given, self._tokenizer = ret_id, None

    # Words --------------------------------------------------------------------------------

    @property
    def ret_id(self) -> int:
        """The id of [RET]."""
        if self._given is None:
            self._given = len(self.lm.tokenizer)
        return self._given

    @property
    def tokenizer(self) -> Any:
        """The language model's, with [RET].

        Raises:
            UserError: it has that word, or another one at `ret_id`.
        """
        if self._tokenizer is None:
            with extra("language"):
                from tokenizers import AddedToken

            own = copy.deepcopy(self.lm.tokenizer)
            if RET in own.get_vocab():
                raise UserError(
                    f"the language model's vocabulary has a word {RET} already, and the new one "
                    "would be mistaken for it. Give a tokenizer without it (model.lm.tokenizer=)."
                )
            if self.ret_id < len(own):
                word = own.convert_ids_to_tokens(self.ret_id)
                raise UserError(
                    f"model.ret_id={self.ret_id} is the word {word!r} of the language model's "
                    f"vocabulary of {len(own)}: {RET} needs an id from {len(own)} on."
                )
            spare = [f"[SPARE{i}]" for i in range(len(own), self.ret_id)]
            words = [AddedToken(word, special=True, normalized=False) for word in [*spare, RET]]
            own.add_tokens(words, special_tokens=True)
            self._tokenizer = own
        return self._tokenizer

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def pairs(self, **options: Any) -> PairCollate:
        """Images with their captions up to [RET], for training and for retrieval.

        Args:
            **options: see `PairCollate`; `all_texts=True` for evaluation.
        """
        return PairCollate(RetTokenizer(self.tokenizer, self.ret_id, self.max_text), **options)

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> PairCollate | ChatCollate:
        """Pairs in training; dialogues, a caption for each image that has any, for generation.

        For the arguments see `models.protocols.Generator`; `instructions` are its own, a caption's.
        """
        del instructions
        if training:
            return self.pairs()
        return ChatCollate(
            self.tokenizer,
            format="fromage",
            generation=True,
            image_token_id=PLACE,
            image_tokens=self.bridge.count(self.vision.tokens),
            instructions=CaptionInstructions(self.prompt),
            **{**self._chat, **asked(kinds)},
        )

    @property
    def preprocess(self) -> Preprocess:
        """CLIP's; normalisation is the tower's own."""
        return Preprocess(self.image_size, interpolation=self.vision.interpolation)

    # Use --------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        batch: Any,
        features: Tensor | None = None,
        *,
        gallery: Gallery | None = None,
        query: str = "prompt",
        found: int = 10,
        seen: Sequence[Sequence[str]] | None = None,
        **options: Any,
    ) -> list[Answer]:
        """Captions, answers, and the pictures of a gallery that a dialogue asks for.

        Args:
            batch: of `collate(training=False)`: any number of images and questions.
            features: see `VisionLanguageModel.encode_images`.
            gallery: what to look in; None only writes.
            query: what is looked for: `prompt`, a [RET] right behind the dialogue, and nothing is
                written; `own`, where the model writes a [RET] itself; `answer`, a [RET] behind the
                answer; `caption`, the answer as a caption without the dialogue, as in training.
            found: most pictures for a dialogue.
            seen: for each dialogue, pictures that are not to come again.
            **options: see `write`.

        Returns:
            `text` and `score` (see `encoders.generation.Generated`), `candidates` where more than
            one was asked for, `retrieved` (name, cosine) from a gallery.

        Raises:
            UserError: an unknown option, a window that is too small, padding on the right.
        """
        if query not in QUERIES:
            raise UserError(f"query={query!r} is not known. {near(query, QUERIES)}")
        mode = self.training
        self.eval()
        try:
            embedded = self.embed(batch, features)
            if gallery is not None and query == "prompt":
                rows = gallery.rank(self.query(embedded), found, seen=seen)
                return [Answer(retrieved=row) for row in rows]
            texts = self.write(embedded, **options)
            answers = [self._answer(row) for row in texts]
            if gallery is not None:
                best = [row[0] for row in texts]
                ranks = gallery.rank(self._sought(embedded, best, query), found, seen=seen)
                for answer, text, row in zip(answers, best, ranks, strict=True):
                    if query != "own" or text.end == self.ret_id:
                        answer.retrieved = row
            return answers
        finally:
            self.train(mode)

    def _sought(self, embedded: Embedded, texts: Sequence[Generated], query: str) -> Tensor:
        """Features of what the model has written."""
        if query != "caption":
            return self.query(embedded, [text.ids for text in texts])
        words = [self.decode(text.ids) or self.tokenizer.eos_token for text in texts]
        ids = self.pairs().tokenize(words)[0].to(embedded.attention_mask.device)
        return self.encode_text(ids)

    # Weights ------------------------------------------------------------------------------

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """FROMAGe's layout."""
        return (fromage_dialect(),)

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """A sentence on a state dict of other towers than the model's; else empty.

        Args:
            state: in our names.
        """
        row, image = state.get("ret.row"), state.get("image_map.weight")
        if row is None or image is None:
            return ""
        if row.shape[-1] != self.lm.dim:
            return (
                f"It was trained with a language model of width {row.shape[-1]}, and the model's "
                f"has {self.lm.dim}: choose that language model (model/lm=, model.lm.weights=)."
            )
        if image.shape[-1] != self.vision.dim:
            return (
                f"It was trained with an image tower of width {image.shape[-1]}, and the model's "
                f"has {self.vision.dim}: choose that tower (model/vision=)."
            )
        bias = state.get("bridge.proj.bias")
        if not isinstance(self.bridge, LinearProjector):
            return ""
        tokens = self.bridge.tokens if bias is None else len(bias) // self.lm.dim
        if tokens != self.bridge.tokens:
            return f"It gives an image {tokens} embeddings: say model.bridge.tokens={tokens}."
        return ""


_FROMAGE = "https://raw.githubusercontent.com/kohjingyu/fromage/main/fromage_model"
ROWS = tuple(
    Row(
        model="fromage",
        tag=tag,
        uri=f"{_FROMAGE}{folder}/pretrained_ckpt.pth.tar",
        licence="Apache-2.0",
        paper="2301.13823",
        homepage="https://github.com/kohjingyu/fromage",
        notes=(
            "RS-CapRet's ancestor, on CC3M; partial: OPT-6.7B (model.lm.weights) and OpenAI's L/14 "
            f"(model.vision.weights=zoo:clip_vitl14.openai) have files of their own{more}"
        ),
    )
    for tag, folder, more in (
        ("cc3m", "", ""),
        ("cc3m_vis4", "/fromage_vis4", "; model.bridge.tokens=4"),
    )
)
