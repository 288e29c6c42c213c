"""LoRA of several experts beside one frozen language model, stacked, so that all run in one pass.

The language model is left as it is: while experts speak, hooks on its linear layers add to each row
of the batch the update of that row's expert (Hu et al., 2021, arXiv 2106.09685). Without hooks the
same weights are the LLM block.

The paper tunes query and value of self-attention, all projections of cross-attention and the
feed-forward block; `PAPER` gives these words their layers' names in decoders of transformers. Rank
and scale are ours (they are nowhere given): the repository's r = 8 and alpha = 8.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, near

LORA: dict[str, Any] = {
    "r": 8,
    "alpha": 8,
    "dropout": 0.0,
    "targets": ("self_attention", "cross_attention", "feed_forward"),
}
#: The paper's words -> names of linear layers.
PAPER: dict[str, tuple[str, ...]] = {
    "self_attention": ("q_proj", "v_proj"),
    "cross_attention": ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),
    "feed_forward": ("gate_proj", "up_proj", "down_proj", "fc1", "fc2"),
}
_CROSS = ("cross", "encoder_attn")


class StackedLoRA(nn.Module):
    """Low-rank updates of one linear layer, one for each expert.

    Args:
        dim_in: width of the input.
        dim_out: width of the output.
        experts: how many.
        r: rank of each.
        alpha: an update is scaled by alpha / r.
        dropout: on the updates' input.
    """

    def __init__(
        self, dim_in: int, dim_out: int, experts: int, *, r: int, alpha: float, dropout: float
    ) -> None:
        super().__init__()
        self.r, self.alpha = r, alpha
        self.down = nn.Parameter(torch.empty(experts, r, dim_in))
        self.up = nn.Parameter(torch.empty(experts, dim_out, r))
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As LoRA starts: the updates are zero."""
        for matrix in self.down:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        nn.init.zeros_(self.up)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The update [R, ..., dim_out] of rows x [R, ..., dim_in].

        Args:
            x: see above.
            weights: [R, experts], how much of each expert's update a row gets.
        """
        return self.apply_to(x, self.stacked(weights))

    def stacked(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All experts' two factors as those of one LoRA, and what scales its ranks by row.

        Args:
            weights: [R, experts].

        Returns:
            [experts * r, dim_in], [dim_out, experts * r] and [R, experts * r].
        """
        gates = (weights * (self.alpha / self.r)).to(self.down.dtype)
        up = self.up.transpose(0, 1).flatten(1)
        return self.down.flatten(0, 1), up, gates.repeat_interleave(self.r, 1)

    def apply_to(self, x: Tensor, stacked: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The update of rows, by what `stacked` gave for these rows or for fewer, in order."""
        down, up, gates = stacked
        # Beams stand side by side, and OPT reads all tokens as rows.
        if len(x) != len(gates):
            gates = gates.repeat_interleave(len(x) // len(gates), 0)
        low = F.linear(self.dropout(x.to(down.dtype)), down)
        return F.linear(low * (gates if low.ndim == 2 else gates[:, None]), up)


class ExpertAdapters(nn.Module):
    """The updates of all experts in all tuned layers of a language model.

    Args:
        model: of transformers; nothing of it is changed.
        experts: how many share it.
        settings: of `LORA` where they differ; `targets` are words of `PAPER` or names of layers.
        where: what is tuned, for errors.

    Attributes:
        names: tuned layers.
        lacks: words of `PAPER` that the model has no layer for.

    Raises:
        UserError: an unknown setting, or a layer that the model has not.
    """

    def __init__(
        self,
        model: nn.Module,
        experts: int,
        settings: Mapping[str, Any] | None = None,
        *,
        where: str = "the language model",
    ) -> None:
        super().__init__()
        for word in settings or {}:
            if word not in LORA:
                raise UserError(f"model.experts.lora: {word!r} is not known. {near(word, LORA)}")
        chosen = {**LORA, **(settings or {})}
        if chosen["r"] < 1:
            raise UserError(f"model.experts.lora.r={chosen['r']}: it must be 1 or more.")
        self.r, self.alpha = int(chosen["r"]), float(chosen["alpha"])
        self.dropout = float(chosen["dropout"])
        self.names, self.lacks = targets_of(model, tuple(chosen["targets"]), where)
        self.layers = nn.ModuleDict()
        for name in self.names:
            layer: Any = model.get_submodule(name)
            with torch.device(layer.weight.device):
                self.layers[name.replace(".", "/")] = StackedLoRA(
                    layer.in_features,
                    layer.out_features,
                    experts,
                    r=self.r,
                    alpha=self.alpha,
                    dropout=self.dropout,
                )
        # Held open while a backward pass may run layers again; never a part of the module's state.
        self._handles: list[Any] = []

    @contextmanager
    def speaking(self, model: nn.Module, weights: Tensor) -> Iterator[None]:
        """Within, rows of the model's batches get the updates of their experts.

        Where gradients are recorded the updates stay until the next `silence`, because layers that
        are checkpointed run again in the backward pass.

        Args:
            model: the one that the adapters were made for.
            weights: [R, experts]; a batch of beams has each row several times, in order.
        """
        self.silence()
        for name in self.names:
            layer: Any = model.get_submodule(name)
            update = self.layers[name.replace(".", "/")]
            assert isinstance(update, StackedLoRA)
            hook = _Hook(update, weights, layer.weight.dtype)
            self._handles.append(layer.register_forward_hook(hook))
        try:
            yield
        finally:
            if not torch.is_grad_enabled():
                self.silence()

    def silence(self) -> None:
        """Takes all updates away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def of(self, expert: int) -> dict[str, Tensor]:
        """The updates of one expert, in peft's names within the model."""
        found: dict[str, Tensor] = {}
        for name in self.names:
            layer = self.layers[name.replace(".", "/")]
            assert isinstance(layer, StackedLoRA)
            found[f"{name}.lora_A.weight"] = layer.down[expert]
            found[f"{name}.lora_B.weight"] = layer.up[expert]
        return found


class _Hook:
    """Adds updates to the output of a linear layer; without gradients, in few products.

    Where rows lie expert by expert, as a template's do, these are two: words that are generated one
    by one wait for the number of products, not for their size.
    """

    def __init__(self, update: StackedLoRA, weights: Tensor, dtype: torch.dtype) -> None:
        self.update, self.weights = update, weights
        self.stacked: tuple[Tensor, Tensor, Tensor] | None = None
        self.blocks: tuple[Tensor, Tensor] | None = None
        if torch.is_grad_enabled():
            return
        experts = blocks_of(weights)
        if experts is None:
            self.stacked = update.stacked(weights)
            return
        scale = update.alpha / update.r
        down = (scale * update.down[experts]).transpose(1, 2).to(dtype)
        self.blocks = down.contiguous(), update.up[experts].transpose(1, 2).to(dtype).contiguous()

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del layer
        (x,) = inputs
        if self.blocks is not None and x.dtype == self.blocks[0].dtype == output.dtype:
            down, up = self.blocks
            rows = x.reshape(len(down), -1, x.shape[-1])
            base = output.reshape(len(down), -1, output.shape[-1])
            return torch.baddbmm(base, torch.bmm(rows, down), up).view_as(output)
        if self.stacked is not None:
            update = self.update.apply_to(x, self.stacked)
        else:
            # The module itself runs, as whatever shards or records it expects.
            update = self.update(x, self.weights)
        return output + update.to(output.dtype)


def blocks_of(weights: Tensor) -> list[int] | None:
    """The expert of each of several equal blocks of rows that each have one expert; else None.

    Args:
        weights: [R, experts].
    """
    if not bool(((weights == 0) | (weights == 1)).all() and (weights.sum(1) == 1).all()):
        return None
    each = weights.argmax(1).tolist()
    firsts = [i for i, expert in enumerate(each) if not i or expert != each[i - 1]]
    size = len(each) // len(firsts) if firsts else 0
    if not size or firsts != list(range(0, len(each), size)):
        return None
    return [each[i] for i in firsts]


def targets_of(model: nn.Module, words: Collection[str], where: str) -> tuple[list[str], list[str]]:
    """The linear layers that words name, in order, and the words of `PAPER` that name none.

    Raises:
        UserError: a layer that is not there, or a word that names nothing at all.
    """
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("lm_head") and "lora_" not in name
    }
    plain = {name: name.removesuffix(".base_layer").rpartition(".")[2] for name in linear}
    found: dict[str, None] = {}
    lacks: list[str] = []
    for word in words:
        if word in PAPER:
            cross = word == "cross_attention"
            mine = [
                name
                for name, leaf in plain.items()
                if leaf in PAPER[word] and any(c in name for c in _CROSS) == cross
            ]
            if not mine and cross:
                lacks.append(word)
                continue
        else:
            mine = [name for name, leaf in plain.items() if leaf == word]
        if not mine:
            have = ", ".join(sorted(set(plain.values())))
            raise UserError(
                f"model.experts.lora.targets: {where} has no layer {word!r}. Its linear layers are "
                f"{have}; give some of them, or words of the paper: {', '.join(PAPER)}."
            )
        found |= dict.fromkeys(mine)
    if not found:
        raise UserError(f"model.experts.lora.targets={list(words)} name no layer of {where}.")
    return [name for name in linear if name in found], lacks
