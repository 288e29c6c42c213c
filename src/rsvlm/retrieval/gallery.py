"""Pictures that a model can find: their names and features, from a folder or from an index file."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rsvlm.data.folders import is_picture, walk
from rsvlm.data.images import read_any
from rsvlm.data.sample import Picture, SampleError
from rsvlm.errors import UserError

log = logging.getLogger(__name__)

#: Cosine of a model's own features of one picture, on any device and in half precision.
_SAME = 0.99


@dataclass
class Gallery:
    """Named pictures by their features.

    Attributes:
        names: N names, as paths within a folder.
        features: [N, D] float32, of unit length.
        broken: why other pictures are not here.
        root: the folder of the names; None where it is not known.
        probe: [D] features of a picture that tells models apart (`probe_of`).
    """

    names: list[str]
    features: Tensor
    broken: list[str] = field(default_factory=list)
    root: Path | None = None
    probe: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.features):
            raise UserError(
                f"a gallery of {len(self.names)} names and {len(self.features)} features: each "
                "picture needs both, and one picture at least."
            )
        self.features = F.normalize(self.features.float(), dim=-1)

    @classmethod
    def of(cls, model: Any, source: str | Path, *, batch_size: int = 64) -> Gallery:
        """A gallery from what the user names.

        Args:
            model: a CLIP, or has `encode_image(images, normalize=)` and `preprocess`.
            source: a folder, looked through with its sub-folders; or a file that `save` wrote.
            batch_size: pictures encoded at a time.

        Raises:
            UserError: no such place, no picture that can be read, or an index of another model.
        """
        root = Path(source)
        if root.is_file():
            found = cls.read(root)
            found.check(model, str(source))
            return found
        if not root.is_dir():
            raise UserError(f"gallery={source}: there is no such folder or file.")
        paths = sorted(Path(at, n) for at, names in walk(root) for n in names if is_picture(n))
        if not paths:
            raise UserError(f"gallery={source}: there are no pictures in it.")
        names: list[str] = []
        broken: list[str] = []
        made: list[str] = []
        features: list[Tensor] = []
        for start in range(0, len(paths), batch_size):
            pictures: list[Picture] = []
            for path in paths[start : start + batch_size]:
                try:
                    picture, done = read_any(path)
                    pictures.append(picture)
                    names.append(path.relative_to(root).as_posix())
                    made += [done] if done else []
                except SampleError as error:
                    broken.append(str(error))
            if pictures:
                features.append(encoded(model, pictures))
        if not features:
            raise UserError(f"gallery={source}: no picture can be read; the first: {broken[0]}")
        if made:
            log.warning("%d of %d pictures are not 8-bit RGB; %s", len(made), len(names), made[0])
        return cls(names, torch.cat(features), broken, root, probe_of(model))

    def check(self, model: Any, source: str) -> None:
        """Holds an index against the model that is to look through it.

        Raises:
            UserError: it was made by another model, or with other weights.
        """
        if self.probe is None:
            return
        mine = probe_of(model)
        if mine.shape != self.probe.shape or float(mine @ self.probe) < _SAME:
            raise UserError(
                f"gallery={source} was made by another model, or with other weights: make it anew "
                "with rsvlm index, or give the folder."
            )

    @classmethod
    def read(cls, path: str | Path) -> Gallery:
        """What `save` wrote.

        Raises:
            UserError: another file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                said = file.metadata() or {}
                found = cls(json.loads(said["names"]), file.get_tensor("features"))
                found.root = Path(said["root"]) if said.get("root") else None
                if "probe" in file.keys():  # noqa: SIM118  (the file itself is no container)
                    found.probe = file.get_tensor("probe")
                return found
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise UserError(
                f"gallery={path} is no index of pictures ({error}): give a folder, or a file that "
                "rsvlm index wrote."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write an index, a safetensors file, that `read` takes."""
        from safetensors.torch import save_file

        said = {"names": json.dumps(self.names), "root": str(self.root or "")}
        tensors = {"features": self.features.cpu().contiguous()}
        if self.probe is not None:
            tensors["probe"] = self.probe.cpu().contiguous()
        save_file(tensors, str(path), metadata=said)

    def rank(
        self, queries: Tensor, count: int = 10, *, seen: Sequence[Collection[str]] | None = None
    ) -> list[list[tuple[str, float]]]:
        """The pictures that fit best.

        Args:
            queries: [B, D] of unit length.
            count: most pictures for a query.
            seen: for each query the names that are left out, as shown already.

        Returns:
            For each query (name, cosine), best first; equal ones in the gallery's order.

        Raises:
            UserError: features of another width: another model's index.
        """
        if queries.shape[1] != self.features.shape[1]:
            raise UserError(
                f"the gallery holds features of {self.features.shape[1]} numbers, the model's have "
                f"{queries.shape[1]}: the index is another model's. Give the folder, and it is "
                "made anew."
            )
        self.features = self.features.to(queries.device)
        scores = (queries.float() @ self.features.T).cpu()
        out = []
        for row, left in zip(scores, seen or [()] * len(scores), strict=True):
            order = row.argsort(descending=True, stable=True).tolist()
            kept = [i for i in order[: count + len(left)] if self.names[i] not in left]
            out.append([(self.names[i], float(row[i])) for i in kept[:count]])
        return out


def encoded(model: Any, pictures: Sequence[Picture]) -> Tensor:
    """Features of unit length [N, D] of pictures of any sizes, on the CPU; in eval mode."""
    transform = model.preprocess
    return features_of(model, torch.stack([transform(picture) for picture in pictures]))


@torch.no_grad()
def features_of(model: Any, images: Tensor) -> Tensor:
    """The same, of images [N, 3, S, S] that `model.preprocess` has made."""
    mode = model.training
    device = next(model.parameters()).device
    model.eval()
    try:
        features: Tensor = model.encode_image(images.to(device), normalize=True)
        return features.float().cpu()
    finally:
        model.train(mode)


def probe_of(model: Any) -> Tensor:
    """Features [D] of one picture that is always the same, by which an index knows its model."""
    rows = torch.arange(64)
    picture = torch.stack(
        [
            rows[:, None] * 4 + 0 * rows,
            rows[None] * 3 + rows[:, None],
            255 - rows * 4 + 0 * rows[:, None],
        ]
    )
    return encoded(model, [picture.to(torch.uint8)])[0]
