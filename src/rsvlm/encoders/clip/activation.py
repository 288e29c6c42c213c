"""What only CLIP checkpoints need: telling the architecture, and settling the activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from rsvlm.checkpoints.read import Contents
from rsvlm.checkpoints.zoo import Row, known_rows, options_for
from rsvlm.encoders.clip.architectures import ARCHS, sizes
from rsvlm.errors import UserError


@dataclass(frozen=True)
class InferredArchitecture:
    """What the shapes of a CLIP state dict say.

    Attributes:
        arch: name of the architecture; None if it is none of ours.
        text: the sizes in words.
    """

    arch: str | None
    text: str


def infer_architecture(state: Mapping[str, Tensor]) -> InferredArchitecture | None:
    """Tell the architecture of a state dict in our names; None if there is no vision tower."""
    if "visual.trunk.conv1.weight" in state:
        return _look_resnet(state)
    if "visual.class_embedding" not in state:
        return None
    width = state["visual.class_embedding"].shape[0]
    layers = len({name.split(".")[2] for name in state if name.startswith("visual.blocks.")})
    proj, positions = state.get("visual.proj"), state.get("visual.positional_embedding")
    embed = proj.shape[1] if proj is not None else 0
    grid = round((len(positions) - 1) ** 0.5) if positions is not None else 0
    conv = state.get("visual.conv1.weight")
    patch = (
        conv.shape[-1]
        if conv is not None
        else 2
        ** sum(
            name.startswith("visual.stem.") and tensor.ndim == 4 and tensor.shape[-1] == 3
            for name, tensor in state.items()
        )
    )
    side = grid * patch
    text = f"width {width}, patch {patch}, {layers} layers, embedding {embed}, {side} px"
    fits = [
        arch
        for arch in ARCHS
        if (size := sizes(arch)).width == width
        and size.patch_size == patch
        and size.layers == layers
        and size.embed_dim == embed
    ]
    # Variants of one architecture differ in the image size alone.
    fits.sort(key=lambda arch: sizes(arch).image_size != side)
    return InferredArchitecture(fits[0] if fits else None, text)


def _look_resnet(state: Mapping[str, Tensor]) -> InferredArchitecture:
    stages = tuple(
        len({n.split(".")[3] for n in state if n.startswith(f"visual.trunk.layer{i}.")})
        for i in (1, 2, 3, 4)
    )
    width = 2 * state["visual.trunk.conv1.weight"].shape[0]
    text = f"a ResNet of stages {stages}, width {width}"
    arch = next((a for a in ARCHS if sizes(a).layers == stages and sizes(a).width == width), None)
    return InferredArchitecture(arch, text)


def explain_mismatch(state: Mapping[str, Tensor], arch: str) -> str:
    """A sentence for an error when a state dict is of another architecture; else empty."""
    seen = infer_architecture(state)
    if seen is None or seen.arch == arch:
        return ""
    if seen.arch is None:
        return f"It is a CLIP that is none of the known ones ({seen.text}); the model is {arch}."
    return f"It looks like {seen.arch} ({seen.text}); the model is {arch}. {_options(seen.arch)}"


def _options(arch: str) -> str:
    options = options_for(arch, known_rows()) or [f"clip_{arch}"]
    return f"Use model={options[0]}" + (
        f" (or {', '.join(options[1:])})." if len(options) > 1 else "."
    )


def check_row(row: Row, arch: str, where: str) -> None:
    """Refuse a zoo row of another architecture before anything is downloaded.

    Raises:
        UserError: names the model option that the row needs.
    """
    if _trunk(row.arch) != _trunk(arch):
        raise UserError(
            f"{where} is {row.name}, a {row.arch}; the model is {arch}. Use model={row.model}."
        )


def _trunk(arch: str) -> str:
    return arch.removesuffix("-336")


def settle_activation(own: str | None, contents: Contents, row: Row | None, source: str) -> str:
    """The activation that a checkpoint was trained with.

    Args:
        own: what the model says; None if nothing.
        contents: the checkpoint, with the JSON files beside it.
        row: its zoo row, if it has one.
        source: the checkpoint as the user named it.

    Raises:
        UserError: nothing says it, or two say different things; prints both commands.
    """
    said = _said(contents, row)
    if not said:
        if own is not None:
            return own
        raise UserError(
            f"{source}: nothing says with which activation it was trained, and the wrong one gives "
            "wrong features without any other sign. Say which:\n"
            f"  ckpt={source} model.activation=quick_gelu   (OpenAI's weights, and what started "
            "from them)\n"
            f"  ckpt={source} model.activation=gelu         (LAION's weights, and what started "
            "from them)"
        )
    words = {word for word, _ in said}
    if len(words) > 1:
        raise UserError(
            f"{source}: its activation is contradicted: "
            + "; ".join(f"{place} says {word}" for word, place in said)
            + ". Mend the wrong file, or copy the weights alone under a name of your own and say "
            "model.activation=quick_gelu or model.activation=gelu."
        )
    word, place = said[0]
    if own is not None and own != word:
        raise UserError(
            f"{source}: {place} says {word}, model.activation says {own}, and the wrong one gives "
            "wrong features without any other sign. As published:\n"
            f"  ckpt={source} model.activation={word}\n"
            "If you know better, under a name that no zoo row has:\n"
            f"  ckpt=<copy of the file alone> model.activation={own}"
        )
    return word


def _said(contents: Contents, row: Row | None) -> list[tuple[str, str]]:
    """(activation, who says it) of everything that knows."""
    said: list[tuple[str, str]] = []
    if contents.packed is not None:
        word = contents.packed.get("model", {}).get("activation")
        return [(word, "the checkpoint itself")] if word else []
    if row is not None:
        said.append((row.activation, f"the zoo row {row.name}"))
    config = contents.configs.get("config.json", {})
    if config.get("model_type") == "clip":
        for part in ("text_config", "vision_config"):
            # Absent means transformers' default for CLIP.
            node = config.get(part)
            word = node.get("hidden_act", "quick_gelu") if isinstance(node, dict) else "quick_gelu"
            said.append((word, f"config.json ({part}.hidden_act)"))
    elif config.get("model_type") in ("clip_vision_model", "clip_text_model"):
        said.append((config.get("hidden_act", "quick_gelu"), "config.json (hidden_act)"))
    model = contents.configs.get("open_clip_config.json", {}).get("model_cfg")
    if isinstance(model, dict):
        word = "quick_gelu" if model.get("quick_gelu") else "gelu"
        said.append((word, "open_clip_config.json"))
    return said
