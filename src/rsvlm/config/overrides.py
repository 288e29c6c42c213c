"""What the user types behind a verb, as Hydra takes it."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from rsvlm.config import config_dir
from rsvlm.errors import UserError, near, needs_extra

# Words whose value is free text or a path: what the user types is what arrives.
_ASKED = ("prompt", "text", "image", "before", "after", "gallery", "out", "ckpt", "init", "resume")
_FILES = ("suite_file",)
_CURATED = ("input", "osm", "imagery", "masks")
FREE = (*_ASKED, *_FILES, *_CURATED)
# Paths inside a node; these may hold an interpolation, so `${` is left to OmegaConf.
PATHS = re.compile(r"^(\+\+)?([\w.]+\.(root|weights|index|url|cache)|roots\.\w+)$")
#: Options of a model behind an endpoint that change no answer: how fast, how long, for how much.
PACING = (
    "workers",
    "per_minute",
    "retries",
    "timeout",
    "cache",
    "replay",
    "key_env",
    "max_cost",
    "input_price",
    "output_price",
)
#: A data set's folder in a suite; each option is a new key.
_ROOT = re.compile(r"^roots\.\w+=")


def quote(argv: Sequence[str]) -> list[str]:
    """Quotes free-text and path arguments for Hydra's grammar.

    Brackets, commas, quotes, `=`, `~`, `#`, `${`, umlauts and Chinese reach the program as typed.
    A value that is `null` or empty stays Hydra's null.
    """
    return [_quote_one(argument) for argument in argv]


def _quote_one(argument: str) -> str:
    key, equals, value = argument.partition("=")
    free = key in FREE
    if not equals or not (free or PATHS.match(key)) or value in ("", "null", "???"):
        return argument
    if not free and (value[0] in "'\"" or "${" in value):
        return argument
    if free:
        # OmegaConf reads `${` as an interpolation; a backslash before it makes it text, and
        # backslashes that stand before it must then be doubled.
        value = re.sub(r"(\\*)\$\{", lambda m: m.group(1) * 2 + r"\${", value)
    # In Hydra's quoted strings a backslash is special only before a quote or at the end.
    value = re.sub(r"(\\*)'", lambda m: m.group(1) * 2 + r"\'", value)
    value = re.sub(r"(\\+)$", lambda m: m.group(1) * 2, value)
    return f"{key}='{value}'"


def command_line(argv: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The arguments as Hydra gets them.

    `resume=<dir>` also makes Hydra use that folder and leave its own files alone.

    Args:
        argv: as typed behind the verb.
        folders: of configurations, the user's own first.

    Raises:
        UserError: unknown recipe, `resume` names no run, or a launcher that is not installed.
    """
    if any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in argv):
        # A rank that Lightning starts gets its parent's words, which are quoted already.
        return list(argv)
    argv = [_suite_file(argument) for argument in argv]
    for argument in argv:
        key, _, value = argument.partition("=")
        if key == "hydra/launcher":
            _launcher_is_there(value)
        elif key == "experiment":
            _known_recipe(value, folders)
        else:
            _known_option(key.lstrip("+"), value, folders)
    quoted = _within_checkpoint(quote([f"++{a}" if _ROOT.match(a) else a for a in argv]))
    resume = [a.partition("=")[2] for a in argv if a.startswith("resume=")]
    if resume and resume[-1] not in ("", "null", "???"):
        run = Path(resume[-1]).expanduser()
        if not (run / "config.yaml").is_file():
            raise UserError(
                f"resume={run}: there is no config.yaml, so this is not the folder of a run. "
                "Give the folder that holds config.yaml and last.ckpt (runs/<name>/<time>)."
            )
        quoted = [a for a in quoted if not a.startswith("resume=")]
        quoted += quote([f"resume={run}"])
        quoted += [_literal("hydra.run.dir", str(run)), "hydra.output_subdir=null"]
    return quoted


def _within_checkpoint(words: Sequence[str]) -> list[str]:
    """Lets values be set within groups that a checkpoint brings with it.

    Hydra composes before the checkpoint is read, and would hold `model.lm.head_chunk=7` against the
    model that stands there by default. What is set is held against signatures afterwards. Of a run
    that goes on the pace of an endpoint may be another.
    """
    brings = any(re.match(r"(ckpt|init)=(?!null$|$)", word) for word in words)
    goes_on = any(re.match(r"resume=(?!null$|$)", word) for word in words)
    inside = (
        r"(model|task|data|evaluation)\.[\w.]+=" if brings else rf"model\.({'|'.join(PACING)})="
    )
    if not (brings or goes_on):
        return list(words)
    return [f"++{word}" if re.match(inside, word) else word for word in words]


def _literal(key: str, value: str) -> str:
    return key + _quote_one(f"text={value}").removeprefix("text")


def _suite_file(word: str) -> str:
    """`suite=my.yaml` names a file of one's own, which Hydra's groups do not know.

    Raises:
        UserError: it is not there.
    """
    key, _, value = word.partition("=")
    plain = value.strip("'\"")
    if key != "suite" or not plain.endswith((".yaml", ".yml")):
        return word
    if not Path(plain).expanduser().is_file():
        raise UserError(f"suite={plain}: there is no such file (looked from {Path.cwd()}).")
    return f"suite_file={plain}"


def _launcher_is_there(value: str) -> None:
    """Ours go through submitit, whose lack Hydra tells as a file of its own that is not there."""
    ours = (config_dir() / "hydra" / "launcher" / f"{value}.yaml").is_file()
    try:
        there = importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is not None
    except ModuleNotFoundError:  # no plugin of Hydra at all
        there = False
    if ours and not there:
        raise needs_extra("slurm", "hydra-submitit-launcher")


def _known_recipe(value: str, folders: Sequence[Path]) -> None:
    known = [p.stem for folder in folders for p in (folder / "experiment").glob("*.yaml")]
    if value.startswith("glob("):
        pattern = value.removeprefix("glob(").rstrip(")")
        if not fnmatch.filter(known, pattern):
            raise UserError(f"experiment={value} matches no recipe. {near(pattern, known)}")
        return
    for name in filter(None, value.strip("'\"").split(",")):
        if name != "null" and name not in known:
            if f"eval_{name}" in known:
                raise UserError(
                    f"experiment={name} is called experiment=eval_{name} since 0.2.0: recipes that "
                    "train nothing begin with eval_."
                )
            raise UserError(f"there is no recipe experiment={name}. {near(name, known)}")


def _known_option(group: str, value: str, folders: Sequence[Path]) -> None:
    """Refuses an option that a group has not, with the near ones; Hydra lists all of them."""
    known = {p.stem for folder in folders for p in (folder / group).glob("[!_]*.yaml")}
    if not known or not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", value):
        return
    for name in value.split(","):
        if name not in known and name != "null":
            tool = {"model": "models", "data": "data", "evaluation": "protocols"}.get(group)
            listing = f" (rsvlm list {tool} says what each is)" if tool == "models" else ""
            raise UserError(f"there is no {group}={name}. {near(name, known)}{listing}")


def own_folder(argv: Sequence[str]) -> Path | None:
    """The user's own folder of configurations, from `--config-dir <folder>`.

    Raises:
        UserError: it is no folder, or an option in it has the name of one of ours: Hydra would take
            ours without a word.
    """
    found = None
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            found = Path(value if equals else "".join(argv[i + 1 : i + 2])).expanduser()
    if found is None:
        return None
    if not found.is_dir():
        raise UserError(f"--config-dir {found} is no folder (looked from {Path.cwd()}).")
    ours = config_dir()
    for path in sorted(found.rglob("*.yaml")):
        option = path.relative_to(found)
        if (ours / option).is_file() and found.resolve() != ours.resolve():
            group = f"{option.parent}=" if option.parent != Path() else ""
            raise UserError(
                f"{path} has the name of an option of rsvlm's own ({group}{option.stem}), and "
                f"Hydra would take ours. Give it another name, as {option.stem}_own.yaml."
            )
    return found
