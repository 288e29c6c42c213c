"""A model that writes and finds images, in the family's hands."""

from __future__ import annotations

import pytest
import torch
from model_options import build

from rsvlm.app import run
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.errors import UserError
from rsvlm.evaluation.retrieval import RetrievalEvaluation
from rsvlm.lit.generative import Generative
from rsvlm.losses.caption_retrieval import CaptionRetrievalLoss
from rsvlm.metrics.captions.records import read_rows


def test_it_is_evaluated_by_pairs_and_keeps_its_rows_after_a_step():
    torch.manual_seed(0)
    model = build("rscapret_tiny")
    task = Generative(model=model, loss=CaptionRetrievalLoss(), evaluation=RetrievalEvaluation())
    collate = task.eval_collate()
    assert isinstance(collate, PairCollate) and collate.all_texts
    with torch.no_grad():
        model.ret.row.mul_(9)
    task.after_step()
    table = model.lm.model.get_input_embeddings().weight
    torch.testing.assert_close(model.ret.row.norm(), table.norm(dim=1).mean())


def test_a_model_that_finds_nothing_says_so():
    task = Generative(model=build("deltavlm_tiny", device="meta"), evaluation=RetrievalEvaluation())
    with pytest.raises(UserError, match="a DeltaVLM writes and finds no images"):
        task.eval_collate()


def test_it_is_measured_by_retrieval_and_by_captions(compose, tmp_path):
    base = ["model=rscapret_tiny", "task=captioner", "data=scenes", "data.dataset.n=4"]
    base += ["data.dataset.size=64", "data.workers=0", "trainer=cpu", "logger=none"]
    values = run.evaluate(compose("eval", [*base, "evaluation=retrieval"]), tmp_path / "found")
    assert values["test/scenes/remoteclip/t2i_r10"] == 100  # of four images
    assert (tmp_path / "found" / "pictures" / "retrieval_texts.png").is_file()
    words = ["evaluation=captions", "evaluation.metrics=[bleu1]"]
    values = run.evaluate(compose("eval", [*base, *words]), tmp_path / "written")
    assert set(values) == {"test/scenes/coco/bleu1", "test/scenes/coco/caption_empty"}
    lines = read_rows(tmp_path / "written" / "predictions.jsonl")
    assert len(lines) == 4 and (tmp_path / "written" / "pictures" / "answers.png").is_file()


def test_the_wrong_family_and_the_wrong_evaluation_say_which_is_right(compose, tmp_path):
    base = ["data=scenes", "data.dataset.n=4", "trainer=cpu", "logger=none"]
    words = [*base, "model=rscapret_tiny", "evaluation=retrieval"]
    with pytest.raises(UserError, match=r"a RSCapRet is none: set task=captioner"):
        run.evaluate(compose("eval", words), tmp_path / "a")
    for evaluation in ("captions", "vqa"):
        words = [*base, "model=clip_tiny", f"evaluation={evaluation}", "data.workers=0"]
        with pytest.raises(UserError, match=r"a CLIP writes no answers.*task=captioner"):
            run.evaluate(compose("eval", words), tmp_path / evaluation)
