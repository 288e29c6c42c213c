"""RS-RAG's two evaluation scripts: the numbers of their tables (`rsrag_metrics`)."""

import json
import os
from pathlib import Path

import pytest

from rsvlm.metrics.captions import score
from rsvlm.metrics.captions.nltk_style import missing_meteor
from rsvlm.metrics.rs_rag import caption_pairs, class_match, truncated

pytestmark = pytest.mark.parity("rsrag_metrics")
GOLDEN = Path(os.environ.get("RSVLM_GOLDEN", "nowhere")) / "rsrag_metrics" / "case.json"
WORDS = {
    "BLEU-1": "bleu1", "BLEU-2": "bleu2", "BLEU-3": "bleu3", "BLEU-4": "bleu4",
    "METEOR": "meteor", "ROUGE-L": "rouge_l", "CIDEr": "cider",
}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.is_file():
        pytest.skip("no parity case rsrag_metrics")
    held = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for group in ("captions", "classes"):  # "absent": a line without a prediction
        pairs = held[group]["pairs"]
        held[group]["pairs"] = [[a, None if b == "absent" else b] for a, b in pairs]
    return held


def words():
    return {
        theirs: ours for theirs, ours in WORDS.items() if ours != "meteor" or not missing_meteor()
    }


def rows(golden, group):
    """(pairs of a file, its row of the table)."""
    held = golden[group]
    for row in held["table"]:
        told = row.get("row", row)
        for name, (a, b) in held["files"].items():
            stem = name.removesuffix(".jsonl").split("_")
            model = stem[2] if len(stem) > 2 else "unknown"
            if (stem[0], model) == (told["dataset"], told["model"]):
                yield held["pairs"][a:b], row


def test_tables_of_captions(golden):
    found = list(rows(golden, "captions"))
    assert len(found) >= len(golden["captions"]["table"])
    for pairs, row in found:
        references, predictions = caption_pairs(pairs)
        if str(len(predictions)) != row["row"]["total_entries"]:
            continue  # another file of the same name
        scores = score("rs_rag", predictions, [[ref] for ref in references])
        for theirs, ours in words().items():
            assert scores.corpus[ours] == pytest.approx(row["raw"][theirs], abs=1e-9), theirs
            assert truncated(scores.corpus[ours]) == row["row"][theirs], theirs


def test_single_pairs(golden):
    for pair, each in zip(golden["captions"]["pairs"], golden["captions"]["each"], strict=True):
        references, predictions = caption_pairs([pair])
        assert bool(predictions) == (each is not None)
        if each is None:
            continue
        scores = score("rs_rag", predictions, [references])
        for theirs, ours in words().items():
            if theirs in each:
                assert scores.corpus[ours] == pytest.approx(each[theirs], abs=1e-9), (pair, theirs)


def test_tables_of_classes(golden):
    found = list(rows(golden, "classes"))
    assert len(found) >= len(golden["classes"]["table"])
    for pairs, row in found:
        match = class_match(pairs)
        assert str(match.total) == row["total_entries"]
        assert truncated(match.accuracy) == row["Accuracy"]
        told = " | ".join(f"{name}:{truncated(value)}" for name, value in match.per_class.items())
        assert told == row["Per-Class Accuracy"]


def test_numbers_are_cut(golden):
    for value, text in golden["truncate"]:
        assert truncated(value) == text


def test_labels_off_the_list_are_told():
    match = class_match([("Zoo", "zoo"), ("Park", "a park"), ("park", " Park ")], ["Park", "Beach"])
    assert (match.total, match.correct, match.off_list) == (3, 2, {"zoo": 1})
    assert match.off_list_answers == {"a park": 1, "zoo": 1}
    assert match.listed_accuracy == 0.5
