"""Step 1: from what the user typed to a path on this machine, and the zoo row that belongs to it.

Three forms, and nothing is guessed between them: `zoo:<model option>.<tag>`,
`hf://org/repo@rev[/path]`, and a path (a file, or a folder of parts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsvlm.checkpoints import hub, zoo
from rsvlm.errors import UserError, near

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?(/.*)?")


@dataclass(frozen=True)
class Source:
    """A checkpoint that was found.

    Attributes:
        name: as the user typed it.
        row: the zoo row it belongs to; None if to none.
        place: where on the hub or the web it comes from; None for a path.
        path: where it lies here; None until `local` has fetched it.
    """

    name: str
    row: zoo.Row | None = None
    place: hub.Hub | str | None = None
    path: Path | None = None

    def local(self) -> Path:
        """The path on this machine; downloads what is not cached.

        Raises:
            UserError: it cannot be had; says what to do by hand.
        """
        if self.path is not None:
            return self.path
        if isinstance(self.place, hub.Hub):
            return hub.fetch(self.place)
        assert self.place is not None
        return hub.download(self.place)


def resolve(name: str, rows: Mapping[str, zoo.Row] | None = None) -> Source:
    """What a source names. Nothing is downloaded before `Source.local`.

    Args:
        name: `zoo:<model option>.<tag>`, `hf://org/repo@rev[/path]`, or a path.
        rows: of the zoo; None takes those that the context was handed (`zoo.handed_in`).

    Raises:
        UserError: none of these, an unknown row, no such file; prints the right forms.
    """
    name, known = str(name), zoo.known_rows(rows)
    if name.startswith("zoo:"):
        row = zoo.row(name.removeprefix("zoo:"), known)
        return Source(name, row, hub.parse(row.uri) or row.uri)
    if (place := hub.parse(name)) is not None:
        return Source(name, zoo.row_of_hub(place, known), place)
    if name.startswith(("http://", "https://")):
        raise UserError(
            f"{name}: a checkpoint is a path, hf://... or zoo:.... Fetch it first:\n"
            f"  curl -LO {name}\nand give the path in its place: {name.rpartition('/')[2]}"
        )
    path = Path(name).expanduser()
    if path.exists():
        return Source(name, zoo.row_of_file(path, known), path=path)
    if name in known:
        raise UserError(f"{name} is a row of the zoo, not a file: write zoo:{name}.")
    deep = name.count("/") > 1 or not hub.is_weights(name)
    if _HUB_ID.fullmatch(name) and not path.parent.is_dir() and deep:
        raise UserError(
            f"{name!r} is neither a file nor a folder here, and looks like a repository of the "
            f"Hugging Face hub. Write what you mean: hf://{_with_revision(name)} for the hub, "
            f"or a path that exists, as ./{name}."
        )
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = near(path.name, beside) if path.name and hub.is_weights(path.name) and beside else ""
    raise UserError(
        f"there is no file or folder {name} (looked from {Path.cwd()}). {hint}".rstrip()
        + " A checkpoint is a path, hf://<org>/<repo>@<revision>/<path>, or "
        "zoo:<model option>.<tag>."
    )


def _with_revision(name: str) -> str:
    org, repo, *path = name.split("/")
    repo = repo if "@" in repo else f"{repo}@main"
    return "/".join([org, repo, *path])


def checkpoint_of(source: str) -> str:
    """The checkpoint of a run's folder, the best before the last; anything else as it is.

    Raises:
        UserError: a run that has written none yet.
    """
    folder = Path(source)
    if not (folder / "config.yaml").is_file():
        return source
    for name in ("best.ckpt", "last.ckpt"):
        if (folder / name).is_file():
            return str(folder / name)
    raise UserError(f"{folder} holds no best.ckpt and no last.ckpt yet.")
