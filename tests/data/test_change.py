"""Pairs of two dates become batches, and captions become the published word ids."""

import json
import pickle

import numpy as np
import pytest
import torch

from rsvlm.data.collate.change_captions import ChangeBatch, ChangeCollate
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, SampleError
from rsvlm.data.text.vocabulary import Vocabulary, words
from rsvlm.data.transforms import Squash
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes

CAPTIONS = ["A road is built .", "a road is gone", "a house is built on the road"]


def test_words_of_captions():
    assert words(" A T-shaped road , and the road's end .") == [
        "a",
        "t-shaped",
        "road",
        "and",
        "the",
        "road's",
        "end",
    ]


def test_published_orders_of_ids():
    vocabulary = Vocabulary.build(CAPTIONS, more_than=1)
    assert vocabulary.words == ["<pad>", "a", "road", "is", "built", "<unk>", "<start>", "<end>"]
    other = Vocabulary.build(CAPTIONS, more_than=1, manner="chg2cap")
    assert other.words[:4] == ["<NULL>", "<UNK>", "<START>", "<END>"]
    assert other.words[4:] == ["a", "built", "is", "road"]
    ids, cut, unknown = vocabulary.encode("a house is built", max_words=50)
    assert ids == [6, 1, 5, 3, 4, 7] and (cut, unknown) == (0, 1)
    assert vocabulary.decode(ids) == "a <unk> is built"
    assert vocabulary.encode("a road is built", max_words=2) == ([6, 1, 2, 7], 2, 0)
    assert vocabulary.decode([*ids, 1, 1]) == vocabulary.decode(ids)


def test_levir_ccs_vocabulary_is_the_published_one(real_data):
    folder = real_data / "captions_text"
    captions = json.loads((folder / "levir_cc_captions.json").read_text())
    texts = [text for row in captions for text in row["sentences"]]
    published = Vocabulary.read(folder / "levir_mci_vocab.json")
    built = Vocabulary.build(texts, more_than=5, manner="chg2cap")
    assert len(published) == len(built) == 468
    assert built.ids == published.ids
    assert len(Vocabulary.build(texts, more_than=5)) == 468


def test_word_maps_are_written_and_read(tmp_path):
    vocabulary = Vocabulary.build(CAPTIONS, more_than=0)
    vocabulary.write(tmp_path / "map.json")
    assert Vocabulary.read(tmp_path / "map.json").ids == vocabulary.ids
    with pytest.raises(UserError, match="no vocabulary"):
        Vocabulary.read(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text('{"a": 1,}')
    with pytest.raises(UserError, match=r"bad\.json, line 1"):
        Vocabulary.read(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text('["a"]')
    with pytest.raises(UserError, match="no word map"):
        Vocabulary.read(tmp_path / "list.json")
    with pytest.raises(UserError, match="<start>"):
        Vocabulary({"a": 0})
    with pytest.raises(UserError, match="0 to 4"):
        Vocabulary({"<pad>": 0, "<unk>": 1, "<start>": 2, "<end>": 3, "a": 9})
    with pytest.raises(UserError, match="more than 99"):
        Vocabulary.build(CAPTIONS, more_than=99)
    with pytest.raises(UserError, match="Did you mean rsicc"):
        Vocabulary.build(CAPTIONS, manner="rsic")


def test_a_batch_of_the_generated_world():
    data = Scenes(n=6, size=48, parts=("captions", "semantic"), layout="before_after")
    vocabulary = Vocabulary.build((t for s in data for t in s.texts), more_than=0)
    view = TransformedDataset(data, Squash(32), training=True)
    batch = ChangeCollate(vocabulary, need_semantic=True)([view[0, i] for i in range(6)])
    assert len(batch) == 6 and batch.images.shape == (6, 2, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.semantic.shape == (6, 2, 32, 32) and batch.semantic.dtype == torch.long
    assert batch.change_mask.shape == (6, 32, 32) and batch.change_mask.dtype == torch.bool
    assert torch.equal(batch.change_mask, batch.semantic[:, 0] != batch.semantic[:, 1])
    assert batch.changed.tolist() == [data[i].meta["changeflag"] for i in range(6)]
    for row, length, said in zip(
        batch.input_ids, batch.caption_lengths.tolist(), batch.references, strict=True
    ):
        assert len(said) == 1 and vocabulary.decode(row.tolist()) == " ".join(words(said[0]))
        assert row[0] == vocabulary.start and row[length - 1] == vocabulary.end
        assert (row[length:] == vocabulary.pad).all()
    assert batch.input_ids.shape[1] == batch.caption_lengths.max()
    again = pickle.loads(pickle.dumps(batch.to("cpu")))
    assert isinstance(again, ChangeBatch) and torch.equal(again.semantic, batch.semantic)
    whole = TransformedDataset(data, Squash(32), training=False, caption="all")
    batch = ChangeCollate(vocabulary, length=52)([whole[0, 1], Skipped(2, "b.png: gone")])
    assert batch.references == [data[1].texts] and batch.input_ids.shape == (1, 52)
    assert batch.skipped == ["b.png: gone"]


def pair(index, size=4, texts=("a road is built",), **more):
    image = torch.zeros(3, size, size, dtype=torch.uint8)
    meta = {"id": f"{index}.png", "dataset": "made"} | more.pop("meta", {})
    return TransformedSample(
        index, Sample([image, image], "before_after", list(texts), meta=meta, **more)
    )


def test_cut_and_unknown_words_are_counted():
    vocabulary = Vocabulary.build(CAPTIONS, more_than=0)
    items = [pair(0, texts=("a red road " + "is " * 60,)), pair(1), pair(2, texts=())]
    batch = ChangeCollate(vocabulary)(items)
    assert (batch.truncated, batch.unknown) == (1, 1)
    assert batch.caption_lengths.tolist() == [52, 6, 0]
    assert batch.changed.tolist() == [-1, -1, -1] and batch.semantic is None
    bare = ChangeCollate()(items)
    assert bare.input_ids.shape == (3, 0) and bare.references[1] == ["a road is built"]
    assert len(ChangeCollate(vocabulary)([Skipped(0, "x")])) == 0


def test_what_does_not_go_together_is_an_error():
    single = TransformedSample(
        3, Sample([torch.zeros(3, 4, 4, dtype=torch.uint8)], meta={"id": "3"})
    )
    with pytest.raises(SampleError, match=r"pair '3'.*has 1 image"):
        ChangeCollate()([single])
    with pytest.raises(SampleError, match=r"1\.png.*does not go into one batch"):
        ChangeCollate()([pair(0), pair(1, size=5)])
    maps = [np.zeros((4, 4), int)] * 2
    with pytest.raises(SampleError, match=r"pair '0.png'.*has semantic maps and pair '1.png'"):
        ChangeCollate()([pair(0, semantic=maps), pair(1)])
    with pytest.raises(SampleError, match="no semantic maps, which this model reads"):
        ChangeCollate(need_semantic=True)([pair(0)])
    with pytest.raises(SampleError, match="length=3"):
        ChangeCollate(Vocabulary.build(CAPTIONS, more_than=0), length=3)([pair(0)])
