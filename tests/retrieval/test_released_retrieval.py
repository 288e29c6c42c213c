"""RS-RAG's base, search, context and prompts as its code makes them (`rsrag_retrieval`)."""

import os
from pathlib import Path

import numpy as np
import pytest
from golden_case import read_case

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_builder import Options
from rsvlm.retrieval.released_knowledge import released_records

pytestmark = pytest.mark.parity("rsrag_retrieval")
GOLDEN = Path(os.environ.get("RSVLM_GOLDEN", "nowhere")) / "rsrag_retrieval"


class Stored:
    """The vectors of the case."""

    name, text_length = "stored", 77

    def __init__(self, case):
        spec, held = case.spec, {k: v.numpy() for k, v in case.tensors.items()}
        self.texts, self.images = {}, {}
        for point in spec["points"]:
            self.texts[point["text"]] = held["text_vectors"][point["text_row"]]
            self.images[point["image"]] = held["image_vectors"][point["image_row"]]
        for i, query in enumerate(spec["queries"]):
            self.texts[query["question"]] = held["query_text"][i]
            self.images[query["image"]] = held["query_image"][i]
        self.other = np.eye(1, held["query_text"].shape[1], dtype=np.float32)[0]

    def count_tokens(self, text):
        return len(text.split())

    def encode_texts(self, texts):
        return np.stack([self.texts.get(text, self.other) for text in texts])

    def encode_images(self, images):
        if missing := [str(path) for path in images if str(path) not in self.images]:
            raise UserError(f"{missing[0]} cannot be read")
        return np.stack([self.images[str(path)] for path in images])


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.is_dir():
        pytest.skip("no parity case rsrag_retrieval")
    return read_case(GOLDEN)


@pytest.fixture(scope="module")
def records(golden):
    held = golden.spec["records"]
    missing = {f"images/{name}" for name in golden.spec["missing_images"]}
    return released_records(held["world"], held["monthly"], held["descriptions"], missing=missing)


@pytest.fixture(scope="module")
def base(golden, records, tmp_path_factory):
    out = tmp_path_factory.mktemp("released") / "kb"
    return KnowledgeBase.build(records[0], Stored(golden), out, options=Options(long="cut"))


def test_chunks_are_the_published_ones_in_their_order(golden, records):
    made = [(c.order, r.image, c.type, c.text) for r in records[0] for c in r.chunks]
    points = [(p["id"], p["image"], p["chunk_type"], p["text"]) for p in golden.spec["points"]]
    assert sorted(made) == points
    assert all(
        any(image in fault for fault in records[1]) for image in golden.spec["missing_images"]
    )


def test_results_are_the_published_ones(golden, base):
    for told in golden.spec["results"]:
        query = golden.spec["queries"][told["query"]]
        hits = base.search(
            query["image"],
            query["question"],
            task=told["task"],
            k=told["top_k"],
            alpha=told["alpha"],
            variant=told["variant"],
            search_k=told["search_k"],
        )
        assert [hit.order for hit in hits] == told["ids"], told
        for word, of in (("scores", "score"), ("image_scores", "image_score")):
            if word in told:
                found = [getattr(hit, of) for hit in hits]
                np.testing.assert_allclose(found, told[word], atol=3e-7)
        if "text_scores" in told:
            np.testing.assert_allclose([h.text_score for h in hits], told["text_scores"], atol=3e-7)


def test_the_plain_search_finds_what_the_published_one_does_at_the_same_alpha(golden, base):
    """Recall aside, which takes all there, both rank by the same score."""
    for told in golden.spec["results"]:
        if told["variant"] != "runtime" or told["search_k"] < len(golden.spec["points"]):
            continue
        query = golden.spec["queries"][told["query"]]
        hits = base.search(
            query["image"],
            query["question"],
            task=told["task"],
            k=told["top_k"],
            alpha=told["alpha"],
        )
        assert [hit.order for hit in hits] == told["ids"]


def test_an_unknown_task_is_an_error_and_no_silence(golden, base):
    query = golden.spec["queries"][0]
    with pytest.raises(UserError, match="no task 'nonsense'"):
        base.search(query["image"], query["question"], task="nonsense", variant="released")
    with pytest.raises(UserError, match="unreadable"):
        base.search("images/unreadable.png", "what?", task="vqa", variant="released")
