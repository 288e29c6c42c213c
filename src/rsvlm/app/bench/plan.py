"""What a bench is going to do: evaluations of a suite, models, seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rsvlm.config.compose import options, search_path
from rsvlm.config.overrides import command_line, quote
from rsvlm.data.text_files import read_text
from rsvlm.errors import UserError, near
from rsvlm.files import write_text

FILE = "bench.json"
#: Words of a bench itself; any other one is an evaluation's.
OWN = ("suite", "suite_file", "models", "limit", "seeds", "bootstrap", "roots", "resume", "name")
#: Names that are also folders'.
_NAME = re.compile(r"\w[\w.-]*")
#: What an evaluation of a suite may say.
KEYS = ("recipe", "words", "show", "published", "about")


@dataclass(frozen=True)
class Entry:
    """One evaluation of a suite.

    Attributes:
        name: its word, which is also its folder's.
        recipe: of `conf/experiment`; "" where its words say all.
        words: as typed behind `rsvlm eval`.
        show: metric words that head the table.
        published: `model`, `source` and `metrics` (name -> number) beside those that
            `config.published` knows.
        about: a sentence.
    """

    name: str
    recipe: str = ""
    words: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()
    about: str = ""

    @property
    def typed(self) -> list[str]:
        """What `rsvlm eval` would be given."""
        return [*([f"experiment={self.recipe}"] if self.recipe else []), *self.words]


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        label: its name in the table, and its folder's.
        words: that choose it; none where they are among the user's.
    """

    label: str
    words: tuple[str, ...] = ()


@dataclass
class Plan:
    """A whole bench, as its folder keeps it.

    Attributes:
        suite: its name.
        about: what it is, in a sentence.
        entries: evaluations.
        subjects: models.
        words: the user's further ones, as Hydra has them.
        limit, seeds, bootstrap, roots: see `config.schema.BenchSchema`.
    """

    suite: str
    about: str
    entries: list[Entry]
    subjects: list[Subject]
    words: list[str] = field(default_factory=list)
    limit: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    bootstrap: int = 1000
    roots: dict[str, str] = field(default_factory=dict)

    def jobs(self) -> Iterator[Job]:
        """Each evaluation of each model under each seed, a model's own together."""
        for subject in self.subjects:
            for entry in self.entries:
                for seed in self.seeds:
                    yield Job(entry, subject, seed, several=len(self.seeds) > 1)

    def write(self, folder: Path) -> None:
        """Keeps it in a bench's folder."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a bench's folder.

        Raises:
            UserError: it is none.
        """
        try:
            held = json.loads((folder / FILE).read_text(encoding="utf-8"))
            entries = [
                Entry(
                    str(one["name"]),
                    str(one["recipe"]),
                    tuple(one["words"]),
                    tuple(one["show"]),
                    tuple(one["published"]),
                    str(one["about"]),
                )
                for one in held.pop("entries")
            ]
            subjects = [Subject(one["label"], tuple(one["words"])) for one in held.pop("subjects")]
            for name in [*(e.name for e in entries), *(s.label for s in subjects)]:
                if not _NAME.fullmatch(name):  # it is a folder's
                    raise ValueError(name)
            return cls(entries=entries, subjects=subjects, **held)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{folder} is no bench's folder: it holds no {FILE} that can be read. Start one: "
                "rsvlm bench suite=<name> model=<option>"
            ) from error


@dataclass(frozen=True)
class Job:
    """One evaluation of one model under one seed."""

    entry: Entry
    subject: Subject
    seed: int
    several: bool = False

    def folder(self, bench: Path) -> Path:
        """Where its run lies."""
        own = bench / self.subject.label / self.entry.name
        return own / f"seed_{self.seed}" if self.several else own

    def __str__(self) -> str:
        seed = f", seed {self.seed}" if self.several else ""
        return f"{self.entry.name} of {self.subject.label}{seed}"


def planned(cfg: DictConfig, words: Sequence[str], suite: str | None, own: Path | None) -> Plan:
    """The plan of a composed bench.

    Args:
        cfg: of bench.yaml.
        words: the user's, as Hydra has them.
        suite: the option that was chosen.
        own: the user's own folder of configurations.

    Raises:
        UserError: no suite, an evaluation of it that cannot be, or a model that is none.
    """
    node = cfg.suite
    if cfg.get("suite_file"):
        suite, node = _from_file(Path(cfg.suite_file).expanduser())
    if not suite or not isinstance(node, DictConfig):
        raise UserError(
            f"rsvlm bench needs a suite, suite=<name>: {', '.join(options('suite', own))}. Your "
            "own is a file: suite=my_suite.yaml (docs/bench.md)."
        )
    held: Any = OmegaConf.to_container(node, resolve=True)
    entries = entries_of(held, suite, own)
    mine = [word for word in words if not _is_own(word)]
    given = [str(one) for one in cfg.models]
    if given:
        both = [w for w in mine if re.match(r"(model|ckpt)=", w.lstrip("+"))]
        if both:
            raise UserError(
                f"models= names the models, and {' '.join(both)} would be another one: write "
                "models=[<option>@<checkpoint>], or leave models= out."
            )
        subjects = [Subject(*_subject(one, own)) for one in given]
    else:
        subjects = [Subject(_label_of(mine))]
    seeds = [int(seed) for seed in cfg.seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds}: give each seed once, as seeds=[0,1,2].")
    for one in subjects:
        _there([*one.words, *mine], seeds)
    if cfg.limit is not None and cfg.limit < 1:
        raise UserError(f"limit={cfg.limit}: draw at least one sample, or limit=null for all.")
    if cfg.bootstrap and cfg.bootstrap < 20:
        raise UserError(f"bootstrap={cfg.bootstrap}: an interval needs at least 20, or 0 for none.")
    # A bench goes on from any folder.
    subjects = [Subject(one.label, tuple(map(_whole, one.words))) for one in subjects]
    mine = [_whole(word) for word in mine]
    roots = {str(key): str(_absolute(str(value))) for key, value in cfg.roots.items()}
    for key in roots:
        if key not in options("data", own):
            raise UserError(f"roots.{key}: no data set. {near(key, options('data', own))}")
    return Plan(
        suite=suite,
        about=str(held.get("about") or ""),
        entries=entries,
        subjects=_apart(subjects),
        words=mine,
        limit=cfg.limit,
        seeds=seeds,
        bootstrap=int(cfg.bootstrap),
        roots=roots,
    )


def _from_file(path: Path) -> tuple[str, Any]:
    """A suite's name and content from a file of one's own.

    Raises:
        UserError: it cannot be read.
    """
    name = re.sub(r"\W+", "_", path.stem).strip("_") or "suite"
    try:
        return name, OmegaConf.create(yaml.safe_load(read_text(path)))
    except yaml.YAMLError as error:
        raise UserError(f"suite={path} is no YAML: {' '.join(str(error).split())}.") from error
    except (ValueError, OmegaConfBaseException) as error:
        raise UserError(f"suite={path}: {error}") from error


def entries_of(held: Mapping[str, Any], suite: str, own: Path | None) -> list[Entry]:
    """The evaluations of a suite's file.

    Raises:
        UserError: none, a key that is not known, or a recipe or option that is not there.
    """
    nodes = held.get("entries")
    if not isinstance(nodes, Mapping) or not nodes:
        raise UserError(f"suite={suite} has no entries: a mapping of name: {{recipe: ...}}.")
    found = []
    for name, node in nodes.items():
        where = f"suite={suite}, entry {name}"
        if not _NAME.fullmatch(str(name)):
            raise UserError(f"{where}: its name is also a folder's: letters, digits, _ and - only.")
        if not isinstance(node, Mapping) or not (node.get("recipe") or node.get("words")):
            raise UserError(f"{where} needs recipe: <name>, words: [<word>, ...], or both.")
        for key in node:
            if key not in KEYS:
                raise UserError(f"{where}: {key} is not known. {near(str(key), KEYS)}")
        one = Entry(
            str(name),
            str(node.get("recipe") or ""),
            tuple(map(str, node.get("words") or ())),
            tuple(map(str, node.get("show") or ())),
            tuple(node.get("published") or ()),
            str(node.get("about") or ""),
        )
        try:
            command_line(one.typed, search_path(own))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        found.append(one)
    return found


def _there(words: Sequence[str], seeds: Sequence[int]) -> None:
    """Refuses a checkpoint that is not there, once for all evaluations."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        value = value.strip("'\"")
        if key not in ("ckpt", "init") or value in ("", "null") or _is_remote(value):
            continue
        for seed in seeds:
            path = Path(value.replace("{seed}", str(seed))).expanduser()
            if not path.exists():
                raise UserError(
                    f"{key}={path}: there is no such file or folder (looked from {Path.cwd()})."
                )


#: Words whose value is a path, as typed or as Hydra has them; weights may be a name on a hub.
_PLACE = re.compile(r"(\+*)(ckpt|init|[\w.]+\.(?:root|cache|weights|index))=(.+)", re.DOTALL)


def _whole(word: str) -> str:
    """A word with its path from the root of the disk, where its value is one."""
    match = _PLACE.fullmatch(word)
    plain = match[3].strip("'\"") if match is not None else "null"
    if match is None or plain == "null" or "${" in plain or _is_remote(plain):
        return word
    if match[2].endswith((".weights", ".index")) and not Path(plain).expanduser().exists():
        return word
    return match[1] + quote([f"{match[2]}={_absolute(plain)}"])[0]


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _is_remote(checkpoint: str) -> bool:
    return checkpoint.startswith(("zoo:", "hf://"))


def _is_own(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key in OWN or key.startswith(("suite.", "roots.", "hydra."))


def _subject(item: str, own: Path | None) -> tuple[str, tuple[str, ...]]:
    """Label and words of one of `models=`."""
    known = options("model", own)
    option, at, checkpoint = item.partition("@")
    if item in known:
        return item, (f"model={item}",)
    if at and option in known:
        return option, (f"model={option}", f"ckpt={checkpoint}")
    if not (_is_remote(item) or Path(item).expanduser().exists()):
        raise UserError(
            f"models=: {item} is neither a model option nor a run or checkpoint that is there. "
            f"{near(item, known)}"
        )
    return _name_of(item), (f"ckpt={item}",)


def _name_of(checkpoint: str) -> str:
    """What a checkpoint is called: the model option of its run, else its file's name."""
    path = Path(checkpoint).expanduser()
    for folder in (path, path.parent):
        try:
            held = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            return str(held.get("model") or folder.name)
        except (OSError, ValueError, AttributeError):
            continue
    return checkpoint.rpartition("/")[2].rpartition(":")[2]


def _label_of(words: Sequence[str]) -> str:
    values = {
        key: value.strip("'\"")
        for key, _, value in (word.lstrip("+").partition("=") for word in words)
    }
    for name in ("model.name", "model.lm.weights", "model"):
        if values.get(name) not in (None, "", "null"):
            return values[name].rstrip("/").rpartition("/")[2]
    return _name_of(values["ckpt"]) if values.get("ckpt") else "model"


def _apart(subjects: Sequence[Subject]) -> list[Subject]:
    """Labels as names of folders, each once."""
    found: list[Subject] = []
    for one in subjects:
        label = re.sub(r"[^\w.-]+", "_", one.label).strip("._") or "model"
        taken = {other.label for other in found}
        free = [label, *(f"{label}_{n}" for n in range(2, len(subjects) + 2))]
        found.append(Subject(next(name for name in free if name not in taken), one.words))
    return found
