"""From (seed, number) to a described scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rsvlm.synthetic import greens, nature, town, transport, works
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.site import Site
from rsvlm.synthetic.world import CLASSES, GROUNDS, HELD_OUT, Light, Region, Scene


class Plan(NamedTuple):
    """How to lay out a class.

    Attributes:
        layout: builds it on a site.
        extent: least and greatest side of the picture, metres.
        grounds: what it may stand on.
        turned: any angle, or near the axes of the picture.
    """

    layout: Callable[[Site], None]
    extent: tuple[float, float]
    grounds: tuple[str, ...] = tuple(GROUNDS)
    turned: bool = True


PLANS: dict[str, Plan] = {
    "airport": Plan(transport.airport, (420, 640)),
    "beach": Plan(nature.beach, (160, 300), ("green grass", "dry grass")),
    "bridge": Plan(transport.bridge, (200, 340)),
    "commercial area": Plan(town.commercial, (240, 340)),
    "dense residential area": Plan(town.dense_residential, (170, 230)),
    "desert": Plan(nature.desert, (300, 900), ("bare soil",)),
    "farmland": Plan(nature.farmland, (320, 620)),
    "forest": Plan(nature.forest, (180, 360), ("green grass", "dry grass")),
    "golf course": Plan(greens.golf_course, (320, 440), ("green grass", "dry grass")),
    "harbour": Plan(transport.harbour, (200, 320)),
    "industrial area": Plan(works.industrial, (260, 400)),
    "interchange": Plan(transport.interchange, (300, 420)),
    "lake": Plan(nature.lake, (220, 420)),
    "park": Plan(greens.park, (170, 260), ("green grass",)),
    "parking lot": Plan(town.parking_lot, (90, 150)),
    "playground": Plan(greens.playground, (150, 210)),
    "railway": Plan(transport.railway, (160, 260)),
    "river": Plan(nature.river, (220, 420)),
    "solar farm": Plan(works.solar_farm, (160, 280)),
    "sparse residential area": Plan(town.sparse_residential, (160, 240)),
    "stadium": Plan(greens.stadium, (220, 300)),
    "storage tanks": Plan(works.storage_tanks, (170, 280)),
}

_HOSTS: dict[str, tuple[str, ...]] = {
    "building": ("dense residential area", "sparse residential area", "industrial area"),
    "court": ("playground",),
    "tank": ("storage tanks",),
}


def describe(seed: int, number: int, *, label: str | None = None, novel: bool = False) -> Scene:
    """Return the scene of a number; the same pair always gives the same scene.

    Args:
        seed: which world.
        number: which scene of that world.
        label: a class to insist on; otherwise chance decides, all classes being equally likely.
        novel: show a combination of `HELD_OUT`, which is otherwise never shown.
    """
    for attempt in range(64):
        dice = stream(seed, number, attempt)
        require = HELD_OUT[number % len(HELD_OUT)] if novel else None
        name = dice.pick(CLASSES)
        ground_required = None
        if require and require[0] in PLANS:
            name, ground_required = require
        elif require:
            name = dice.pick(_HOSTS[require[0]])
        scene = _build(seed, number, dice, label or name, require, ground_required)
        if not novel or scene.novel:
            return scene
    raise RuntimeError(f"no scene of {require} came of 64 attempts at number {number}")


def _build(
    seed: int,
    number: int,
    dice: Dice,
    label: str,
    require: tuple[str, str] | None,
    ground: str | None,
) -> Scene:
    plan = PLANS[label]
    if ground is None:
        ground = dice.pick([g for g in plan.grounds if (label, g) not in HELD_OUT])
    scene = Scene(seed, number, label, dice.between(*plan.extent), ground, _light(dice))
    turn = dice.pick((0.0, 0.5, 1.0, 1.5)) * math.pi
    turn += dice.between(-0.8, 0.8) if dice.chance(0.5) else dice.between(-0.12, 0.12)
    site = Site(scene, dice, require=require, turn=turn)
    base, e = GROUNDS[ground], scene.extent
    whole = [(0.0, 0.0), (e, 0.0), (e, e), (0.0, e)]
    scene.regions.append(Region("ground", base.material, site.shade(base.rgb, 22), whole))
    plan.layout(site)
    seen = {(t.kind, t.colour) for t in scene.things} | {(label, ground)}
    scene.novel = tuple(pair for pair in HELD_OUT if pair in seen)
    return scene


def _light(dice: Dice) -> Light:
    """Draw the sun, the air and the camera."""
    height = dice.between(0.55, 1.15)  # elevation of the sun, radians
    warm = dice.between(-0.08, 0.08)
    gain = dice.between(0.78, 1.22)
    return Light(
        azimuth=dice.between(0, 2 * math.pi),
        shadow=min(1.4, 1 / math.tan(height)),
        depth=dice.between(0.4, 0.62),
        gain=(gain * (1 + warm), gain, gain * (1 - warm + dice.between(-0.02, 0.04))),
        vivid=dice.between(0.6, 1.2),
        contrast=dice.between(0.82, 1.15),
        haze=max(0.0, dice.between(-0.06, 0.14)),
        noise=dice.between(1.5, 5.5),
        soft=max(0.0, dice.between(-0.1, 0.2)),
    )
