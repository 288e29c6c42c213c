"""`pytest -m parity` runs every test that holds a published number of RSVLM_GOLDEN."""

import ast
import os
import re
from pathlib import Path

TESTS = Path(__file__).parent
FILES = sorted(set(TESTS.rglob("test_*.py")) - {Path(__file__)})
#: Names through which a parity case is read.
READS = {"golden", "read_case", "GOLDEN"}


def names(node):
    """Names that a definition uses: variables, and fixtures by their arguments."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.arg):
            yield inner.arg


def readers(tree):
    """Test functions that read a parity case, by themselves or through others of the file."""
    reads, uses = set(READS), {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "golden_change":
            reads |= {"case"} & {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            uses[node.name] = set(names(node))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            uses[node.targets[0].id] = set(names(node.value))
    while new := {name for name, used in uses.items() if used & reads} - reads:
        reads |= new
    tests = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return [node for node in tests if node.name in reads]


def marked(tree):
    """Whether a test bears the marker: its file does, or a decorator, or a name that is one."""
    words = {"parity"}
    for node in tree.body:
        if isinstance(node, ast.Assign) and "mark.parity" in ast.unparse(node.value):
            words.add(node.targets[0].id)
    everyone = "pytestmark" in words
    return lambda test: (
        everyone
        or any(set(re.findall(r"\w+", ast.unparse(mark))) & words for mark in test.decorator_list)
    )


def test_each_test_that_reads_a_parity_case_bears_the_marker():
    found = 0
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if not re.search("golden|GOLDEN", text):
            continue
        tree = ast.parse(text)
        bears = marked(tree)
        for test in readers(tree):
            found += 1
            assert bears(test), f'{path}: {test.name} lacks @pytest.mark.parity("<case>")'
    assert found >= 15


def test_markers_name_cases():
    said = set()
    for path in FILES:
        said |= set(re.findall(r'mark\.parity\("(\w+)"\)', path.read_text(encoding="utf-8")))
    assert said >= {"captions", "fromage", "deltavlm", "minigptv2", "mmodalcc", "selo"}
    if "RSVLM_GOLDEN" in os.environ:
        there = {path.name for path in Path(os.environ["RSVLM_GOLDEN"]).iterdir()}
        assert said <= there, said - there
