"""What else of OpenStreetMap lies in a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsvlm.curate.record import Outcome, Record
from rsvlm.curate.skyscript.osm import OsmObjects
from rsvlm.curate.skyscript.tags import VisibleTags
from rsvlm.errors import extra


@dataclass
class Surroundings:
    """Finds the other objects in a picture's bounds that can be seen, the nearest first.

    Adds `surrounding`, a list of tags as `visible` has them. An area that covers less than `least`
    of the picture, or is the whole of it, is not named.

    Each worker reads the PBF file once and holds all objects that can be seen: about a kilobyte
    each.

    Args:
        path: the PBF file.
        tags: says which tags can be seen.
        most: objects of a picture.
        least: share of the picture that an area must cover, unless it lies within it.
        batch_size: pictures at a time.
    """

    path: str | None
    tags: VisibleTags = field(default_factory=VisibleTags)
    most: int = 5
    least: float = 0.01
    batch_size: int = 256

    name = "osm_surroundings_mapper"
    version = "2"

    def setup(self) -> None:
        """Reads the objects and builds a tree of their bounds."""
        with extra("curate"):
            from shapely import STRtree, from_wkb

        self.tags.setup()
        ids: list[str] = []
        shapes: list[Any] = []
        seen: list[list[list[Any]]] = []
        waiting: list[Record] = []

        def take() -> None:
            found = self.tags.visible([one["tags"] for one in waiting])
            for one, visible in zip(waiting, found, strict=True):
                if visible:
                    ids.append(one["id"])
                    shapes.append(from_wkb(bytes.fromhex(one["geometry"])))
                    seen.append(visible)
            waiting.clear()

        for record in OsmObjects(self.path):
            if record["geometry"]:
                waiting.append(record)
            if len(waiting) == 10_000:
                take()
        take()
        self._ids, self._shapes, self._seen = ids, shapes, seen
        self._tree = STRtree(shapes)

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each record with what surrounds its object."""
        return [record | {"surrounding": self.around(record)} for record in records]

    def around(self, record: Record) -> list[list[list[Any]]]:
        """Tags of the objects in the bounds of a picture, without its own."""
        with extra("curate"):
            from shapely import Point, box, transform

        frame = box(*record["bounds"])
        # Degrees of longitude shrink towards the poles; what is near is near on the ground.
        shrink = np.array([math.cos(math.radians(record["lonlat"][1])), 1.0])
        middle = transform(Point(record["lonlat"]), lambda at: at * shrink)
        found = []
        for number in self._tree.query(frame, predicate="intersects"):
            shape = self._shapes[number]
            if self._ids[number] == record["id"]:
                continue
            if shape.area and not frame.contains(shape):
                share = shape.intersection(frame).area / frame.area
                if share < self.least or share > 1 - 1e-9:
                    continue
            far = transform(shape, lambda at: at * shrink).distance(middle)
            found.append((float(far), self._ids[number], int(number)))
        return [self._seen[number] for _, _, number in sorted(found)[: self.most]]
