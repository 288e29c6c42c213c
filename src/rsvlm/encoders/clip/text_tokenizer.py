"""open_clip's byte-pair tokenizer without the rest of open_clip."""

from __future__ import annotations

import copyreg
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rsvlm.errors import UserError


@lru_cache
def open_clip_tokenizer(context_length: int) -> Any:
    """Texts to ids int64 [B, context_length], truncated so that end-of-text stays.

    One object for all who ask: reading the merges takes a tenth of a second.

    Args:
        context_length: ids of a row.

    Raises:
        UserError: open_clip is not installed.
    """
    kind = _module().SimpleTokenizer
    # Loader processes get it by its number; its own module may not be imported by name there.
    copyreg.pickle(kind, _again)
    return kind(context_length=context_length)


def _again(tokenizer: Any) -> tuple[Any, tuple[int]]:
    return open_clip_tokenizer, (tokenizer.context_length,)


def _module() -> ModuleType:
    """`open_clip.tokenizer`.

    The package imports torchvision, timm and transformers, four seconds of processor time; this
    file of it imports none of them, and nothing from beside it.
    """
    if "open_clip" in sys.modules:
        from open_clip import tokenizer

        return tokenizer
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise UserError("CLIP's tokenizer is open_clip's: pip install open_clip_torch.")
    file = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
