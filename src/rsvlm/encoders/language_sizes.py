"""Sizes of the language models that can be built without a download, in transformers' words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsvlm.errors import UserError, near

_LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA_3: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}
_ROPE_3_2: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_OPT: dict[str, Any] = {
    "model_type": "opt",
    "vocab_size": 50272,
    "max_position_embeddings": 2048,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    # The published 0.02 is for widths of thousands.
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

#: Name to numbers.
SIZES: dict[str, dict[str, Any]] = {
    # Vicuna 1.5 is LLaMA 2 tuned; both have these sizes.
    "vicuna_7b": _LLAMA_7B,
    "llama2_7b": _LLAMA_7B,
    "vicuna_13b": {
        **_LLAMA_7B,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
    },
    "llama3_8b": {
        **_LLAMA_3,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    # Llama 3.2.
    "llama3_1b": {
        **_LLAMA_3,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "rope_parameters": dict(_ROPE_3_2),
    },
    "llama3_3b": {
        **_LLAMA_3,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "rope_parameters": dict(_ROPE_3_2),
    },
    # SmolLM2's smallest; its padding and its end are one token.
    "smollm2_135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
    },
    "opt_2_7b": {
        **_OPT,
        "hidden_size": 2560,
        "word_embed_proj_dim": 2560,
        "ffn_dim": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "opt_6_7b": {
        **_OPT,
        "hidden_size": 4096,
        "word_embed_proj_dim": 4096,
        "ffn_dim": 16384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    # Gemma 3's smallest: two thirds of it are its vocabulary.
    "gemma3_270m": {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    "tiny": {**_TINY, "model_type": "llama", "intermediate_size": 128},
    "tiny_opt": {
        **_TINY,
        "model_type": "opt",
        "init_std": 0.1,
        "ffn_dim": 128,
        "word_embed_proj_dim": 64,
    },
}


def sizes_of(size: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers of a name, or of a mapping as it is.

    Raises:
        UserError: an unknown name, or a mapping without `model_type`.
    """
    if size is None or isinstance(size, str):
        if size not in SIZES:
            raise UserError(f"there is no language model {size!r}. {near(str(size), SIZES)}")
        return dict(SIZES[size])
    numbers = dict(size)
    if "model_type" not in numbers:
        raise UserError("a language model's sizes need model_type, such as llama or opt.")
    return numbers


#: What some architectures do to their logits behind the head: Gemma 2, Granite, Cohere, xLSTM.
_BEHIND = ("final_logit_softcapping", "logits_scaling", "logit_scale", "output_logit_soft_cap")


def plain_head(config: Any, where: str) -> None:
    """Refuses an architecture whose logits are more than its head's product.

    Logits are computed here at the positions that are learned alone, by the head itself.

    Args:
        config: of transformers.
        where: the weights or the size, for the error.

    Raises:
        UserError: logits that are capped or scaled.
    """
    for word in _BEHIND:
        if getattr(config, word, None) not in (None, 1, 1.0):
            raise UserError(
                f"{where} ({config.model_type}) changes its logits behind the head "
                f"({word}={getattr(config, word)}), which is not done here and would give wrong "
                "losses in silence: take another language model."
            )
