"""The words that stand at the top of a configuration; anything else up there is an error.

Every other knob lives in the node of the group that it belongs to (`optimizer.lr`,
`evaluation.protocol`), where `rsvlm.run.check` holds it to the signature of its `_target_`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# OmegaConf's word for "not given": a schema that is merged late must not overwrite values, so all
# defaults stand in the yaml files.
MISSING = "???"

GROUPS = (
    "paths",
    "data",
    "model",
    "loss",
    "optimizer",
    "scheduler",
    "task",
    "evaluation",
    "callbacks",
    "logger",
    "trainer",
)


@dataclass
class Schema:
    """Top level of train.yaml and eval.yaml.

    Attributes:
        name: name of the run; its folder is `runs/<name>/<time>`.
        tags: words for the logger.
        seed: seed of initialisation, order, augmentation and dropout.
        ckpt: a checkpoint of exactly this model.
        init: a checkpoint to start a new training from.
        init_new: parts that `init` may lack and that stay fresh.
        resume: folder of a run to go on with.
        compile: whether the model runs through `torch.compile`.
    """

    name: str = MISSING
    tags: list[str] = MISSING  # type: ignore[assignment]
    seed: int = MISSING  # type: ignore[assignment]
    ckpt: str | None = MISSING
    init: str | None = MISSING
    init_new: list[str] = MISSING  # type: ignore[assignment]
    resume: str = MISSING
    compile: bool = MISSING  # type: ignore[assignment]
    paths: Any = MISSING
    data: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    task: Any = MISSING
    evaluation: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    trainer: Any = MISSING


@dataclass
class PredictSchema(Schema):
    """Top level of predict.yaml: what is asked, and of which pictures.

    Attributes:
        image: a picture.
        before: first date of a pair.
        after: second date of a pair.
        prompt: the question, or candidate texts with `;` between them.
        text: a text to look for in `gallery`.
        gallery: folder of pictures to search, or an index of one (`python -m rsvlm index`).
        out: the picture of the answer; null takes answer.png in the run's folder.
    """

    image: str | None = MISSING
    before: str | None = MISSING
    after: str | None = MISSING
    prompt: str | None = MISSING
    text: str | None = MISSING
    gallery: str | None = MISSING
    out: str | None = MISSING
