import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, ColorJitter, Compose, InterpolationMode, Resize
from torchvision.transforms import functional as TF

from rsvlm.data.sample import SampleError
from rsvlm.data.transforms import Augment, Preprocess, to_pil, to_tensor
from rsvlm.errors import UserError

SIZES = [
    (160, 160),
    (37, 61),
    (61, 37),
    (225, 224),
    (224, 225),
    (64, 64),
    (65, 129),
    (7, 300),
    (3, 2),
]


def picture(wide, high, seed=0):
    """Smooth patches with noise on top: edges, flats and detail."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    array = np.asarray(coarse.resize((wide, high), Image.Resampling.BICUBIC)).astype(int)
    array = array + draw.integers(-20, 21, (high, wide, 3))
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def reference(image, size, interpolation=InterpolationMode.BICUBIC):
    both = Compose([Resize(size, interpolation=interpolation), CenterCrop(size)])
    return TF.pil_to_tensor(both(image))


@pytest.mark.parametrize("size", [64, 33, 224])
@pytest.mark.parametrize("shape", SIZES)
def test_preprocess_is_torchvisions_bit_for_bit(shape, size):
    image = picture(*shape)
    out = Preprocess(size)(image)
    assert out.dtype == torch.uint8 and out.shape == (3, size, size) and out.is_contiguous()
    assert torch.equal(out, reference(image, size))


def test_preprocess_bilinear_squash_and_no_crop():
    image = picture(61, 37)
    out = Preprocess(32, interpolation="bilinear")(image)
    assert torch.equal(out, reference(image, 32, InterpolationMode.BILINEAR))
    squashed = TF.pil_to_tensor(Resize((32, 32), interpolation=InterpolationMode.BICUBIC)(image))
    assert torch.equal(Preprocess(32, resize="squash")(image), squashed)
    whole = TF.pil_to_tensor(Resize(32, interpolation=InterpolationMode.BICUBIC)(image))
    assert whole.shape == (3, 32, 52)
    assert torch.equal(Preprocess(32, crop=None)(image), whole)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_preprocess_is_open_clips_evaluation_transform(resize_mode):
    from open_clip.transform import image_transform

    resize = "squash" if resize_mode == "squash" else "shorter"
    for shape in SIZES:
        image = picture(*shape)
        theirs = image_transform(
            48, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=resize_mode
        )(image)
        assert torch.equal(Preprocess(48, resize=resize)(image), (theirs * 255).round().byte())


def test_tensors_and_pictures_are_the_same_input():
    image = picture(61, 37)
    assert torch.equal(to_tensor(to_pil(to_tensor(image))), TF.pil_to_tensor(image))
    assert torch.equal(Preprocess(32)(to_tensor(image)), Preprocess(32)(image))
    augment = Augment(32, rotation="any", color_jitter=0.3)
    assert torch.equal(
        augment(to_tensor(image), np.random.default_rng(1)),
        augment(image, np.random.default_rng(1)),
    )


def test_pictures_that_are_not_rgb_are_refused():
    grey = picture(8, 8).convert("L")
    for transform in (Preprocess(4), lambda image: Augment(4)(image, np.random.default_rng(0))):
        with pytest.raises(SampleError, match="convert=True"):
            transform(grey)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rotation": "any"},
        {"rotation": "quarter", "vflip": True},
        {"color_jitter": 0.4, "rotation": "quarter", "scale": (0.67, 1), "ratio": (0.5, 2)},
    ],
)
def test_augment_is_a_pure_function_of_picture_and_generator(options):
    image = picture(90, 70)
    before = np.asarray(image).copy()
    augment = Augment(32, **options)
    torch.manual_seed(0)
    np.random.seed(0)
    first = [augment(image, np.random.default_rng(i)) for i in range(20)]
    assert len({t.numpy().tobytes() for t in first}) > 12  # mild crops of a small picture repeat
    again = [augment(image, np.random.default_rng(i)) for i in range(20)]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == torch.uint8 and a.shape == (3, 32, 32) and a.is_contiguous()
    assert np.array_equal(np.asarray(image), before)


def plain(size, **options):
    """Crops nothing, so that only what `options` switch on changes the picture."""
    return Augment(size, **{"scale": (1, 1), "ratio": (1, 1), "hflip": False} | options)


def test_without_draws_augment_is_the_identity():
    image = picture(40, 40)
    assert torch.equal(plain(40)(image, np.random.default_rng(0)), TF.pil_to_tensor(image))


def test_crop_and_resize_are_torchvisions_within_two_levels():
    image = picture(160, 120)
    shares = []
    for seed in range(30):
        augment = Augment(64, scale=(0.3, 1), hflip=False)
        top, left, high, wide = augment.window(120, 160, np.random.default_rng(seed))
        theirs = TF.resized_crop(image, top, left, high, wide, [64, 64], InterpolationMode.BICUBIC)
        ours = augment(image, np.random.default_rng(seed))
        difference = (ours.int() - TF.pil_to_tensor(theirs).int()).abs()
        # Both round twice to 8 bits, torch with 16-bit weights: never more than 2 levels.
        assert difference.max() <= 2
        shares.append(float((difference > 0).float().mean()))
    # Measured: 0.1 to 0.7 per cent of the values; a quarter for a few widths.
    assert np.median(shares) < 0.01
    assert max(shares) < 0.35


@pytest.mark.parametrize(
    ("scale", "ratio", "shape"),
    [
        ((0.9, 1.0), (3 / 4, 4 / 3), (160, 160)),
        ((0.08, 1.0), (0.5, 2.0), (100, 160)),
        ((0.9, 1.0), (3 / 4, 4 / 3), (20, 400)),
        ((0.9, 1.0), (3 / 4, 4 / 3), (400, 20)),
        ((0.5, 1.0), (1, 1), (1, 1)),
    ],
)
def test_windows_lie_inside_and_keep_to_scale_and_ratio(scale, ratio, shape):
    augment = Augment(8, scale=scale, ratio=ratio)
    high, wide = shape
    draw = np.random.default_rng(0)
    parts = []
    for _ in range(300):
        top, left, h, w = augment.window(high, wide, draw)
        assert min(top, left) >= 0 and h > 0 and w > 0
        assert top + h <= high and left + w <= wide
        assert ratio[0] * 0.9 <= w / h <= ratio[1] * 1.1
        parts.append(h * w / (high * wide))
    if high == wide and high > 1:
        # Rounding to whole pixels moves an area by one row or column at most.
        assert scale[0] - 0.01 <= min(parts) and max(parts) <= 1
        # Torchvision's rule rejects windows that do not fit, which leaves the smaller areas.
        assert max(parts) - min(parts) > 0.05


def test_flips_and_quarter_turns_are_exact_and_all_occur():
    image = picture(24, 24)
    pixels = TF.pil_to_tensor(image)
    eight = {}
    for k in range(4):
        turned = torch.rot90(pixels, k, (1, 2))
        eight[turned.numpy().tobytes()] = (k, 0)
        eight[torch.rot90(pixels.flip(2), k, (1, 2)).numpy().tobytes()] = (k, 1)
    augment = plain(24, hflip=True, vflip=True, rotation="quarter")
    seen = [eight[augment(image, np.random.default_rng(i)).numpy().tobytes()] for i in range(200)]
    assert len(set(seen)) == 8
    mirrored = plain(24, hflip=True)
    outs = [mirrored(image, np.random.default_rng(i)) for i in range(400)]
    share = sum(torch.equal(out, pixels.flip(2)) for out in outs) / 400
    assert all(torch.equal(out, pixels) or torch.equal(out, pixels.flip(2)) for out in outs)
    assert abs(share - 0.5) < 0.1  # four standard deviations
    upside = plain(24, vflip=True)
    outs = [upside(image, np.random.default_rng(i)) for i in range(20)]
    assert any(torch.equal(out, pixels.flip(1)) for out in outs)


def test_any_rotation_is_the_published_one():
    image = picture(40, 40)
    augment = plain(40, rotation="any")
    black = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        augment.window(40, 40, draw)
        angle = draw.uniform(0.0, 360.0)
        ours = augment(image, np.random.default_rng(seed))
        # torchvision's RandomRotation((0, 360)): nearest pixel, same size, black corners.
        assert torch.equal(ours, TF.pil_to_tensor(TF.rotate(image, angle)))
        black += bool((ours[:, 0, 0] == 0).all())
    assert black > 10


def test_colour_jitter_is_torchvisions():
    image = picture(40, 40)
    for seed in range(10):
        draw = np.random.default_rng(seed)
        plain(40).window(40, 40, draw)
        factors = draw.uniform(0.6, 1.4, 3)
        steps = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
        theirs = image
        for i in draw.permutation(3):
            theirs = steps[i](theirs, float(factors[i]))
        ours = plain(40, color_jitter=0.4)(image, np.random.default_rng(seed))
        assert torch.equal(ours, TF.pil_to_tensor(theirs))
    # The same range as ColorJitter(0.4, 0.4, 0.4), which timm builds from color_jitter=0.4.
    assert tuple(ColorJitter(0.4, 0.4, 0.4).saturation) == (0.6, 1.4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rotation": "quater"}, "Did you mean quarter"),
        ({"interpolation": "cubic"}, "Did you mean bicubic"),
        ({"scale": (0.9, 0.5)}, "0 < least"),
        ({"scale": (0.5, 1.5)}, "0 < least"),
        ({"ratio": (2, 0.5)}, "0 < least"),
        ({"color_jitter": 2.0}, "between 0 and 1"),
    ],
)
def test_augment_refuses_unusable_options(options, words):
    with pytest.raises(UserError, match=words):
        Augment(32, **options)


def test_preprocess_refuses_unusable_options():
    with pytest.raises(UserError, match="Did you mean squash"):
        Preprocess(32, resize="squish")
    with pytest.raises(UserError, match="crop='centre'"):
        Preprocess(32, crop="centre")
