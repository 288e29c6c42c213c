"""What a scene of the generated world is made of, before it is drawn or worded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rsvlm.synthetic.geometry import Point, Polygon

RGB = tuple[int, int, int]

CLASSES: tuple[str, ...] = (
    "airport",
    "beach",
    "bridge",
    "commercial area",
    "dense residential area",
    "desert",
    "farmland",
    "forest",
    "golf course",
    "harbour",
    "industrial area",
    "interchange",
    "lake",
    "park",
    "parking lot",
    "playground",
    "railway",
    "river",
    "solar farm",
    "sparse residential area",
    "stadium",
    "storage tanks",
)

SEMANTIC: tuple[str, ...] = (
    "ground",
    "low vegetation",
    "tree",
    "water",
    "building",
    "playground",
    "road",
    "railway",
    "vehicle",
    "ship",
    "plane",
    "tank",
    "solar panel",
)
"""Classes of the semantic map. The first six are SECOND's, under its names."""

SECOND_OF: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 0, 0, 0, 3, 0, 4, 0)
"""The class of SECOND (index into the first six) that each class falls in."""


class Material(NamedTuple):
    """How a surface looks and what it is.

    Attributes:
        semantic: its class in `SEMANTIC`.
        texture: name of a field of `textures`.
        grain: strength of the texture, as a share of the brightness.
        tint: strength of the slow drift between green and brown.
    """

    semantic: str
    texture: str
    grain: float
    tint: float


MATERIALS: dict[str, Material] = {
    "grass": Material("low vegetation", "fine", 0.10, 0.05),
    "meadow": Material("low vegetation", "clumps", 0.14, 0.045),
    "crop": Material("low vegetation", "fine", 0.07, 0.035),
    "canopy": Material("tree", "canopy", 0.34, 0.04),
    "tree": Material("tree", "leaf", 0.20, 0.02),
    "soil": Material("ground", "clumps", 0.09, 0.035),
    "sand": Material("ground", "fine", 0.05, 0.025),
    "dune": Material("ground", "dune", 0.17, 0.025),
    "rock": Material("ground", "leaf", 0.22, 0.02),
    "concrete": Material("ground", "stain", 0.06, 0.01),
    "water": Material("water", "ripple", 0.05, 0.015),
    "sea": Material("water", "ripple", 0.10, 0.015),
    "foam": Material("water", "clumps", 0.20, 0),
    "asphalt": Material("road", "stain", 0.07, 0.01),
    "track": Material("road", "clumps", 0.08, 0.025),
    "ballast": Material("railway", "fine", 0.14, 0.015),
    "roof": Material("building", "stain", 0.06, 0.01),
    "tile": Material("building", "fine", 0.08, 0.01),
    "court": Material("playground", "stain", 0.04, 0.01),
    "pitch": Material("playground", "fine", 0.07, 0.03),
    "metal": Material("tank", "stain", 0.04, 0.005),
    "plane": Material("plane", "stain", 0.03, 0),
    "ship": Material("ship", "stain", 0.05, 0),
    "vehicle": Material("vehicle", "stain", 0.04, 0),
    "cargo": Material("ground", "stain", 0.04, 0),
    "panel": Material("solar panel", "stain", 0.05, 0),
}
MATERIAL_ID: dict[str, int] = {name: i for i, name in enumerate(MATERIALS)}

COLOURS: dict[str, RGB] = {
    "white": (218, 217, 212),
    "grey": (136, 137, 139),
    "black": (44, 45, 50),
    "red": (164, 66, 54),
    "orange": (198, 124, 66),
    "brown": (112, 82, 62),
    "blue": (66, 106, 166),
    "green": (66, 118, 78),
    "yellow": (202, 178, 82),
}
"""The colours that captions name; drawn with a small jitter that never reaches a neighbour."""


class Ground(NamedTuple):
    """What lies where nothing else does."""

    material: str
    rgb: RGB
    tree: RGB


GROUNDS: dict[str, Ground] = {
    "green grass": Ground("grass", (84, 106, 60), (48, 74, 40)),
    "dry grass": Ground("meadow", (140, 130, 88), (76, 88, 50)),
    "bare soil": Ground("soil", (158, 132, 102), (70, 84, 52)),
}

HELD_OUT: tuple[tuple[str, str], ...] = (
    ("building", "blue"),
    ("court", "red"),
    ("tank", "green"),
    ("airport", "dry grass"),
    ("parking lot", "bare soil"),
    ("solar farm", "green grass"),
)
"""Combinations (thing × colour, class × ground) that only the split `holdout` shows. Each half
of every pair is common elsewhere, so they test composition, not new words."""


@dataclass(slots=True)
class Region:
    """A piece of land cover.

    Attributes:
        name: what people call it (`lake`, `field`, `lawn`, `beach`, ...).
        material: key of `MATERIALS`.
        rgb: mean colour.
        outline: polygon.
        rows: direction in radians and spacing in metres of crop rows, where it has them.
        colour: the word for its colour where one may be said.
    """

    name: str
    material: str
    rgb: RGB
    outline: Polygon
    rows: tuple[float, float] | None = None
    colour: str | None = None


@dataclass(slots=True)
class Way:
    """A line on the map: road, highway, path, railway, runway, taxiway, pier, river.

    Attributes:
        kind: which of them.
        line: its points.
        width: metres.
        level: 0 on the ground; 1 passes above and throws a shadow (bridge, overpass).
    """

    kind: str
    line: list[Point]
    width: float
    level: int = 0


@dataclass(slots=True)
class Thing:
    """A countable object.

    Attributes:
        id: unique in the scene.
        kind: `building`, `tank`, `plane`, ...
        x, y: centre.
        length, width: sides of the oriented box.
        turn: direction of the long side, radians, clockwise on the screen.
        height: metres above the ground, for the shadow.
        colour: word of `COLOURS`.
        rgb: colour as drawn.
        form: drawing variant (`gable`, `flat`, `hip`, `round`, ...).
    """

    id: int
    kind: str
    x: float
    y: float
    length: float
    width: float
    turn: float
    height: float
    colour: str
    rgb: RGB
    form: str


class Relation(NamedTuple):
    """A spatial fact that holds by construction: `subject` `relation` `object`.

    `part` says of which subjects: `all` of the kind, `some` or `one`. With several objects, the
    subjects stand so to one or more of them.
    """

    subject: str
    relation: str
    object: str
    part: str = "all"


@dataclass(slots=True)
class Light:
    """How the picture was taken: applied after the drawing, says nothing about the ground.

    Attributes:
        azimuth: where the light comes from, radians on the screen.
        shadow: metres of shadow per metre of height.
        depth: share of the light that a shadow takes away.
        gain: per-band brightness.
        vivid: saturation, 1 as painted.
        contrast: spread of the brightness around mid-grey, 1 as painted.
        haze: share of white veil.
        noise: standard deviation of the sensor noise, grey levels.
        soft: weight of the neighbours in a 3×3 blur (0 to 0.33).
    """

    azimuth: float
    shadow: float
    depth: float
    gain: tuple[float, float, float]
    vivid: float
    contrast: float
    haze: float
    noise: float
    soft: float


@dataclass(slots=True)
class Scene:
    """One scene, described.

    Attributes:
        seed, number: where its chance comes from.
        label: scene class, of `CLASSES`.
        extent: side of the square, metres; `extent / size` is the ground sampling distance.
        ground: key of `GROUNDS`.
        light: illumination and sensor.
        regions, ways, things: in the order in which they are drawn.
        relations: what stands to what, and how.
        novel: members of `HELD_OUT` that the scene shows.
    """

    seed: int
    number: int
    label: str
    extent: float
    ground: str
    light: Light
    regions: list[Region] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    novel: tuple[tuple[str, str], ...] = ()

    def count(self, kind: str, colour: str | None = None) -> int:
        """Return how many things of a kind (and colour) or ways of a kind there are."""
        things = sum(t.kind == kind and colour in (None, t.colour) for t in self.things)
        return things or (0 if colour else sum(w.kind == kind for w in self.ways))

    def of(self, kind: str) -> list[Thing]:
        """Return the things of a kind."""
        return [t for t in self.things if t.kind == kind]
