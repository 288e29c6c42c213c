"""LoRA of a language model as a folder that peft loads over the model's published weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from rsvlm.errors import UserError, extra

log = logging.getLogger(__name__)


def write_adapter(model: nn.Module, folder: Path) -> list[Path]:
    """adapter_config.json and adapter_model.safetensors.

        base = AutoModelForCausalLM.from_pretrained(<model.lm.weights>)
        peft.PeftModel.from_pretrained(base, <folder>)

    Args:
        model: has `lm`, a `LanguageModel` or an `ImageTextModel` with tuning=lora.
        folder: there already; adapters of experts get a folder each in it, by task.

    Returns:
        The files written.

    Raises:
        UserError: nothing in `lm` is tuned by LoRA.
    """
    with extra("peft"):
        from peft import LoraConfig

    from rsvlm.checkpoints.save import tensors
    from rsvlm.models.hf_vlm.model import HFVLM
    from rsvlm.models.rsmoe.model import RSMoE
    from rsvlm.models.vlm import VisionLanguageModel

    if isinstance(model, RSMoE) and model.experts is not None:
        return _write_experts(model, folder)
    lm: Any = model.lm if isinstance(model, VisionLanguageModel | HFVLM) else None
    if lm is None or lm.tuning != "lora":
        raise UserError(
            f"--to peft writes LoRA of a language model, and this {type(model).__name__} has none: "
            "it was not trained with model.tuning=lora."
        )
    layers: dict[str, Any] = {
        name: layer for name, layer in lm.model.named_modules() if hasattr(layer, "base_layer")
    }
    _, first = next(iter(layers.items()))
    (word,) = first.active_adapters
    dropout = first.lora_dropout[word]
    config = LoraConfig(
        base_model_name_or_path=str(lm.weights) if lm.weights else None,
        task_type="CAUSAL_LM",
        r=first.r[word],
        lora_alpha=first.lora_alpha[word],
        lora_dropout=float(getattr(dropout, "p", 0.0)),
        target_modules=_targets(lm.model, list(layers)),
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    state = {
        f"base_model.model.{name.replace(f'.{word}.', '.')}": value
        for name, value in lm.model.state_dict().items()
        if ".lora_" in name
    }
    ours = {f"lm.model.{name}" for name in lm.model.state_dict() if ".lora_" in name}
    left = [n for n, p in model.named_parameters() if p.requires_grad and n not in ours]
    if left:
        log.warning(
            "the adapter holds LoRA alone; %d other trained tensors, such as %s, are not in it.",
            len(left),
            left[0],
        )
    return [folder / "adapter_config.json", tensors(folder / "adapter_model.safetensors", state)]


def _write_experts(model: Any, folder: Path) -> list[Path]:
    """A folder for each expert's adapter over the language model that it shares."""
    with extra("peft"):
        from peft import LoraConfig

    from rsvlm.checkpoints.save import tensors

    written: list[Path] = []
    for group, lm in zip(model.experts.groups, model.lms, strict=True):
        adapters = group.adapters
        if lm.tuning == "lora":
            log.warning(
                "the LLM block has LoRA of its own under the experts': merge it into the weights "
                "first, which the experts' adapters then go over."
            )
        plain = [name.replace(".base_layer", "") for name in adapters.names]
        config = LoraConfig(
            base_model_name_or_path=str(lm.weights) if lm.weights else None,
            task_type="CAUSAL_LM",
            r=adapters.r,
            lora_alpha=int(adapters.alpha) if adapters.alpha.is_integer() else adapters.alpha,
            lora_dropout=adapters.dropout,
            target_modules=_targets(lm.model, plain),
            inference_mode=True,
        )
        for place, member in enumerate(group.members):
            own = folder / model.tasks[member].replace("+", "_")
            own.mkdir(exist_ok=True)
            config.save_pretrained(str(own))
            state = {
                f"base_model.model.{name.replace('.base_layer', '')}": value
                for name, value in adapters.of(place).items()
            }
            written += [
                own / "adapter_config.json",
                tensors(own / "adapter_model.safetensors", state),
            ]
    return written


def _targets(model: nn.Module, tuned: list[str]) -> list[str]:
    """Ends of names where these alone are tuned, else whole names."""
    ends = {name.rpartition(".")[2] for name in tuned}
    alike = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in ends}
    return sorted(ends if alike == set(tuned) else tuned)
