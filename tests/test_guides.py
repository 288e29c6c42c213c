"""The guides name files, names and commands that there are."""

import re
import tomllib

import pytest
import yaml

from rsvlm.cli.main import TOOLS, VERBS

GUIDES = ("adding_a_model", "adding_a_data_set", "adding_a_metric")


@pytest.fixture(params=["CONTRIBUTING.md", *(f"docs/{name}.md" for name in GUIDES)])
def page(request, root):
    return (root / request.param).read_text(encoding="utf-8")


def test_files_and_links_are_there(root, page):
    paths = re.findall(r"`((?:src|conf|tests|docs|experiments)/[^`\s]*)`", page)
    paths += re.findall(r"\]\((?!http)([^)]+)\)", page)
    assert paths
    for path in paths:
        if "<" not in path:
            assert (root / path).exists(), path


def test_names_stand_in_the_file_that_is_said(root, page):
    pairs = re.findall(r"`(\w+)(?:\(\))?`\s+(?:of|in)\s+`(src/[\w/.]+\.py)`", page)
    pairs += re.findall(r"`(\w+)` \(`(src/[\w/.]+\.py)`\)", page)
    for name, path in pairs:
        assert re.search(rf"\b{name}\b", (root / path).read_text(encoding="utf-8")), (name, path)


def test_commands_are_commands(root, page):
    for word in re.findall(r"`rsvlm (\w+)", page):
        assert word in VERBS or word in TOOLS, word
    targets = (root / "Makefile").read_text(encoding="utf-8")
    for word in re.findall(r"^make ([\w-]+)|`make ([\w-]+)`", page, re.MULTILINE):
        assert f"\n{''.join(word)}:" in targets, word


def test_the_citation_has_this_version(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    held = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert (held["version"], held["license"]) == (project["version"], project["license"])


def test_hooks_before_a_commit_are_what_make_check_runs(root):
    held = yaml.safe_load((root / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repo in held["repos"] for hook in repo["hooks"]]
    assert hooks == [".venv/bin/ruff format", ".venv/bin/ruff check", ".venv/bin/mypy"]
