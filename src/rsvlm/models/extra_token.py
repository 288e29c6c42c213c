"""Words more for a frozen language model, as weights of their own beside it.

A word's row of the embedding table, and of the head where that is not tied to the table, are
parameters here; the language model's own tensors stay as they are and need neither a gradient nor
optimizer state. A masked gradient of the whole table, the published way, costs both for every word.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError


class ExtraToken(nn.Module):
    """The rows of new words, whose ids follow each other.

    Ids from the new one's on are the language model's no more: its table may have spare rows
    there. Where the table ends before it, the ids between have no row and can never be written.

    Args:
        lm: a `LanguageModel`; only its sizes and its rows' norm are read.
        count: number of new words. The methods' `word` is the id of the first.

    Attributes:
        row: [count, dim] of the embedding table.
        head: [count, dim] of the head; None where the head is the table.
    """

    def __init__(self, lm: Any, count: int = 1) -> None:
        super().__init__()
        self.count = count
        table, head = _tables(lm.model)
        if getattr(head, "bias", None) is not None:
            raise UserError(
                f"a {lm.model.config.model_type} has a bias in its head, which a new word has none "
                "for: choose another language model (LLaMA, OPT, Qwen, ...)."
            )
        tied = head.weight is table.weight
        width = table.embedding_dim
        self.row = nn.Parameter(torch.empty(count, width))
        self.head = None if tied else nn.Parameter(torch.empty(count, width))
        self._known: tuple[Any, list[Tensor]] = ((), [])
        if not self.row.is_meta:
            for parameter in self.parameters():
                nn.init.normal_(parameter)
            if not table.weight.is_meta:
                self.rescale(lm, table.num_embeddings)

    @torch.no_grad()
    def rescale(self, lm: Any, word: int) -> None:
        """Give the rows the mean norm of the language model's, as FROMAGe does after each step.

        Args:
            lm: the language model.
            word: the new one's id.
        """
        for row, norm in zip(self.parameters(), self._norms(lm, word), strict=True):
            row.mul_(norm / row.float().norm(dim=1, keepdim=True).clamp_min(1e-12))

    def _norms(self, lm: Any, word: int) -> list[Tensor]:
        """Mean norm of the rows of the table, and of the head where it is another."""
        weights = [table.weight for table in _tables(lm.model)[: 1 if self.head is None else 2]]
        # A frozen table's is computed once; whatever writes into it raises its version.
        key = tuple((weight.data_ptr(), weight._version, word) for weight in weights)
        if self._known[0] != key:
            self._known = (key, [w[:word].float().norm(dim=1).mean() for w in weights])
        return self._known[1]

    def embed(self, lm: Any, ids: Tensor, word: int) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L], the new word's among them."""
        new = self._among(ids, word)
        known = lm.embed(ids.masked_fill(new, 0))
        return self._placed(known, ids, word, _tables(lm.model)[0])

    def _among(self, ids: Tensor, word: int) -> Tensor:
        return (ids >= word) & (ids < word + self.count)

    def _placed(self, known: Tensor, ids: Tensor, word: int, table: Any) -> Tensor:
        """Embeddings [B, L, dim] with the new words' rows in their places."""
        rows = self._given(table).to(known.dtype)
        rows = rows[(ids - word).clamp(0, self.count - 1)]
        return torch.where(self._among(ids, word)[..., None], rows, known)

    def given(self, lm: Any) -> Tensor:
        """The rows [count, dim] as the table gives rows: Gemma's scales them."""
        return self._given(_tables(lm.model)[0])

    def _given(self, table: Any) -> Tensor:
        scale = getattr(table, "embed_scale", None)
        return self.row if scale is None else self.row * scale.to(table.weight.dtype)

    def logits(self, lm: Any, hidden: Tensor, word: int) -> Tensor:
        """Logits [..., word + count] of hidden states [..., dim]; the new words' are the last."""
        return self._columns(_tables(lm.model)[1], hidden, word)

    def _columns(self, head: nn.Module, hidden: Tensor, word: int) -> Tensor:
        known = head(hidden)[..., :word]
        row = self.row if self.head is None else self.head
        new = hidden @ row.to(hidden.dtype).T
        gap = word - known.shape[-1]
        parts = [known, new]
        if gap > 0:
            parts.insert(1, known.new_full((*known.shape[:-1], gap), -torch.inf))
        return torch.cat(parts, dim=-1)

    def view(self, lm: Any, word: int) -> Any:
        """The transformers model with the new word in its table and head, for `generate`.

        Modules on the way to the two are copied shallowly: weights are shared, and nothing of the
        language model is changed.
        """
        model = lm.model
        table, head = _tables(model)
        seen = _Table(self, table, word)
        view = _with(model, _path(model, table), seen)
        view = _with(view, _path(model, head), _Head(self, head, word))
        view.config = copy.copy(model.config)
        view.config.vocab_size = word + self.count
        return view


class _Table(nn.Module):
    """An embedding table that knows the new word."""

    def __init__(self, new: ExtraToken, table: nn.Module, word: int) -> None:
        super().__init__()
        self.new, self.table, self.word = new, table, word

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L]."""
        known = self.table(ids.masked_fill(self.new._among(ids, self.word), 0))
        return self.new._placed(known, ids, self.word, self.table)


class _Head(nn.Module):
    """A head with the new word's column."""

    def __init__(self, new: ExtraToken, head: nn.Module, word: int) -> None:
        super().__init__()
        self.new, self.head, self.word = new, head, word

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [..., word + 1] of hidden states [..., dim]."""
        return self.new._columns(self.head, hidden, self.word)


class ScaleTokenLogits:
    """Makes a word likelier in generation, and not the first; for `encoders.generation.generate`.

    Args:
        word: its id.
        scale: factor on its logit, be that negative, as FROMAGe has it.
        after: tokens before it may come.
    """

    def __init__(self, word: int, scale: float = 1.0, after: int = 0) -> None:
        self.word, self.scale, self.after = word, scale, after

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] behind generated ids [B, T]."""
        scores = scores.clone()
        if input_ids.shape[1] < self.after:
            scores[:, self.word] = -torch.inf
        else:
            scores[:, self.word] *= self.scale
        return scores


def _tables(model: Any) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def _path(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, found in model.named_modules() if found is module)


def _with(model: Any, path: str, module: nn.Module) -> Any:
    """A shallow copy of a module with another module at a path."""
    name, _, rest = path.partition(".")
    done = copy.copy(model)
    done._modules = dict(model._modules)
    done._modules[name] = _with(model._modules[name], rest, module) if rest else module
    return done
