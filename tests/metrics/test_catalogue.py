"""docs/metrics.md is what the docstrings say, and each of these says what it must."""

import re

import pytest

from rsvlm.cli.metrics import main
from rsvlm.metrics.catalogue import TITLES, description, entries, page
from rsvlm.metrics.names import METRICS, PROTOCOLS

EVERY = [(task, entry) for task, found in entries().items() for entry in found]


def test_the_page_is_current(root, tmp_path):
    main(["docs", "--out", str(tmp_path / "metrics.md")])
    made = (tmp_path / "metrics.md").read_text("utf-8")
    kept = (root / "docs" / "metrics.md").read_text("utf-8")
    assert made == kept == page(), "run rsvlm metrics docs"


def test_every_task_word_and_protocol_is_on_the_page():
    assert set(entries()) == set(TITLES) == set(PROTOCOLS)
    assert len(EVERY) >= 25
    text = page()
    for name in METRICS:
        assert f"| `{name}` |" in text
    for task in PROTOCOLS:
        for name in PROTOCOLS[task]:
            assert f"| `{name}` |" in text


@pytest.mark.parametrize(
    ("task", "entry"), EVERY, ids=[f"{task}-{entry.__qualname__}" for task, entry in EVERY]
)
def test_a_docstring_gives_formula_range_direction_protocol_and_papers(task, entry):
    text = " ".join(description(entry).split())
    assert "Formula" in text or "`" in text
    assert re.search(r"Range: 0 to ", text), text
    assert re.search(r"(Higher|Lower) is better", text), text
    named = re.search(r"Protocols?: ([^.]*)", text)
    assert named, text
    assert any(protocol in named.group(1) for protocol in PROTOCOLS[task]), text
    assert "Used in:" in text, text
