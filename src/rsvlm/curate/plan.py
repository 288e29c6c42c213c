"""What is being made in a folder, so that nothing else goes on there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.files import write_text

WORK = ".curate"
#: Where a dry run goes within the folder of the real one.
DRY = "dry_run"
#: Counts up where the layout of the working folder changes.
_LAYOUT = 1


def fingerprinted(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan with what stands for it."""
    whole = {"layout": _LAYOUT, **plan}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False)
    return whole | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}


def begun(out: Path, plan: Mapping[str, Any]) -> bool:
    """Whether the folder holds this plan; writes it into an empty one.

    A dry run makes way for another one, and so does a plan of which no part was made.

    Raises:
        UserError: it holds another plan, or files that are none of ours.
    """
    places = (out / WORK / "plan.json", out / "manifest.json")
    file = next((path for path in places if path.is_file()), None)
    if file is None:
        others = [path.name for path in out.iterdir() if path.name not in (WORK, DRY, ".lock")]
        if others:
            raise UserError(
                f"{out} holds files of something else ({', '.join(sorted(others)[:3])}): give "
                "out= a folder of its own."
            )
        return _begin(out, plan)
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
        same = old["fingerprint"] == plan["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no plan of a pipeline: give another out=.") from error
    if same:
        return True
    # A dry run makes way, and so does a plan of which nothing was made: its options were mended.
    made = (out / "manifest.json").is_file() or any((out / WORK).glob("*/part-*.zip"))
    if not made or (plan["dry_run"] and old.get("dry_run")):
        shutil.rmtree(out / WORK, ignore_errors=True)
        (out / "manifest.json").unlink(missing_ok=True)
        return _begin(out, plan)
    names = [name for name in plan if name != "fingerprint" and old.get(name) != plan[name]]
    told = "; ".join(_difference(name, old.get(name), plan[name]) for name in names[:2])
    raise UserError(
        f"{out} was begun by another pipeline, version or input ({told}), and parts of two do "
        "not mix: give another out=, or remove that folder."
    )


def _begin(out: Path, plan: Mapping[str, Any]) -> bool:
    (out / WORK).mkdir(exist_ok=True)
    write_text(out / WORK / "plan.json", json.dumps(plan, indent=1, ensure_ascii=False))
    return False


def _difference(name: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *old]:
            if old.get(key) != new.get(key):
                return _difference(f"{name}.{key}", old.get(key), new.get(key))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for a, b in zip(old, new, strict=True):
            if a != b:
                old, new = a, b
                break
    return f"{name} was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
