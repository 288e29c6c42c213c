"""One draw moves all images of a sample, and maps, masks and boxes go where the pixels go."""

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.data.geometry import around, enclosing, identity, turned
from rsvlm.data.images import BrokenImage
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, SampleError
from rsvlm.data.transforms import Augment, Pad, Preprocess, Squash, to_pil
from rsvlm.synthetic import Scenes

SHAPES = [(64, 64), (40, 90), (91, 37)]
TRANSFORMS = {
    "squash": Squash(48),
    "pad": Pad(48),
    "crop": Preprocess(48),
    "whole": Preprocess(48, crop=None),
    "augment": Augment(48, scale=(0.4, 1), hflip=True, vflip=True, rotation="quarter"),
    "any": Augment(48, scale=(0.8, 1), rotation="any"),
}


def blot(high, wide, box):
    """Black, with a white box."""
    array = np.zeros((high, wide, 3), np.uint8)
    x0, y0, x1, y1 = box
    array[y0:y1, x0:x1] = 255
    return Image.fromarray(array)


def look(transform, image, seed):
    (tensor,), (geometry,) = transform.apply_with_geometry([image], np.random.default_rng(seed))
    return tensor, geometry


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_masks_and_boxes_go_where_the_pixels_go(name, shape):
    high, wide = shape
    box = (wide // 3, high // 3, wide // 3 + 14, high // 3 + 12)
    image = blot(high, wide, box)
    mask = np.asarray(image)[:, :, 0] > 0
    for seed in range(8):
        tensor, geometry = look(TRANSFORMS[name], image, seed)
        assert tuple(tensor.shape[1:]) == geometry.size and geometry.source == shape
        white = tensor[0].numpy() > 127
        moved = geometry.map(mask)
        # Resampling filters and the nearest pixel disagree on the rim, at most one pixel wide.
        rim = 2 * (moved[1:] != moved[:-1]).sum() + 2 * (moved[:, 1:] != moved[:, :-1]).sum()
        assert (white != moved).sum() <= rim
        if not moved.any():
            continue
        found = geometry.box(box, clip=True)
        rows, columns = np.nonzero(moved.any(1))[0], np.nonzero(moved.any(0))[0]
        if found is not None:
            seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert np.abs(np.subtract(found, seen)).max() <= 1.01


def test_quarter_turns_flips_and_crops_of_maps_are_exact():
    draw = np.random.default_rng(0)
    array = draw.integers(0, 9, (7, 11))
    start = identity(7, 11)
    assert np.array_equal(start.hflip().map(array), array[:, ::-1])
    assert np.array_equal(start.vflip().map(array), array[::-1])
    for k in range(-1, 6):
        assert np.array_equal(start.turn(k).map(array), np.rot90(array, k))
    assert np.array_equal(start.crop(2, 3, 4, 5).map(array), array[2:6, 3:8])
    padded = start.crop(-1, -2, 10, 15).map(array, fill=-1)
    assert np.array_equal(padded[1:8, 2:13], array) and (padded == -1).sum() == 150 - 77
    big = start.resize(21, 33).map(array)
    assert np.array_equal(big, array.repeat(3, 0).repeat(3, 1))


def test_nearest_resize_and_rotation_are_pillows():
    draw = np.random.default_rng(1)
    array = draw.integers(1, 200, (60, 45)).astype(np.uint8)
    picture = Image.fromarray(array)
    for high, wide in ((31, 20), (77, 100), (13, 45)):
        theirs = np.asarray(picture.resize((wide, high), Image.Resampling.NEAREST))
        different = (identity(60, 45).resize(high, wide).map(array) != theirs).any(1)
        # A centre on an edge, row 38 of 77 or 6 of 13, is one that Pillow's sum of steps misses.
        assert all((2 * row + 1) * 30 % high == 0 for row in different.nonzero()[0])
    for degrees in (1.0, 33.3, 120.5, 271.0):
        theirs = np.asarray(picture.rotate(degrees))
        ours = identity(60, 45).rotate(degrees).map(array)
        # Measured: none; Pillow's fixed-point coordinates may round a centre to the other side.
        assert (ours != theirs).mean() < 0.002


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_way_back_is_the_inverse(name):
    draw = np.random.default_rng(2)
    for shape in SHAPES:
        _, geometry = look(TRANSFORMS[name], blot(*shape, (1, 1, 3, 3)), 5)
        points = draw.uniform(0, 90, (20, 2))
        back = geometry.inverse().points(geometry.points(points))
        assert np.abs(back - points).max() < 1e-9
        assert geometry.inverse().size == shape


def test_oriented_boxes_turn_and_flip_with_the_image():
    box, angle = (20.0, 30.0, 50.0, 40.0), 25.0
    corners = turned(box, angle)
    # Counter-clockwise on screen: the right end of the top side goes up.
    assert corners[1][1] < corners[0][1]
    again, same = around(corners)
    assert np.allclose(again, box) and np.isclose(same, angle)
    start = identity(80, 100)
    for moved, expected in ((start.hflip(), -25), (start.vflip(), -25), (start.turn(2), 25)):
        new, turn = moved.oriented(box, angle)
        assert np.isclose(turn, expected)
        assert np.allclose(np.sort(turned(new, turn), 0), np.sort(moved.points(corners), 0))
    new, turn = start.turn(1).oriented(box, angle)
    assert np.isclose((turn - angle) % 180, 90)
    assert np.isclose(new[2] - new[0], 30) and np.isclose(new[3] - new[1], 10)
    new, turn = start.resize(160, 200).oriented(box, angle)
    assert np.isclose(turn, angle) and np.isclose(new[2] - new[0], 60)
    # Squashed, the rectangle becomes a parallelogram; the given box holds all of it.
    squash = start.resize(80, 50)
    new, turn = squash.oriented(box, angle)
    x0, y0, x1, y1 = enclosing(turned(new, turn))
    a0, b0, a1, b1 = enclosing(squash.points(corners))
    assert x0 <= a0 + 1e-9 and y0 <= b0 + 1e-9 and x1 >= a1 - 1e-9 and y1 >= b1 - 1e-9


def test_what_leaves_the_view_is_lost_and_said_so():
    image = Image.new("RGB", (100, 50))
    inside = Instance(1, "tank", box=(40, 10, 60, 30))
    outside = Instance(2, "tank", box=(0, 0, 20, 20))

    class One:
        def __getitem__(self, index):
            return Sample([image], instances=[inside, outside], meta={"id": "a"})

        def __len__(self):
            return 1

    item = TransformedDataset(One(), Preprocess(50), training=False)[0, 0]
    assert [i.id for i in item.sample.instances] == [1] and item.lost == (2,)
    assert item.sample.instances[0].box == (15.0, 10.0, 35.0, 30.0)
    assert item.stored == [inside, outside]
    with pytest.raises(SampleError, match="does not say where pixels go"):
        TransformedDataset(
            One(), lambda image: torch.zeros(3, 4, 4, dtype=torch.uint8), training=False
        )[0, 0]
    cached = TransformedDataset(One(), Squash(50), training=True, cache="decoded", cache_size=25)[
        0, 0
    ]
    assert cached.sample.instances[0].box == pytest.approx((20, 10, 30, 30))


def test_without_augmentation_boxes_move_as_well():
    from rsvlm.lit.datamodule import Plain

    class One:
        def __getitem__(self, index):
            return Sample(
                [Image.new("RGB", (100, 50))], instances=[Instance(1, "tank", box=(0, 0, 50, 25))]
            )

        def __len__(self):
            return 1

    item = TransformedDataset(One(), Plain(Squash(50)), training=True)[0, 0]
    assert item.sample.instances[0].box == (0.0, 0.0, 25.0, 25.0)
    assert item.geometry[0].upright and not item.geometry[0].hflip().upright


def pairs(**options):
    return Scenes(n=4, size=64, parts=("captions", "semantic", "masks"), layout="before_after")


def test_two_dates_share_one_draw():
    data = pairs()
    same = [data[i].images[0] for i in range(4)]

    class Twice:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return Sample([same[index], same[index]], layout="before_after")

    strong = {"scale": (0.3, 1), "rotation": "any", "vflip": True, "color_jitter": 0.4}
    for each in (False, True):
        view = TransformedDataset(
            Twice(), Augment(32, jitter_each=each, **strong), seed=3, training=True
        )
        for index in range(4):
            item = view[1, index]
            before, after = item.sample.images
            assert item.geometry[0] == item.geometry[1]
            assert torch.equal(before, after) is not each
    # The first date of a pair looks as a single image would.
    single = Augment(32, **strong)
    from rsvlm.data.loading.sampler import rng

    first = TransformedDataset(Twice(), single, seed=3, training=True)[1, 2].sample.images[0]
    assert torch.equal(first, single(same[2], rng(3, 1, 2)))


def test_images_of_other_sizes_show_the_same_part():
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    large = small.resize((120, 80), Image.Resampling.NEAREST)
    augment = Augment(32, scale=(0.2, 0.6), rotation="quarter")
    for seed in range(10):
        _, (one, two) = augment.apply_with_geometry([small, large], np.random.default_rng(seed))
        centre = np.array([[16.0, 16.0]])
        a = one.inverse().points(centre) / [60, 40]
        b = two.inverse().points(centre) / [120, 80]
        assert np.abs(a - b).max() < 0.02


def test_semantic_maps_change_masks_and_instances_stay_over_their_image():
    augment = Augment(64, scale=(0.5, 1), hflip=True, vflip=True, rotation="quarter")
    view = TransformedDataset(pairs(), augment, seed=1, training=True)
    for index in range(4):
        item = view[0, index]
        before, after = item.sample.semantic
        assert before.shape == after.shape == (64, 64)
        mask = item.sample.meta["change_mask"]
        assert np.array_equal(mask, before != after)
        for instance in item.sample.instances:
            rows, columns = np.nonzero(instance.mask)
            x0, y0, x1, y1 = instance.box
            # Nearest pixels of the mask and the exact box differ by the scale of one pixel.
            assert columns.min() >= x0 - 2 and columns.max() + 1 <= x1 + 2
            assert rows.min() >= y0 - 2 and rows.max() + 1 <= y1 + 2
        assert len(item.stored) == len(item.sample.instances) + len(item.lost)


def test_a_pair_of_two_sizes_is_skipped_and_named():
    class Odd:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            sizes = ((8, 8), (8, 9)) if index == 0 else ((8, 8), (8, 8))
            images = [Image.new("RGB", size) for size in sizes]
            return Sample(images, layout="before_after", meta={"id": f"pair {index}"})

    out = TransformedDataset(Odd(), Squash(4), training=False)[0, 0]
    assert isinstance(out, Skipped) and "pair 0" in out.reason and "8 x 8 and 8 x 9" in out.reason
    item = TransformedDataset(Odd(), Squash(4), training=True)[0, 0]
    assert (
        isinstance(item, TransformedSample)
        and item.index == 1
        and "differ in size" in item.skipped[0]
    )
    assert issubclass(BrokenImage, SampleError)


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(SampleError, match="mask of 4 x 5 lies over an image of 5 x 4"):
        identity(5, 4).map(np.zeros((4, 5), bool))


def test_pad_is_the_published_one():
    image = Image.new("RGB", (40, 21), (200, 10, 10))
    out = to_pil(Pad(40)(image))
    array = np.asarray(out)
    # Margins of (40 - 21) // 2 = 9 rows above and 10 below, in CLIP's mean colour.
    assert (array[:9] == (122, 116, 104)).all() and (array[30:] == (122, 116, 104)).all()
    assert (array[9:30] == (200, 10, 10)).all()
    square = image.resize((40, 40))
    assert torch.equal(Pad(16)(square), Squash(16)(square))
    assert torch.equal(Squash(16)(image), Preprocess(16, resize="squash")(image))
