"""`rsvlm inspect --data rsicd --root <folder>`: counts, captions, broken files.

With `--out sheet.png` it also draws a sheet of samples, with their boxes, masks and maps. With
`--faults` it holds what the files say against each other, and `--exclude list.txt` writes what
training is to leave out (`data.exclude=list.txt`).
`--list` names all data sets, with their sizes, terms and homepages.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

from rsvlm.config.overrides import own_folder
from rsvlm.errors import UserError, near


def reader(
    option: str, root: str | None = None, words: Sequence[str] = (), own: Path | None = None
) -> tuple[Callable[..., Any], list[str]]:
    """The data set of a data option, to be called with `split=`, and the splits it serves.

    Args:
        option: a data option of conf/data.
        root: the data set's folder; the option's own, unless given.
        words: `key=value` for the data set, as after `data.dataset.` on the command line; or
            `raster.key=value` and `splits.key=value`, as after `data.`. With what stands before
            them there, as errors write them, they are the same.
        own: the user's own folder of configurations.

    Raises:
        UserError: there is no such option, or a word is no argument of the data set.
    """
    from omegaconf import OmegaConf

    from rsvlm.config.compose import compose, options
    from rsvlm.config.validate import check

    known = options("data", own)
    if option not in known:
        raise UserError(f"there is no data option {option!r}. {near(option, known)}")
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r}: options of the data set are written key=value.")
    composed = compose("train", [f"data={option}"], own)
    cfg = OmegaConf.create({"paths": composed.paths, "data": composed.data, "seed": 0})
    if root:
        cfg.data.root = root
    short = [word.lstrip("+").removeprefix("data.").removeprefix("dataset.") for word in words]
    said: Any = OmegaConf.to_container(OmegaConf.from_dotlist(short))
    rasters, parts = said.pop("raster", {}), said.pop("splits", {})
    cfg.data.dataset = OmegaConf.merge(cfg.data.dataset, said)
    if rasters and "raster" not in cfg.data:
        raise UserError(f"data={option} reads no rasters from files: leave raster.*= out.")
    if rasters:
        cfg.data.raster = OmegaConf.merge(cfg.data.raster, rasters)
    whole: Any = OmegaConf.to_container(cfg.data, resolve=True)
    check(OmegaConf.create({"dataset": whole["dataset"], "raster": whole.get("raster") or {}}))
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    node = plain["data"]
    splits = {"train": "train", "val": "val", "test": "test"} | (node.get("splits") or {}) | parts
    listed = [part for part in splits.values() if part]
    served = [word for part in listed for word in ([part] if isinstance(part, str) else part)]
    make = _part(node["dataset"])
    if rasters:
        from rsvlm.data.rasters import use_rasters

        chosen, plainly = _part(node["raster"])(), make

        @wraps(plainly.func)
        def make(**given: Any) -> Any:
            dataset = plainly(**given)
            use_rasters(dataset, chosen)
            return dataset

    return make, list(dict.fromkeys(served))


def _part(node: Any) -> Any:
    """A node of the configuration as the partial that it describes."""
    if isinstance(node, list):
        return [_part(value) for value in node]
    if not isinstance(node, dict):
        return node
    values = {key: _part(value) for key, value in node.items() if not key.startswith("_")}
    if "_target_" not in node:
        return values
    from rsvlm.config.validate import locate

    return partial(locate(node["_target_"]), **values)


def catalogue() -> str:
    """Every reader: its word, the data set, what was published, terms, where it can be had."""
    from rsvlm.data.datasets import DATASETS

    lines = []
    for word, kind in sorted(DATASETS.items()):
        counts = ", ".join(f"{split} {n}" for split, n in kind.published_counts.items())
        lines.append(f"{word:20s} {kind.title}{f' ({counts})' if counts else ''}")
        terms = [text for text in (kind.licence, kind.homepage) if text and text != "unknown"]
        lines += [f"{'':20s} {text}" for text in terms]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Opens every split and prints what is there."""
    parser = argparse.ArgumentParser(prog="rsvlm inspect", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", help="a data option of conf/data")
    what.add_argument("--list", action="store_true", help="name the data sets that can be read")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument(
        "--config-dir", help="a folder of own configurations, with data/<name>.yaml"
    )
    parser.add_argument("--split", action="append", help="a split; all of them by default")
    parser.add_argument("--read", action="store_true", help="also decode every picture")
    parser.add_argument("--out", type=Path, help="also draw a sheet of samples, .png or .jpg")
    parser.add_argument("--count", type=int, help="samples on the sheet (10; of faults 3)")
    parser.add_argument(
        "--faults", action="store_true", help="hold masks, flags, captions and boxes together"
    )
    parser.add_argument("--exclude", type=Path, help="with --faults: a list for data.exclude=")
    parser.add_argument(
        "option",
        nargs="*",
        help="key=value for the data set, as name=eurosat or data.dataset.name=eurosat",
    )
    args = parser.parse_args(argv)

    from rsvlm.data.inspection.describe import describe

    if args.list:
        return print(catalogue())
    if args.out and args.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {args.out}: the sheet is a .png or .jpg file.")
    if args.count is not None and args.count < 1:
        raise UserError("--count is at least 1.")
    if args.exclude and not args.faults:
        raise UserError("--exclude writes what --faults finds: give both.")
    own = own_folder(argv)
    if own is not None and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # own classes lie beside own configurations
    make, splits = reader(args.data, args.root, args.option, own)
    given = {word.partition("=")[0] for word in args.option}
    if "missing" in inspect.signature(make).parameters and "missing" not in given:
        # Captions without pixels are worth a look: what lacks is told, not refused.
        make = partial(make, missing="keep")
    opened = []
    for split in args.split or splits:
        dataset = make(split=split)
        print(describe(dataset, read=args.read))
        opened.append(dataset)
    shown: Any = opened
    if args.faults:
        shown = _faults(opened, args.exclude, args.count or 3)
    if args.out and shown:
        from rsvlm.data.inspection.contact_sheet import sheet

        args.out.parent.mkdir(parents=True, exist_ok=True)
        sheet(shown, args.count or (3 if args.faults else 10)).save(args.out)
        print(f"wrote {args.out}")


def _faults(opened: Sequence[Any], exclude: Path | None, count: int) -> list[Any]:
    """Prints what is wrong; gives the first samples that have a fault, for a sheet."""
    from rsvlm.data.inspection.faults import faults_of, report, write_exclusions
    from rsvlm.data.loading.wrappers import ChosenSamples

    faults = faults_of(opened)
    print(report(faults))
    if exclude is not None:
        number = write_exclusions(faults, exclude)
        print(f"wrote {exclude}: {number} samples; data.exclude={exclude} trains without them")
    first = list(dict.fromkeys((fault.split, fault.index) for fault in faults))[:count]
    splits = [str(dataset.split) for dataset in opened]
    wrong = [[index for name, index in first if name == split] for split in splits]
    return [ChosenSamples(d, places) for d, places in zip(opened, wrong, strict=True) if places]
