"""Boxes as text: one codec for each convention, bound to the preprocessing of its image."""

from __future__ import annotations

from collections.abc import Callable

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.text.box_parsing import NUMBER, Codec, Found, Parsed
from rsvlm.errors import UserError, near

__all__ = ["CODECS", "NUMBER", "Codec", "Found", "Parsed", "bind", "codec"]


def _spaced(*parts: str) -> str:
    """A pattern of parts with some space between them; bounded, so that no text is slow."""
    return r"\s{0,4}".join(parts)


_ANGLED = "".join(_spaced("<", r"(-?\d{1,6})", ">") for _ in range(4))
_BRACED = _spaced(r"\{", _ANGLED, r"\}")
_TURNED = _spaced(
    r"\{", _ANGLED, "(?:" + _spaced("", r"\|?", "<", f"({NUMBER})", ">") + ")?", r"\}"
)
_TWO = _spaced(f"({NUMBER})", ",", f"({NUMBER})")
_LISTED = _spaced(r"\[", _spaced(_TWO, ",", _TWO), r"\]")
_QWEN = _spaced(
    r"(?:<\|box_start\|>|<box>)?",
    r"\(",
    _TWO,
    r"\)",
    ",",
    r"\(",
    _TWO,
    r"\)",
    r"(?:<\|box_end\|>|</box>)?",
)
_LOCATED = "".join(r"<loc_(\d{1,4})>" for _ in range(4))
_SPOILT = r"\{<[^{}]{0,80}\}?|\{(?:\s{0,4}<[^<>{}]{0,20}>?){1,5}"
_LIST = r"\[[-+\d.,\s]{1,80}\]"

CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(
            name="mini0_100",
            form="corners",
            scale=100,
            cut=True,
            template="{{<{0}><{1}><{2}><{3}>}}",
            pattern=_BRACED,
            spoilt=_SPOILT,
            join="<delim>",
            preprocess="squash",
            source="MiniGPT-v2, SkyEyeGPT, GeoPix: whole numbers 0-100, cut off by int()",
        ),
        Codec(
            name="geochat0_100_theta",
            form="turned",
            scale=100,
            template="{{<{0}><{1}><{2}><{3}>|<{4}>}}",
            pattern=_TURNED,
            spoilt=_SPOILT,
            join="<delim>",
            preprocess="crop",
            source="GeoChat as its demo draws it: the unturned box, turned about its centre",
        ),
        Codec(
            name="geochat0_100_hull",
            form="hull",
            scale=100,
            template="{{<{0}><{1}><{2}><{3}>|<{4}>}}",
            pattern=_TURNED,
            spoilt=_SPOILT,
            join="<delim>",
            preprocess="crop",
            source="GeoChat as SkySenseGPT converts it: the upright box around it, and the angle",
        ),
        Codec(
            name="fitrs_obb",
            form="centre",
            scale=100,
            template="{{<{0}><{1}><{2}><{3}>|<{4}>}}",
            pattern=_TURNED,
            spoilt=_SPOILT,
            preprocess="crop",
            source="SkySenseGPT's FIT-RS: centre, width, height, angle",
        ),
        Codec(
            name="lhrs_float01",
            form="corners",
            scale=1,
            decimals=2,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=" ",
            preprocess="crop",
            source="LHRS-Bot: fractions of the image",
        ),
        Codec(
            name="earthgpt_padded_float01",
            form="corners",
            scale=1,
            decimals=3,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=" ",
            preprocess="pad",
            source="EarthGPT's MMRS-1M: fractions of the square after padding the shorter side",
        ),
        Codec(
            name="llava_padded_float01",
            form="corners",
            scale=1,
            decimals=2,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=" ",
            preprocess="pad",
            source="LLaVA-1.5: fractions of the padded square",
        ),
        Codec(
            name="teochat0_100",
            form="corners",
            scale=100,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="crop",
            source="TEOChat: whole numbers 0-100 in brackets",
        ),
        Codec(
            name="qwen0_1000",
            form="corners",
            scale=1000,
            template="<|box_start|>({0},{1}),({2},{3})<|box_end|>",
            pattern=_QWEN,
            spoilt=r"(?:<\|box_start\|>|<box>)[^<]{0,80}|\([-+\d.,\s]{1,40}\)",
            preprocess="squash",
            source="Qwen-VL and Qwen2-VL: thousandths of the image",
        ),
        Codec(
            name="qwen_absolute",
            form="corners",
            scale=0,
            template='{{"bbox_2d": [{0}, {1}, {2}, {3}]}}',
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="squash",
            source="Qwen2.5-VL: pixels of the resized image",
        ),
        Codec(
            name="qwen3_0_1000",
            form="corners",
            scale=1000,
            template='{{"bbox_2d": [{0}, {1}, {2}, {3}]}}',
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="squash",
            source="Qwen3-VL: thousandths of the image, in Qwen2.5-VL's JSON",
        ),
        Codec(
            name="internvl0_1000",
            form="corners",
            scale=1000,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="squash",
            source="InternVL: thousandths of the image, a list of lists between <box> and </box>",
        ),
        Codec(
            name="gemini_yx0_1000",
            form="corners",
            scale=1000,
            yx=True,
            template='{{"box_2d": [{0}, {1}, {2}, {3}]}}',
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="squash",
            source="Gemini: box_2d as y0, x0, y1, x1 in thousandths of the image",
        ),
        Codec(
            name="florence2_loc1000",
            form="corners",
            scale=1000,
            cut=True,
            bins=True,
            template="<loc_{0}><loc_{1}><loc_{2}><loc_{3}>",
            pattern=_LOCATED,
            spoilt=r"(?:<loc_\d{1,4}>){1,3}(?!<loc_)",
            preprocess="squash",
            source="Florence-2: thousand bins a side as tokens, read as the bins' middles",
        ),
        Codec(
            name="molmo_points",
            form="point",
            scale=100,
            decimals=1,
            template='<point x="{0}" y="{1}">',
            pattern=rf'x\d{{0,3}}\s?=\s?"\s?({NUMBER})"\s{{1,4}}y\d{{0,3}}\s?=\s?"\s?({NUMBER})"',
            spoilt=r'<points?\b(?![^<>]{0,40}y\d{0,3}\s?=\s?")[^<>]{0,80}',
            join=" ",
            preprocess="squash",
            source="Molmo: points in per cent of the image; it gives no boxes",
        ),
        Codec(
            name="fractions0_1",
            form="corners",
            scale=1,
            decimals=3,
            template="[{0}, {1}, {2}, {3}]",
            pattern=_LISTED,
            spoilt=_LIST,
            join=", ",
            preprocess="squash",
            source="ours, for models that document no convention: fractions of the image",
        ),
    )
}


def codec(name: str) -> Codec:
    """The codec of this name.

    Raises:
        UserError: there is none.
    """
    if name not in CODECS:
        raise UserError(f"there is no box convention {name!r}. {near(name, CODECS)}")
    return CODECS[name]


def bind(
    name: str, transform: Callable[..., object] | None, high: int, wide: int
) -> tuple[Codec, Geometry]:
    """A codec with the geometry that its preprocessing gives an image of this size.

    Args:
        name: the convention.
        transform: an evaluation transform of transforms.py; None for the stored image.
        high: height of the stored image.
        wide: its width.

    Raises:
        UserError: an unknown convention, or a transform that does not say where pixels go.
    """
    if transform is None:
        return codec(name), identity(high, wide)
    place = getattr(transform, "geometry", None)
    if place is None:
        raise UserError(
            f"{type(transform).__name__} does not say where pixels go, so boxes cannot be bound to "
            "it; take Squash, Pad or Preprocess of rsvlm.data.transforms."
        )
    found: Geometry = place(high, wide)
    return codec(name), found


def published_geometry(
    name: str, high: int, wide: int, seen: tuple[int, int] | None = None, preprocess: str = ""
) -> Geometry:
    """Where pixels went under the preprocessing that belongs to a convention.

    For texts that come without their model. Fractions of the image as seen do not depend on its
    size, so the part of the stored image that was seen is enough; pixels do.

    Args:
        name: the convention.
        high: height of the stored image.
        wide: its width.
        seen: height and width of the image as the model saw it; needed for a convention in pixels.
        preprocess: `squash`, `pad` or `crop` (a centred square), where another one was used.

    Raises:
        UserError: an unknown word, or pixels of an image whose size is not given.
    """
    found, kind = codec(name), preprocess or codec(name).preprocess
    if kind not in ("squash", "pad", "crop"):
        raise UserError(f"preprocess={kind!r}: it is squash, pad or crop.")
    if not found.scale and seen is None:
        raise UserError(
            f"{name} writes pixels of the image as the model saw it, after resizing, and nothing "
            "says its size: give 'input_width' and 'input_height' (as the processor gave them), "
            "equal to 'width' and 'height' if it was not resized."
        )
    place, side = identity(high, wide), {"pad": max(high, wide), "crop": min(high, wide)}.get(kind)
    if side is not None and high != wide:
        # Python's // rounds down and a margin is negative, so each rounds as its transform does.
        top, left = (high - side) // 2, (wide - side) // 2
        if kind == "pad":
            top, left = -((side - high) // 2), -((side - wide) // 2)
        place = place.crop(top, left, side, side)
    return place if seen is None else place.resize(*seen)
