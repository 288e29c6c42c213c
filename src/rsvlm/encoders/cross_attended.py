"""What Mllama (Llama-3.2-Vision) takes of images, which stand beside the text instead of in it.

Other families put an image's features at its tokens. Mllama's layers of cross attention read all
tiles of a row's images, each token those that its mask names: an image is seen from its place on,
up to the place of the next one. The rules are transformers' (`MllamaProcessor`).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: Of each image: its pixels by tiles, the form of their grid, and which tiles are there.
_OF_IMAGES = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask")


def by_rows(inputs: Mapping[str, Tensor], input_ids: Tensor, image_token: int) -> dict[str, Tensor]:
    """The inputs with images sorted into the rows that show them.

    Args:
        inputs: of N images in the order of their places: `pixel_values` [N, 1, T, 3, H, W],
            `aspect_ratio_ids` [N, 1], `aspect_ratio_mask` [N, 1, T], `cross_attention_mask`
            [N, 1, 1, T].
        input_ids: [B, L].
        image_token: the id at an image's place.

    Returns:
        The same with [B, M] in front, M images of the row that shows most; and
        `cross_attention_mask` [B, L, M, T].
    """
    if any(name not in inputs for name in _OF_IMAGES):
        return dict(inputs)
    places = [row.nonzero()[:, 0].tolist() for row in input_ids == image_token]
    most = max(1, *(len(row) for row in places))
    high, long = input_ids.shape
    out = {name: value for name, value in inputs.items() if name not in _OF_IMAGES}
    for name in _OF_IMAGES[:3]:
        value = inputs[name]
        out[name] = value.new_zeros(high, most, *value.shape[2:])
    # Without an image a row's mask names none; its tiles must be some, or there is no softmax.
    out["aspect_ratio_mask"][..., 0] = 1
    tiles = inputs["cross_attention_mask"]
    mask = tiles.new_zeros(high, long, most, tiles.shape[-1])
    at = 0
    for row, held in enumerate(places):
        ends = [*held[1:], long]
        for n in range(len(held) - 2, -1, -1):
            if held[n] + 1 == held[n + 1]:  # images side by side are seen together
                ends[n] = ends[n + 1]
        for n, (first, last) in enumerate(zip(held, ends, strict=True)):
            for name in _OF_IMAGES[:3]:
                out[name][row, n] = inputs[name][at, 0]
            mask[row, first:last, n] = tiles[at, 0, 0]
            at += 1
    out["cross_attention_mask"] = mask
    return out
