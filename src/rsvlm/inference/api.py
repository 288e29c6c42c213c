"""The short form: load a published model by name, ask it about a picture, look through a folder."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rsvlm.checkpoints.resolve import resolve
from rsvlm.config.compose import compose, options, search_path
from rsvlm.config.validate import check
from rsvlm.data.sample import Answer, Picture, SampleError, Turn
from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.clip.model import CLIP
from rsvlm.errors import UserError, near
from rsvlm.inference.ask import ask
from rsvlm.inference.build import build_model, built_to_ask
from rsvlm.inference.image_search import dialogue, find
from rsvlm.inference.own_configuration import Said, bring
from rsvlm.models import zoo as models_zoo
from rsvlm.models.protocols import (
    ImageTextEncoder,
    is_generator,
    is_image_text_encoder,
    is_retriever,
)
from rsvlm.models.zoo import rows
from rsvlm.retrieval.gallery import Gallery

AnyPicture = Picture | str | Path

log = logging.getLogger(__name__)


def load(
    name: str | Path,
    ckpt: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> Any:
    """A model with its weights, ready to be asked.

        model = rsvlm.load("georsclip_vitb32.rs5m", "RS5M_ViT-B-32.pt")
        model = rsvlm.load("skyeyegpt", "SkyEyeGPT.pth", overrides=["model.lm.weights=..."])
        model = rsvlm.load("runs/clip_tiny_scenes/2026-11-28_12-00-00")

    Args:
        name: a model option, `<model option>.<tag>` (a row of the zoo), or the folder of a run or a
            checkpoint of one, which bring their own configuration.
        ckpt: the checkpoint, in any form that `checkpoints.load` takes; None fetches the row's.
        overrides: words as behind `rsvlm predict`.
        config_dir: a folder of own configurations, whose classes a run may name.

    Returns:
        The model in eval mode on the CPU. `model.preprocess` makes of a PIL image what the model
        takes (uint8 [3, S, S]), `model.tokenizer` is that of its texts.

    Raises:
        UserError: an unknown name, or a checkpoint that cannot be had or does not fit.
    """
    own = None if config_dir is None else Path(config_dir)
    words = [*_words_of(str(name), None if ckpt is None else str(ckpt), own), *overrides]
    cfg = compose("predict", words, own)
    cfg = bring(cfg, Said(words, {"model": ""} if words[0].startswith("model=") else {}, own))
    check(built_to_ask(cfg), conf=search_path(own))
    return build_model(cfg).eval()


def load_clip(
    name: str | Path, ckpt: str | Path | None = None, *, overrides: Sequence[str] = ()
) -> tuple[CLIP, Preprocess, Callable[[list[str]], Tensor]]:
    """A CLIP as open_clip's users expect it: model, preprocessing, tokenizer.

        model, preprocess, tokenizer = rsvlm.load_clip("georsclip_vitb32.rs5m", "RS5M_ViT-B-32.pt")
        images = preprocess(Image.open("a.png"))[None]          # uint8 [1, 3, 224, 224]
        model.encode_image(images, normalize=True)              # [1, 512]

    Args:
        name: see `load`.
        ckpt: see `load`.
        overrides: see `load`.

    Raises:
        UserError: see `load`; or a model that is no CLIP.
    """
    model = load(name, ckpt, overrides=overrides)
    if not isinstance(model, CLIP):
        raise UserError(
            f"{name} is a {type(model).__name__}, not a CLIP: rsvlm.load({str(name)!r}) gives it, "
            "with .preprocess and .tokenizer."
        )
    return model, model.preprocess, model.tokenizer


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of model options, as `load` and `model=` take them.

    Args:
        pattern: a wild card, as `sky*`.
        pretrained: names of published weights instead, `<model option>.<tag>`.
    """
    names = rows() if pretrained else options("model")
    return sorted(fnmatch.filter(names, pattern))


def _words_of(name: str, ckpt: str | None, own: Path | None) -> list[str]:
    """The words behind `rsvlm predict` that stand for a name and a checkpoint."""
    path = Path(name).expanduser()
    if ckpt is None and path.exists():
        return [f"ckpt={name}"]
    option, _, tag = name.removeprefix("zoo:").partition(".")
    known = options("model", own)
    if option not in known:
        looks = "/" in name or path.suffix in (".ckpt", ".pt", ".pth", ".safetensors")
        hint = (
            f" (and there is no file or folder {name}, looked from {Path.cwd()})" if looks else ""
        )
        raise UserError(f"there is no model {option!r}{hint}. {near(option, [*known, *rows()])}")
    if not tag and ckpt is None:
        tags = [row for row in rows() if row.startswith(f"{option}.")]
        raise UserError(
            f"{option} alone has no weights; give a checkpoint, rsvlm.load({option!r}, <path>)"
            + (f", or one of the zoo's rows: {', '.join(tags)}." if tags else ".")
        )
    row = models_zoo.row(f"{option}.{tag}") if tag else None
    found = resolve(f"zoo:{option}.{tag}" if ckpt is None else ckpt, rows())
    if row is not None and found.row is not None and found.row is not row:
        raise UserError(f"{found.name} is {found.row.name}, not {row.name}.")
    words = [f"model={option}", f"ckpt={found.name}"]
    if row is not None and row.arch:
        # The file may bear another name than the row knows.
        words += [f"model.activation={row.activation}"]
        words += [f"+model.mean={list(row.mean)}", f"+model.std={list(row.std)}"]
    return words


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
    if is_generator(model):
        question = prompt if isinstance(prompt, str) else "; ".join(prompt)
        return ask(model, [_picture(picture) for picture in pictures], question, history)
    _check_asked(model, history, len(pictures))
    answer = predict_many(model, {"": pictures}, prompt)[""]
    assert isinstance(answer, Answer)
    return answer


def predict_many(
    model: torch.nn.Module,
    pictures: Mapping[str, Sequence[AnyPicture]],
    prompt: str | Sequence[str],
) -> dict[str, Answer | str]:
    """Compare many pictures with the same texts; see `predict`.

    Args:
        model: a CLIP.
        pictures: id -> one picture.
        prompt: two candidate texts or more.

    Raises:
        UserError: see `predict`.
    """
    for shown in pictures.values():
        _check_asked(model, (), len(shown))
    texts = _candidates(prompt)
    assert is_image_text_encoder(model)
    with _evaluating(model):
        images = encode_images(model, [shown[0] for shown in pictures.values()])
        cosines = images @ encode_texts(model, texts).T
        if len(texts) == 1:
            raise _one_candidate(texts[0], float(cosines[0, 0]))
        chances = (model.logit_scale.exp().float() * cosines).softmax(-1).tolist()
    found: dict[str, Answer | str] = {}
    for id, row in zip(pictures, chances, strict=True):
        ranked = sorted(zip(texts, row, strict=True), key=lambda pair: -pair[1])
        found[id] = Answer(text=ranked[0][0], score=ranked[0][1], candidates=ranked)
    return found


def _check_asked(model: Any, history: Sequence[Turn], count: int) -> None:
    """Holds what is shown to a CLIP against what it takes."""
    if not is_image_text_encoder(model):
        raise UserError(f"predict does not know how to ask a {type(model).__name__}.")
    if history:
        raise UserError("a CLIP compares pictures with texts and holds no dialogue; drop history.")
    if count != 1:
        raise UserError(f"a CLIP is asked about one picture at a time, not {count}.")


def _candidates(prompt: str | Sequence[str]) -> list[str]:
    texts = prompt.split(";") if isinstance(prompt, str) else list(prompt)
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not texts:
        raise UserError(
            "the prompt holds no text to compare the picture with: give a list, or one string with "
            "';' between the candidates, as prompt='an airport; a beach'."
        )
    return texts


def _one_candidate(text: str, cosine: float) -> UserError:
    return UserError(
        f"there is one candidate, {text!r}, and nothing to compare it with: its probability would "
        f"be 1 whatever the picture shows (its cosine is {cosine:.4f}). Separate candidates with "
        "';', as prompt='an airport; a beach'."
    )


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
        gallery: folder, sub-folders too, or an index that `rsvlm index` wrote.
        text: what to look for. Without one, and without pictures, the latter holds a dialogue on
            standard input.
        pictures: what stands before the text, for the latter; for a CLIP an example in the place
            of the text.
        batch_size: pictures encoded at a time.

    Returns:
        `retrieved`: (path within the folder, cosine) of every picture that could be read, best
        first (of the latter, the best ten); `sources`: why each of the others could not.

    Raises:
        UserError: no text, another model, no such folder, or nothing in it that can be read.
    """
    if is_retriever(model):
        if text is None and not pictures:
            return dialogue(model, gallery) or Answer()
        return find(model, gallery, text or "", [_picture(picture) for picture in pictures])
    if not is_image_text_encoder(model):
        raise UserError(f"search needs a CLIP or an rscapret, not a {type(model).__name__}.")
    wanted = (text or "").strip()
    if bool(pictures) == bool(wanted):
        raise UserError(
            "there is nothing to look for: give text='two runways', or an example, image=a.png."
            if not pictures
            else "a CLIP looks for a text or an example picture: give text= or image=, not both."
        )
    if len(pictures) > 1:
        raise UserError(f"one example is looked for at a time, not {len(pictures)}.")
    found = Gallery.of(model, gallery, batch_size=batch_size)
    with _evaluating(model):
        query = encode_images(model, pictures) if pictures else encode_texts(model, [wanted])
    (ranked,) = found.rank(query, len(found.names))
    return Answer(retrieved=ranked, sources=found.broken)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """No gradients and eval mode, and the former mode afterwards."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)


def encode_images(model: ImageTextEncoder, pictures: Sequence[AnyPicture]) -> Tensor:
    """Features of unit length [N, D] of pictures of any sizes."""
    images = torch.stack([model.preprocess(_picture(picture)) for picture in pictures])
    return model.encode_image(images.to(model.logit_scale.device), normalize=True)


def encode_texts(model: ImageTextEncoder, texts: list[str]) -> Tensor:
    """Features of unit length [N, D] of texts; over 77 tokens, a text is cut."""
    ids = model.tokenizer(texts)
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
