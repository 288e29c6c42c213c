"""Features of a frozen tower, computed once for a picture or text, kept across epochs and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError
from rsvlm.files import written_whole


class FeatureCache:
    """Keeps what a function gives for each picture, by the picture's own bytes.

    Several samples that show one picture share its features, and a picture that was augmented is
    another one. A cache that is full keeps what it has. Nothing of it is in a checkpoint; each
    process has its own memory.

    Args:
        gib: most memory, GiB.
        folder: where features also stay for other runs, one file for each batch of new pictures,
            so that a killed run loses one batch and several processes may write at once. None
            keeps them in memory alone. What lies there must be of the same tower: see `folder_of`.

    Attributes:
        hits: pictures whose features were there.
        misses: pictures whose features were computed.

    Raises:
        UserError: the folder holds a file that is not of this cache.
    """

    def __init__(self, gib: float, folder: Path | None = None) -> None:
        self.room = int(gib * 2**30)
        self.folder = folder
        self.kept: dict[bytes, Tensor] = {}
        self.hits = self.misses = 0
        if folder is not None and folder.is_dir():
            for file in sorted(folder.glob("*.pt")):
                self._read(file)

    def _read(self, file: Path) -> None:
        try:
            held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            keys, rows = held["keys"], held["features"]
            for key, row in zip(keys, rows, strict=True):
                self._keep(bytes(key.tolist()), row)
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise UserError(
                f"{file} holds no features of pictures ({str(error).partition(chr(10))[0]}): "
                "remove it, and they are computed again."
            ) from error

    def _keep(self, key: bytes, row: Tensor) -> None:
        size = row.numel() * row.element_size()
        if size <= self.room:
            self.kept[key] = row.clone()
            self.room -= size

    def __call__(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The features of some pictures.

        Args:
            images: [N, 3, S, S].
            compute: pictures to features [N, ...], without a graph; is called for new ones only.

        Returns:
            [N, ...], in the order of the pictures, the very values that `compute` gave once.
        """
        if images.is_meta:  # no values, by which pictures are known
            return compute(images)
        keys = [picture_key(image) for image in images.cpu()]
        return self.rows(
            keys, lambda places: compute(images[torch.tensor(places, device=images.device)])
        ).to(images.device)

    def rows(self, keys: Sequence[bytes], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """The features of anything that is known by digests of 64 bytes, [N, ...].

        Args:
            keys: one for each.
            compute: the features [M, ...] of those at some places of `keys`; is called for new ones
                only, each once.
        """
        # The first place of each new one; a batch may show one twice.
        new: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key not in self.kept:
                new.setdefault(key, i)
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        fresh: dict[bytes, Tensor] = {}
        if new:
            fresh = dict(zip(new, compute(list(new.values())), strict=True))
        device = next(iter(fresh.values())).device if fresh else torch.device("cpu")
        rows = [fresh[key] if key in fresh else self.kept[key].to(device) for key in keys]
        for key, row in fresh.items():
            self._keep(key, row.detach().cpu())
        if fresh and self.folder is not None:
            self._write(list(fresh), torch.stack([row.detach().cpu() for row in fresh.values()]))
        return torch.stack(rows)

    def _write(self, keys: list[bytes], features: Tensor) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        packed = torch.tensor([list(key) for key in keys], dtype=torch.uint8)
        # Two processes with the same pictures write the same file, whichever comes last.
        name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
        with written_whole(self.folder / f"{name}.pt") as part:
            torch.save({"keys": packed, "features": features}, part)


def picture_key(image: Tensor) -> bytes:
    """What a picture [3, S, S] or ids [L] are known by: a digest of their bytes, in CPU memory."""
    return hashlib.blake2b(image.numpy().tobytes()).digest()


def cache_of(tower: nn.Module, gib: float, folder: str | Path | None) -> FeatureCache | None:
    """A cache for the features of a tower; None where no memory is given, or it has no weights yet.

    Args:
        tower: frozen as far as its features are kept.
        gib: most memory, GiB.
        folder: where features of any towers stay; see `folder_of`.
    """
    if not gib:
        return None
    if folder is None or any(value.is_meta for value in tower.state_dict().values()):
        return FeatureCache(gib)
    return FeatureCache(gib, folder_of(folder, tower))


def folder_of(folder: str | Path, tower: nn.Module) -> Path:
    """A folder within `folder` for the features of one tower: another tower has another.

    Args:
        folder: where features of any towers lie.
        tower: its weights, its class and its `reads` (what else its features depend on, as the
            layers) make the name.
    """
    facts = sorted(dict(getattr(tower, "reads", {})).items())
    digest = hashlib.blake2b(f"{type(tower).__name__} {facts}".encode(), digest_size=12)
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return Path(folder) / digest.hexdigest()
