"""A model that writes and finds images, in the family's hands."""

from __future__ import annotations

import pytest
import torch

from rsvlm.data.collate import PairCollate
from rsvlm.errors import UserError
from rsvlm.lit.evaluation import RetrievalEvaluation
from rsvlm.lit.generative import Generative
from rsvlm.losses.caption_retrieval import CaptionRetrievalLoss
from rsvlm.models.rscapret import rscapret_tiny


def test_it_is_evaluated_by_pairs_and_keeps_its_rows_after_a_step():
    torch.manual_seed(0)
    model = rscapret_tiny()
    task = Generative(model=model, loss=CaptionRetrievalLoss(), evaluation=RetrievalEvaluation())
    collate = task.eval_collate()
    assert isinstance(collate, PairCollate) and collate.all_texts
    with torch.no_grad():
        model.ret.row.mul_(9)
    task.after_step()
    table = model.lm.model.get_input_embeddings().weight
    torch.testing.assert_close(model.ret.row.norm(), table.norm(dim=1).mean())


def test_a_model_that_finds_nothing_says_so():
    from rsvlm.models.deltavlm import deltavlm_tiny

    task = Generative(model=deltavlm_tiny(device="meta"), evaluation=RetrievalEvaluation())
    with pytest.raises(UserError, match="a DeltaVLM writes and finds no images"):
        task.eval_collate()
