"""`rsvlm list models|recipes|data|protocols|suites [pattern]`: what there is, by name."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rsvlm.errors import UserError, near


def models(own: Path | None) -> Iterator[tuple[str, str]]:
    """Model options with the tags of their published weights."""
    from rsvlm.config.compose import options
    from rsvlm.models.zoo import rows

    for option in options("model", own):
        tags = [name for name in rows() if name.partition(".")[0] == option]
        yield option, "  ".join(tags)


def recipes(own: Path | None) -> Iterator[tuple[str, str]]:
    """Recipes with their first line."""
    from rsvlm.config.compose import search_path

    for folder in search_path(own):
        for path in sorted((folder / "experiment").glob("*.yaml")):
            first = path.read_text(encoding="utf-8").splitlines()[0]
            yield path.stem, first.lstrip("# ")


def data(own: Path | None) -> Iterator[tuple[str, str]]:
    """Data options with their data set's title and sizes, or the first line of their file."""
    from rsvlm.config.compose import options, search_path
    from rsvlm.data.datasets import DATASETS

    for option in options("data", own):
        kind = DATASETS.get(option)
        if kind is None:  # a mixture, or one of the user's own: what its file says of itself
            paths = [folder / "data" / f"{option}.yaml" for folder in search_path(own)]
            first = next(p for p in paths if p.is_file()).read_text(encoding="utf-8").split("\n")[0]
            yield option, first.lstrip("# ") if first.startswith("#") else ""
            continue
        counts = [f"{s} {n}" for s, n in kind.published_counts.items()]
        title = str(kind.title)
        sizes = f" ({', '.join(counts)})" if counts else ""
        yield option, title + sizes


def protocols(own: Path | None) -> Iterator[tuple[str, str]]:
    """Protocols by task."""
    from rsvlm.metrics.names import PROTOCOLS

    del own
    for task, known in sorted(PROTOCOLS.items()):
        yield task, "  ".join(map(str, known))


def suites(own: Path | None) -> Iterator[tuple[str, str]]:
    """Suites of `rsvlm bench` with their evaluations."""
    import yaml

    from rsvlm.config.compose import options, search_path

    for option in options("suite", own):
        paths = [folder / "suite" / f"{option}.yaml" for folder in search_path(own)]
        path = next(p for p in paths if p.is_file())
        held = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        yield option, ", ".join(map(str, held.get("entries") or ()))


KINDS: dict[str, Callable[[Path | None], Iterator[tuple[str, str]]]] = {
    "models": models,
    "recipes": recipes,
    "data": data,
    "protocols": protocols,
    "suites": suites,
}


def main(argv: Sequence[str]) -> None:
    """Prints names, one a line, with what they are.

    Raises:
        UserError: nothing has such a name.
    """
    parser = argparse.ArgumentParser(prog="rsvlm list", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("pattern", nargs="?", default="*", help="a wild card, as '*clip*'")
    parser.add_argument("--config-dir", type=Path, help="a folder of own configurations")
    parser.add_argument("--names", action="store_true", help="names alone")
    args = parser.parse_args(argv)
    found = list(KINDS[args.kind](args.config_dir))
    kept = [(n, text) for n, text in found if fnmatch.fnmatch(n, args.pattern)]
    if not kept:
        near_ones = near(args.pattern.strip("*"), [name for name, _ in found])
        raise UserError(f"no {args.kind} match {args.pattern!r}. {near_ones}")
    width = max(len(name) for name, _ in kept)
    for name, text in kept:
        print(name if args.names else f"{name:{width}s}  {text}".rstrip())
