"""The walls of the house: what each room may import (docs/rooms.py has the plan)."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import rooms  # noqa: E402

sys.path.remove(str(ROOT / "docs"))

FILES = sorted(rooms.PACKAGE.rglob("*.py"))
#: (file, module): `rsvlm --version` asks the door for the version.
KNOWN = {("cli/main.py", "rsvlm")}
COMPUTE = {"config", "cli", *rooms.DOOR}
HYDRA = {"config", "lit", "app", "cli"}
LIGHTNING = {"lit", "app"}


def name(path):
    return path.relative_to(rooms.PACKAGE).as_posix()


def test_there_is_a_house():
    assert len(FILES) > 200
    assert {"errors", "data", "models", "lit", "cli"} <= {rooms.room_of(path) for path in FILES}


def test_each_room_is_in_the_plan():
    found = {rooms.room_of(path) for path in FILES} - {*rooms.DOOR}
    assert found <= rooms.FLOOR.keys(), "add it to FLOORS of docs/rooms.py first"


@pytest.mark.parametrize("room", sorted(rooms.FLOOR))
def test_a_room_imports_rooms_on_lower_floors_alone(room):
    for path in FILES:
        if rooms.room_of(path) != room:
            continue
        for module, line in rooms.imported(path):
            if module.partition(".")[0] != "rsvlm" or (name(path), module) in KNOWN:
                continue
            other = [*module.split("."), "__init__"][1]
            assert other == room or rooms.FLOOR.get(other, 99) < rooms.FLOOR[room], (
                f"{name(path)}:{line} imports {module}: {room} stands on floor {rooms.FLOOR[room]}"
            )


def test_libraries_that_wire_are_known_to_their_rooms_alone():
    for path in FILES:
        room = rooms.room_of(path)
        found = {module.partition(".")[0] for module, _ in rooms.imported(path)}
        assert "hydra" not in found or room in HYDRA, path
        lightning = {"lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"}
        assert not found & lightning or room in LIGHTNING, path


def test_a_computed_import_of_ours_stands_where_names_come_from_the_user():
    computed = re.compile(r"\bimport_module\b|\b__import__\b|\brun_module\b|\bget_class\b")
    for path in FILES:
        if rooms.room_of(path) in COMPUTE:
            continue
        assert not computed.search(path.read_text(encoding="utf-8")), path


def test_what_answers_at_once_imports_no_torch():
    known = {
        ".".join(("rsvlm", *path.relative_to(rooms.PACKAGE).with_suffix("").parts)): path
        for path in FILES
    }
    known |= {module.removesuffix(".__init__"): path for module, path in known.items()}

    def top(path):
        """Modules that are imported when the file is."""
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    waiting = [m for m, p in known.items() if rooms.room_of(p) in ("config", "clients")]
    waiting += ["rsvlm.cli.main", "rsvlm.app.entry"]
    seen = {}
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        # `import a.b.c` runs a and a.b too.
        for inner in (".".join(parts[:i]) for i in range(1, len(parts) + 1)):
            if inner in known and inner not in seen:
                seen[inner] = list(top(known[inner]))
                waiting += seen[inner]
                heavy = {m.partition(".")[0] for m in seen[inner]} & {"torch", "lightning"}
                assert not heavy, f"{inner} imports {heavy}"
    assert "rsvlm.config.schema" in seen and "rsvlm.files" in seen


def test_the_picture_shows_todays_imports():
    written = json.loads(rooms.JSON.read_text(encoding="utf-8"))
    assert written == rooms.picture(), "the imports have changed: make rooms, and look at it"
    drawn = rooms.SVG.read_text(encoding="utf-8")
    assert all(f"<!-- {room} -->" in drawn for floor in written["floors"] for room in floor)
