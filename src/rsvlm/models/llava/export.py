"""A LLaVA of ours as a folder that transformers' LlavaForConditionalGeneration loads."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.merge_lora import merged
from rsvlm.data.sample import Turn
from rsvlm.data.text.prompt_formats import Format, prompt_format
from rsvlm.errors import UserError, extra
from rsvlm.models.llava.layouts import llava_dialects

log = logging.getLogger(__name__)

IMAGE = "<image>"
#: The layout of llava-hf's own files, which all versions of transformers read.
LAYOUT = "llava-hf"
_TABLES = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


def write_llava(model: Any, folder: Path) -> list[Path]:
    """config.json, model.safetensors, and the processor's files with a chat template.

    LoRA is folded into the weights. The word tables get a row for the image's word, the mean of the
    others, as llava-hf's have.

    Args:
        model: an `rsvlm.models.llava.model.LLaVA`.
        folder: there already.

    Returns:
        The files written.

    Raises:
        UserError: a projector or a language model that the layout has no place for, or no
            tokenizer.
    """
    from rsvlm.checkpoints.save import tensors
    from rsvlm.models.llava.model import LLaVA

    if not isinstance(model, LLaVA):
        raise UserError(f"--to llava_hf takes a LLaVA, not a {type(model).__name__}.")
    depth = len(model.bridge.layers)
    if depth != 2:
        raise UserError(
            f"transformers' LLaVA has a projector of two linear layers, this one has {depth}."
        )
    if model.lm.model.config.model_type != "llama":
        raise UserError(
            "--to llava_hf is for LLaMA and Vicuna; the language model is a "
            f"{model.lm.model.config.model_type}."
        )
    rows = model.lm.model.get_input_embeddings().num_embeddings
    tokenizer = _tokenizer(model.lm.tokenizer)
    image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
    dialect = next(d for d in llava_dialects(depth, (), rows) if d.name == LAYOUT)
    state = revert(merged(model), dialect)
    for name in _TABLES:
        if name in state:
            state[name] = _grown(state[name], max(rows, image_id + 1))
    config = _config(model, max(rows, image_id + 1), image_id)
    config.save_pretrained(str(folder))
    weights = tensors(folder / "model.safetensors", state)
    files = [folder / "config.json", weights, *_processor(model, tokenizer, folder)]
    _compare(model, folder, image_id)
    return files


def _tokenizer(own: Any) -> Any:
    """A tokenizer that knows the image's word, and cuts each text beside one as ours are cut.

    LLaVA's texts are cut one by one, each with a space in front; from a SentencePiece vocabulary
    transformers does so only where the tokenizer is told.
    """
    with extra("language"):
        from tokenizers import pre_tokenizers
        from transformers import PreTrainedTokenizerFast

    if not getattr(own, "is_fast", False):
        raise UserError(
            "the tokenizer is of a kind that no file tokenizer.json holds: give the folder of a "
            "fast one, model.lm.tokenizer=<folder>."
        )
    inner = copy.deepcopy(own.backend_tokenizer)
    step = inner.pre_tokenizer
    if isinstance(step, pre_tokenizers.Metaspace):
        inner.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=step.replacement, prepend_scheme="always", split=step.split
        )
    marks = {
        f"{word}_token": value
        for word in ("bos", "eos", "unk", "pad")
        if (value := getattr(own, f"{word}_token", None)) is not None
    }
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, clean_up_tokenization_spaces=False, **marks
    )
    made.add_tokens([IMAGE], special_tokens=True)
    return made


def _compare(model: Any, folder: Path, image_id: int) -> None:
    """Holds the processor's ids of a dialogue against ours, and says where they differ."""
    with extra("language"):
        from transformers import AutoTokenizer

    pairs = [
        (Turn("user", "How many planes are there?", (0,)), Turn("assistant", "2")),
        (Turn("user", "Where?"), Turn("assistant", "at the top left")),
    ]
    written = model.collate(training=True).writer.write(pairs, {0: 1}, system=None, open_end=False)
    ours = [image_id if token < 0 else token for token in written.prompt + written.answer]
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    messages: list[Any] = [
        {
            "role": turn.role,
            "content": [
                *({"type": "image"} for _ in turn.image_ids),
                {"type": "text", "text": turn.text},
            ],
        }
        for pair in pairs
        for turn in pair
    ]
    form = prompt_format(model.system.format)
    template = chat_template(form, tokenizer)
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    bare = not _starts_itself(tokenizer)
    theirs = tokenizer(text, add_special_tokens=not bare)["input_ids"]
    if theirs != ours:
        # Where one is the other's beginning, they part at its end.
        met = enumerate(zip(ours, theirs, strict=False))
        place = next((n for n, (a, b) in met if a != b), min(len(ours), len(theirs)))
        log.warning(
            "%s: its tokenizer cuts a dialogue otherwise than ours from token %d on (%s, here %s); "
            "answers may differ.",
            folder,
            place,
            theirs[place : place + 4],
            ours[place : place + 4],
        )


def _starts_itself(tokenizer: Any) -> bool:
    """Whether a tokenizer puts its start token before every text."""
    return bool(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])


def _grown(table: Tensor, rows: int) -> Tensor:
    """A word table with further rows, the mean of the others."""
    mean = table.float().mean(0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(rows - len(table), -1)])


def _config(model: Any, words: int, image_id: int) -> Any:
    with extra("language"):
        from transformers import CLIPVisionConfig, LlavaConfig

    tower = model.vision.tower
    block = tower.blocks[0]
    text = copy.deepcopy(model.lm.model.config)
    text.vocab_size = words
    layer = model.vision.layer
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=tower.dim,
            intermediate_size=block.mlp.c_fc.out_features,
            num_hidden_layers=len(tower.blocks),
            num_attention_heads=block.attn.heads,
            patch_size=tower.patch_size,
            image_size=model.image_size,
            hidden_act=model.vision.activation,
            projection_dim=tower.dim,
        ),
        text_config=text,
        image_token_index=image_id,
        # From the end both count alike; from the front theirs has the embeddings at 0.
        vision_feature_layer=layer if layer < 0 else layer - len(tower.blocks),
        vision_feature_select_strategy="default",
        image_seq_length=model.image_tokens,
        projector_hidden_act="gelu",
        multimodal_projector_bias=True,
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = model.lm.dtype
    return config


def _processor(model: Any, tokenizer: Any, folder: Path) -> list[Path]:
    with extra("language"):
        from transformers import GenerationConfig, LlavaImageProcessor, LlavaProcessor

    side = model.image_size
    square = {"height": side, "width": side}
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessor(
            do_pad=model.resize == "pad",
            size=square if model.resize == "squash" else {"shortest_edge": side},
            crop_size=square,
            image_mean=list(model.vision.mean),
            image_std=list(model.vision.std),
        ),
        tokenizer=tokenizer,
        patch_size=model.vision.tower.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(prompt_format(model.system.format), tokenizer),
    )
    before = set(folder.iterdir())
    processor.save_pretrained(str(folder))
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(str(folder))
    return sorted(set(folder.iterdir()) - before)


def chat_template(form: Format, tokenizer: Any) -> str:
    """A prompt format as transformers' template: contents are lists of images and texts.

    Args:
        form: how the system writes.
        tokenizer: whose marks stand in it; one that puts its start token before every text by
            itself gets none from the template.

    Raises:
        UserError: a format that numbers its images or writes its history in another way.
    """
    if form.numbered or form.past or "{image}" not in form.image:
        raise UserError(f"the prompt format {form.name} cannot be told as a chat template.")
    own = _starts_itself(tokenizer)
    image = form.image.replace("{image}", IMAGE)
    words = {
        "{bos}": "" if own else tokenizer.bos_token or "",
        "{eos}": tokenizer.eos_token or "",
        "{system}": form.system,
    }

    def told(template: str) -> str:
        for word, text in words.items():
            template = template.replace(word, text)
        before, _, rest = template.partition("{images}")
        middle, _, after = rest.partition("{text}") if rest else before.partition("{text}")
        front = _literal(before) + _IMAGES.replace("IMAGE", _quoted(image)) if rest else ""
        return f"{front}{_literal(middle)}{_TEXTS}{_literal(after)}"

    first = form.first if form.system else form.user
    return (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        + told(form.answer)
        + "{% elif loop.first %}"
        + told(first)
        + "{% else %}"
        + told(form.next)
        + "{% endif %}{% endfor %}"
    )


_TEXTS = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}"
)
_IMAGES = (
    "{% if message['content'] is not string %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ IMAGE }}{% endfor %}"
    "{% endif %}"
)


def _quoted(text: str) -> str:
    """A text as one of Jinja's strings."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def _literal(text: str) -> str:
    return "{{ " + _quoted(text) + " }}" if text else ""
