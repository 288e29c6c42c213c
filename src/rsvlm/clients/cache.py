"""Replies on disk, by all that decides them: a run again costs nothing, and replays offline."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.files import write_text

log = logging.getLogger(__name__)

_DATA_URL = re.compile(r"data:([\w./+-]+);base64,[A-Za-z0-9+/=]+")


class ReplyCache:
    """A folder with a JSON file for each request.

    Args:
        folder: made with the first reply.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(request: Mapping[str, Any]) -> str:
        """The SHA-256 of a request in canonical JSON, as hex; headers are no part of one."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, key: str) -> Path:
        """Where the reply of a key lies."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Any:
        """The reply of a key, or None; a file that is no reply counts as none, and is said."""
        path = self.path(key)
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            return held["reply"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            log.warning("%s is no reply of a cache and was left alone; it is asked again.", path)
            return None

    def refusal(self, key: str) -> str | None:
        """Why a server would not answer a request, or None where that was not said."""
        try:
            return str(json.loads(self._refused(key).read_text(encoding="utf-8"))["refused"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def refuse(self, key: str, request: Mapping[str, Any], why: str) -> None:
        """Keeps a refusal for a replay; the next run with network asks again."""
        self._keep(self._refused(key), {"request": _without_pictures(request), "refused": why})

    def _refused(self, key: str) -> Path:
        return self.path(key).with_suffix(".refused.json")

    def put(self, key: str, request: Mapping[str, Any], reply: Any) -> None:
        """Keeps a reply, with its request for the reader: pictures by their sums alone."""
        self._keep(self.path(key), {"request": _without_pictures(request), "reply": reply})

    def _keep(self, path: Path, held: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(held, ensure_ascii=False, indent=1))


def _without_pictures(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_pictures(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_pictures(part) for part in value]
    if isinstance(value, str):
        return _DATA_URL.sub(
            lambda m: f"{m[1]} sha256:{hashlib.sha256(m[0].encode()).hexdigest()[:16]}", value
        )
    return value
