"""The only LightningDataModule: a data set, a view of it, a collate, and loaders that resume."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from rsvlm.data.datasets.splitting import Division
from rsvlm.data.loading.exclusions import without
from rsvlm.data.loading.sampler import BatchSampler
from rsvlm.data.loading.stages import check_apart
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.protocols import Mixed, MovesGeometry, Sharded, attributes_of
from rsvlm.data.rasters import Rasters, use_rasters
from rsvlm.errors import UserError

log = logging.getLogger(__name__)


class Loader(DataLoader):
    """A DataLoader that a resumed trainer starts in the middle of an epoch.

    Lightning saves and restores it through `state_dict`; `position` says how many batches the
    trainer has finished, which the loader cannot know, since its workers read ahead.
    """

    sampler: BatchSampler
    position: Callable[[], tuple[int, int, float]] | None = None

    def state_dict(self) -> dict[str, int]:
        """Epoch and batch that come next."""
        epoch, batch, batches = self.position() if self.position else (0, 0, len(self.sampler))
        if batch >= batches:
            epoch, batch = epoch + 1, 0
        return {"epoch": max(0, epoch), "batch": batch}  # -1 before the first epoch

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next iterator start there."""
        self.sampler.set_epoch(state["epoch"])
        self.sampler.start = state["batch"]


class DataModule(L.LightningDataModule):
    """Serves one data set's splits, or several data sets' for evaluation.

    Args:
        dataset: partial of a data set class; finished with `split=`.
        root: the data set's folder; `dataset` and others of the node refer to it.
        batch_size: training batch over all ranks.
        eval_batch_size: evaluation batch over all ranks.
        augment: partial of a training transform, finished with `size=`; None uses the
            evaluation's.
        splits: which split of the data set serves `train`, `val` and `test`; null where a stage
            has none. `test` may be a list, whose splits are measured one after the other. `fit` is
            what a probe learns from, by default the training split.
        suite: name under which the mean over a list of test splits is given.
        caption: which caption a training sample shows: `random`, `first` or `all`.
        workers: loader processes; null takes one a core left over, at most eight.
        cache: `none`, or `decoded` to keep decoded images of the training split in memory.
        cache_size: shorter side, in pixels, of a cached image; null takes 1.15 times the model's.
        order: `shuffled`, or `blocked` for shards on a slow disk: shards at random, then samples
            at random within windows of `block` (`rsvlm.data.loading.sampler.blocked`); or
            `grouped`, which gives each batch one source of a mixture.
        block: samples of such a window; a batch should be a small part of it.
        seed: seed of order, augmentation and caption choice.
        shared: what samples are that both training and validation or test hold, where these name
            different splits: an `error`, or `allow`.
        raster: how rasters become pictures, where anything is said of it.
        name: a word for parts of the node to refer to, as the class of `data=torchgeo`.
        exclude: a list of samples that training leaves out, as `rsvlm inspect --exclude` writes it.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        *,
        root: str | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        augment: Callable[..., Any] | None = None,
        splits: dict[str, Any] | None = None,
        suite: str | None = None,
        caption: Literal["random", "first", "all"] = "random",
        workers: int | None = None,
        cache: Literal["none", "decoded"] = "none",
        cache_size: int | None = None,
        order: Literal["shuffled", "blocked", "grouped"] = "shuffled",
        block: int = 16384,
        seed: int = 0,
        shared: Literal["error", "allow"] = "error",
        raster: Rasters | None = None,
        name: str | None = None,
        exclude: str | None = None,
    ) -> None:
        super().__init__()
        self.make_dataset = dataset
        self.root = root
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.make_augment = augment
        self.splits: dict[str, Any] = {"train": "train", "val": "val", "test": "test"}
        self.splits |= splits or {}
        self.splits.setdefault("fit", self.splits["train"])
        test = self.splits["test"]
        # Hydra gives lists of its own kind.
        self.test_splits = [test] if test is None or isinstance(test, str) else list(test)
        self.splits["test"] = self.test_splits[0] if self.test_splits else None
        self.suite, self.name = suite, name
        self.shared, self.raster, self.exclude = shared, raster, exclude
        self.order, self.block = order, block
        self.caption, self.cache, self.cache_size, self.seed = caption, cache, cache_size, seed
        cores = len(os.sched_getaffinity(0))
        self.workers = min(8, cores - 1) if workers is None else workers
        self.datasets: dict[str, Any] = {}
        self.done: frozenset[int] = frozenset()
        self.loaders: dict[str, Loader] = {}

    def connect(
        self,
        *,
        preprocess: Callable[..., Any],
        train_collate: Callable[..., Any],
        eval_collate: Callable[..., Any],
        image_size: int,
    ) -> None:
        """Takes what only the model knows; called before the trainer starts."""
        self.preprocess, self.image_size = preprocess, image_size
        self.train_collate, self.eval_collate = train_collate, eval_collate

    def dataset(self, stage: str) -> Any:
        """The data set that serves a stage, opened once; what was amiss with it is logged."""
        if stage not in self.datasets:
            split = self.splits[stage]
            if split is None:
                raise UserError(
                    f"this data set has no split for {stage!r}: name one with data.splits.{stage}=."
                )
            dataset = self.datasets[stage] = self.make_dataset(split=split)
            if self.raster is not None:
                use_rasters(dataset, self.raster)
            if self.exclude is not None and stage in ("train", "fit"):
                dataset = self.datasets[stage] = without(dataset, split, self.exclude)
            for problem in attributes_of(dataset).problems:
                rank_zero_only(log.warning)("%s, split %s: %s", dataset.name, split, problem)
            self._hold_apart(stage)
        return self.datasets[stage]

    def _hold_apart(self, stage: str) -> None:
        """Refuses samples of training in another stage, unless both name the same split."""
        if self.shared == "allow" or "train" not in self.datasets:
            return
        for other in ("val", "test") if stage == "train" else (stage,):
            word, trained = self.splits.get(other), self.splits["train"]
            if other in ("val", "test") and other in self.datasets and word != trained:
                check_apart(self.datasets["train"], self.datasets[other], other)

    def setup(self, stage: str) -> None:
        """Leaves the division of a table that held all splits in the run's folder, splits.csv."""
        trainer = self.trainer
        held = [getattr(each, "division", None) for each in self.datasets.values()]
        division = next((each for each in held if each), None)
        if division and trainer is not None and trainer.is_global_zero:
            Division(division).write(Path(trainer.default_root_dir) / "splits.csv")

    def use_test(self, split: str) -> None:
        """Makes one of `test_splits` the test split."""
        self.splits["test"] = split
        self.datasets.pop("test", None)
        self.loaders.pop("test", None)

    def leave_out(self, done: frozenset[int]) -> None:
        """Makes the test meet other positions than these, which were asked about before."""
        self.done = done
        self.loaders.pop("test", None)

    def samples_of(self, stage: str, batch: int) -> list[int]:
        """The positions that this rank's batch of an evaluation is made of."""
        return self._loader(stage).sampler.evaluated(batch)

    def has(self, stage: str) -> bool:
        """Whether there is a split for a stage."""
        return self.splits.get(stage) is not None

    def _loader(self, stage: str) -> Loader:
        training = stage == "train"
        if stage in self.loaders:
            return self.loaders[stage]
        dataset = self.dataset(stage)
        transform = self.preprocess
        if training:
            augment = self.make_augment
            transform = augment(size=self.image_size) if augment else Plain(self.preprocess)
        view = TransformedDataset(
            dataset,
            transform,
            seed=self.seed,
            training=training,
            caption=self.caption if training else "all",
            cache=self.cache if training else "none",
            cache_size=self.cache_size or round(1.15 * self.image_size),
        )
        trainer = self.trainer
        left = [n for n in range(len(dataset)) if n not in self.done] if stage == "test" else None
        sampler = BatchSampler(
            len(dataset),
            self.batch_size if training else self.eval_batch_size,
            seed=self.seed,
            training=training,
            rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1,
            order=self.order if training else "shuffled",
            block=self.block,
            sizes=self._sizes(dataset),
            positions=left,
        )
        collate = self.train_collate if training else self.eval_collate
        # The sampler yields whole batches of keys, so the loader itself does not batch.
        loader = Loader(
            BatchDataset(view, collate),
            sampler=sampler,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0 and training,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: starting an iterator must not draw from the global one.
            generator=torch.Generator().manual_seed(self.seed),
            prefetch_factor=4 if self.workers else None,
        )
        if training and trainer is not None:
            loader.position = lambda: (
                trainer.fit_loop.epoch_progress.current.ready - 1,
                trainer.fit_loop.epoch_loop.batch_progress.current.ready,
                trainer.fit_loop.max_batches,
            )
        self.loaders[stage] = loader
        return loader

    def _sizes(self, dataset: Any) -> Sequence[int] | None:
        """Samples of each source, or of each shard, for an order that goes by them."""
        if self.order == "grouped":
            mixed = isinstance(dataset, Mixed)
            return dataset.source_sizes if mixed else None  # an error where there are stages
        return dataset.shard_sizes if isinstance(dataset, Sharded) else None

    def train_dataloader(self) -> Loader:
        """Loader of the training split."""
        return self._loader("train")

    def val_dataloader(self) -> Loader | list[Loader]:
        """Loader of the validation split, where there is one."""
        return self._loader("val") if self.has("val") else []

    def test_dataloader(self) -> Loader:
        """Loader of the test split."""
        return self._loader("test")

    def fit_dataloader(self) -> Loader:
        """Loader of the split that a probe learns from, transformed as for evaluation."""
        return self._loader("fit")

    def state_dict(self) -> dict[str, Any]:
        """Where the training loader stands.

        Lightning restores a loader's own state only in the middle of an epoch; this also covers a
        checkpoint from an epoch's end.
        """
        return {"train": self.loaders["train"].state_dict()} if "train" in self.loaders else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the training loader start there; a test with a checkpoint trains nothing."""
        training = self.trainer is None or self.trainer.state.fn == "fit"
        if training and "train" in state_dict:
            self._loader("train").load_state_dict(state_dict["train"])

    def teardown(self, stage: str) -> None:
        """Forgets the loaders, so that another trainer builds its own."""
        self.loaders = {}


class Plain:
    """An evaluation transform in training, where a transform is also given a generator."""

    def __init__(self, preprocess: Callable[..., Any]) -> None:
        self.preprocess = preprocess

    def __call__(self, image: Any, generator: Any) -> Any:
        """The transformed image; draws nothing."""
        return self.preprocess(image)

    def apply_with_geometry(self, images: Any, generator: Any) -> tuple[list[Any], list[Any]]:
        """All images of a sample, and where their pixels go if the transform says so."""
        if isinstance(self.preprocess, MovesGeometry):
            tensors, moves = self.preprocess.apply_with_geometry(images)
            return list(tensors), list(moves)
        return [self.preprocess(image) for image in images], []


class BatchDataset(torch.utils.data.Dataset):
    """Turns a list of keys into a batch inside the worker."""

    def __init__(self, view: TransformedDataset, collate: Callable[..., Any]) -> None:
        self.view, self.collate = view, collate

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, keys: list[tuple[int, int]]) -> Any:
        """The batch of the samples that `keys` name."""
        return self.collate([self.view[key] for key in keys])
