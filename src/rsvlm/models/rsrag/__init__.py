"""RS-RAG: a model that answers with what a knowledge base holds on the picture and question."""

from __future__ import annotations

from rsvlm.models.rsrag.model import RSRAG

__all__ = ["RSRAG"]
