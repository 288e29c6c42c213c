"""CLIPs as folders that open_clip and transformers load."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.save import tensors
from rsvlm.encoders.clip.layouts import HF_CLIP, OPEN_CLIP, OPEN_CLIP_RESNET
from rsvlm.encoders.clip.model import CLIP, tokenizer
from rsvlm.encoders.clip.towers import ResNetTower, TextTransformer, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.nn.adapters import merge
from rsvlm.nn.transformer import Block

_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_clip(model: CLIP, to: str, folder: Path) -> list[Path]:
    """A CLIP in open_clip's or transformers' layout.

    Args:
        model: with its activation set.
        to: `open_clip` or `hf_clip`.
        folder: is there.

    Returns:
        The files written.

    Raises:
        UserError: a model without an activation, or one that the format cannot hold.
    """
    if model.peft != "none":
        model = copy.deepcopy(model)
        left = merge(model)
        if left:
            raise UserError(
                f"{to} cannot hold {model.peft}: {left[0]} and {len(left) - 1} more depend on the "
                "input. Only LoRA without gates folds into plain weights."
            )
    if model.activation is None:
        raise UserError(
            "the model's activation is not set, and the exported configuration must name it: say "
            "model.activation=quick_gelu or model.activation=gelu."
        )
    if isinstance(model.visual, VisionTransformer) and model.visual.stem is not None:
        raise UserError(
            f"{to} has no place for a convolutional stem (visual.stem): only models with "
            "model.stem=patch can be exported."
        )
    return WRITERS[to](model, folder)


def _open_clip(model: CLIP, folder: Path) -> list[Path]:
    visual, text = model.visual, model.text
    resnet = isinstance(visual, ResNetTower)
    state = revert(model.state_dict(), OPEN_CLIP_RESNET if resnet else OPEN_CLIP)
    vision_cfg: dict[str, Any] = {"image_size": model.image_size}
    if isinstance(visual, ResNetTower):
        trunk = visual.trunk
        stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
        width = trunk.conv1.out_channels * 2
        vision_cfg |= {"layers": [len(stage) for stage in stages], "width": width}
        vision_cfg |= {"head_width": width * 32 // trunk.attnpool.num_heads, "patch_size": None}
    else:
        vision_cfg |= {
            "layers": len(visual.blocks),
            "width": visual.dim,
            "head_width": visual.dim // _heads(visual),
            "mlp_ratio": _hidden(visual) / visual.dim,
            "patch_size": visual.patch_size,
        }
    config = {
        "embed_dim": model.embed_dim,
        "quick_gelu": model.activation == "quick_gelu",
        "vision_cfg": vision_cfg,
        "text_cfg": {
            "context_length": model.context_length,
            "vocab_size": text.token_embedding.num_embeddings,
            "width": text.dim,
            "heads": _heads(text),
            "layers": len(text.blocks),
            "mlp_ratio": _hidden(text) / text.dim,
        },
    }
    if model.logit_bias is not None:
        config["init_logit_bias"] = model.logit_bias.item()
    preprocess = {"mean": model.mean, "std": model.std, "interpolation": "bicubic"}
    preprocess["resize_mode"] = "shortest"
    return [
        _json(
            folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess}
        ),
        tensors(folder / "open_clip_model.safetensors", state),
    ]


def _hf_clip(model: CLIP, folder: Path) -> list[Path]:
    visual, text = model.visual, model.text
    if isinstance(visual, ResNetTower):
        raise UserError(
            f"transformers' CLIP has no ResNet tower, so {model.arch} goes to open_clip only."
        )
    state = revert(model.state_dict(), HF_CLIP)
    shared = {"hidden_act": model.activation, "projection_dim": model.embed_dim}
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model.embed_dim,
        "logit_scale_init_value": model.logit_scale.item(),
        "text_config": shared
        | {
            "model_type": "clip_text_model",
            "hidden_size": text.dim,
            "intermediate_size": _hidden(text),
            "num_hidden_layers": len(text.blocks),
            "num_attention_heads": _heads(text),
            "max_position_embeddings": model.context_length,
            "vocab_size": text.token_embedding.num_embeddings,
            # The two last ids of the vocabulary; transformers pools at the first end-of-text.
            "bos_token_id": text.token_embedding.num_embeddings - 2,
            "eos_token_id": text.token_embedding.num_embeddings - 1,
            "pad_token_id": text.token_embedding.num_embeddings - 1,
        },
        "vision_config": shared
        | {
            "model_type": "clip_vision_model",
            "hidden_size": visual.dim,
            "intermediate_size": _hidden(visual),
            "num_hidden_layers": len(visual.blocks),
            "num_attention_heads": _heads(visual),
            "patch_size": visual.patch_size,
            "image_size": model.image_size,
        },
    }
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": model.image_size},
        "resample": 3,  # PIL's bicubic
        "do_center_crop": True,
        "crop_size": {"height": model.image_size, "width": model.image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.mean),
        "image_std": list(model.std),
    }
    return [
        _json(folder / "config.json", config),
        tensors(folder / "model.safetensors", state),
        _json(folder / "preprocessor_config.json", processor),
        *_hf_tokenizer(model, folder),
    ]


def _hf_tokenizer(model: CLIP, folder: Path) -> list[Path]:
    """CLIP's byte-pair vocabulary in transformers' files; the two special words are renamed."""
    encode: Any = tokenizer(model.arch)
    vocab = dict(encode.encoder)
    ordered = sorted(vocab, key=vocab.__getitem__)
    words = {word: index for index, word in enumerate([*ordered[:-2], _START, _END])}
    merges = sorted(encode.bpe_ranks, key=encode.bpe_ranks.__getitem__)
    path = folder / "merges.txt"
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": model.context_length,
        "do_lower_case": True,
        "errors": "replace",
        "add_prefix_space": False,
        **special,
    }
    return [
        path,
        _json(folder / "vocab.json", words),
        _json(folder / "tokenizer_config.json", config),
        _json(folder / "special_tokens_map.json", special),
    ]


def _block(tower: VisionTransformer | TextTransformer) -> Block:
    block = tower.blocks[0]
    assert isinstance(block, Block)
    return block


def _heads(tower: VisionTransformer | TextTransformer) -> int:
    return _block(tower).attn.heads


def _hidden(tower: VisionTransformer | TextTransformer) -> int:
    return _block(tower).mlp.c_fc.out_features


def _json(path: Path, content: dict[str, Any]) -> Path:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


#: Format -> what writes it.
WRITERS: dict[str, Callable[[CLIP, Path], list[Path]]] = {
    "open_clip": _open_clip,
    "hf_clip": _hf_clip,
}
