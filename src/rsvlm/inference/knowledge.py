"""Knowledge bases with the encoders that made them, and models that answer with what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.models.protocols import is_image_text_encoder
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_encoder import ClipEncoder
from rsvlm.retrieval.knowledge_store import store_of

#: What encodes a base where nobody names another: trained on remote sensing's pairs.
DEFAULT = "georsclip_vitb32.rs5m"


def encoder_of(
    name: str | None = None, ckpt: str | None = None, words: Sequence[str] = (), *, batch: int = 64
) -> ClipEncoder:
    """A CLIP of the zoo, or of a run, as a base's encoder.

    Args:
        name: a model option or a row of the zoo; None takes a run's own, or GeoRSCLIP.
        ckpt: its checkpoint.
        words: overrides.
        batch: pictures or texts encoded at a time.

    Raises:
        UserError: it cannot be had, or has no space of features for pictures and texts.
    """
    from rsvlm.inference.api import load

    if ckpt is not None and Path(ckpt).expanduser().exists():
        ckpt = str(Path(ckpt).expanduser().resolve())
    if name is None and ckpt is not None:
        model = load(ckpt, overrides=words)
    elif name is None:
        try:
            model = load(DEFAULT, overrides=words)
        except UserError as error:
            raise UserError(
                f"{error}\nThat is the encoder where none is named: give its file, --model "
                "georsclip_vitb32 --ckpt RS5M_ViT-B-32.pt, or another, as --ckpt <a CLIP's run>."
            ) from error
    else:
        model = load(name, ckpt, overrides=words)
    if not is_image_text_encoder(model):
        raise UserError(
            f"a {type(model).__name__} encodes no pictures and texts in one space: a base needs a "
            "CLIP, as --model georsclip_vitb32 --ckpt RS5M_ViT-B-32.pt."
        )
    told = " of ".join(word for word in (name or (None if ckpt else DEFAULT), ckpt) if word)
    how = {"name": name, "ckpt": ckpt, "words": list(words)}
    return ClipEncoder(model, told, batch_size=batch, loaded_by=how)


def open_base(
    path: str | Path, encoder: Any = None, *, version: int | None = None
) -> KnowledgeBase:
    """A base with the encoder that made it.

    Args:
        path: its folder, or a server's address with its name.
        encoder: another object for the same encoder; None loads it as the base says.
        version: an older one.

    Raises:
        UserError: no base, damaged, or an encoder that cannot be had or is another.
    """
    store = store_of(path)
    facts = store.manifest
    if not facts:
        store.open()  # which says what is there instead
    if encoder is None:
        how = facts.get("loaded_by")
        if not how:
            raise UserError(
                f"{path} was made by {facts['encoder']}, which is no model of the zoo: open it "
                "with that encoder, KnowledgeBase(path, encoder)."
            )
        encoder = encoder_of(how["name"], how["ckpt"], how["words"])
    return KnowledgeBase(store, encoder, version=version)


#: What `knowledge.<word>` may say in eval and predict, beside the options of `RSRAG`.
_SEARCH = ("lexical", "mmr", "variant", "fusion")


def with_knowledge(model: Any, node: Mapping[str, Any] | None) -> Any:
    """The model as it is, or around it one that answers with what a base holds.

    Args:
        model: built, with its weights.
        node: `knowledge` of a configuration; None or without a path leaves the model alone.

    Raises:
        UserError: options without a path, no base, or a model that takes no question.
    """
    from rsvlm.models.protocols import check_model
    from rsvlm.models.rsrag import RSRAG

    said = {str(key): value for key, value in (node or {}).items() if value is not None}
    path = said.pop("path", None)
    if path is None:
        known = signature(RSRAG).parameters
        for word, value in said.items():
            default = known[word].default if word in known else False
            if value not in (default, "none"):  # context=none asks no base
                raise UserError(
                    f"knowledge.{word}={value} is for a base, and none is named: "
                    "knowledge.path=<base>."
                )
        return model
    version = said.pop("version", None)
    search = {word: said.pop(word) for word in _SEARCH if word in said}
    base = open_base(path, version=version)
    wrapped = RSRAG(model, base, search=search, **said)
    check_model(wrapped)
    return wrapped.train(model.training)
