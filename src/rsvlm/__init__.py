"""rsvlm: remote-sensing vision-language models, trained, evaluated and loaded one way.

`rsvlm.load` and `rsvlm.predict` are the whole of the short form; everything else is in the
sub-packages. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsvlm.data.sample import Answer, Sample
    from rsvlm.inference.api import list_models, load, load_clip, predict

    __version__: str

__all__ = ["Answer", "Sample", "__version__", "list_models", "load", "load_clip", "predict"]

_HOMES = {
    "Answer": "rsvlm.data.sample",
    "Sample": "rsvlm.data.sample",
    "list_models": "rsvlm.inference.api",
    "load": "rsvlm.inference.api",
    "load_clip": "rsvlm.inference.api",
    "predict": "rsvlm.inference.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = version("rsvlm")
        except PackageNotFoundError:  # a checkout on PYTHONPATH that was never installed
            value = "0+unknown"
    else:
        raise AttributeError(f"module 'rsvlm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
