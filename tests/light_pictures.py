"""Pictures of runs by their content alone: laying them out and writing them was a third of a run.

All is still drawn, so that an error in it is one; texts are not measured, and the file is blank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Replace = Callable[[Any, str, Any], object]
#: What `lighten` has replaced: whose, its name, and what stood there.
SHIPPED: list[tuple[Any, str, Any]] = []


def lighten(replace: Replace = setattr) -> None:
    """One variant of each picture, not laid out, in a file of its size.

    Args:
        replace: sets an attribute, as `monkeypatch.setattr`.
    """
    from matplotlib.figure import Figure

    from rsvlm.report import figures

    light = (
        (figures, "THEMES", figures.THEMES[:1]),
        (Figure, "tight_layout", lambda *_, **__: None),
        (Figure, "savefig", _blank),
    )
    for owner, name, value in light:
        SHIPPED.append((owner, name, getattr(owner, name)))
        replace(owner, name, value)


def as_shipped(replace: Replace) -> None:
    """Pictures as users get them again."""
    for owner, name, value in SHIPPED:
        replace(owner, name, value)


def _blank(figure: Any, path: Any, **_: Any) -> None:
    from PIL import Image

    size = (round(side * figure.dpi) for side in figure.get_size_inches())
    Image.new("L", tuple(size), 255).save(path)
