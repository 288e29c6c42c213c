"""Rows of the zoo: where published weights lie and everything a user of them must know.

A row is called `<model option>.<tag>`. The rows themselves stand beside the models
(`rsvlm.models.zoo` collects them) and are handed in; this room knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from rsvlm.checkpoints.hub import Hub, parse
from rsvlm.errors import UserError, near

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published checkpoint.

    Attributes:
        model: the model option, as in `model=georsclip_vitb32`.
        tag: which weights of it.
        uri: `hf://org/repo@rev/path` or an https address.
        files: names under which the file is found on disk; a file of such a name is this row's.
        arch: a CLIP's architecture, one of `encoders.clip.model.ARCHS`; empty for other models.
        activation: a CLIP's, `gelu` or `quick_gelu`, the one it was trained with.
        variant: which form of the model it was trained in, where there are several.
        image_size: side of the images, pixels.
        mean: per-channel mean of the images in 0..1.
        std: per-channel deviation.
        interpolation: of the resize.
        licence: as its publisher states it.
        paper: arXiv identifier.
        homepage: address.
        metrics: the publisher's numbers, `<data set>/<protocol>/<metric>` to value.
        notes: what else to know.
    """

    model: str
    tag: str
    uri: str
    files: tuple[str, ...] = ()
    arch: str = ""
    activation: str = ""
    variant: str = ""
    image_size: int = 224
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    licence: str
    paper: str
    homepage: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""

    @property
    def name(self) -> str:
        """`<model option>.<tag>`."""
        return f"{self.model}.{self.tag}"


#: The rows that this context was handed, see `handed_in`.
_HANDED_IN: ContextVar[Mapping[str, Row]] = ContextVar("zoo_rows", default={})  # noqa: B039


@contextmanager
def handed_in(rows: Mapping[str, Row]) -> Iterator[None]:
    """Within it, checkpoints are looked up among these rows where a call names none itself.

    A model's towers load their own weights while the model is built, and know no zoo.

    Args:
        rows: by name, as `rsvlm.models.zoo.rows()` gives them.
    """
    token = _HANDED_IN.set(rows)
    try:
        yield
    finally:
        _HANDED_IN.reset(token)


def known_rows(rows: Mapping[str, Row] | None = None) -> Mapping[str, Row]:
    """The rows that a call names, else those that the context was handed."""
    return _HANDED_IN.get() if rows is None else rows


def row(name: str, rows: Mapping[str, Row]) -> Row:
    """The row of a name.

    Raises:
        UserError: there is none; names the near ones.
    """
    if name in rows:
        return rows[name]
    if not rows:
        raise UserError(
            f"zoo:{name}: no rows were handed in. rsvlm.load({name!r}) knows them, and "
            "checkpoints.load(..., rows=rsvlm.models.zoo.rows()) takes them."
        )
    tags = [known for known in rows if known.split(".")[0] == name]
    if tags:
        raise UserError(f"zoo:{name} lacks its tag; there is zoo:{', zoo:'.join(tags)}.")
    raise UserError(f"the zoo has no row {name!r}. {near(name, rows)}")


def row_of_file(path: PurePath, rows: Mapping[str, Row]) -> Row | None:
    """The row that a file on disk belongs to, by its name or its folder's; None if by none."""
    for name in (path.name, path.parent.name):
        for candidate in rows.values():
            if name in candidate.files:
                return candidate
    return None


def row_of_hub(place: Hub, rows: Mapping[str, Row]) -> Row | None:
    """The row of a file, or of a whole repository, on the Hugging Face hub; None if of none."""
    for candidate in rows.values():
        known = parse(candidate.uri)
        if known is None or known.repo != place.repo:
            continue
        if known.path in ("", place.path) or PurePath(place.path).name in candidate.files:
            return candidate
    return None


def options_for(arch: str, rows: Mapping[str, Row]) -> list[str]:
    """Model options of the zoo that have an architecture."""
    return sorted({candidate.model for candidate in rows.values() if candidate.arch == arch})


def recalls(dataset: str, *values: float, mean: float) -> dict[str, float]:
    """Published recalls under the `remoteclip` protocol, as entries of `Row.metrics`.

    Args:
        dataset: name of the data set.
        *values: image to text at 1, 5, 10, text to image at 1, 5, 10; per cent.
        mean: mean of the six as published.
    """
    words = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    named = dict(zip(words, values, strict=True)) | {"mean_recall": mean}
    return {f"{dataset}/remoteclip/{word}": value for word, value in named.items()}
