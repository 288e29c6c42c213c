"""What a mixture has shown, in the log."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from rsvlm.data.protocols import Mixed


class MixtureLogger(Callback):
    """Prints and logs, at each epoch's end, the samples of each source of a mixture.

    The counts are those of the places that the order asked for, so they are right after a restart
    in the middle of an epoch; an unreadable sample counts for its place. Other data sets log
    nothing.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the epoch's batches up to where it stopped."""
        module: Any = getattr(trainer, "datamodule", None)
        if module is None or not hasattr(module, "dataset"):
            return
        dataset = module.dataset("train")
        if not isinstance(dataset, Mixed):
            return
        epoch = trainer.current_epoch
        sampler = module.train_dataloader().sampler
        batches = min(len(sampler), int(trainer.num_training_batches))
        shown = sampler.ordered(epoch)[: batches * sampler.batch_size]
        counts = dataset.counts(epoch, shown)
        pl_module.print(
            f"epoch {epoch}: " + ", ".join(f"{word} {count}" for word, count in counts.items())
        )
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"sources/{word}": float(count) for word, count in counts.items()},
                step=trainer.global_step,
            )
