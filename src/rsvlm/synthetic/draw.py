"""From a described scene to pixels: colours, shadows, texture, light, sensor."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from rsvlm.synthetic import textures
from rsvlm.synthetic.geometry import Point, disc, rectangle, stream
from rsvlm.synthetic.painter import Painter, fineness
from rsvlm.synthetic.sprites import SPRITES
from rsvlm.synthetic.world import MATERIALS, SEMANTIC, Scene

_GRAIN = np.array([m.grain for m in MATERIALS.values()], np.float32)
_TINT = np.array([m.tint for m in MATERIALS.values()], np.float32)
_SEMANTIC = np.array([SEMANTIC.index(m.semantic) for m in MATERIALS.values()], np.uint8)


class Picture(NamedTuple):
    """A drawn scene.

    Attributes:
        image: RGB.
        semantic: [S, S] uint8, indices into `SEMANTIC`.
        ids: [S, S] int32, 1 + id of the thing that shows, 0 where none; None unless asked for.
    """

    image: Image.Image
    semantic: np.ndarray
    ids: np.ndarray | None


class View(NamedTuple):
    """Where the camera hung.

    Attributes:
        shift: displacement of the whole picture on the ground, metres.
        lean: displacement of a top per metre of height, as an oblique view gives it.
    """

    shift: Point = (0.0, 0.0)
    lean: Point = (0.0, 0.0)


NADIR = View()


def draw(
    scene: Scene, size: int, *, with_ids: bool = False, view: View = NADIR, exposure: int = 0
) -> Picture:
    """Draw a scene as a square picture.

    Args:
        scene: the description.
        size: side of the picture, pixels.
        with_ids: also return which thing shows where.
        view: where the camera hung.
        exposure: chooses the sensor noise; the grain of the ground stays.
    """
    painter = _paint(scene, size, with_ids, view)
    return _develop(painter, size, view.shift, exposure)


def ids_of(scene: Scene, size: int) -> np.ndarray:
    """Return the [size, size] ids of a drawing (`Picture.ids`) without making the picture."""
    painter = _paint(scene, size, True, NADIR)
    assert painter.ids is not None
    fine = fineness(size)
    at = fine // 2
    return np.asarray(painter.ids)[at::fine, at::fine]


def semantic_map(scene: Scene, size: int, *, without: Collection[str] = ()) -> np.ndarray:
    """Return the [size, size] map of `SEMANTIC` classes, leaving out some kinds of things."""
    if without:
        things = [t for t in scene.things if t.kind not in without]
        scene = replace(scene, things=things)
    painter = _paint(scene, size, False, NADIR)
    fine = fineness(size)
    at = fine // 2
    material = np.asarray(painter.canvas)[at::fine, at::fine, 3]
    return _SEMANTIC.take(material)


def _paint(scene: Scene, size: int, with_ids: bool, view: View) -> Painter:
    painter = Painter(scene, size, fine=fineness(size), with_ids=with_ids, shift=view.shift)
    for region in scene.regions:
        painter.region(region)
    painter.ways(scene.ways)
    lean = view.lean if view.lean != (0.0, 0.0) else None
    for thing in sorted(scene.things, key=lambda t: t.height):
        painter.current = thing.id + 1
        if lean and thing.height > 2.5:
            move = (lean[0] * thing.height, lean[1] * thing.height)
            if thing.kind in SOLID:
                body = rectangle(thing.x, thing.y, thing.length, thing.width, thing.turn)
                if thing.kind == "tank":
                    body = disc(thing.x, thing.y, thing.length / 2)
                painter.throw(body, thing.height)
                painter.walls(body, thing.rgb, SOLID[thing.kind], move)
            thing = replace(thing, x=thing.x + move[0], y=thing.y + move[1])
        SPRITES[thing.kind](painter, thing)
    return painter


SOLID: dict[str, str] = {"building": "roof", "tank": "metal"}
"""Kinds whose walls show in an oblique view, and the material of the walls."""


def _develop(painter: Painter, size: int, shift: Point, exposure: int) -> Picture:
    """Average the canvas down and add texture, light and noise."""
    scene, fine = painter.scene, fineness(size)
    bank, light = textures.bank(), scene.light
    side = textures.SIDE
    dice = stream(scene.seed, scene.number, 200)
    right, down = (round(metres * size / scene.extent) for metres in shift)
    pixels = np.asarray(painter.canvas.reduce(fine))
    at = fine // 2
    fine_pixels = np.asarray(painter.canvas)
    material = fine_pixels[at::fine, at::fine, 3].astype(np.intp)
    shadow = np.asarray(painter.shadow.reduce(fine)).astype(np.float32)
    shadow *= np.float32(light.depth / 255)

    crown = textures.canopy(scene.extent / size)
    names = [crown if m.texture == "canopy" else m.texture for m in MATERIALS.values()]
    base = np.array([textures.NAMES.index(n) * side * side for n in names], np.intp)
    rows = (np.arange(size) + dice.whole(0, side - 1) - down) % side * side
    columns = (np.arange(size) + dice.whole(0, side - 1) - right) % side
    index = base.take(material)
    index += rows[:, None] + columns
    texture = _lit_bank(math.floor(light.azimuth / (2 * math.pi) * _SUNS)).take(index)
    texture *= _GRAIN.take(material)
    texture += np.float32(0.05) * _window(bank.slow, size, dice.random(), dice.random())
    texture += 1
    shadow *= texture
    texture -= shadow
    texture *= np.float32(1 - light.haze)
    drift = _TINT.take(material)
    drift *= _window(bank.slow, size, dice.random(), dice.random())
    drift *= texture

    noise_field = _noise(round(4 * light.noise))
    dice = stream(scene.seed, scene.number, 230 + exposure)
    out = np.empty((size, size, 3), np.uint8)
    veil = np.float32(232 * light.haze)
    for k in range(3):
        if k == 0:
            value = texture + drift
        elif k == 2:
            drift *= np.float32(-0.5)
            value = texture + drift
            value += np.float32(0.12) * shadow  # the sky lights the shade
        else:
            value = texture.copy()
        value *= pixels[:, :, k]
        value += veil
        if light.soft:
            _soften(value, light.soft)
        value += _window(noise_field, size, dice.random(), dice.random())
        np.clip(value, 0, 255, out=value)
        out[:, :, k] = value
    ids = np.asarray(painter.ids)[at::fine, at::fine] if painter.ids else None
    semantic = _SEMANTIC.take(material)
    return Picture(Image.fromarray(out), semantic, ids)


@lru_cache(maxsize=32)
def _noise(quarters: int) -> np.ndarray:
    """Return the noise field at a standard deviation of so many quarter grey levels."""
    return textures.bank().noise * np.float32(quarters / 4)


_SUNS = 16


@lru_cache(maxsize=_SUNS)
def _lit_bank(step: int) -> np.ndarray:
    """Return the texture bank under one of a few directions of the sun."""
    bank = textures.bank()
    azimuth = (step + 0.5) * 2 * math.pi / _SUNS
    east, south = np.float32(math.cos(azimuth)), np.float32(math.sin(azimuth))
    return bank.height + east * bank.east + south * bank.south


def _window(field: np.ndarray, size: int, x: float, y: float) -> np.ndarray:
    """Return a [size, size] window of a doubled periodic field."""
    side = textures.SIDE
    row, column = int(x * side), int(y * side)
    if size > side:
        times = -(-size // side) + 1
        field = np.tile(field[:side, :side], (times, times))
    return field[row : row + size, column : column + size]


def _soften(value: np.ndarray, weight: float) -> None:
    """Blur in place with (w, 1 - 2w, w) along both axes; the edge pixels keep their value."""
    w, keep = np.float32(weight), np.float32(1 - 2 * weight)
    middle = value[2:] + value[:-2]
    middle *= w
    value[1:-1] *= keep
    value[1:-1] += middle
    middle = value[:, 2:] + value[:, :-2]
    middle *= w
    value[:, 1:-1] *= keep
    value[:, 1:-1] += middle
