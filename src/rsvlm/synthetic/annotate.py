"""Boxes, oriented boxes and masks of what a picture shows."""

from __future__ import annotations

import math

import numpy as np

from rsvlm.data.sample import Instance
from rsvlm.synthetic.sprites import SPRITES
from rsvlm.synthetic.world import Scene, Thing

CATEGORIES: tuple[str, ...] = tuple(SPRITES)
"""Kinds of things, in the order of `Instance.category_id`."""

Box = tuple[float, float, float, float]


def instances(
    scene: Scene,
    ids: np.ndarray,
    *,
    masks: bool = False,
    oriented: bool = False,
    image_id: int = 0,
) -> list[Instance]:
    """Return the things that show, in the order of their ids.

    Boxes are those of the visible pixels; a thing that is hidden, or less than a pixel, is left
    out. Oriented boxes are those of the thing as described, and may reach across the edge.

    Args:
        scene: the description.
        ids: [S, S] which thing shows where, as `Picture.ids` or `draw.ids_of` give it.
        masks: add the visible pixels of each thing.
        oriented: give oriented boxes (`angle` set) instead of upright ones.
        image_id: for `Instance.image_id`.
    """
    size = ids.shape[0]
    scale = size / scene.extent
    out = []
    for thing in scene.things:
        reach = 0.5 * math.hypot(thing.length, thing.width) * 1.1 + 1 / scale
        left, top = max(0, int((thing.x - reach) * scale)), max(0, int((thing.y - reach) * scale))
        right = min(size, int((thing.x + reach) * scale) + 2)
        bottom = min(size, int((thing.y + reach) * scale) + 2)
        seen = ids[top:bottom, left:right] == thing.id + 1
        rows, columns = seen.any(1).nonzero()[0], seen.any(0).nonzero()[0]
        if not len(rows):
            continue
        box, angle = (
            (
                float(left + columns[0]),
                float(top + rows[0]),
                float(left + columns[-1] + 1),
                float(top + rows[-1] + 1),
            ),
            None,
        )
        if oriented:
            *sides, angle = oriented_box(thing, scale)
            box = (sides[0], sides[1], sides[2], sides[3])
        mask = None
        if masks:
            mask = np.zeros((size, size), bool)
            mask[top:bottom, left:right] = seen
        out.append(
            Instance(
                id=thing.id,
                category=thing.kind,
                category_id=CATEGORIES.index(thing.kind),
                box=box,
                angle=angle,
                mask=mask,
                image_id=image_id,
            )
        )
    return out


def oriented_box(thing: Thing, scale: float) -> tuple[float, float, float, float, float]:
    """Return the unturned box (x0, y0, x1, y1) in pixels and its counter-clockwise angle.

    The angle is in degrees, -90 ≤ angle < 90, as `Instance.angle` has it.
    """
    x, y = thing.x * scale, thing.y * scale
    half_length, half_width = thing.length * scale / 2, thing.width * scale / 2
    angle = (-math.degrees(thing.turn) + 90) % 180 - 90  # the screen's y points down
    return x - half_length, y - half_width, x + half_length, y + half_width, angle
