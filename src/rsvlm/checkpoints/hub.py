"""Files from elsewhere: the Hugging Face hub with its cache, and plain https addresses."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rsvlm.errors import UserError, extra, near
from rsvlm.files import written_whole

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<rev>[\w.-]+))?(?:/(?P<path>.+?))?/?")
CONFIGS = ("config.json", "open_clip_config.json", "adapter_config.json")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".zip", ".tar")
#: The file of a folder that holds its weights, best first.
PREFERRED = (
    "model.safetensors.index.json",
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "best.ckpt",
    "last.ckpt",
)
#: In a repository that holds one model in several layouts, open_clip's own comes first.
HUB_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", *PREFERRED)


@dataclass(frozen=True)
class Hub:
    """A place on the hub: `repo` is `org/name`, `path` is empty for the whole repository."""

    repo: str
    revision: str
    path: str = ""

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}" + (f"/{self.path}" if self.path else "")


def parse(uri: str) -> Hub | None:
    """Take `hf://org/repo@rev/path` apart; None for what does not start with `hf://`.

    Raises:
        UserError: it starts so and is something else.
    """
    if not uri.startswith("hf://"):
        return None
    match = _HUB.fullmatch(uri)
    if match is None:
        raise UserError(
            f"{uri}: a place on the hub is written hf://<org>/<repo>@<revision>/<path>, as in "
            "hf://Zilun/GeoRSCLIP@main/ckpt/RS5M_ViT-B-32.pt (revision and path may be left out)."
        )
    return Hub(match["repo"], match["rev"] or "main", match["path"] or "")


def is_weights(name: str) -> bool:
    """Whether a path ends like a file of weights."""
    return PurePosixPath(name).suffix in WEIGHTS or name.endswith(".index.json")


def fetch(place: Hub) -> Path:
    """The local path of a file or folder on the hub, downloaded once and then cached.

    `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured.

    Raises:
        UserError: no package, no network and no cached copy, no such file; says what to do.
    """
    if is_weights(place.path):
        folder = str(PurePosixPath(place.path).parent)
        files = [place.path]
    else:
        from rsvlm.checkpoints.parts import is_parts

        folder = place.path or "."
        every = _files(place)
        if folder == "." and is_parts(every):
            # A few configurations, processors and weights of one model.
            kinds = [f"*{kind}" for kind in (*WEIGHTS, ".json")]
            return Path(_snapshot(place, allow_patterns=kinds))
        inside = [name for name in every if str(PurePosixPath(name).parent) == folder]
        names = [PurePosixPath(name).name for name in inside]
        chosen = choose(names, str(place), HUB_PREFERRED)
        if chosen[0].endswith(".index.json"):
            kind = ".safetensors" if "safetensors" in chosen[0] else ".bin"
            chosen += [name for name in names if name.endswith(kind) and "-of-" in name]
        files = [str(PurePosixPath(folder) / name) for name in chosen]
    configs = [str(PurePosixPath(folder) / name) for name in CONFIGS]
    root = Path(_snapshot(place, allow_patterns=[*files, *configs]))
    for name in files:
        if not (root / name).exists():
            known = [name for name in _files(place) if is_weights(name)]
            raise UserError(
                f"{place}: the repository, or the copy of it in the cache, has no file {name}. "
                f"{near(name, known)}\n{_by_hand(place)}"
            )
    return root / files[0] if len(files) == 1 else root / folder


def choose(names: Sequence[str], where: str, preferred: Sequence[str] = PREFERRED) -> list[str]:
    """The file of a folder that holds its weights, or all files when they are numbered parts.

    Raises:
        UserError: there is none, or more than one could be meant.
    """
    for name in preferred:
        if name in names:
            return [name]
    weights = sorted(name for name in names if is_weights(name))
    if len(weights) == 1 or (weights and all("-of-" in name for name in weights)):
        return weights
    if not weights:
        there = ", ".join(sorted(names)[:8]) or "nothing"
        raise UserError(f"{where}: there are no weights, only {there}.")
    raise UserError(f"{where} holds several files of weights; name the one: {', '.join(weights)}.")


def _snapshot(place: Hub, **options: Any) -> Any:
    """`huggingface_hub.snapshot_download` of a revision, with errors that say what to do."""
    with extra("hub", f"Or download the file elsewhere.\n{_by_hand(place)}"):
        from huggingface_hub import snapshot_download
    try:
        return snapshot_download(place.repo, revision=place.revision, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{place} is not in the cache and could not be fetched: {reason}\n{_by_hand(place)}"
        ) from error


def _files(place: Hub) -> list[str]:
    """Names of the files of a repository: the hub's list, or the cache's where that is closed."""
    try:
        return [info.filename for info in _snapshot(place, dry_run=True)]
    except UserError:
        root = Path(_snapshot(place, local_files_only=True))
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def _by_hand(place: Hub) -> str:
    command = f"hf download {place.repo}{f' {place.path}' if place.path else ''}"
    target = f"weights/{place.path}" if place.path else "weights"
    return (
        "On a machine with network:\n"
        f"  {command} --revision {place.revision} --local-dir weights\n"
        f"then give the path in its place: {target}"
    )


def download(url: str) -> Path:
    """The local path of an https address, downloaded once to `$RSVLM_CACHE` or ~/.cache/rsvlm.

    Raises:
        UserError: no network and no cached copy; prints the command that fetches it by hand.
    """
    folder = Path(os.environ.get("RSVLM_CACHE", Path.home() / ".cache" / "rsvlm"))
    path = folder / url.rpartition("/")[2]
    if path.is_file():
        return path
    by_hand = f"On a machine with network:\n  curl -LO {url}\nthen give the path: {path.name}"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise UserError(f"{url} is not in {folder}, and HF_HUB_OFFLINE is set.\n{by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(path) as part:
            with urllib.request.urlopen(url) as answer, part.open("wb") as file:
                size = int(answer.headers.get("Content-Length") or 0)
                while block := answer.read(1 << 20):
                    file.write(block)
            got = part.stat().st_size
            if size and got != size:
                raise UserError(
                    f"{url}: the transfer broke after {got:,} of {size:,} bytes.\n{by_hand}"
                )
    except (urllib.error.URLError, OSError) as error:
        raise UserError(f"{url} could not be fetched ({error}).\n{by_hand}") from error
    return path
