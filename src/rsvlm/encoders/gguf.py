"""GGUF files, llama.cpp's own: weights, sizes and vocabulary in one file, read by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from rsvlm.errors import extra, needs_extra

#: What transformers reads such a file with.
NEEDED = ("gguf", "accelerate")


def is_gguf(source: object) -> bool:
    """Whether a source is such a file; raises where it could not be read.

    Raises:
        UserError: a package that reads it is not installed.
    """
    if not str(source).endswith(".gguf"):
        return False
    absent = [name for name in NEEDED if not find_spec(name)]
    if absent:
        other = f"{source} is read with it; or give a folder with config.json and safetensors."
        raise needs_extra("gguf", *absent, instead=other)
    return True


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """What makes `from_pretrained` unpack the weights of such a file into tensors.

    Newer transformers may else keep them in blocks, which nothing can be trained through.

    Args:
        options: of `from_pretrained`.
    """
    with extra("language"):
        from transformers.utils import quantization_config

    config = getattr(quantization_config, "GgufConfig", None)
    if "gguf_file" not in options or config is None:
        return {}
    return {"quantization_config": config(dequantize=True)}
