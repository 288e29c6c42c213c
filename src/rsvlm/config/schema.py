"""The words that stand at the top of a configuration; anything else up there is an error.

Every other knob lives in the node of the group that it belongs to (`optimizer.lr`,
`evaluation.protocol`), where `rsvlm.app.run.check` holds it to the signature of its `_target_`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError

# OmegaConf's word for "not given": a schema that is merged late must not overwrite values, so all
# defaults stand in the yaml files.
MISSING = "???"

GROUPS = (
    "paths",
    "data",
    "model",
    "loss",
    "optimizer",
    "scheduler",
    "task",
    "evaluation",
    "callbacks",
    "logger",
    "trainer",
)


@dataclass
class Schema:
    """Top level of train.yaml and eval.yaml.

    Attributes:
        name: name of the run; its folder is `runs/<name>/<time>`.
        tags: words for the logger.
        seed: seed of initialisation, order, augmentation and dropout.
        ckpt: a checkpoint of exactly this model.
        init: a checkpoint to start a new training from.
        init_new: parts that `init` may lack and that stay fresh.
        resume: folder of a run to go on with.
        compile: whether the model runs through `torch.compile`.
    """

    name: str = MISSING
    tags: list[str] = MISSING  # type: ignore[assignment]
    seed: int = MISSING  # type: ignore[assignment]
    ckpt: str | None = MISSING
    init: str | None = MISSING
    init_new: list[str] = MISSING  # type: ignore[assignment]
    resume: str | None = MISSING
    compile: bool = MISSING  # type: ignore[assignment]
    paths: Any = MISSING
    data: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    task: Any = MISSING
    evaluation: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    trainer: Any = MISSING


@dataclass
class EvalSchema(Schema):
    """Top level of eval.yaml.

    Attributes:
        knowledge: a base that the model answers with; see `inference.knowledge.with_knowledge`.
    """

    knowledge: Any = MISSING


@dataclass
class BenchSchema(EvalSchema):
    """Top level of bench.yaml: which evaluations, of which models, on how much of the data.

    Attributes:
        suite: its evaluations, see conf/suite.
        suite_file: the same as a file anywhere; `suite=<file>.yaml` is typed.
        models: several models in one table: options, checkpoints, or `<option>@<checkpoint>`.
        limit: samples that are drawn of each data set; None takes all.
        seeds: each evaluation is made under each of them.
        bootstrap: samples of the bootstrap behind intervals; 0 gives none.
        roots: data option -> its folder.
    """

    suite: Any = MISSING
    suite_file: str | None = MISSING
    models: list[str] = MISSING  # type: ignore[assignment]
    limit: int | None = MISSING  # type: ignore[assignment]
    seeds: list[int] = MISSING  # type: ignore[assignment]
    bootstrap: int = MISSING  # type: ignore[assignment]
    roots: dict[str, Any] = MISSING  # type: ignore[assignment]


@dataclass
class PredictSchema(EvalSchema):
    """Top level of predict.yaml: what is asked, and of which pictures.

    Attributes:
        image: a picture, a folder of them, a pattern (`tiles/*.tif`), or a .txt file of paths.
        before: first date of a pair; or a folder, whose names `after` has too.
        after: second date of a pair.
        prompt: the question, or candidate texts with `;` between them.
        text: a text to look for in `gallery`.
        gallery: folder of pictures to search, or an index of one (`rsvlm index`).
        out: a .jsonl or .csv file of the answers, or the picture of one answer (.png, .jpg), which
            by default is answer.png here.
        batch_size: pictures asked about at a time.
    """

    image: str | None = MISSING
    before: str | None = MISSING
    after: str | None = MISSING
    prompt: str | None = MISSING
    text: str | None = MISSING
    gallery: str | None = MISSING
    out: str | None = MISSING
    batch_size: int = MISSING  # type: ignore[assignment]


@dataclass
class CurateSchema:
    """Top level of curate.yaml: what is built, from what, and where it is worked.

    Attributes:
        pipeline: its source, stages and writer, see conf/pipeline.
        engine: where parts are made, see conf/engine.
        input: a table of addresses, or a folder, as the pipeline has it.
        osm: an extract of OpenStreetMap.
        imagery: pictures with coordinates.
        masks: folder of a data set with masks.
        out: the folder that is written.
        limit: first records of the input that are taken; None takes all.
        dry_run: everything but the data set.
        keep_parts: whether the parts stay when the data set is written.
        seed: of whatever is drawn.
    """

    pipeline: Any = MISSING
    engine: Any = MISSING
    input: str | None = MISSING
    osm: str | None = MISSING
    imagery: str | None = MISSING
    masks: str | None = MISSING
    out: str | None = MISSING
    limit: int | None = MISSING  # type: ignore[assignment]
    dry_run: bool = MISSING  # type: ignore[assignment]
    keep_parts: bool = MISSING  # type: ignore[assignment]
    seed: int = MISSING  # type: ignore[assignment]


#: Groups without a node of their own: what a command line may choose beside the schema's.
_CHOOSERS = ("experiment", "hparams_search", "local", "debug")
#: Words that are often typed without their group.
_INSIDE = (
    ("trainer", "max_epochs"),
    ("trainer", "max_steps"),
    ("trainer", "devices"),
    ("trainer", "precision"),
    ("trainer", "accelerator"),
    ("optimizer", "lr"),
    ("optimizer", "weight_decay"),
    ("data", "batch_size"),
    ("data", "eval_batch_size"),
    ("data", "workers"),
    ("data", "root"),
)
#: Verb -> the words that may stand at the top of its configuration.
SCHEMAS: dict[str, type[Any]] = {
    "train": Schema,
    "eval": EvalSchema,
    "predict": PredictSchema,
    "bench": BenchSchema,
    "curate": CurateSchema,
}


def words_of(verb: str) -> set[str]:
    """What may stand at the top of a verb's words: of its schema, and groups without a node."""
    names = {field.name for field in fields(SCHEMAS[verb])}
    return names | ({*_CHOOSERS} if "trainer" in names else set())


def check_words(words: Sequence[str], verb: str, folders: Sequence[Path] = ()) -> None:
    """Holds the words of a command line against the top of a verb's schema, before Hydra does.

    Hydra's own error says to put `+` before a word that it does not know, which makes it one that
    nothing reads.

    Args:
        words: as typed behind the verb.
        verb: one of `SCHEMAS`.
        folders: of configurations, whose sub-folders are groups.

    Raises:
        UserError: a word that the verb does not know, with `+`, `++` or `~` before it or not; a
            value that is missing behind `=`; or a key of an endpoint, which would be written down.
    """
    known = words_of(verb) | {"hydra"}
    if "trainer" in known:
        known |= {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    for word in words:
        key, equals, value = word.partition("=")
        name = _key(key)
        if not equals or name is None:
            continue
        if name not in known:
            raise UserError(_no_word(key.lstrip("+~"), name, verb, known, value))
        if _secret(key.rpartition(".")[2], value.strip("'\"")):
            raise UserError(
                f"{key.lstrip('+~')}= holds what looks like a key, which would be written into "
                "configurations, results and logs: export OPENAI_API_KEY=<key> instead, and let "
                f"{key.lstrip('+~').rpartition('.')[0]}.key_env= name another variable."
            )


def _secret(word: str, value: str) -> bool:
    """Whether a word's value is a key of an endpoint, or an address with one."""
    if word == "key_env":
        return value != "null" and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value)
    if word == "url":
        asked = re.search(r"(?i)[?&](api[-_]?)?(key|token)=", value)
        return bool(asked or re.match(r"\w+://[^/?#]*@", value))
    return word == "api_key"


def _key(typed: str) -> str | None:
    """The top-level word of an override's key; None for a flag of Hydra's."""
    match = re.fullmatch(r"(?:\+\+?|~)?([A-Za-z_]\w*)((?:[./@:].*)?)", typed)
    return match[1] if match else None


def _no_word(typed: str, name: str, verb: str, known: set[str], value: str) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    inside = [f"{group}.{name}" for group, key in _INSIDE if key == name]
    if inside and not close:
        hint = f"Did you mean {' or '.join(f'{key}={value}' for key in inside)}?"
    elif close:
        hint = f"Did you mean {typed.replace(name, close[0], 1)}={value}?"
    else:
        hint = f"Known: {', '.join(sorted(known - {'hydra'}))}."
    return (
        f"{typed}= is no word of rsvlm {verb}, and nothing would read it. {hint} Whatever belongs "
        "to a group is written with it, as trainer.max_epochs=1 or optimizer.lr=1e-4."
    )


def check_top_level(names: Iterable[str], verb: str) -> None:
    """Holds the top of a composed configuration against its verb's schema.

    A structured configuration takes `+modle=x` in spite of itself.

    Raises:
        UserError: a word that the verb does not know; names the near ones.
    """
    known = {field.name for field in fields(SCHEMAS[verb])}
    for name in names:
        if name not in known:
            raise UserError(_no_word(name, name, verb, known, "..."))
