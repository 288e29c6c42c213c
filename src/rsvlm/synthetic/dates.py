"""The second date: changes on the ground, and what only the camera saw differently."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from rsvlm.synthetic.describe import describe
from rsvlm.synthetic.draw import View, draw, semantic_map
from rsvlm.synthetic.edits import MOBILE, Edit
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.operations import edit
from rsvlm.synthetic.world import COLOURS, MATERIALS, RGB, Light, Region, Scene, Thing

NUISANCES: tuple[str, ...] = (
    "illumination",
    "season",
    "blur",
    "resolution",
    "viewpoint",
    "misregistration",
    "traffic",
)
"""What differs between two dates without being a change; each has a strength of 0 to 1."""

_SEASON: dict[str, RGB] = {
    "low vegetation": (150, 134, 88),
    "tree": (128, 98, 52),
    "ground": (150, 138, 120),
}


@dataclass(slots=True)
class Pair:
    """A scene on two dates.

    Attributes:
        before, after: the descriptions, both without nuisance.
        seen: the after scene as the camera saw it: another light, season, traffic.
        edits: the changes between them, none if the pair is unchanged.
        nuisance: strength of each nuisance, 0 to 1.
        view: where the second camera hung.
    """

    before: Scene
    after: Scene
    seen: Scene
    edits: list[Edit]
    nuisance: dict[str, float]
    view: View


def pair(
    seed: int,
    number: int,
    *,
    label: str | None = None,
    novel: bool = False,
    change: float = 0.5,
    nuisance: float | Mapping[str, float] = 0.3,
) -> Pair:
    """Return a scene and its second date.

    Args:
        seed: which world.
        number: which scene; the first date is `describe(seed, number)`.
        label: as for `describe`.
        novel: as for `describe`.
        change: share of the pairs that have changes (one to three).
        nuisance: greatest strength, for all or by name; each pair draws its own up to it.
    """
    before = describe(seed, number, label=label, novel=novel)
    dice = stream(seed, number, 210)
    after, edits = before, list[Edit]()
    if dice.chance(change):
        after, edits = edit(before, dice, dice.pick((1, 1, 2, 2, 3)))
    if isinstance(nuisance, int | float):
        nuisance = dict.fromkeys(NUISANCES, float(nuisance))
    unknown = set(nuisance) - set(NUISANCES)
    if unknown:
        raise ValueError(f"no nuisance {min(unknown)!r}; there are {', '.join(NUISANCES)}.")
    dice = stream(seed, number, 211)  # the camera knows nothing of the changes
    strength = {name: dice.random() * nuisance.get(name, 0.0) for name in NUISANCES}
    seen = replace(
        after,
        light=_relight(after.light, dice, strength["illumination"]),
        regions=[_fade(r, strength["season"]) for r in after.regions],
        things=_traffic(after.things, seed, number, strength["traffic"], strength["season"]),
    )
    turn = dice.between(0, 2 * math.pi)
    lean = 0.7 * strength["viewpoint"]
    away = dice.between(0, 2 * math.pi)
    metres = 5 / 256 * before.extent * strength["misregistration"]
    view = View(
        shift=(math.cos(away) * metres, math.sin(away) * metres),
        lean=(math.cos(turn) * lean, math.sin(turn) * lean),
    )
    return Pair(before, after, seen, edits, strength, view)


def pictures(both: Pair, size: int) -> tuple[Image.Image, Image.Image]:
    """Draw both dates.

    Annotations refer to the first picture's frame: misregistration, oblique view and loss of
    resolution are defects of the second picture, not of its map.
    """
    first = draw(both.before, size).image
    second = draw(both.seen, size, view=both.view, exposure=1).image
    blur, coarse = both.nuisance["blur"], both.nuisance["resolution"]
    if coarse > 0.05:
        small = max(8, round(size / (1 + 2.5 * coarse)))
        second = second.resize((small, small), Image.Resampling.BOX)
        second = second.resize((size, size), Image.Resampling.BILINEAR)
    if blur > 0.05:
        second = second.filter(ImageFilter.GaussianBlur(1.8 * blur * size / 256))
    return first, second


def maps(both: Pair, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the [size, size] semantic maps of both dates, things that come and go left out."""
    first = semantic_map(both.before, size, without=MOBILE)
    return first, semantic_map(both.after, size, without=MOBILE) if both.edits else first.copy()


def _relight(light: Light, dice: Dice, strength: float) -> Light:
    """Move the sun and change the exposure."""
    s = strength
    bright = 1 + s * dice.between(-0.35, 0.35)
    warm = s * dice.between(-0.1, 0.1)
    gain = light.gain
    return Light(
        azimuth=light.azimuth + s * dice.between(-math.pi, math.pi),
        shadow=light.shadow * (1 + s * dice.between(-0.6, 0.6)),
        depth=min(0.75, light.depth * (1 + s * dice.between(-0.4, 0.3))),
        gain=(gain[0] * bright * (1 + warm), gain[1] * bright, gain[2] * bright * (1 - warm)),
        vivid=light.vivid * (1 + s * dice.between(-0.35, 0.2)),
        contrast=light.contrast * (1 + s * dice.between(-0.2, 0.15)),
        haze=light.haze + s * max(0.0, dice.between(-0.1, 0.2)),
        noise=light.noise * (1 + s * dice.between(-0.3, 0.8)),
        soft=light.soft,
    )


def _fade(region: Region, strength: float) -> Region:
    target = _SEASON.get(MATERIALS[region.material].semantic)
    if target is None or strength == 0:
        return region
    return replace(region, rgb=_blend(region.rgb, target, 0.75 * strength))


def _blend(a: RGB, b: RGB, t: float) -> RGB:
    r, g, c = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return r, g, c


def _traffic(
    things: list[Thing], seed: int, number: int, strength: float, season: float
) -> list[Thing]:
    """Let what can move come and go, and the trees turn."""
    out = []
    for thing in things:
        if thing.kind == "tree" and season:
            thing = replace(thing, rgb=_blend(thing.rgb, _SEASON["tree"], 0.75 * season))
        elif thing.kind in MOBILE and strength:
            own = stream(seed, (number << 20) | thing.id, 212)
            if own.chance(0.6 * strength):
                continue
            if thing.kind == "vehicle" and own.chance(strength):
                colour = own.pick(("white", "grey", "black", "red", "blue"))
                thing = replace(thing, colour=colour, rgb=COLOURS[colour])
        out.append(thing)
    return out
