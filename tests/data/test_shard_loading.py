"""Training from shards: the same batches as from the files, whatever the workers and ranks."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.cli.shards import write
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.datasets import RSICD, Shards
from rsvlm.data.loading.sampler import BatchSampler
from rsvlm.data.transforms import Augment, Preprocess
from rsvlm.lit.datamodule import DataModule


def tokenizer(texts, context_length):
    """Letters as ids; the end is the largest, as open_clip's is."""
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        letters = [ord(c) for c in text][: context_length - 1]
        row[: len(letters) + 1] = torch.tensor([*letters, 50000])
    return ids


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("rsicd")
    (root / "RSICD_images").mkdir()
    draw = np.random.default_rng(0)
    records = []
    for i in range(45):
        name = f"pond_{i}.jpg"
        pixels = draw.integers(0, 256, (30 + i % 5, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "RSICD_images" / name)
        if i in (7, 8):
            (root / "RSICD_images" / name).write_bytes(b"")
        sentences = [{"raw": f"image {i} caption {k}"} for k in range(5)]
        split = "test" if i >= 40 else "train"
        records.append({"filename": name, "split": split, "sentences": sentences})
    (root / "dataset_rsicd.json").write_text(json.dumps({"images": records}))
    out = tmp_path_factory.mktemp("shards")
    for split in ("train", "test"):
        write(RSICD(root, split), out, per_shard=6)
    return root, out


def module(kind, root, **options):
    data = DataModule(
        partial(kind, root),
        batch_size=8,
        augment=partial(Augment, scale=(0.5, 1.0), rotation="any"),
        seed=3,
        **options,
    )
    data.connect(
        preprocess=Preprocess(16),
        train_collate=PairCollate(tokenizer, 32),
        eval_collate=PairCollate(tokenizer, 32, all_texts=True),
        image_size=16,
    )
    return data


def epochs(data, n=2):
    loader = data.train_dataloader()
    batches = []
    for epoch in range(n):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def same(a, b):
    return (
        torch.equal(a.images, b.images)
        and torch.equal(a.input_ids, b.input_ids)
        and torch.equal(a.index, b.index)
        and (a.texts, a.ids) == (b.texts, b.ids)
        and len(a.skipped) == len(b.skipped)
    )


def all_same(first, second):
    return len(first) == len(second) > 0 and all(map(same, first, second))


def test_shards_give_the_batches_of_the_files(folders):
    root, out = folders
    files, shards = epochs(module(RSICD, root, workers=0)), epochs(module(Shards, out, workers=0))
    assert len(files) == 10 and sum(len(batch.skipped) for batch in files) > 0
    assert all_same(files, shards)
    assert all_same(
        list(module(RSICD, root, workers=0).test_dataloader()),
        list(module(Shards, out, workers=0).test_dataloader()),
    )


def test_blocked_order_is_the_same_with_workers_and_is_another_order(folders):
    options = {"order": "blocked", "block": 12}
    alone = epochs(module(Shards, folders[1], workers=0, **options))
    assert all_same(alone, epochs(module(Shards, folders[1], workers=2, **options)))
    shuffled = epochs(module(Shards, folders[1], workers=0))
    assert not same(alone[0], shuffled[0])
    # Twelve samples of a window lie in two or three shards of six.
    assert len(set((alone[0].index // 6).tolist())) <= 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_stood(folders, workers):
    options = {"order": "blocked", "block": 12, "workers": workers}
    whole = epochs(module(Shards, folders[1], **options))
    resumed = module(Shards, folders[1], **options)
    resumed.load_state_dict({"train": {"epoch": 0, "batch": 3}})
    loader = resumed.train_dataloader()
    rest = list(loader)
    loader.sampler.set_epoch(1)
    assert all_same(whole[3:], rest + list(loader))


def test_ranks_share_the_batch_of_a_single_process(folders):
    data = Shards(folders[1], "train")
    options = {"seed": 3, "order": "blocked", "block": 12, "sizes": data.shard_sizes}
    one = list(BatchSampler(len(data), 8, **options))
    halves = [list(BatchSampler(len(data), 8, rank=r, world=2, **options)) for r in range(2)]
    assert one == [a + b for a, b in zip(*halves, strict=True)]


def test_a_folder_has_no_blocked_order(folders):
    with pytest.raises(ValueError, match=r"data\.order=blocked is for shards"):
        module(RSICD, folders[0], workers=0, order="blocked").train_dataloader()
