"""What every family shares: steps, seeds, optimiser, checkpoints. A family adds its batches."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rsvlm import checkpoints
from rsvlm.errors import UserError
from rsvlm.evaluation.base import Measurement
from rsvlm.evaluation.records import result_rows
from rsvlm.lit.finite import FiniteLosses
from rsvlm.lit.fsdp import shard
from rsvlm.lit.recording import Recording
from rsvlm.lit.stand_in import stand_in


class LitBase(L.LightningModule, abc.ABC):
    """Wires a model, a loss and an evaluation into a trainer.

    Args:
        model: `model(batch) -> dict`.
        loss: `loss(outputs, batch) -> {name: scalar}`.
        optimizer: called with the model.
        scheduler: called with the optimizer and `total_steps=`.
        evaluation: what validation and test measure; None measures nothing.
        config: the composed configuration as a plain dict, saved with every checkpoint.
        seed: seed of dropout and of whatever else a step draws.
        max_broken: unreadable samples after which a run stops.
    """

    #: With the attributes that Lightning sets without declaring them.
    trainer: Any

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: nn.Module | None = None,
        optimizer: Callable[..., Any] | None = None,
        scheduler: Callable[..., Any] | None = None,
        evaluation: Any = None,
        config: dict[str, Any] | None = None,
        seed: int = 0,
        max_broken: int = 20,
    ) -> None:
        super().__init__()
        # Lightning leaves modes as they are; a model knows which of its parts stay in eval mode.
        self.model: Any = model.train()
        self.loss, self.evaluation = loss, evaluation
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.config, self.seed, self.max_broken = config or {}, seed, max_broken
        self.results: list[dict[str, Any]] = []
        self.broken: dict[str, str] = {}
        self.sharded = False
        self.finite = FiniteLosses()
        #: Files that a test keeps its predictions in; None keeps them in memory.
        self.recording: Recording | None = None

    # What a family gives ------------------------------------------------------------------

    @abc.abstractmethod
    def train_collate(self) -> Callable[..., Any]:
        """Turns a list of views into a training batch."""

    @abc.abstractmethod
    def eval_collate(self) -> Callable[..., Any]:
        """Turns a list of views into an evaluation batch."""

    @abc.abstractmethod
    def preprocess(self) -> Callable[..., Any]:
        """The evaluation transform of the model."""

    def after_step(self) -> None:
        """Runs after each optimiser step; keeps parameters in their range."""

    # Training -----------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """AdamW or what the recipe names, with a schedule by step."""
        if self.make_optimizer is None:
            raise UserError("this recipe has no optimizer; give one with optimizer=adamw.")
        optimizer = self.make_optimizer(self.model)
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        schedule = self.make_scheduler(optimizer, total_steps=self._total_steps())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _total_steps(self) -> int:
        """Optimiser steps of the whole run.

        Lightning's `estimated_stepping_batches` would start the loader before a resumed run has
        told it where to start.
        """
        trainer = self.trainer
        batches = len(trainer.datamodule.train_dataloader().sampler)
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        steps = math.ceil(batches / trainer.accumulate_grad_batches) * epochs
        known = [n for n in (steps, trainer.max_steps) if n > 0]
        if not known:
            raise UserError("a schedule needs an end: give trainer.max_epochs or max_steps.")
        return min(known)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes dropout a function of (seed, epoch, batch, rank), so that a resumed run repeats it.

        This is also why checkpoints hold no random state.
        """
        words = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(hash(words) % 2**63)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """One step: model, loss, log."""
        assert self.loss is not None
        outputs = self.forward_model(batch)
        losses = self.loss(outputs, batch)
        total = torch.stack(list(losses.values())).sum()
        self.finite.note(total.detach(), self.global_step, batch_idx, self.current_epoch)
        self.note_skipped(batch)
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            # Ranks hold parts of the global loss: its value is their mean, taken only when logged.
            options: dict[str, Any] = {
                "batch_size": len(batch),
                "sync_dist": self.trainer.world_size > 1,
            }
            logged = {f"train/{name}": value.detach() for name, value in losses.items()}
            self.log_dict(logged | self.train_metrics(outputs), **options)
            self.log("train/loss", total.detach(), prog_bar=True, **options)
        return total

    def forward_model(self, batch: Any) -> dict[str, Any]:
        """The model's outputs on a training batch."""
        return self.model(batch)

    def train_metrics(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Further numbers to log at each step."""
        return {}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's, and `after_step` behind it."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by norm and logs the norm, which it also does where nothing is clipped.

        Lightning refuses any fused optimiser under mixed precision, though only float16's loss
        scaling is in its way.

        Raises:
            UserError: a fused optimiser under float16, whose gradients are still scaled here.
        """
        log = (self.global_step + 1) % self.trainer.log_every_n_steps == 0
        if not gradient_clip_val:
            scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
            if log and not scaled:  # scaled gradients are not those of the loss
                groups = optimizer.param_groups
                grads = [p.grad for g in groups for p in g["params"] if p.grad is not None]
                norm = torch.nn.utils.get_total_norm(grads)
                self.log("train/grad_norm", getattr(norm, "full_tensor", lambda: norm)())
            return
        if gradient_clip_algorithm not in (None, "norm"):
            raise UserError(
                f"+trainer.gradient_clip_algorithm={gradient_clip_algorithm}: only norm is here."
            )
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise UserError(
                "trainer.precision=16-mixed cannot clip gradients before a fused optimizer: choose "
                "optimizer.fused=false or trainer.precision=bf16-mixed."
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        if log:
            self.log("train/grad_norm", getattr(norm, "full_tensor", lambda: norm)())

    def note_skipped(self, batch: Any) -> None:
        """Counts unreadable samples and stops a run that has too many.

        Raises:
            UserError: more than `max_broken` distinct samples could not be read.
        """
        for reason in getattr(batch, "skipped", ()):
            if reason not in self.broken:
                self.broken[reason] = reason
                self.print(f"skipped: {reason}")
        if len(self.broken) > self.max_broken:
            first = "\n  ".join(list(self.broken)[:10])
            raise UserError(
                f"{len(self.broken)} samples could not be read, more than "
                f"task.max_broken={self.max_broken}:\n  {first}\nMend the files (rsvlm "
                "inspect lists them) or raise task.max_broken."
            )

    # Evaluation ---------------------------------------------------------------------------

    def _start(self, stage: str) -> None:
        if self.evaluation is None:
            return
        data = self.trainer.datamodule
        self.evaluation.stage = stage
        self.evaluation.start(self.model, data.dataset(stage), self.device)
        if self.evaluation.learns:
            with self.trainer.precision_plugin.forward_context():
                self.evaluation.learn(self.model, data.dataset("fit"), self._fit_batches())

    def _fit_batches(self) -> Iterator[Any]:
        """The split that an evaluation learns from, in the model's evaluation transform."""
        for batch in self.trainer.datamodule.fit_dataloader():
            batch = self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            self.note_skipped(batch)
            other = stand_in(self, batch)
            if other is not None:
                self.evaluation.rehearse(self.model, other)
            elif len(batch):
                yield batch

    def _finish(self, stage: str) -> None:
        if self.evaluation is None:
            return
        dataset = self.trainer.datamodule.dataset(stage)
        if stage == "test" and self.recording is not None:
            rows = self.recording.finish(self)
        else:
            values = self.evaluation.compute()
            found = Measurement(
                {word: float(value) for word, value in values.items()},
                {word: self.evaluation.facts(word) for word in values},
            )
            split = self.trainer.datamodule.splits[stage]
            own = self.evaluation.protocol
            skipped = len(self.broken)
            rows = result_rows(stage, dataset.name, split, own, found, skipped=skipped)
        # The metric has gathered: every rank holds the same values, and their mean is the same.
        many = self.trainer.world_size > 1
        self.log_dict({row["name"]: row["value"] for row in rows}, sync_dist=many)
        if not self.trainer.sanity_checking:
            new = {row["name"] for row in rows}
            self.results = [r for r in self.results if r["name"] not in new] + rows

    def setup(self, stage: str) -> None:
        """Leaves out of a test what was asked about before it was stopped."""
        if stage == "test" and self.recording is not None:
            self.recording.setup(self.trainer)

    def on_validation_epoch_start(self) -> None:
        """Prepares the evaluation on the validation split."""
        self._start("val")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Feeds the evaluation."""
        self._update(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the values."""
        self._finish("val")

    def on_test_epoch_start(self) -> None:
        """Prepares the evaluation on the test split."""
        self._start("test")
        if self.recording is not None:
            self.recording.start(self)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Feeds the evaluation."""
        if self.recording is not None:
            self.note_skipped(batch)
            self.recording.update(self, batch, batch_idx)
        else:
            self._update(batch)

    def on_test_epoch_end(self) -> None:
        """Logs the values and keeps them for metrics.json."""
        self._finish("test")

    def _update(self, batch: Any) -> None:
        self.note_skipped(batch)
        if self.evaluation is None:
            return
        other = stand_in(self, batch)
        if other is not None:
            self.evaluation.rehearse(self.model, other)
        elif len(batch):
            self.evaluation.update(self.model, batch)

    # Distribution and checkpoints ---------------------------------------------------------

    @property
    def towers(self) -> dict[str, str]:
        """Frozen parts that `init` can give back, with that source; they are not saved."""
        source = self.config.get("init")
        frozen = {
            name.split(".")[0] for name, p in self.model.named_parameters() if not p.requires_grad
        }
        parts = {name for name, _ in self.model.named_children()}
        return dict.fromkeys(sorted(frozen & parts), source) if source else {}

    @property  # type: ignore[misc]
    def strict_loading(self) -> bool:
        """Frozen towers are not in a checkpoint; `on_load_checkpoint` checks the rest by name."""
        return not self.towers

    def configure_model(self) -> None:
        """Shards the model where the trainer's strategy asks for it.

        Parameters that a part calls `idle` get no gradient, for which data parallel would wait.
        """
        idle = [
            f"model.{path}.{name}" if path else f"model.{name}"
            for path, part in self.model.named_modules()
            for name in getattr(part, "idle", ())
        ]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, idle)
        mesh = self.device_mesh
        if mesh is not None and not self.sharded:
            for name, parameter in self.named_parameters():
                if name in idle:  # an optimizer of shards looks for a state of each it is given
                    parameter.requires_grad_(False)
            shard(self.model, mesh["data_parallel"])
            self.sharded = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration and drops what frozen towers can give back."""
        packed = checkpoints.pack(self.model, self.config, self.towers)
        checkpoint["rsvlm"] = packed["rsvlm"]
        kept = {f"model.{name}" for name in packed["state_dict"]}
        checkpoint["state_dict"] = {
            name: tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name in kept or not name.startswith("model.")
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Holds a checkpoint against the model that is to take it.

        Raises:
            UserError: it is another model's, or tensors are missing or unknown.
        """
        if "state_dict" not in checkpoint:
            return  # a sharding strategy has taken the tensors already, and was strict about them
        state = {
            name.removeprefix("model."): tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name.startswith("model.")
        }
        checkpoints.check_packed(self.model, {"state_dict": state, "rsvlm": checkpoint["rsvlm"]})
