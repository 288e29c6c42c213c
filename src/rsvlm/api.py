"""The short form: load a published model by name, ask it about a picture, look through a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from rsvlm.ask import Writes, ask
from rsvlm.checkpoints import zoo
from rsvlm.checkpoints.clip_facts import check_row
from rsvlm.checkpoints.load import dialects_of, load_contents
from rsvlm.checkpoints.read import Contents, read
from rsvlm.checkpoints.resolve import resolve
from rsvlm.data.sample import Answer, Picture, SampleError, Turn
from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.clip import CLIP, clip, tokenizer
from rsvlm.errors import UserError, near
from rsvlm.finding import Finds, dialogue, find
from rsvlm.gallery import Gallery
from rsvlm.models import builder, builders

AnyPicture = Picture | str | Path

log = logging.getLogger(__name__)


def load(
    name: str | None, ckpt: str | Path | None = None
) -> tuple[CLIP, Preprocess, Callable[[list[str]], Tensor]]:
    """A model with its weights, its preprocessing and its tokenizer.

        model, preprocess, tokenizer = rsvlm.load("georsclip_vitb32.rs5m", "RS5M_ViT-B-32.pt")
        images = preprocess(Image.open("a.png"))[None]          # uint8 [1, 3, 224, 224]
        model.encode_image(images, normalize=True)              # [1, 512]

    Args:
        name: `<model option>.<tag>`, a row of the zoo; or a model option alone, with `ckpt`; or
            None, where `ckpt` says itself which model it is (our own checkpoints, zoo rows).
        ckpt: the checkpoint, in any form that `checkpoints.load` takes; None fetches the row's.

    Returns:
        The model in eval mode on the CPU; PIL image to uint8 [3, S, S]; texts to ids [B, 77].

    Raises:
        UserError: an unknown name, or a checkpoint that cannot be had or does not fit.
    """
    option, _, tag = (name or "").removeprefix("zoo:").partition(".")
    row = zoo.row(f"{option}.{tag}") if tag else None
    if option and row is None and option not in builders():
        raise UserError(f"there is no model {option!r}. {near(option, [*builders(), *zoo.rows()])}")
    if ckpt is None and row is None:
        tags = [known for known in zoo.rows() if known.startswith(f"{option}.")]
        raise UserError(
            f"{option} alone has no weights; give a checkpoint, rsvlm.load({option!r}, <path>)"
            + (f", or one of the zoo's rows: {', '.join(tags)}." if tags else ".")
        )
    if option and not builder(option).args:
        raise UserError(f"rsvlm.load gives CLIPs; ask a {option} with predict.py model={option}.")
    found = resolve(f"zoo:{option}.{tag}" if ckpt is None else str(ckpt))
    if row is not None and found.row is not None and found.row is not row:
        raise UserError(f"{found.name} is {found.row.name}, not {row.name}.")
    row = row or found.row
    if row is not None and option:
        check_row(row, builder(option).args[0], found.name)
    contents = read(found.local())
    model = _empty(option or (row.model if row else None), row, contents, found.name)
    load_contents(model, contents, found, dialects=dialects_of(model))
    model = model.to("cpu").eval()
    transform = Preprocess(model.image_size, interpolation=row.interpolation if row else "bicubic")
    return model, transform, tokenizer(model.arch)


def _empty(option: str | None, row: zoo.Row | None, contents: Contents, where: str) -> CLIP:
    """The model that a checkpoint needs, without weights."""
    facts = contents.packed["model"] if contents.packed else {}
    if facts.get("class") == "CLIP":
        if option and builder(option).args[0] != facts["arch"]:
            raise UserError(f"{where} is a CLIP {facts['arch']}, not a {option}.")
        return clip(
            facts["arch"],
            activation=facts["activation"],
            image_size=facts["image_size"],
            mean=facts["mean"],
            std=facts["std"],
            stem=facts.get("stem"),
            peft=facts.get("peft", "none"),
            peft_options=facts.get("peft_options"),
            logit_bias=0.0 if "logit_bias" in contents.tensors else None,
            device="meta",
        )
    if option is None:
        raise UserError(
            f"{where} does not say which model it is; name it, as rsvlm.load('clip_vitb32', ...). "
            f"Known: {', '.join(builders())}."
        )
    stated = {"activation": row.activation, "mean": row.mean, "std": row.std} if row else {}
    return builder(option)(device="meta", **stated)


def predict(
    model: torch.nn.Module,
    images: AnyPicture | Sequence[AnyPicture],
    prompt: str | Sequence[str],
    history: Sequence[Turn] = (),
) -> Answer:
    """Ask a model about a picture.

    For a CLIP, the prompt is a list of texts, or one string with `;` between them, and the answer
    is the text that fits best, with the probabilities of all (softmax of the scaled cosines). A
    model that writes is asked the prompt, and its answer's score is said in its own docstring; a
    change captioner takes two dates and an empty prompt.

    Args:
        model: as `rsvlm.load` gives it.
        images: a PIL image, a uint8 [3, H, W] tensor, a path, or a list of them.
        prompt: the question; for a CLIP, the candidate texts.
        history: earlier turns of a dialogue, whose first question showed the images; a CLIP has
            none.

    Raises:
        UserError: no candidates, several pictures, a dialogue, or a model without this form.
        SampleError: a picture that cannot be used.
    """
    pictures = [images] if isinstance(images, AnyPicture) else list(images)
    if isinstance(model, Writes):
        question = prompt if isinstance(prompt, str) else "; ".join(prompt)
        return ask(model, [_picture(picture) for picture in pictures], question, history)
    if not isinstance(model, CLIP):
        raise UserError(f"predict does not know how to ask a {type(model).__name__}.")
    if history:
        raise UserError("a CLIP compares pictures with texts and holds no dialogue; drop history.")
    if len(pictures) != 1:
        raise UserError(f"a CLIP is asked about one picture at a time, not {len(pictures)}.")
    texts = prompt.split(";") if isinstance(prompt, str) else list(prompt)
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not texts:
        raise UserError(
            "the prompt holds no text to compare the picture with: give a list, or one string with "
            "';' between the candidates, as prompt='an airport; a beach'."
        )
    with _evaluating(model):
        image = encode_images(model, pictures)
        scores = model.logit_scale.exp().float() * (image @ encode_texts(model, texts).T)[0]
        chances = scores.softmax(-1).tolist()
    candidates = sorted(zip(texts, chances, strict=True), key=lambda pair: -pair[1])
    return Answer(text=candidates[0][0], score=candidates[0][1], candidates=candidates)


def search(
    model: torch.nn.Module,
    gallery: str | Path,
    text: str | None,
    pictures: Sequence[AnyPicture] = (),
    *,
    batch_size: int = 64,
) -> Answer:
    """Look through pictures for a text.

    Args:
        model: a CLIP, or a model that writes and finds pictures (`rscapret`).
        gallery: folder, sub-folders too, or an index that `python -m rsvlm index` wrote.
        text: what to look for. Without one, and without pictures, the latter holds a dialogue on
            standard input.
        pictures: what stands before the text, for the latter.
        batch_size: pictures encoded at a time.

    Returns:
        `retrieved`: (path within the folder, cosine) of every picture that could be read, best
        first (of the latter, the best ten); `sources`: why each of the others could not.

    Raises:
        UserError: no text, another model, no such folder, or nothing in it that can be read.
    """
    if isinstance(model, Finds):
        if text is None and not pictures:
            return dialogue(model, gallery) or Answer()
        return find(model, gallery, text or "", [_picture(picture) for picture in pictures])
    if not isinstance(model, CLIP):
        raise UserError(f"search needs a CLIP or an rscapret, not a {type(model).__name__}.")
    if pictures:
        raise UserError("a CLIP looks for a text; leave the pictures out.")
    if not text or not text.strip():
        raise UserError("there is no text to look for: give text='two runways'.")
    found = Gallery.of(model, gallery, batch_size=batch_size)
    with _evaluating(model):
        query = encode_texts(model, [text.strip()])
    (ranked,) = found.rank(query, len(found.names))
    return Answer(retrieved=ranked, sources=found.broken)


@contextmanager
def _evaluating(model: CLIP) -> Iterator[None]:
    """No gradients and eval mode, and the former mode afterwards."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)


def encode_images(model: CLIP, pictures: Sequence[AnyPicture]) -> Tensor:
    """Features of unit length [N, D] of pictures of any sizes."""
    transform = Preprocess(model.image_size)
    images = torch.stack([transform(_picture(picture)) for picture in pictures])
    return model.encode_image(images.to(model.logit_scale.device), normalize=True)


def encode_texts(model: CLIP, texts: list[str]) -> Tensor:
    """Features of unit length [N, D] of texts; over 77 tokens, a text is cut."""
    ids = tokenizer(model.arch)(texts)
    return model.encode_text(ids.to(model.logit_scale.device), normalize=True)


def _picture(picture: AnyPicture) -> Picture:
    """A picture in RGB, read where it is a path; what had to be done to it is told."""
    from rsvlm.data.images import as_rgb, read_any

    if not isinstance(picture, Tensor):
        rgb, done = as_rgb(picture) if isinstance(picture, Image.Image) else read_any(picture)
        if done:
            log.warning("%s", done)
        return rgb
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] != 3:
        raise SampleError(
            f"an image tensor is uint8 [3, H, W], got {picture.dtype} {list(picture.shape)}."
        )
    return picture
