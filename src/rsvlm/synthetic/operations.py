"""The changes that can happen to a scene; each tries once and tells whether it did."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy

from rsvlm.synthetic.edits import MOBILE, Edit, Editor, contains
from rsvlm.synthetic.geometry import Dice, Point, Polygon, band, blob, centre, rectangle
from rsvlm.synthetic.nature import CROPS, WATERS
from rsvlm.synthetic.world import COLOURS, GROUNDS, HELD_OUT, Scene, Thing, Way

_WET = ("pond", "lake")


def _new_things(
    editor: Editor, kind: str, sizes: tuple[float, float], columns: int, rows: int, *,
    colour: str, height: float, form: str, pad: tuple[str, str, tuple[int, int, int]] | None,
    gap: float = 5.0,
) -> bool:  # fmt: skip
    """Build a block of equal things on a free rectangle."""
    length, width = sizes
    whole = (columns * (length + gap) + gap, rows * (width + gap) + gap)
    place = editor.room(*whole)
    if place is None:
        return False
    (x, y), turn = place
    c, s = math.cos(turn), math.sin(turn)
    outline = rectangle(x, y, *whole, turn)
    was = editor.under((x, y))
    trees = editor.fell(outline)
    if pad:
        editor.pad(outline, *pad)
    else:
        editor.site.take(outline)
    for i in range(columns):
        for j in range(rows):
            u = (i - (columns - 1) / 2) * (length + gap)
            v = (j - (rows - 1) / 2) * (width + gap)
            rgb = editor.site.shade(COLOURS[colour])
            editor.add(Thing(0, kind, x + c * u - s * v, y + s * u + c * v, length, width,
                             turn, height, colour, rgb, form))  # fmt: skip
    editor.note("built", kind, outline, count=columns * rows, colour=colour, instead=was,
                trees=trees)  # fmt: skip
    return True


def build_buildings(editor: Editor) -> bool:
    """Put up one building or a small estate."""
    d, scene = editor.dice, editor.scene
    old = [t for t in scene.things if t.kind == "building"]
    if old and d.chance(0.7):
        model = d.pick(old)
        size, height, form = (model.length, model.width), model.height, model.form
        size = (min(size[0], 0.3 * scene.extent), min(size[1], 0.2 * scene.extent))
    else:
        length = max(12.0, 0.06 * scene.extent) * d.between(0.9, 1.3)
        size, height, form = (length, length * d.between(0.6, 0.8)), d.between(5, 9), "gable"
    colours = [
        c for c in ("red", "white", "grey", "brown", "orange") if ("building", c) not in HELD_OUT
    ]
    colour = d.pick([t.colour for t in old]) if old and d.chance(0.5) else d.pick(colours)
    if ("building", colour) in HELD_OUT and ("building", colour) not in scene.novel:
        colour = d.pick(colours)
    yard = ("construction site", "soil", GROUNDS["bare soil"].rgb) if d.chance(0.7) else None
    for columns, rows in ((d.whole(1, 4), d.whole(1, 3)), (d.whole(1, 2), 1), (1, 1)):
        if _new_things(editor, "building", size, columns, rows, colour=colour, height=height,
                       form=form, pad=yard, gap=d.between(4, 8)):  # fmt: skip
            return True
    return False


def remove_buildings(editor: Editor) -> bool:
    """Pull down some buildings."""
    scene = editor.scene
    old = [t for t in scene.things if t.kind == "building"]
    if not old:
        return False
    gone = _together(editor, old, 5)
    ids = {t.id for t in gone}
    scene.things = [t for t in scene.things if t.id not in ids]
    outline: Polygon = []
    for thing in gone:
        scar = rectangle(thing.x, thing.y, thing.length * 1.1, thing.width * 1.1, thing.turn)
        editor.pad(scar, "bare plot", "soil", GROUNDS["bare soil"].rgb)
        outline += scar
    colours = {t.colour for t in gone}
    colour = colours.pop() if len(colours) == 1 else None
    editor.note("removed", "building", outline, count=len(gone), colour=colour,
                instead="bare plot", at=_heart(gone))  # fmt: skip
    return True


def _together(editor: Editor, things: list[Thing], most: int) -> list[Thing]:
    """Choose some things that stand together, so that one place can be said of them."""
    d = editor.dice
    first = d.pick(things)
    near = sorted(things, key=lambda t: (t.x - first.x) ** 2 + (t.y - first.y) ** 2)
    reach = 0.3 * editor.scene.extent
    near = [t for t in near if math.hypot(t.x - first.x, t.y - first.y) < reach]
    return near[: d.whole(1, min(most, len(near)))]


def _heart(things: list[Thing]) -> Point:
    """Return where the thing stands that is nearest to the middle of all."""
    x, y = centre([(t.x, t.y) for t in things])
    middle = min(things, key=lambda t: (t.x - x) ** 2 + (t.y - y) ** 2)
    return middle.x, middle.y


def build_road(editor: Editor) -> bool:
    """Lay a road across free ground, through trees if need be."""
    d, scene = editor.dice, editor.scene
    e, half = scene.extent, scene.extent / 2
    width = max(7.0, 0.022 * e)
    for _ in range(40):
        angle, side = d.between(0, math.pi), d.between(-0.42, 0.42) * e
        c, s = math.cos(angle), math.sin(angle)
        start = d.between(-0.75, -0.2) * e if d.chance(0.3) else -0.75 * e
        line = [(half + c * t - s * side, half + s * t + c * side) for t in (start, 0.75 * e)]
        (ax, ay), (bx, by) = line
        points = [(ax + (bx - ax) * k / 60, ay + (by - ay) * k / 60) for k in range(61)]
        seen = [p for p in points if editor.site.inside(*p)]
        if len(seen) < 22:
            continue
        free = [editor.site.free(x - half, y - half, width * 0.7) for x, y in seen]
        if all(free):
            outline = band(line, width + 2.4)
            was = editor.under(seen[len(seen) // 2])
            trees = editor.fell(outline)
            scene.ways.append(Way("road", line, width))
            editor.site.take(outline)
            middle = seen[len(seen) // 2]
            editor.note("built", "road", outline, instead=was, trees=trees, at=middle)
            return True
    return False


def clear_trees(editor: Editor) -> bool:
    """Fell part of a forest, or the trees of one place."""
    d, scene = editor.dice, editor.scene
    e = scene.extent
    woods = [r for r in scene.regions if r.name == "forest"]
    for _ in range(20):
        x, y, size = d.between(0.12, 0.88) * e, d.between(0.12, 0.88) * e, d.between(0.08, 0.18) * e
        outline = blob(d, x, y, size, rough=0.2)
        if woods and editor.under((x, y)) == "forest":
            if not all(editor.under(p) == "forest" for p in outline[::4]):
                continue
            trees = editor.fell(outline)
            editor.pad(outline, "bare plot", "soil", GROUNDS["bare soil"].rgb)
            editor.note("removed", "forest", outline, instead="bare plot", trees=trees)
            return True
        inside = [t for t in scene.things if t.kind == "tree" and contains(outline, (t.x, t.y))]
        if len(inside) >= 3 and sum(t.length**2 for t in inside) > 0.003 * e * e:
            ids = {t.id for t in inside}
            scene.things = [t for t in scene.things if t.id not in ids]
            middle = centre([(t.x, t.y) for t in inside])
            editor.note("removed", "tree", outline, count=len(inside), at=middle)
            return True
    return False


def plant_trees(editor: Editor) -> bool:
    """Plant a piece of woodland on open ground."""
    d, scene = editor.dice, editor.scene
    size = d.between(0.14, 0.26) * scene.extent
    place = editor.room(size, size)
    if place is None or editor.under(place[0]) == "forest":
        return False
    outline = blob(d, *place[0], size * 0.5, rough=0.15)
    was = editor.under(place[0])
    trees = editor.fell(outline)
    editor.pad(outline, "forest", "canopy", GROUNDS[scene.ground].tree)
    editor.note("built", "forest", outline, instead=was, trees=trees)
    return True


def dig_pond(editor: Editor) -> bool:
    """Dig a pond."""
    d = editor.dice
    size = d.between(0.12, 0.24) * editor.scene.extent
    place = editor.room(size, size)
    if place is None:
        return False
    outline = blob(d, *place[0], size * 0.45, rough=0.2)
    was = editor.under(place[0])
    trees = editor.fell(outline)
    editor.pad(outline, "pond", "water", d.pick(WATERS))
    editor.note("built", "pond", outline, instead=was, trees=trees)
    return True


def fill_water(editor: Editor) -> bool:
    """Let a pond or lake fall dry."""
    scene = editor.scene
    for at, region in enumerate(scene.regions):
        if region.name in _WET and not any(
            t.kind in MOBILE and contains(region.outline, (t.x, t.y)) for t in scene.things
        ):
            dry = copy(region)
            dry.name, dry.material = "dry bed", "soil"
            dry.rgb = editor.site.shade((142, 122, 94), 12)
            scene.regions[at] = dry
            editor.note("removed", region.name, region.outline, instead="dry bed")
            return True
    return False


def lay_parking(editor: Editor) -> bool:
    """Pave a parking lot."""
    d, e = editor.dice, editor.scene.extent
    size = (d.between(0.16, 0.3) * e, d.between(0.12, 0.2) * e)
    place = editor.room(*size)
    if place is None:
        return False
    outline = rectangle(*place[0], *size, place[1])
    was = editor.under(place[0])
    trees = editor.fell(outline)
    editor.pad(outline, "parking lot", "asphalt", (106, 106, 108))
    editor.note("built", "parking lot", outline, instead=was, trees=trees)
    return True


def sow_field(editor: Editor) -> bool:
    """Turn bare ground into a green field."""
    d, scene = editor.dice, editor.scene
    if scene.ground != "bare soil":
        return False
    e = scene.extent
    size = (d.between(0.2, 0.36) * e, d.between(0.16, 0.28) * e)
    place = editor.room(*size)
    if place is None or editor.under(place[0]) != "ground":
        return False
    outline = rectangle(*place[0], *size, place[1])
    trees = editor.fell(outline)
    editor.pad(outline, "field", "crop", d.pick(CROPS["green"]))
    scene.regions[-1].colour = "green"
    editor.note("built", "field", outline, colour="green", instead="ground", trees=trees)
    return True


def build_special(editor: Editor) -> bool:
    """Add what the class of scene is about: tanks, courts, pools."""
    d, scene = editor.dice, editor.scene
    e = scene.extent
    if scene.label in ("storage tanks", "industrial area"):
        old = [t for t in scene.things if t.kind == "tank"]
        size = old[0].length if old else 0.06 * e
        colour = old[0].colour if old else "white"
        pad = ("gravel", "soil", (150, 138, 118))
        return _new_things(editor, "tank", (size, size), d.whole(1, 2), d.whole(1, 2),
                           colour=colour, height=10, form="tank", pad=pad, gap=8)  # fmt: skip
    if scene.label in ("park", "playground", "sparse residential area", "dense residential area"):
        colour = d.pick(("green", "blue", "orange"))
        unit = min(34.0, 0.2 * e)
        return _new_things(editor, "court", (unit, unit / 2), 1, d.whole(1, 3), colour=colour,
                           height=0, form="tennis", pad=None, gap=3)  # fmt: skip
    return False


def remove_special(editor: Editor) -> bool:
    """Take away some tanks, courts or pools."""
    d, scene = editor.dice, editor.scene
    present = {t.kind for t in scene.things} - {e.name for e in editor.edits}
    kinds = [k for k in ("tank", "court", "swimming pool", "solar panel") if k in present]
    if not kinds:
        return False
    kind = d.pick(kinds)
    some = [t for t in scene.things if t.kind == kind]
    gone = _together(editor, some, 3)
    ids = {t.id for t in gone}
    scene.things = [t for t in scene.things if t.id not in ids]
    outline: Polygon = []
    for thing in gone:
        outline += rectangle(thing.x, thing.y, thing.length, thing.width, thing.turn)
    colours = {t.colour for t in gone}
    colour = colours.pop() if len(colours) == 1 and kind != "swimming pool" else None
    editor.note("removed", kind, outline, count=len(gone), colour=colour, at=_heart(gone))
    return True


EDITS: tuple[Callable[[Editor], bool], ...] = (
    build_buildings,
    build_buildings,
    remove_buildings,
    build_road,
    clear_trees,
    plant_trees,
    dig_pond,
    fill_water,
    lay_parking,
    sow_field,
    build_special,
    remove_special,
)


def edit(scene: Scene, dice: Dice, count: int) -> tuple[Scene, list[Edit]]:
    """Return the scene after up to `count` changes, and the changes.

    Relations that speak of something that was changed are dropped from the new scene.
    """
    editor = Editor(scene, dice)
    for operation in dice.some(EDITS, len(EDITS)):
        if len(editor.edits) >= count:
            break
        if any(e.name in _touches(operation) for e in editor.edits):
            continue
        operation(editor)
    names = {e.name for e in editor.edits} | {e.instead for e in editor.edits}
    editor.scene.relations = [
        r for r in editor.scene.relations if r.subject not in names and r.object not in names
    ]
    return editor.scene, editor.edits


def _touches(operation: Callable[[Editor], bool]) -> tuple[str, ...]:
    """Return names that must not have been changed before: one kind, one change."""
    if operation in (build_buildings, remove_buildings):
        return ("building",)
    if operation in (clear_trees, plant_trees):
        return ("forest", "tree")
    if operation in (dig_pond, fill_water):
        return _WET
    return ()
