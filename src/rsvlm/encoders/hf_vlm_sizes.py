"""Sizes of image-text models that can be built without a download, in transformers' words."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.errors import UserError, near

_QWEN_IDS: dict[str, Any] = {
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "image_token_id": 151655,
    "video_token_id": 151656,
}
_QWEN_TEXT: dict[str, Any] = {
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    # A third of the rotary frequencies, less or more, for time, height and width.
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [16, 24, 24],
    },
}
_QWEN_VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
_TINY_TEXT: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    # The published 0.02 is for widths of thousands.
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

#: Name to numbers.
IMAGE_TEXT_SIZES: dict[str, dict[str, Any]] = {
    "qwen2_5_vl_3b": {
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": True,
        **_QWEN_IDS,
        "text_config": {
            **_QWEN_TEXT,
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        "vision_config": {**_QWEN_VISION, "out_hidden_size": 2048},
    },
    "qwen2_5_vl_7b": {
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": False,
        **_QWEN_IDS,
        "text_config": {
            **_QWEN_TEXT,
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
        "vision_config": {**_QWEN_VISION, "out_hidden_size": 3584},
    },
    # OpenGVLab/InternVL2_5-8B as transformers' own conversion writes it: InternViT-300M at 448 px
    # and InternLM2.5-7B in LLaMA's layout.
    "internvl2_5_8b": {
        "model_type": "internvl",
        "image_token_id": 92546,
        "image_seq_length": 256,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "llama",
            "vocab_size": 92553,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
        },
    },
    # meta-llama/Llama-3.2-11B-Vision-Instruct.
    "llama3_2_11b_vision": {
        "model_type": "mllama",
        "image_token_index": 128256,
        "text_config": {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "bos_token_id": 128000,
            "eos_token_id": 128009,
            "pad_token_id": 128004,
        },
        "vision_config": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_global_layers": 8,
            "attention_heads": 16,
            "image_size": 560,
            "patch_size": 14,
            "max_num_tiles": 4,
            "vision_output_dim": 7680,
            "intermediate_layers_indices": [3, 7, 15, 23, 30],
        },
    },
    # deepseek-ai/Janus-Pro-7B as transformers' own conversion writes it: SigLIP-L/16 at 384 px and
    # DeepSeek-LLM-7B; what makes pictures is of no use here, and stays as it is.
    "janus_pro_7b": {
        "model_type": "janus",
        "image_token_id": 100581,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "llama",
            "vocab_size": 102400,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 30,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 16384,
            "rms_norm_eps": 1e-6,
            "bos_token_id": 100000,
            "eos_token_id": 100001,
            "pad_token_id": 100002,
            "tie_word_embeddings": False,
        },
        "vision_config": {"projection_dim": 4096},
        "vq_config": {"projection_dim": 4096, "image_token_embed_dim": 4096},
    },
    "tiny_qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        "text_config": {
            **_TINY_TEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
            },
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
            "initializer_range": 0.1,
        },
    },
    "tiny_llava": {
        "model_type": "llava",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": {**_TINY_TEXT, "model_type": "llama"},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
            "projection_dim": 64,
            "hidden_act": "quick_gelu",
        },
    },
}


def image_text_sizes_of(size: str | Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a name, or a copy of a mapping.

    Raises:
        UserError: an unknown name, or a mapping without `model_type`.
    """
    if isinstance(size, str):
        if size not in IMAGE_TEXT_SIZES:
            raise UserError(
                f"there is no image-text model {size!r}. {near(size, IMAGE_TEXT_SIZES)}"
            )
        return copy.deepcopy(IMAGE_TEXT_SIZES[size])
    numbers: dict[str, Any] = _plain(size)
    if "model_type" not in numbers:
        raise UserError("an image-text model's sizes need model_type, such as qwen2_5_vl or llava.")
    return numbers


def _plain(value: Any) -> Any:
    """Hydra's mappings and lists as dicts and lists, which transformers insists on."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value
