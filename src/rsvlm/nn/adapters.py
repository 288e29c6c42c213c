"""Parameter-efficient tuning of CLIP's towers: LoRA, Pfeiffer adapter, prefix tuning, UniPELT.

Placement, initialisation and defaults are AdapterHub's for CLIP (adapter-hub/adapters, which the
PEFT rows of GeoRSCLIP's paper name as their source). The base model is frozen; whatever is trained
has `peft` as a component of its name, so `init_new=[peft]` covers it.

Two places differ from the published code. Its gates average over padding too, so that a caption's
feature depends on the longest caption of its batch; ours average up to end-of-text. And it runs the
prefix's MLP once per sample of a batch; ours once per forward, since all samples share it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.nn.adapter_settings import Bottleneck, Lora, Prefix, Settings
from rsvlm.nn.transformer import Attention, Block, Extra


class _Small(nn.Linear):
    """A linear layer that starts as BERT's do: weights of deviation 0.02, no bias."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class _Zero(nn.Linear):
    """A linear layer that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class _Gates(nn.Linear):
    """Weights of deviation 0.02, PyTorch's bias: AdapterHub's gates of LoRA and prefix."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, std=0.02)


def _gate(layer: nn.Module, x: Tensor, extra: Extra) -> Tensor:
    """Means over the tokens of sigmoids: [B, L, D] to [B, gates]."""
    gates = torch.sigmoid(layer(x))
    if extra.weights is None:
        return gates.mean(1)
    return (gates * extra.weights.unsqueeze(-1).to(gates.dtype)).sum(1)


class _LowRank(nn.Module):
    """LoRA's update of one projection."""

    def __init__(self, dim: int, options: Lora) -> None:
        super().__init__()
        # PyTorch's own start of a linear layer is LoRA's of A.
        self.down = nn.Linear(dim, options.r, bias=False)
        self.up = _Zero(options.r, dim, bias=False)
        self.scale, self.dropout = options.alpha / options.r, options.dropout

    def forward(self, x: Tensor, gate: Tensor | None) -> Tensor:
        """[B, L, D] to [B, L, D], scaled by `gate` [B] or else by alpha / r."""
        update = self.up(self.down(F.dropout(x, self.dropout, self.training)))
        return update * (self.scale if gate is None else gate.view(-1, 1, 1))

    def weight(self) -> Tensor:
        """What the update adds to the projection's weight [D, D], without a gate."""
        return self.scale * (self.up.weight @ self.down.weight)


class _AttentionPeft(nn.Module):
    """LoRA and prefix of one attention layer, with their gates."""

    def __init__(self, dim: int, options: Settings) -> None:
        super().__init__()
        targets = options.lora.targets if options.lora else ()
        self.lora = nn.ModuleDict()
        if options.lora:
            self.lora.update({name: _LowRank(dim, options.lora) for name in targets})
        count = len(targets) + (options.prefix is not None)
        self.gates = _Gates(dim, count) if options.gated and count else None

    def forward(
        self, x: Tensor, queries: Tensor, q: Tensor, k: Tensor, v: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Changes the three projections of `queries`, x and x; the gates read all of x."""
        gates = None if self.gates is None else _gate(self.gates, x, extra)
        out = {"q": q, "k": k, "v": v}
        for index, (name, update) in enumerate(self.lora.items()):
            gate = None if gates is None else gates[:, index]
            out[name] = out[name] + update(queries if name == "q" else x, gate)
        if extra.prefix is not None:
            for name, prefix in zip("kv", extra.prefix.to(k.dtype), strict=True):
                rows = prefix.expand(len(x), -1, -1)
                if gates is not None:
                    rows = rows * gates[:, -1].view(-1, 1, 1)
                out[name] = torch.cat([rows, out[name]], dim=1)
        return out["q"], out["k"], out["v"]

    def fold(self, attention: Attention) -> None:
        """Moves the updates into the weights of `attention`; only without gates."""
        for name, update in self.lora.items():
            assert isinstance(update, _LowRank)
            getattr(attention, f"{name}_proj").weight += update.weight()
        self.lora = nn.ModuleDict()


class _BottleneckMlp(nn.Module):
    """Pfeiffer's adapter behind a pre-norm block: y + up(relu(down(y))), y the block's output.

    In AdapterHub's words: `original_ln_before` adds the block's residual before the adapter,
    `residual_before_ln` takes the MLP's output as the adapter's, `original_ln_after` adds the
    block's again; with CLIP's norms inside the branches that is the line above.
    """

    def __init__(self, dim: int, options: Bottleneck, *, gated: bool) -> None:
        super().__init__()
        hidden = max(1, dim // options.reduction)
        self.down, self.up = _Small(dim, hidden), _Small(hidden, dim)
        self.gate = _Small(dim, 1) if gated else None

    def forward(self, x: Tensor, extra: Extra) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        update = self.up(F.relu(self.down(x)))
        return x + (update if self.gate is None else update * _gate(self.gate, x, extra)[:, None])


class _PrefixMlp(nn.Module):
    """One MLP for the prefixes of all blocks of a tower."""

    def __init__(self, dim: int, layers: int, options: Prefix) -> None:
        super().__init__()
        self.embedding = nn.Embedding(options.length, dim)
        self.down = nn.Linear(dim, options.hidden)
        self.up = nn.Linear(options.hidden, layers * 2 * dim)
        self.layers = layers

    def forward(self) -> Tensor:
        """[layers, 2, P, D], keys and values."""
        rows = self.up(torch.tanh(self.down(self.embedding.weight)))
        return rows.unflatten(-1, (self.layers, 2, -1)).permute(1, 2, 0, 3)


class _PrefixTable(nn.Module):
    """The prefixes of all blocks, trained directly."""

    def __init__(self, dim: int, layers: int, options: Prefix) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(layers, 2, options.length, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table)

    def forward(self) -> Tensor:
        return self.table


class TowerPeft(nn.Module):
    """What a tower adds for all of its blocks.

    Attributes:
        kind: name of the preset.
        settings: with the user's changes.
    """

    def __init__(self, dim: int, layers: int, kind: str, options: Settings) -> None:
        super().__init__()
        self.kind, self.settings, self.layers = kind, options, layers
        self.prefix: nn.Module | None = None
        if options.prefix is not None:
            make = _PrefixTable if options.prefix.flat else _PrefixMlp
            self.prefix = make(dim, layers, options.prefix)

    def forward(self, x: Tensor, end: Tensor | None = None) -> list[Extra]:
        """What each block's `peft` is told.

        Args:
            x: [B, L, D], the tower's tokens.
            end: [B], the last token that counts in a row; None where all do.
        """
        weights = None
        if end is not None and self.settings.gated:
            counts = torch.arange(x.shape[1], device=x.device) <= end.unsqueeze(1)
            weights = counts / counts.sum(1, keepdim=True)
        prefixes = [None] * self.layers if self.prefix is None else self.prefix().unbind()
        return [Extra(prefix, weights) for prefix in prefixes]


def is_peft(name: str) -> bool:
    """Whether a parameter of that name was added by `attach`."""
    return "peft" in name.split(".")


def attach(tower: Any, kind: str, options: Settings) -> None:
    """Add the parts of a preset to a tower, freshly drawn; its own parameters are left alone.

    Args:
        tower: has `dim`, `blocks` (of `nn.transformer.Block`) and a place `peft`.
        kind: name of the preset.
        options: as `settings` gives them.

    Raises:
        UserError: the tower has no such blocks.
    """
    blocks = [block for block in getattr(tower, "blocks", ()) if isinstance(block, Block)]
    if not blocks:
        raise UserError(
            f"model.peft={kind} tunes transformer blocks, and a {type(tower).__name__} has none: "
            "use a ViT, or model.peft=none."
        )
    dim = tower.dim
    tower.peft = TowerPeft(dim, len(blocks), kind, options)
    for block in blocks:
        if options.lora or options.prefix:
            block.attn.peft = _AttentionPeft(dim, options)
        if options.bottleneck:
            block.peft = _BottleneckMlp(dim, options.bottleneck, gated=options.gated)
            block.whole = options.gated


def freeze(model: nn.Module, options: Settings) -> None:
    """Train what `attach` has added, and nothing else but, if asked for, the temperature."""
    for name, parameter in model.named_parameters():
        logits = name in ("logit_scale", "logit_bias") and options.train_logit_scale
        parameter.requires_grad_(is_peft(name) or logits)


def counts(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `trained`, `all`."""
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return {"trained": trained, "all": sum(p.numel() for p in parameters)}


@torch.no_grad()
def merge(model: nn.Module) -> list[str]:
    """Fold in place what can be folded; features in eval mode stay the same.

    LoRA without gates goes into the projections' weights and leaves a plain model; a prefix's MLP
    becomes the table of its keys and values (`peft_options={"prefix": {"flat": True}}` builds
    such a model). Gates and bottlenecks depend on the input and stay.

    Returns:
        Names of the `peft` parameters that the model still has.
    """
    for tower in list(model.modules()):
        peft = getattr(tower, "peft", None)
        if isinstance(peft, TowerPeft):
            _merge_tower(tower, peft)
    return [name for name, _ in model.named_parameters() if is_peft(name)]


def _merge_tower(tower: Any, peft: TowerPeft) -> None:
    options = peft.settings
    if options.lora and not options.gated:
        for module in tower.modules():
            if isinstance(module, Attention) and isinstance(module.peft, _AttentionPeft):
                module.peft.fold(module)
                if options.prefix is None:
                    module.peft = None
        options = replace(options, lora=None)
    if isinstance(peft.prefix, _PrefixMlp):
        assert options.prefix is not None
        rows = peft.prefix()
        flat = replace(options.prefix, flat=True)
        with rows.device:
            table = _PrefixTable(rows.shape[-1], peft.layers, flat)
        table.table = nn.Parameter(rows.contiguous())
        peft.prefix, options = table, replace(options, prefix=flat)
    peft.settings = options
    if not (options.lora or options.bottleneck or options.prefix):
        tower.peft = None
