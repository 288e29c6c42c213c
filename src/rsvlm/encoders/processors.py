"""Processors of transformers: from a folder, or small ones without a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.transforms import Pad, Preprocess
from rsvlm.encoders.tokenizers import pretrained, word_tokenizer
from rsvlm.errors import UserError, extra

#: Questions end in a mark, answers in the end token; a small model has no room for more.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ ' ' }}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '</s>' }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|answer|>' }}"
    "{% endif %}"
    "{% endfor %}"
)


def load_processor(
    source: str | Path, *, pixels: Sequence[int] | None = None, backend: str = "pil"
) -> Any:
    """The processor in a folder, or on the Hugging Face hub.

    Args:
        source: a folder, or `hf://org/repo@rev`.
        pixels: least and most pixels of an image, for processors of images of any size (Qwen-VL).
        backend: `pil` or `torchvision`, which resizes by another rule.

    Raises:
        UserError: there is none, or it takes images of one size.
    """
    with extra("language"):
        from transformers import AutoImageProcessor, AutoProcessor

    name, options = pretrained(source)
    if backend not in ("pil", "torchvision"):
        raise UserError(f"model.lm.backend={backend!r}: give pil or torchvision.")
    try:
        processor = AutoProcessor.from_pretrained(name, **options)
        if hasattr(processor, "image_processor"):
            # Asked for by itself, as no video processor has Pillow's form.
            processor.image_processor = AutoImageProcessor.from_pretrained(
                name, backend=backend, **options
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{source} holds no processor that transformers can read ({reason}). Give the folder "
            "that the model was published in, with preprocessor_config.json and tokenizer.json."
        ) from error
    if not hasattr(processor, "image_processor"):
        raise UserError(
            f"{source} holds a {type(processor).__name__}, which takes no images: it is a text "
            "model's. Choose another task's model, or model.lm.processor=<folder>."
        )
    if pixels is not None:
        size = getattr(processor.image_processor, "size", None) or {}
        if "longest_edge" not in size or not hasattr(processor.image_processor, "merge_size"):
            raise UserError(
                f"model.lm.pixels={list(pixels)}: the processor of {source} brings images to one "
                "size; leave pixels out."
            )
        processor.image_processor.size = _edges(pixels)
    return processor


def small_processor(numbers: dict[str, Any], words: Any, pixels: Sequence[int] | None) -> Any:
    """A processor with a word list in place of a published tokenizer.

    Args:
        numbers: the model's sizes; its vocabulary size and ids of marks are filled in.
        words: see `tokenizers.word_list`.
        pixels: see `load_processor`.

    Raises:
        UserError: a kind of model of which none is made here.
    """
    kind = numbers["model_type"]
    if kind not in _SMALL:
        raise UserError(
            f"words= makes processors of {', '.join(_SMALL)} only; for a {kind} give "
            "model.lm.processor=<folder>."
        )
    return _SMALL[kind](numbers, word_tokenizer(words), pixels)


def placing(processor: Any) -> Callable[[int, int], Geometry] | None:
    """Where a processor puts the pixels of an image of (high, wide).

    None where it cuts the image into tiles or keeps its shape, so that boxes are fractions of it.
    """
    image = processor.image_processor
    size = getattr(image, "size", None) or {}
    if hasattr(image, "merge_size") and "longest_edge" in size:
        return lambda high, wide: _smart(image, high, wide)
    crop = getattr(image, "crop_size", None) or {}
    side = size.get("shortest_edge")
    if getattr(image, "do_center_crop", False) and side and crop.get("height") == side:
        # LLaVA's own processor alone pads before it resizes.
        padded = type(image).__name__.startswith("Llava") and image.do_pad
        return Pad(int(side)).geometry if padded else Preprocess(int(side)).geometry
    return None


def _smart(image: Any, high: int, wide: int) -> Geometry:
    with extra("language"):
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    tall, broad = smart_resize(
        high,
        wide,
        factor=image.patch_size * image.merge_size,
        min_pixels=image.size["shortest_edge"],
        max_pixels=image.size["longest_edge"],
    )
    return identity(high, wide).resize(tall, broad)


def _edges(pixels: Sequence[int]) -> dict[str, int]:
    if len(pixels) != 2 or not 0 < pixels[0] <= pixels[1]:
        raise UserError(f"model.lm.pixels={list(pixels)}: give the least and the most pixels.")
    return {"shortest_edge": int(pixels[0]), "longest_edge": int(pixels[1])}


def _marked(numbers: dict[str, Any], tokenizer: Any, marks: Mapping[str, str]) -> None:
    """Adds marks to a tokenizer, and their ids to the sizes."""
    tokenizer.add_tokens(["<|answer|>", *marks.values()], special_tokens=True)
    for word, mark in marks.items():
        numbers[word] = tokenizer.convert_tokens_to_ids(mark)
    numbers["text_config"]["vocab_size"] = len(tokenizer)


def _qwen(numbers: dict[str, Any], tokenizer: Any, pixels: Sequence[int] | None) -> Any:
    with extra("language"):
        import transformers

    marks = {
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    _marked(numbers, tokenizer, marks)
    vision = numbers["vision_config"]
    sizes = {word: vision[word] for word in ("patch_size", "temporal_patch_size")}
    sizes["merge_size"] = vision["spatial_merge_size"]
    unit = (sizes["patch_size"] * sizes["merge_size"]) ** 2
    kind = "Qwen2_5_VLProcessor" if "2_5" in numbers["model_type"] else "Qwen2VLProcessor"
    return getattr(transformers, kind)(
        image_processor=transformers.Qwen2VLImageProcessorPil(
            **sizes, size=_edges(pixels or (4 * unit, 64 * unit))
        ),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )


def _llava(numbers: dict[str, Any], tokenizer: Any, pixels: Sequence[int] | None) -> Any:
    with extra("language"):
        import transformers

    if pixels is not None:
        raise UserError("model.lm.pixels: LLaVA takes images of one size; leave pixels out.")
    _marked(numbers, tokenizer, {"image_token_id": "<image>"})
    side = numbers["vision_config"]["image_size"]
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer,
        patch_size=numbers["vision_config"]["patch_size"],
        vision_feature_select_strategy=numbers["vision_feature_select_strategy"],
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )


_SMALL: dict[str, Callable[[dict[str, Any], Any, Sequence[int] | None], Any]] = {
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "llava": _llava,
}
