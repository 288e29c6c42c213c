"""What a Qdrant server is asked, where its client's memory is no measure of it."""

from types import SimpleNamespace

import pytest

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_search import Filter
from rsvlm.retrieval.knowledge_store import Asked

pytest.importorskip("qdrant_client")


def test_a_place_is_sought_by_letters_as_in_folders():
    """A server's MatchText is by words: `ace3` was in no `place3` (tried on its own engine)."""
    from qdrant_client import models

    from rsvlm.retrieval.knowledge_points import conditions

    made = conditions(models, 1, None, Filter(place="ACE3"))
    assert made.must[-1].match.model_dump() == {"substring": "ace3"}


def test_a_server_that_cannot_says_so(monkeypatch):
    from rsvlm.retrieval.knowledge_points import ServerVersion
    from rsvlm.retrieval.knowledge_qdrant import QdrantStore

    store = QdrantStore("http://localhost:9/places")
    said = {"left_out": [], "fingerprint": "", "kinds": {}}
    monkeypatch.setattr(store.client, "info", lambda: SimpleNamespace(version="1.19.2"))
    asked = Asked([1.0], None, 1.0, None, Filter(place="a"), 1)
    with pytest.raises(UserError, match=r"--place. needs a Qdrant server of 1.20.* is 1.19.2"):
        store.narrow(ServerVersion(store, 1, said), asked)
