"""Pictures of runs by their content alone: laying them out and writing them was a third of a run.

All is still drawn, so that an error in it is one; texts are not measured, and the file is blank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def lighten(replace: Callable[[Any, str, Any], object] = setattr) -> None:
    """One variant of each picture, not laid out, in a file of its size.

    Args:
        replace: sets an attribute, as `monkeypatch.setattr`.
    """
    from matplotlib.figure import Figure

    from rsvlm.report import figures

    replace(figures, "THEMES", figures.THEMES[:1])
    replace(Figure, "tight_layout", lambda *_, **__: None)
    replace(Figure, "savefig", _blank)


def _blank(figure: Any, path: Any, **_: Any) -> None:
    from PIL import Image

    size = (round(side * figure.dpi) for side in figure.get_size_inches())
    Image.new("L", tuple(size), 255).save(path)
