import pickle

import numpy as np
import pytest
import torch

from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Sample, SampleError


@pytest.fixture(scope="module")
def tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def item(index, *texts, label=None, size=4, skipped=()):
    image = torch.full((3, size, size), index, dtype=torch.uint8)
    meta = {"id": f"{index}.jpg", "dataset": "made_up"}
    return TransformedSample(
        index, Sample([image], texts=list(texts), label=label, meta=meta), skipped
    )


def test_a_training_batch(tokenizer):
    items = [item(5, "a pond", label=2), item(9, "many planes are parked next to a terminal")]
    batch = PairCollate(tokenizer)(items)
    assert len(batch) == 2
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (2, 3, 4, 4)
    assert batch.images[:, 0, 0, 0].tolist() == [5, 9]
    assert batch.index.tolist() == [5, 9] and batch.label.tolist() == [2, -1]
    assert batch.image_of_text.tolist() == [0, 1]
    assert batch.texts == ["a pond", "many planes are parked next to a terminal"]
    assert batch.ids == ["5.jpg", "9.jpg"]
    assert (batch.truncated, batch.skipped) == (0, [])
    assert all(t.dtype == torch.long for t in (batch.input_ids, batch.index, batch.label))


def test_an_evaluation_batch_takes_all_captions(tokenizer):
    items = [item(0, "a", "b", "c"), item(1), item(2, "d")]
    batch = PairCollate(tokenizer, all_texts=True)(items)
    assert batch.texts == ["a", "b", "c", "d"]
    assert batch.image_of_text.tolist() == [0, 0, 0, 2]
    assert batch.input_ids.shape == (4, 8) and len(batch) == 3


def test_scenes_without_captions_have_no_texts(tokenizer):
    batch = PairCollate(tokenizer, all_texts=True)([item(0, label=1), item(1, label=0)])
    assert len(batch) == 2 and batch.label.tolist() == [1, 0]
    assert batch.input_ids.shape == (0, 8) and batch.image_of_text.shape == (0,)


@pytest.mark.parametrize("texts", [(), ("a", "b")])
def test_training_needs_exactly_one_caption(tokenizer, texts):
    with pytest.raises(SampleError, match=rf"'3\.jpg' of 'made_up' has {len(texts)} captions"):
        PairCollate(tokenizer)([item(3, *texts)])


def test_trimming_only_cuts_padding_and_rounds_to_eight(tokenizer):
    texts = ["a pond", "word " * 9, "word " * 30]
    for count in (1, 2, 3):
        whole = tokenizer(texts[:count])
        ids, _ = PairCollate(tokenizer).tokenize(texts[:count])
        longest = int((whole != 0).sum(1).max())
        assert ids.shape[1] == -(-longest // 8) * 8
        assert torch.equal(ids, whole[:, : ids.shape[1]])
        assert not whole[:, ids.shape[1] :].any()
        untrimmed, _ = PairCollate(tokenizer, trim=False).tokenize(texts[:count])
        assert torch.equal(untrimmed, whole)


def test_trimmed_texts_never_exceed_the_context(tokenizer):
    ids, _ = PairCollate(tokenizer).tokenize(["word " * 74])
    assert ids.shape == (1, 77)  # 80 would be the next multiple of eight


@pytest.mark.parametrize(("words", "cut"), [(74, 0), (75, 0), (76, 1), (200, 1)])
def test_long_captions_are_cut_keep_end_of_text_and_are_counted(tokenizer, words, cut):
    text = "word " * words
    collate = PairCollate(tokenizer)
    batch = collate([item(0, text), item(1, "a pond")])
    assert batch.truncated == cut
    assert torch.equal(batch.input_ids[:, :77], tokenizer([text, "a pond"]))
    assert (batch.input_ids == tokenizer.eot_token_id).sum(1).tolist() == [1, 1]
    assert collate([item(0, text)]).truncated == cut  # counted again, though remembered


def test_captions_of_other_lengths(tokenizer):
    for length in (8, 20, 100):
        collate = PairCollate(tokenizer, length)
        ids, cut = collate.tokenize(["word " * 30, "a"])
        expected = tokenizer(["word " * 30, "a"], context_length=length)
        assert cut == (length < 32)
        assert torch.equal(ids, expected[:, : ids.shape[1]])


def test_the_context_is_the_tokenizers():
    from open_clip.tokenizer import SimpleTokenizer

    collate = PairCollate(SimpleTokenizer(context_length=16))
    assert collate.max_text == 16
    assert collate.tokenize(["word " * 30])[0].shape == (1, 16)


def test_odd_captions_keep_their_ids(tokenizer):
    # id 0 is also "!": the end is found by end-of-text, not by counting zeros.
    texts = ["!!!!", "! ! !", "", "naïve café 水", "a <end_of_text> b"]
    ids, _ = PairCollate(tokenizer, trim=False).tokenize(texts)
    expected = tokenizer(texts)
    ends = expected.argmax(1)
    assert torch.equal(ids.argmax(1), ends)
    for row, other, end in zip(ids, expected, ends, strict=True):
        assert torch.equal(row[: end + 1], other[: end + 1])


def test_captions_are_tokenised_once(tokenizer):
    calls = []

    def counting(texts, context_length):
        calls.append(list(texts))
        return tokenizer(texts, context_length=context_length)

    collate = PairCollate(counting, remember=3)
    first, _ = collate.tokenize(["a", "b", "a"])
    again, _ = collate.tokenize(["b", "a", "a"])
    assert calls == [["a", "b"]]
    assert torch.equal(again, first[[1, 0, 0]])
    collate.tokenize(["c", "d"])
    assert len(collate._known) == 3 and "a" not in collate._known
    # More fresh captions in one batch than are remembered.
    ids, _ = collate.tokenize(list("vwxyz"))
    assert torch.equal(ids, tokenizer(list("vwxyz"))[:, :8]) and len(collate._known) == 3


def test_a_prompt_reaches_the_ids_and_not_the_texts(tokenizer):
    collate = PairCollate(tokenizer, prompt="a satellite image. {}".format)
    batch = collate([item(0, "a pond")])
    assert batch.texts == ["a pond"]
    assert torch.equal(batch.input_ids, tokenizer(["a satellite image. a pond"])[:, :8])


def test_skipped_images_are_listed_and_rows_follow_the_others(tokenizer):
    items = [
        Skipped(0, "a.jpg: is damaged."),
        item(1, "a", "b"),
        item(2, "c", skipped=("b.jpg: is empty.", "c.jpg: is empty.")),
        Skipped(3, "d.jpg: has 1 band."),
    ]
    batch = PairCollate(tokenizer, all_texts=True)(items)
    assert batch.index.tolist() == [1, 2] and batch.image_of_text.tolist() == [0, 0, 1]
    assert [reason[:1] for reason in batch.skipped] == ["a", "b", "c", "d"]


def test_a_batch_may_lose_all_its_images(tokenizer):
    batch = PairCollate(tokenizer, all_texts=True)([Skipped(0, "a.jpg: is damaged.")])
    assert len(batch) == 0 and batch.input_ids.shape[0] == 0 and batch.texts == []
    assert batch.skipped == ["a.jpg: is damaged."]


def test_images_of_several_sizes_are_refused_by_name(tokenizer):
    with pytest.raises(
        SampleError, match=r"'1\.jpg' \(\[3, 5, 5\]\) does not go .* '0\.jpg' of \["
    ):
        PairCollate(tokenizer)([item(0, "a"), item(1, "b", size=5)])


def test_moving_a_batch_moves_every_tensor(tokenizer):
    batch = PairCollate(tokenizer)([item(0, "a pond", label=1)])
    moved = batch.to("meta", non_blocking=True)
    for name in ("images", "input_ids", "image_of_text", "index", "label"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(batch, name).device.type == "cpu"
    assert moved.texts == batch.texts and moved.ids == batch.ids


def test_the_collate_crosses_processes(tokenizer):
    collate = PairCollate(tokenizer, all_texts=True)
    collate.tokenize(["a pond"])
    copy = pickle.loads(pickle.dumps(collate))
    assert torch.equal(copy.tokenize(["a pond"])[0], collate.tokenize(["a pond"])[0])


def test_random_texts_equal_the_tokenizer(tokenizer):
    draw = np.random.default_rng(0)
    words = ["runway", "roundabouts", "trees", "a", "in", "storage-tanks", ",", ".", "7", "lakes'"]
    collate = PairCollate(tokenizer)
    for _ in range(20):
        texts = [" ".join(draw.choice(words, draw.integers(1, 60))) for _ in range(6)]
        ids, cut = collate.tokenize(texts)
        expected = tokenizer(texts)
        assert torch.equal(ids, expected[:, : ids.shape[1]])
        assert not expected[:, ids.shape[1] :].any()
        assert cut == sum(len(tokenizer.encode(text)) > 75 for text in texts)
