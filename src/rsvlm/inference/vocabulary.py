"""Where a model with a word vocabulary has its words from, settled before it is built."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rsvlm.checkpoints.read import read
from rsvlm.checkpoints.resolve import resolve
from rsvlm.config.instantiate import instantiate
from rsvlm.data.protocols import GivesCaptions, attributes_of
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.errors import UserError
from rsvlm.files import write_text


def resolve_vocabulary(cfg: DictConfig, out: Path | None) -> None:
    """Replaces `model.words.path=data` by a word map in the run's folder.

    Its words are those of the checkpoint that is to be loaded, if it is one of ours, and otherwise
    those of the training split's captions.

    Args:
        cfg: the configuration; changed.
        out: the run's folder; None takes one that is removed when Python ends.

    Raises:
        UserError: a published checkpoint, whose words only its own word map tells; a language model
            that has nothing to read its words by.
    """
    _has_tokenizer(cfg.model.get("lm"))
    node = cfg.model.get("words")
    if not node or str(node.get("path")) != "data":
        return
    source = cfg.ckpt or cfg.init
    if source:
        held = (read(resolve(str(source)).local(), pickled=True).packed or {}).get("model", {})
        if "words" not in held:
            raise UserError(
                f"{source} does not hold its words: give the word map that it was trained with, "
                "model.words.path=<WORDMAP_...json>."
            )
        vocabulary = Vocabulary(held["words"])
    else:
        split = (cfg.data.get("splits") or {}).get("train") or "train"
        dataset = instantiate(cfg.data.dataset)(split=split)
        vocabulary = Vocabulary.build(
            captions(dataset), more_than=node.more_than, manner=node.manner
        )
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="rsvlm_"))
        atexit.register(shutil.rmtree, out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "words.json"
    write_text(path, vocabulary.dumps())
    cfg.model.words.path = str(path)


def _has_tokenizer(node: Any) -> None:
    """Says so before minutes go by in which a large model is built at random."""
    if not isinstance(node, DictConfig):
        return
    words = ("weights", "processor", "words")
    if "processor" in node and all(node.get(word) is None for word in words):
        raise UserError(
            "the model has no weights and no processor: give model.lm.weights=<folder or "
            "hf://org/repo>, which holds both, as model.lm.weights=hf://Qwen/Qwen2.5-VL-3B-Instruct,"
            " or model.lm.processor=<folder> where the weights come with ckpt=."
        )
    if "tokenizer" not in node:
        return
    if all(node.get(word) is None for word in ("weights", "tokenizer", "words")):
        raise UserError(
            "the language model has no tokenizer: give model.lm.weights=<folder or hf://org/repo>, "
            "which holds one, or model.lm.tokenizer=<folder> where the weights come with ckpt=, or "
            "model.lm.words=world for a small one."
        )


def captions(dataset: Any) -> Iterator[str]:
    """All captions of a data set, without reading images where that can be."""
    entries = attributes_of(dataset).entries
    found: Iterable[Any]
    if entries:
        found = (entry.texts for entry in entries)
    elif isinstance(dataset, GivesCaptions):
        found = (dataset.captions(i) for i in range(len(dataset)))
    else:
        found = (dataset[i].texts for i in range(len(dataset)))
    for texts in found:
        yield from texts
