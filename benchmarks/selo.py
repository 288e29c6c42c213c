"""Semantic localisation beside the published order of work, same windows, same four numbers.

    python benchmarks/selo.py                      # a cheap scorer: the order of work alone
    python benchmarks/selo.py --scorer tiny        # with our smallest CLIP in it
    python benchmarks/selo.py --scorer ViT-B-32    # with random weights of the size people use

The published order (SemanticLocalizationMetrics `generate_selo.py` and `SLM.py`), for each
sentence: cut and resize all windows and write them as JPEG files; read each back and encode it
alone; add the scores up pixel by pixel, and divide them in a Python loop; smooth, write and read
the map; find the peaks twice, once per indicator that needs them. It is written anew here, with
OpenCV, SciPy and scikit-image for the calls that the published code makes, where they are
installed, and with our equivalents otherwise; which of them is printed. Both sides use one thread.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from rsvlm.metrics import selo, selo_image_ops

try:
    import cv2
    from scipy import ndimage
    from skimage import measure
except ImportError:
    cv2 = ndimage = measure = None  # type: ignore[assignment]

Encode = Callable[[list[Image.Image]], torch.Tensor]
REGIONS = (
    ([(300, 250), (900, 250), (900, 700), (300, 700)],),
    (
        [(1500, 400), (2300, 500), (2250, 1200), (1450, 1100)],
        [(2400, 1500), (2900, 1450), (2850, 1900)],
    ),
    ([(200, 1300), (1000, 1200), (1100, 1900), (250, 1950)],),
)


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8: soft coloured fields, so that windows differ and JPEG has work to do."""
    g = np.random.RandomState(seed)
    coarse = g.randint(0, 256, (height // 125, width // 125, 3)).astype(np.uint8)
    fields = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = g.randint(-12, 13, (height, width, 1))
    return np.clip(fields.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def cheap(pictures: list[Image.Image]) -> torch.Tensor:
    """Unit-length features from a 4 x 4 thumbnail: costs little, differs between windows."""
    small = [np.asarray(p.resize((4, 4), Image.Resampling.BOX), np.float32) for p in pictures]
    features = torch.from_numpy(np.stack(small)).flatten(1)
    features = features - features.mean(1, keepdim=True)
    return torch.nn.functional.normalize(features, dim=1)


def clip_encoder(arch: str) -> tuple[Encode, int]:
    """A CLIP of random weights, and the width of its features."""
    from rsvlm.data.transforms import Preprocess
    from rsvlm.encoders.clip.model import clip

    torch.manual_seed(0)
    model = clip(arch, activation="quick_gelu").eval()
    preprocess = Preprocess(model.image_size)

    def encode(pictures: list[Image.Image]) -> torch.Tensor:
        with torch.inference_mode():
            images = torch.stack([preprocess(picture) for picture in pictures])
            return model.encode_image(images, normalize=True)

    return encode, model.embed_dim


def published(image: np.ndarray, queries: torch.Tensor, encode: Encode) -> list[dict[str, float]]:
    """The published order of work."""
    results = []
    height, width = image.shape[:2]
    for query, regions in zip(queries, REGIONS, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            names = []
            # Windows in the published order; equal ones overwrite each other's file.
            for window in selo.windows(height, width):
                crop = image[window.top : window.bottom, window.left : window.right]
                file = f"{folder}/{window.top}_{window.bottom}_{window.left}_{window.right}.jpg"
                write_picture(file, resize(crop))
                names.append(file)
            scores = []
            for file in names:
                with Image.open(file) as picture:
                    scores.append(float(encode([picture.convert("RGB")])[0] @ query))
            heat, count = np.zeros((height, width)), np.zeros((height, width))
            for file, score in zip(names, scores, strict=True):
                top, bottom, left, right = map(int, Path(file).stem.split("_"))
                heat[top:bottom, left:right] += score
                count[top:bottom, left:right] += 1
            for i in range(height):
                for j in range(width):
                    heat[i, j] = heat[i, j] / count[i, j]
            heat = heat - heat.min()
            gray = median(np.uint8(255 * (heat / heat.max())), names)
            write_gray(f"{folder}/map.jpg", gray)
            prob = read_gray(f"{folder}/map.jpg") / 255.0
            results.append(published_indicators(prob, regions))
    return results


def published_indicators(prob: np.ndarray, regions: Any) -> dict[str, float]:
    """`SLM.evaluate`: masks as float64, the peaks found anew for each indicator."""
    mask = fill(prob.shape, regions)
    inside, everything, area = np.sum(prob * mask), np.sum(prob), np.sum(mask)
    odds = inside / (everything - inside + 1e-7) * (prob.size - area) / area
    rsu = 1 - np.exp(-0.707 * odds)
    circles = []
    for region in regions:
        points = np.array(region)
        x, y = (int(sum(points[:, axis]) / len(points)) for axis in (0, 1))
        circles.append((x, y, int(np.mean([np.hypot(*(p - (x, y))) for p in points]) * 1.5)))
    offsets = []
    centres = peaks(prob)
    for x, y, radius in circles:
        near = [d for d in (np.hypot(x - a, y - b) for a, b in centres) if d <= radius]
        offsets.append((np.mean(near) if near else radius) / radius)
    ras = (np.exp(3 * (np.mean(offsets) if centres else 1.0)) - 1) / (np.exp(3) - 1)
    spreads = []
    centres = peaks(prob)
    for x, y, radius in circles:
        held = np.array([(a, b) for a, b in centres if np.hypot(x - a, y - b) <= radius])
        if len(held) < 2:
            spreads.append(float(len(held)))
            continue
        spread = np.mean([np.hypot(*(p - held.mean(0))) for p in held]) / radius
        spreads.append(0.5 * (1 - spread) + np.exp(-0.5 * (len(held) + 2)))
    rda = np.mean(spreads)
    rmi = 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda
    return {"rsu": float(rsu), "ras": float(ras), "rda": float(rda), "rmi": float(rmi)}


def peaks(prob: np.ndarray) -> list[tuple[int, int]]:
    """`SLM._get_prob_center_in_gray`."""
    gray = np.asarray(prob * 255.0, dtype=np.uint8)
    if cv2 is None:
        for _ in range(5):
            gray = selo_image_ops.box_blur(gray, 50)
        flat = (selo_image_ops.maximum_filter(gray, 1000) == gray) & (gray > 0)
        centres = selo_image_ops.component_centres(flat)
    else:
        # Published, though nothing uses it: the connected areas of the map itself.
        measure.label(np.asarray(gray > 150, np.uint8) * 255, connectivity=2)
        for _ in range(5):
            gray = cv2.boxFilter(gray, ddepth=-1, ksize=(50, 50))
        highest = ndimage.maximum_filter(gray, size=1000)
        gray = np.where(highest == gray, gray, 0)
        labels = measure.label(np.asarray(gray > 0, np.uint8) * 255, connectivity=2)
        found = measure.regionprops(labels)
        centres = [(int(one.centroid[1]), int(one.centroid[0])) for one in found]
    return [(x, y) for x, y in centres if prob[y, x] >= 0.5]


def resize(crop: np.ndarray) -> np.ndarray:
    """To 256 px."""
    if cv2 is None:
        return selo_image_ops.resize_cubic(crop, 256)
    return cv2.resize(crop, (256, 256), interpolation=cv2.INTER_CUBIC)


def write_picture(file: str, rgb: np.ndarray) -> None:
    """JPEG of quality 95."""
    if cv2 is None:
        Image.fromarray(np.ascontiguousarray(rgb)).save(file, quality=95)
    else:
        cv2.imwrite(file, rgb[:, :, ::-1])


def write_gray(file: str, gray: np.ndarray) -> None:
    """JPEG of quality 95."""
    if cv2 is None:
        Image.fromarray(gray).save(file, quality=95)
    else:
        cv2.imwrite(file, gray)


def read_gray(file: str) -> np.ndarray:
    """[H, W] uint8."""
    if cv2 is None:
        return np.asarray(Image.open(file))
    return cv2.imread(file, cv2.IMREAD_GRAYSCALE)


def fill(shape: tuple[int, ...], regions: Any) -> np.ndarray:
    """Float64 mask."""
    polygons = [np.array(region, np.int32) for region in regions]
    if cv2 is None:
        return selo_image_ops.fill_polygons((shape[0], shape[1]), polygons).astype(np.float64)
    mask = np.zeros(shape)
    cv2.fillPoly(mask, polygons, 1)
    return mask


def median(gray: np.ndarray, names: list[str]) -> np.ndarray:
    """`cv2.medianBlur(gray, 251)`; without OpenCV by ours, which is no slower."""
    if cv2 is not None:
        return cv2.medianBlur(gray, selo.MEDIAN)
    boxes = np.array([[int(edge) for edge in Path(name).stem.split("_")] for name in names])
    rows, columns = np.unique(boxes[:, :2]), np.unique(boxes[:, 2:])
    return selo_image_ops.median_of_cells(
        gray[np.ix_(rows[:-1], columns[:-1])], rows, columns, selo.MEDIAN
    )


def ours(image: np.ndarray, queries: torch.Tensor, encode: Encode) -> list[dict[str, float]]:
    """Windows once per image, maps by cells."""
    metric = selo.SeLo("selo_jpeg")
    size = (image.shape[0], image.shape[1])
    features = metric.encode(image, encode)
    return [
        selo.indicators(metric.map(features @ query, size), regions)
        for query, regions in zip(queries, REGIONS, strict=True)
    ]


def versions(*modules: ModuleType) -> str:
    """Names and versions of what the published side uses."""
    return ", ".join(f"{m.__name__} {m.__version__}" for m in modules)


def main() -> None:
    """Runs both, compares the numbers, prints times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scorer", default="cheap", help="cheap, or a CLIP such as tiny, ViT-B-32")
    parser.add_argument("--height", type=int, default=2000)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many counts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if cv2 is not None:
        import scipy
        import skimage

        cv2.setNumThreads(1)
        print("published side with", versions(cv2, scipy, skimage))
    else:
        print("published side without OpenCV, SciPy, scikit-image: our equivalents in their place")
    encode, width = (cheap, 48) if args.scorer == "cheap" else clip_encoder(args.scorer)
    image = scene(args.height, args.width)
    generator = torch.Generator().manual_seed(1)
    queries = torch.nn.functional.normalize(torch.randn(3, width, generator=generator), dim=1)
    count = len(selo.windows(args.height, args.width))
    print(
        f"{args.width} x {args.height} px, {count} windows, {len(queries)} sentences, scorer "
        f"{args.scorer}; {platform.machine()}, one thread, torch {torch.__version__}"
    )
    sides = {"published": published, "ours": ours}
    best = dict.fromkeys(sides, float("inf"))
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            found[name] = side(image, queries, encode)
            best[name] = min(best[name], time.perf_counter() - start)
    for number, (theirs, mine) in enumerate(zip(found["published"], found["ours"], strict=True)):
        print(f"sentence {number}:", "  ".join(f"{k} {v:.6f}" for k, v in mine.items()))
        for word, value in theirs.items():
            # Batched and single products differ in the last bits; so may a level of the map.
            if abs(value - mine[word]) > 1e-4:
                raise SystemExit(f"sentence {number}: {word} is {mine[word]}, published {value}")
    largest = max(
        abs(a[word] - b[word])
        for a, b in zip(found["published"], found["ours"], strict=True)
        for word in a
    )
    for name, seconds in best.items():
        print(f"{name:>10}: {seconds:7.2f} s")
    ratio = best["published"] / best["ours"]
    print(f"     ratio: {ratio:.1f}    largest difference of a number: {largest:.1e}")


if __name__ == "__main__":
    main()
