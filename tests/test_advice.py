"""What errors tell users to type exists: keys, options, recipes, commands."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import yaml

from rsvlm.cli.main import TOOLS, VERBS
from rsvlm.config.schema import SCHEMAS

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
TOP = {field.name for schema in SCHEMAS.values() for field in fields(schema)}
GROUPS = {
    p.relative_to(CONF).as_posix() for p in CONF.rglob("*") if p.is_dir() and any(p.glob("*.yaml"))
}
#: `key=` or `group.key=value` in a sentence; a value in <> or {} is the user's.
WORD = re.compile(r"(?<![\w.=/+'\"(\[-])(\+{0,2})([a-z_]+(?:[./][a-z_]+)*)=([\w./<>{}*-]*)")


def paths(node, front):
    if isinstance(node, dict):
        for key, value in node.items():
            # What stands under a node that is null by default is its user's.
            yield f"{front}.{key}" if value is not None else f"{front}.{key}.*"
            yield from paths(value, f"{front}.{key}")


@cache
def keys():
    """Every dotted key that some option of a group has."""
    found = set()
    for file in CONF.rglob("*.yaml"):
        group = file.parent.relative_to(CONF).as_posix()
        held = yaml.safe_load(file.read_text("utf-8"))
        if group in ("experiment", "debug", "hparams_search", "."):
            found |= {path.lstrip(".") for path in paths(held, "")}
        else:
            found |= set(paths(held, group.replace("/", ".")))
    return found


@cache
def told():
    return list(_told())


def _told():
    """(place, text) of each text of the sources that is no docstring and speaks of words."""
    for file in sorted((ROOT / "src" / "rsvlm").rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        inside = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    str(v.value) if isinstance(v, ast.Constant) else "<x>" for v in node.values
                )
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docs | inside
            ):
                text = node.value
            else:
                continue
            yield f"{file.relative_to(ROOT)}:{node.lineno}", text


@cache
def advised():
    return list(_advised())


def _advised():
    for place, text in told():
        if " " not in text.strip():
            continue  # no sentence
        for plus, key, value in WORD.findall(text):
            top = re.split(r"[./]", key)[0]
            if top in TOP or top in GROUPS:
                yield place, plus, key, value


def test_there_is_advice():
    assert len(advised()) > 100


def test_every_key_that_an_error_names_can_be_set():
    wrong = []
    for place, plus, key, _ in advised():
        if plus or key in TOP or key.replace(".", "/") in GROUPS:
            continue
        if key in keys() or f"{key}.*" in keys() or f"{key.rpartition('.')[0]}.*" in keys():
            continue
        wrong.append(f"{place}: {key}=")
    assert not wrong, "\n".join(wrong)


def test_every_option_that_an_error_names_is_there():
    wrong = []
    for place, _, key, value in advised():
        group = key.replace(".", "/")
        if group not in GROUPS or not re.fullmatch(r"[a-z][\w]*", value.rstrip(".")):
            continue
        known = {p.stem for p in (CONF / group).glob("*.yaml")} | {"null"}
        if value.rstrip(".") not in known:
            wrong.append(f"{place}: {key}={value}")
    assert not wrong, "\n".join(wrong)


def test_every_command_that_an_error_names_is_there():
    wrong = []
    for place, text in told():
        for name in re.findall(r"(?<![\w./'\[])(?<!this )rsvlm ([a-z]+) (?=\S*[=<]|--)", text):
            if name not in (*VERBS, *TOOLS):
                wrong.append(f"{place}: rsvlm {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "word",
    [
        "trainer=cpu",
        "callbacks.checkpoints.monitor=null",
        "optimizer.lr=1e-4",
        "trainer.gradient_clip_val=1.0",
        "trainer.precision=32-true",
        "hydra/launcher=local_jobs",
        "evaluation.protocol=nltk",
    ],
)
def test_words_that_are_told_compose(compose, word):
    words = ["evaluation=captions", word] if word.startswith("evaluation.") else [word]
    assert compose("train", words)
