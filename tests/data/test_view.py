import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rsvlm.data.datasets import FileDataset
from rsvlm.data.datasets.base import Entry
from rsvlm.data.images import BrokenImage
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.loading.sampler import rng
from rsvlm.data.loading.transformed import IN_A_ROW, TransformedDataset
from rsvlm.data.sample import SampleError
from rsvlm.data.transforms import Augment, Preprocess
from rsvlm.errors import UserError


class Made(FileDataset):
    """Images of several sizes, five captions each; some files are broken."""

    name = "made"

    def __init__(self, folder, n=8, broken=(), captions=5):
        super().__init__(folder, "train")
        draw = np.random.default_rng(0)
        for i in range(n):
            path = folder / f"{i}.png"
            high, wide = draw.integers(20, 60, 2)
            pixels = draw.integers(0, 256, (high, wide, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            if i in broken:
                path.write_bytes(path.read_bytes()[:60])
            texts = tuple(f"image {i} caption {k}" for k in range(captions))
            self.entries.append(Entry(str(i), str(path), texts, label=i % 3))


AUGMENT = Augment(16, scale=(0.3, 1), rotation="any", vflip=True)


def same(a, b):
    return (
        a.index == b.index
        and torch.equal(a.sample.images[0], b.sample.images[0])
        and a.sample.texts == b.sample.texts
        and a.skipped == b.skipped
    )


def test_an_item_is_a_pure_function_of_seed_epoch_and_index(tmp_path):
    data = Made(tmp_path)
    views = [TransformedDataset(data, AUGMENT, seed=3, training=True) for _ in range(2)]
    keys = [(epoch, i) for epoch in range(3) for i in range(8)]
    first = [views[0][key] for key in keys]
    torch.manual_seed(1)
    second = [views[1][key] for key in reversed(keys)][::-1]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    others = [TransformedDataset(data, AUGMENT, seed=4, training=True)[key] for key in keys]
    assert not any(
        torch.equal(a.sample.images[0], b.sample.images[0])
        for a, b in zip(first, others, strict=True)
    )
    assert not torch.equal(first[0].sample.images[0], first[8].sample.images[0])
    for item in first:
        assert item.sample.images[0].dtype == torch.uint8
        assert item.sample.images[0].shape == (3, 16, 16)
        assert item.sample.label == item.index % 3 and item.skipped == ()


def test_draws_come_in_the_documented_order(tmp_path):
    data = Made(tmp_path)
    item = TransformedDataset(data, AUGMENT, seed=3, training=True)[2, 5]
    draw = rng(3, 2, 5)
    image = AUGMENT(data.image(5), draw)
    assert torch.equal(item.sample.images[0], image)
    assert item.sample.texts == [f"image 5 caption {draw.integers(5)}"]


def test_captions_are_chosen_evenly(tmp_path):
    view = TransformedDataset(Made(tmp_path, n=2), Preprocess(4), training=True)
    chosen = [int(view[epoch, 1].sample.texts[0][-1]) for epoch in range(500)]
    counts = np.bincount(chosen, minlength=5)
    assert counts.min() > 65 and counts.max() < 140  # four standard deviations around 100


def test_first_and_all_captions(tmp_path):
    data = Made(tmp_path)
    first = TransformedDataset(data, Preprocess(4), training=True, caption="first")
    assert first[7, 2].sample.texts == ["image 2 caption 0"]
    whole = TransformedDataset(data, Preprocess(4), training=False, caption="all")[0, 2]
    assert whole.sample.texts == [f"image 2 caption {k}" for k in range(5)]
    bare = TransformedDataset(Made(tmp_path, captions=0), Preprocess(4), training=False)
    assert bare[0, 1].sample.texts == []


def test_evaluation_draws_nothing(tmp_path):
    data = Made(tmp_path)
    view = TransformedDataset(data, Preprocess(16), training=False, caption="all")
    assert torch.equal(view[0, 3].sample.images[0], view[9, 3].sample.images[0])
    assert torch.equal(view[0, 3].sample.images[0], Preprocess(16)(data.image(3)))


def test_training_takes_the_next_readable_image(tmp_path):
    data = Made(tmp_path, broken=(2, 6, 7))
    view = TransformedDataset(data, AUGMENT, seed=1, training=True)
    item = view[4, 2]
    assert item.index == 3 and item.sample.texts[0].startswith("image 3")
    assert len(item.skipped) == 1 and "2.png: is damaged" in item.skipped[0]
    around = view[4, 6]
    assert around.index == 0 and len(around.skipped) == 2
    # The replacement is drawn with its place's generator, so it is no twin of the image itself.
    assert not torch.equal(item.sample.images[0], view[4, 3].sample.images[0])
    assert same(item, TransformedDataset(data, AUGMENT, seed=1, training=True)[4, 2])


def test_evaluation_leaves_the_place_empty(tmp_path):
    view = TransformedDataset(
        Made(tmp_path, broken=(2,)), Preprocess(4), training=False, caption="all"
    )
    skipped = view[0, 2]
    assert isinstance(skipped, Skipped) and skipped.index == 2 and "2.png" in skipped.reason
    assert isinstance(view[0, 3], TransformedSample)


def test_nothing_readable_is_an_error_that_ends(tmp_path):
    view = TransformedDataset(Made(tmp_path, n=4, broken=range(4)), AUGMENT, training=True)
    with pytest.raises(SampleError, match=r"4 images in a row cannot be used, from .*1\.png"):
        view[0, 1]

    class Gone:
        reads = 0

        def __len__(self):
            return 10**6

        def __getitem__(self, index):
            Gone.reads += 1
            raise BrokenImage(f"{index}.jpg", "cannot be opened.")

    with pytest.raises(SampleError, match="network folder"):
        TransformedDataset(Gone(), AUGMENT, training=True)[0, 0]
    assert Gone.reads == IN_A_ROW


def test_other_errors_are_not_swallowed(tmp_path):
    def faulty(image, rng=None):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TransformedDataset(Made(tmp_path), faulty, training=True)[0, 0]


def test_workers_change_nothing(tmp_path):
    view = TransformedDataset(Made(tmp_path, broken=(4,)), AUGMENT, seed=5, training=True)
    keys = [(1, i) for i in range(8)]
    loader = DataLoader(view, sampler=keys, batch_size=None, num_workers=2)
    for got, key in zip(loader, keys, strict=True):
        assert same(got, view[key])


def test_cached_images_are_the_decoded_ones_made_smaller(tmp_path):
    data = Made(tmp_path, broken=(4,))
    large = TransformedDataset(data, AUGMENT, training=True, cache="decoded", cache_size=100)
    direct = TransformedDataset(data, AUGMENT, training=True)
    # Nothing is as large as 100 pixels, so the cache holds the files' own pixels.
    assert all(same(large[2, i], direct[2, i]) for i in range(8))
    assert "4.png: is damaged" in large[2, 4].skipped[0]
    small = TransformedDataset(data, Preprocess(16), training=True, cache="decoded", cache_size=16)
    for i, held in enumerate(small.cache):
        if i == 4:
            assert isinstance(held, BrokenImage)
            continue
        wide, high = data.image(i).size
        three, tall, broad = held.images[0].shape
        assert three == 3 and min(tall, broad) == 16
        assert abs(broad / tall - wide / high) < 0.1
    for path in tmp_path.iterdir():
        os.remove(path)
    assert small[0, 3].sample.images[0].shape == (3, 16, 16)  # the files are not read again


def test_unusable_options_are_refused(tmp_path):
    data = Made(tmp_path)
    with pytest.raises(UserError, match="Did you mean random"):
        TransformedDataset(data, AUGMENT, training=True, caption="rondom")
    with pytest.raises(UserError, match="Did you mean decoded"):
        TransformedDataset(data, AUGMENT, training=True, cache="decode")
    with pytest.raises(UserError, match="cache_size="):
        TransformedDataset(data, AUGMENT, training=True, cache="decoded")
    with pytest.raises(UserError, match="cache=decoded is for training"):
        TransformedDataset(data, AUGMENT, training=False, cache="decoded", cache_size=16)
    with pytest.raises(UserError, match="more than half of the machine"):
        TransformedDataset(data, AUGMENT, training=True, cache="decoded", cache_size=10**6)
