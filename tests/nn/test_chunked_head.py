"""The head in chunks: losses and gradients of the whole, and never the logits of all words."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from largest_tensor import Largest
from model_options import build
from torch.nn import functional as F

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.losses.caption_retrieval import CaptionRetrievalLoss
from rsvlm.losses.language import AnswerLoss, cross_entropy_of
from rsvlm.losses.mask import AnswerAndMasksLoss
from rsvlm.models.extra_token import ExtraToken
from rsvlm.nn.chunked_head import token_losses


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def compare(found, expected):
    assert found.keys() == expected.keys() and found
    for name, gradient in found.items():
        # Measured: at most 2e-7 of the largest; the head's products are added up in parts.
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], atol=1e-5 * scale + 1e-8, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", ["tiny", "tiny_opt"])
def test_answers_cost_and_teach_the_same(size, smoothing, chunk):
    torch.manual_seed(0)
    lm = LanguageModel(size, words=["a", "b"], tuning="full").eval()
    embeds, mask = torch.randn(3, 6, lm.dim), torch.ones(3, 6, dtype=torch.long)
    labels = torch.tensor([[-100, 5, 6, -100, -100, 7], [-100] * 6, [1, -100, 2, 3, 4, 5]])
    loss = AnswerLoss(smoothing=smoothing)
    found = []
    for lm.head_chunk in (None, chunk):
        outputs = lm(embeds, mask, labels)
        assert ("token_losses" in outputs) == (lm.head_chunk is not None)
        assert outputs["targets"].tolist() == [5, 6, 7, 2, 3, 4, 5]
        value = loss(outputs, None)["answer"]
        found.append((value.detach(), gradients(lm, value)))
    (whole, expected), (parts, given) = found
    torch.testing.assert_close(parts, whole)
    compare(given, expected)


def test_rs_capret_costs_and_teaches_the_same():
    torch.manual_seed(0)
    model = build("rscapret_tiny").eval()
    texts = ["an airport", "two planes on the road", "a river and a bridge"]
    ids = model.pairs().tokenize(texts)[0]
    images = torch.randint(0, 256, (3, 3, model.image_size, model.image_size), dtype=torch.uint8)
    batch = SimpleNamespace(images=images, input_ids=ids)
    found = []
    for model.lm.head_chunk in (None, 3):
        outputs = model(batch)
        assert ("text_token_losses" in outputs) == (model.lm.head_chunk is not None)
        losses = CaptionRetrievalLoss()(outputs, batch)
        found.append((losses, gradients(model, sum(losses.values()))))
    (whole, expected), (parts, given) = found
    torch.testing.assert_close(parts, whole)
    compare(given, expected)


def test_new_words_of_the_pixel_family_cost_and_teach_the_same():
    torch.manual_seed(0)
    model = build("lisa_tiny", chat={"which": "all"}, instructions={"tasks": ["segment"]}).eval()
    mask = np.zeros((40, 40), bool)
    mask[5:20, 3:30] = True
    one = Instance(0, "tank", phrase="the tank", mask=mask, box=(3, 5, 30, 20))
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    samples = [Sample([picture], instances=[one], meta={"id": 0, "dataset": "x"})]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    batch = model.collate(training=True)([view[(0, 0)]])
    found = []
    for model.lm.head_chunk in (None, 3):
        outputs = model(batch)
        assert ("token_losses" in outputs) == (model.lm.head_chunk is not None)
        assert model.first_id in outputs["targets"].tolist()
        losses = AnswerAndMasksLoss()(outputs, batch)
        found.append((losses, gradients(model, sum(losses.values()))))
    (whole, expected), (parts, given) = found
    torch.testing.assert_close(parts, whole)
    compare(given, expected)


def test_a_new_word_s_logits_come_in_chunks_too():
    torch.manual_seed(0)
    words, vocabulary = 64, 5000
    table = torch.nn.Embedding(vocabulary, 8)
    head = torch.nn.Linear(8, vocabulary, bias=False)
    language = SimpleNamespace(
        get_input_embeddings=lambda: table, get_output_embeddings=lambda: head
    )
    lm = SimpleNamespace(model=language)
    new = ExtraToken(lm, 2)
    hidden = torch.randn(words, 8, requires_grad=True)
    targets = torch.randint(vocabulary + 2, (words,))
    logits = partial(new.logits, lm, word=vocabulary)
    with Largest() as largest:
        token_losses(logits, hidden, targets, 4).sum().backward()
    assert largest.found == 8 * vocabulary  # the head's own weights


def test_no_tensor_holds_all_logits_either_way():
    torch.manual_seed(0)
    words, vocabulary = 64, 5000
    head = torch.nn.Linear(8, vocabulary, bias=False).requires_grad_(False)
    hidden = torch.randn(words, 8, requires_grad=True)
    targets = torch.randint(vocabulary, (words,))
    sizes = {}
    for chunk in (words, 4):
        with Largest() as largest:
            outputs = {"token_losses": token_losses(head, hidden, targets, chunk)}
            cross_entropy_of(outputs).backward()
        sizes[chunk] = largest.found
    assert sizes[words] == words * vocabulary
    assert sizes[4] == 8 * vocabulary  # the head's own weights; a chunk's logits are half of them


def test_a_word_that_cannot_be_written_has_no_part_in_the_mean():
    hidden = torch.randn(5, 8, requires_grad=True)
    gap = torch.zeros(6)
    gap[3] = -torch.inf
    targets = torch.tensor([0, 1, 2, 4, 5])
    made = token_losses(lambda states: states[:, :6] + gap, hidden, targets, 2)
    made.sum().backward()
    assert made.isfinite().all() and hidden.grad.isfinite().all()
    torch.testing.assert_close(
        made[:, 0], F.cross_entropy(hidden[:, :6] + gap, targets, reduction="none")
    )


def test_a_chunk_is_one_word_or_more():
    with pytest.raises(UserError, match=r"model.lm.head_chunk=0"):
        LanguageModel("tiny", words=["a"], head_chunk=0)
