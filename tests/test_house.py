"""The rules of the house, held over every file."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from rsvlm.cli.table import measured, read_expected, table
from rsvlm.config.compose import options
from rsvlm.metrics.names import SCALARS, parse

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "rsvlm").rglob("*.py"))
PAPERS = sorted(p.parent for p in (ROOT / "experiments").glob("*/expected.yaml"))


def imported(path):
    """(module, at the top of the file) of every import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], id(node) in top


def test_there_are_files_to_hold():
    assert len(SOURCES) >= 120
    assert len(PAPERS) >= 5


def test_heavy_libraries_are_imported_where_they_are_used():
    heavy = {"wandb", "matplotlib", "transformers", "open_clip", "webdataset", "huggingface_hub"}
    for path in SOURCES:
        found = {name for name, top in imported(path) if top} & heavy
        assert not found, f"{path} imports {found} at its top"


def test_no_two_test_files_share_a_name():
    # pytest imports them by it, and two of one name are an error in the process that meets both.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) >= 80
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def test_files_are_small():
    for path in SOURCES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
    for path in (ROOT / "src" / "rsvlm" / "lit").glob("contrastive.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path
    for name in ("train.py", "eval.py", "predict.py"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 60


def test_no_loose_loading_no_unfinished_places():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        loose = r"load\w*\([^\n]*strict\s*=\s*False"
        for pattern in (loose, r"NotImplementedError", r"\bTODO\b", r"\bFIXME\b"):
            assert not re.search(pattern, text), f"{path}: {pattern}"


def test_every_name_that_training_logs_is_a_fixed_word():
    logged = set()
    for path in (ROOT / "src" / "rsvlm" / "lit").glob("*.py"):
        logged |= set(re.findall(r'"train/(\w+)"', path.read_text(encoding="utf-8")))
    assert logged >= {"loss", "logit_scale", "grad_norm"}
    assert logged <= set(SCALARS), logged - set(SCALARS)


def test_every_recipe_stands_in_exactly_one_expected_file():
    recipes = {p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml")}
    listed = [r for p in PAPERS for r in read_expected(p)["recipes"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == recipes


@pytest.mark.parametrize("folder", PAPERS, ids=lambda p: p.name)
def test_expected_numbers_name_known_recipes_models_and_metrics(folder):
    recipes = {p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml")}
    expected = read_expected(folder)
    for row in expected["rows"] or []:
        assert row["recipe"] in recipes, row
        assert row["model"] in options("model"), row
        for name in row["metrics"]:
            parse(name)
    assert (folder / "README.md").is_file()
    assert table(folder).count("\n") >= 1 + sum(len(r["metrics"]) for r in expected["rows"] or [])
    measured(folder)


def test_readme_commands_name_recipes_and_models_that_exist():
    recipes = {p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml")}
    pages = [ROOT / "README.md", *(p / "README.md" for p in PAPERS)]
    found = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for recipe in re.findall(r"(?<!--config-dir my_conf )experiment=(\w+)", text):
            found += 1
            assert recipe in recipes, f"{page}: {recipe}"
        for model in re.findall(r"(?<![/\w.])model=(\w+)", text):
            assert model in options("model"), f"{page}: {model}"
    assert found >= 10


def test_workflow_of_configs_is_plain_yaml():
    for path in (ROOT / "conf").rglob("*.yaml"):
        yaml.safe_load(path.read_text(encoding="utf-8"))
