"""Every [SEG] of an answer comes with its object's mask, in the order of the tokens."""

import pickle

import numpy as np
import pytest
import torch

from rsvlm.data.collate.pixel import SEG_TOKENS, PixelBatch, PixelCollate
from rsvlm.data.geometry import identity
from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Instance, Sample, SampleError, Turn
from rsvlm.errors import UserError


@pytest.fixture(scope="module")
def tokenizer():
    from rsvlm.encoders.tokenizers import word_tokenizer

    made = word_tokenizer(["where", "planes", "sure", "it", "is", "and", "here"])
    made.add_tokens(["[SEG]", *(f"[SEG{i}]" for i in range(6)), "<image>"])
    return made


def instance(i, size=8, **more):
    mask = np.zeros((size, size), bool)
    mask[i, i] = True
    more = {"box": (i, i, i + 1, i + 1), "mask": mask, "category_id": 10 + i} | more
    return Instance(i, f"plane {i}", **more)


def item(*turns, instances=(), index=0, lost=()):
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    sample = Sample([image], turns=list(turns), instances=list(instances), meta={"id": f"{index}"})
    stored = [instance(i.id, 16, phrase="stored") for i in instances]
    return TransformedSample(
        index, sample, geometry=(identity(16, 16).resize(8, 8),), stored=stored, lost=lost
    )


ASK = Turn("user", "where planes", (0,))
TWO = Turn("assistant", "sure it is [SEG] and [SEG]", instance_ids=(3, 1))
MORE = (Turn("user", "where", ()), Turn("assistant", "here [SEG]", instance_ids=(2,)))
THREE = [instance(1), instance(2), instance(3)]


@pytest.mark.parametrize("seg", sorted(SEG_TOKENS))
def test_masks_follow_the_order_of_the_tokens(tokenizer, seg):
    collate = PixelCollate(tokenizer, seg=seg, format="plain")
    batch = collate([item(ASK, TWO, *MORE, instances=THREE), item(ASK, Turn("assistant", "is"))])
    assert isinstance(batch, PixelBatch) and len(batch) == 2
    assert [m.shape for m in batch.masks] == [(3, 8, 8), (0, 8, 8)]
    assert batch.masks[0].dtype == torch.bool
    assert [m.nonzero().tolist() for m in batch.masks[0]] == [[[3, 3]], [[1, 1]], [[2, 2]]]
    assert batch.boxes[0][0].tolist() == [3, 3, 4, 4] and batch.boxes[1].shape == (0, 4)
    assert batch.categories[0].tolist() == [13, 11, 12]
    assert batch.phrases == [["plane 3", "plane 1", "plane 2"], []]
    assert batch.instance_rows == [[0, 0, 0], []]
    tokens, joint = SEG_TOKENS[seg]
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    row = batch.input_ids[0].tolist()
    starts = [k for k, i in enumerate(row) if i == ids[0]]
    assert len(starts) == 3
    if not joint:
        assert all(row[k : k + len(ids)] == ids for k in starts)
    assert all(batch.labels[0][k] == row[k] for k in starts)


def test_generation_measures_the_last_answer_in_the_stored_image(tokenizer):
    collate = PixelCollate(tokenizer, format="plain", generation=True)
    batch = collate([item(ASK, TWO, *MORE, instances=THREE)])
    assert batch.masks[0].shape == (1, 16, 16) and batch.phrases == [["stored"]]
    seen = PixelCollate(tokenizer, format="plain", generation=True, frame="seen")
    assert seen([item(ASK, TWO, *MORE, instances=THREE)]).masks[0].shape == (1, 8, 8)


def test_a_cut_answer_keeps_only_whole_objects(tokenizer):
    turns = (ASK, TWO)
    whole = PixelCollate(tokenizer, seg="geopix", format="plain")([item(*turns, instances=THREE)])
    length = whole.input_ids.shape[1]
    short = PixelCollate(tokenizer, seg="geopix", format="plain", max_length=length - 4)
    batch = short([item(*turns, instances=THREE)])
    assert batch.truncated == 1 and batch.phrases == [["plane 3"]]


def test_a_batch_travels(tokenizer):
    batch = PixelCollate(tokenizer, format="plain")([item(ASK, TWO, instances=THREE)])
    again = pickle.loads(pickle.dumps(batch)).to("cpu")
    assert torch.equal(again.masks[0], batch.masks[0])
    doubled = batch._map(lambda t: torch.cat([t, t]))
    assert len(doubled.masks[0]) == 4 and len(doubled.boxes[0]) == 4 and len(doubled) == 2


def test_what_does_not_fit_says_so(tokenizer):
    one = Turn("assistant", "sure [SEG]", instance_ids=(1, 2))
    with pytest.raises(SampleError, match=r"1 \[SEG\] for 2 instances"):
        PixelCollate(tokenizer, format="plain")([item(ASK, one, instances=THREE)])
    bare = [instance(1, mask=None), instance(3)]
    with pytest.raises(SampleError, match="instance 1 of sample '0' has no mask"):
        PixelCollate(tokenizer, format="plain")([item(ASK, TWO, instances=bare)])
    with pytest.raises(SampleError, match="instance 1, which is not there"):
        PixelCollate(tokenizer, format="plain")([item(ASK, TWO, instances=[instance(3)])])
    with pytest.raises(SampleError, match="1 lost their objects"):
        PixelCollate(tokenizer, format="plain")([item(ASK, TWO, instances=THREE, lost=(3,))])
    with pytest.raises(UserError, match="no token '<here>'"):
        PixelCollate(tokenizer, seg=(("<here>",), ""))
    with pytest.raises(UserError, match="Did you mean geopix"):
        PixelCollate(tokenizer, seg="geopixx")
    elsewhere = [instance(1, image_id=1), instance(3)]
    with pytest.raises(SampleError, match="lies in image 1"):
        PixelCollate(tokenizer, format="plain")([item(ASK, TWO, instances=elsewhere)])
