"""Language models: embeddings in, a loss's logits or batched text out. transformers does the maths.

One class for LLaMA, Vicuna, Llama 3, OPT and tiny ones. A model is built from numbers (on `meta`
where asked) or from a folder as published. What is frozen stays in eval mode and holds no gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rsvlm.encoders.generation import Generated, generate
from rsvlm.encoders.gguf import plain
from rsvlm.encoders.language_sizes import SIZES, plain_head, sizes_of
from rsvlm.encoders.quantization import checkpoint_layers, leave_state_out, quantised
from rsvlm.encoders.tokenizers import (
    SPECIAL,
    load_tokenizer,
    pretrained,
    word_tokenizer,
)
from rsvlm.errors import UserError, extra, near
from rsvlm.nn.chunked_head import token_losses
from rsvlm.nn.lora import add_lora, tuned_layers
from rsvlm.nn.moe_lora import add_experts, balance, collected
from rsvlm.nn.packing import Plan, packed_hidden

if TYPE_CHECKING:
    from rsvlm.checkpoints.dialects import Dialect

__all__ = ["SIZES", "LanguageModel"]

LORA = {"r": 8, "alpha": 16, "dropout": 0.05, "targets": ("q_proj", "v_proj")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LanguageModel(nn.Module):
    """A causal language model of transformers with a tokenizer, a way of tuning and generation.

    Args:
        size: a name in `SIZES`, a mapping of transformers' config words with `model_type`, or None
            where `weights` says it.
        weights: a folder, a `.gguf` file or `hf://org/repo@rev` with the published weights; None
            draws random ones.
        words: a vocabulary (see `word_list`); builds a tokenizer that needs no download and sets
            the vocabulary size.
        tokenizer: a tokenizer, or the folder it lies in; None takes `weights`.
        special: `instructblip` makes start, end and unknown token `</s>` and adds a [PAD]; `blip2`
            makes the line break the end; `own` leaves the tokenizer as it is.
        dtype: float32, bfloat16 or float16, of the frozen weights too.
        tuning: `frozen`, `full`, `lora` (peft; the rest is frozen), or `moe_lora` (see
            `nn.moe_lora`).
        lora: `r`, `alpha`, `dropout`, `targets` where they differ from `LORA`.
        moe: settings of `moe_lora` where they differ from `nn.moe_lora.MOE`.
        head_chunk: of how many words at a time logits are made in training; None makes all at
            once. The loss is the same.
        quantize: `nf4` or `int8` loads published weights in few bits, see `encoders.loading`.
        grad_checkpointing: compute the layers' inner values again in the backward pass.
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: width of the embeddings.
        model: the transformers model.

    Raises:
        UserError: unknown words, or sizes that contradict the weights.
    """

    def __init__(
        self,
        size: str | Mapping[str, Any] | None = None,
        *,
        weights: str | Path | None = None,
        words: str | Sequence[str] | None = None,
        tokenizer: Any = None,
        special: str = "own",
        dtype: str = "float32",
        tuning: str = "frozen",
        lora: Mapping[str, Any] | None = None,
        moe: Mapping[str, Any] | None = None,
        head_chunk: int | None = None,
        quantize: str | None = None,
        grad_checkpointing: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        with extra("language"):
            from transformers import AutoConfig, AutoModelForCausalLM

        _one_of("dtype", dtype, DTYPES)
        _one_of("tuning", tuning, ("frozen", "full", "lora", "moe_lora"))
        _one_of("special", special, ("own", *SPECIAL))
        if size is None and weights is None:
            raise UserError(f"a language model needs size= or weights=. Sizes: {', '.join(SIZES)}.")
        self.special, self.tuning, self.dtype = special, tuning, DTYPES[dtype]
        if head_chunk is not None and head_chunk < 1:
            raise UserError(f"model.lm.head_chunk={head_chunk}: it must be 1 or more, or null.")
        self.weights, self.head_chunk = weights, head_chunk
        self._source = word_tokenizer(words) if words is not None else (tokenizer or weights)
        self._tokenizer: Any = None
        self._settled = False
        few = quantised(quantize, self.dtype, weights, tuning)
        if weights is not None:
            self.model: Any = self._published(weights, size, device, few)
        else:
            numbers = sizes_of(size)
            if words is not None:
                numbers["vocab_size"] = len(self.tokenizer)
            config = AutoConfig.for_model(**numbers)
            with torch.device(device or torch.get_default_device()):
                self.model = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        plain_head(self.model.config, str(weights or size))
        if self._source is not None:
            self._grow(len(self.tokenizer))
        self.dim: int = self.model.get_input_embeddings().embedding_dim
        self.tune(tuning, lora=lora, moe=moe)
        if few:
            leave_state_out(self)
        if grad_checkpointing:
            checkpoint_layers(self.model)
        self.train(self.training)

    # Building -----------------------------------------------------------------------------

    def _published(
        self,
        weights: str | Path,
        size: str | Mapping[str, Any] | None,
        device: torch.device | str | None,
        few: Mapping[str, Any],
    ) -> Any:
        """The model in a folder, held against the size that the recipe says."""
        with extra("language"):
            from transformers import AutoConfig, AutoModelForCausalLM

        name, options = pretrained(weights)
        try:
            config = AutoConfig.from_pretrained(name, **options)
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(weights, error) from error
        for word, value in (sizes_of(size) if size is not None else {}).items():
            found = getattr(config, word, None)
            if word.endswith(("_size", "_layers", "_heads", "model_type")) and found != value:
                raise UserError(
                    f"{weights} has {word}={found}, the recipe's language model {value}: it is "
                    "another model. Choose the model/lm option that fits it, or other weights."
                )
        if torch.device(device or torch.get_default_device()).type == "meta":
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        try:
            return AutoModelForCausalLM.from_pretrained(
                name, dtype=self.dtype, **options, **plain(options), **few
            )
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(weights, error) from error

    def _grow(self, count: int) -> None:
        """Adds rows for tokens that the tokenizer has and the weights lack: their rows' mean."""
        old = self.model.get_input_embeddings().num_embeddings
        if count <= old:
            return
        self.model.resize_token_embeddings(count, mean_resizing=False)
        tables = [self.model.get_input_embeddings(), self.model.get_output_embeddings()]
        with torch.no_grad():
            for table in tables:
                table.weight[old:] = table.weight[:old].float().mean(0).to(table.weight.dtype)

    def tune(
        self,
        tuning: str,
        *,
        lora: Mapping[str, Any] | None = None,
        moe: Mapping[str, Any] | None = None,
    ) -> None:
        """Freezes the model, or adds what tunes it; for one that nothing tunes yet.

        Args:
            tuning: see above, as the others.
            lora: of `lora`.
            moe: of `moe_lora`.
        """
        self.tuning = tuning
        self.model.requires_grad_(tuning == "full")
        if tuning == "lora":
            add_lora(self.model, lora or {}, LORA, where="the language model")
        elif tuning == "moe_lora":
            add_experts(self.model, moe)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer, read when it is first needed.

        Raises:
            UserError: nothing says where it is.
        """
        if self._tokenizer is None:
            if self._source is None:
                raise UserError(
                    "this language model has no tokenizer: give model.lm.tokenizer=<folder> (the "
                    "folder of its weights), or words for a small one."
                )
            path = isinstance(self._source, str | Path)
            own = load_tokenizer(self._source) if path else self._source
            self._tokenizer = SPECIAL[self.special](own) if self.special in SPECIAL else own
        return self._tokenizer

    @property
    def tuned(self) -> list[str]:
        """Names of the layers within `model` that LoRA or experts tune; numbers stand as {}."""
        return tuned_layers(self.model)

    @property
    def context_length(self) -> int:
        """Most positions of a row."""
        return self.model.config.max_position_embeddings

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Transformers' own layout."""
        from rsvlm.encoders.language_layouts import language_dialects

        return language_dialects(self.tuned)

    # State --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> LanguageModel:
        """A frozen model stays in eval mode; the dropout of what tunes it follows `mode`."""
        super().train(mode)
        if self.tuning != "full":
            self.model.eval()
            for name, module in self.model.named_modules():
                leaf = name.rpartition(".")[2]
                if leaf.startswith("lora_") or leaf == "moe":
                    module.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LanguageModel:
        self.fill_constants()
        super()._apply(fn, recurse)
        self._settled = False
        return self

    def fill_constants(self) -> None:
        """Give a model that was built on `meta` and loaded its constants, which no file has.

        They are a function of the configuration; nothing is done while weights are on `meta`.
        """
        if self._settled or next(self.model.parameters()).is_meta:
            return
        self._settled = True
        for module in self.model.modules():
            own = dict(module.named_buffers(recurse=False))
            if not any(buffer.is_meta for buffer in own.values()):
                continue
            if "embed_scale" in own:  # Gemma's table
                module.embed_scale = torch.tensor(module.scalar_embed_scale)
                continue
            fresh = type(module)(config=module.config)
            for name in own:
                setattr(module, name, getattr(fresh, name))

    # Use ----------------------------------------------------------------------------------

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L].

        Raises:
            UserError: an id beyond the vocabulary: the tokenizer is another model's.
        """
        table = self.model.get_input_embeddings()
        if input_ids.device.type == "cpu" and input_ids.numel():
            largest = int(input_ids.max())
            if largest >= table.num_embeddings:
                raise UserError(
                    f"token id {largest} lies beyond the language model's {table.num_embeddings} "
                    "tokens: the tokenizer belongs to another model. Give "
                    "model.lm.tokenizer=<the folder of model.lm.weights>."
                )
        return table(input_ids)

    def hidden(self, inputs_embeds: Tensor, attention_mask: Tensor, cache: Any = None) -> Tensor:
        """Last hidden states [B, L, dim], as the head takes them.

        Args:
            inputs_embeds: [B, L, dim].
            attention_mask: [B, C + L], 1 where a token is; padding on either side.
            cache: transformers' cache with C positions, which takes up the L new ones.
        """
        self.fill_constants()
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            # Transformers 5.24 renamed it.
            words = inspect.signature(self.model.base_model.forward).parameters
            options["cache" if "cache" in words else "past_key_values"] = cache
        return self.model.base_model(
            inputs_embeds=inputs_embeds.to(self.dtype),
            attention_mask=attention_mask,
            position_ids=positions[:, -inputs_embeds.shape[1] :],
            **options,
        ).last_hidden_state

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        plan: Plan | None = None,
    ) -> dict[str, Tensor]:
        """Logits where something is to be learned, and nowhere else.

        The head runs on those positions only; its logits are exactly those of a full pass.

        Args:
            inputs_embeds: [B, L, dim].
            attention_mask: [B, L], 1 where a token is; padding on either side.
            labels: [B, L], the id that stands at a position, -100 where nothing is learned; the
                position before it predicts it.
            plan: of `nn.packing.pack`, for one row of several dialogues.

        Returns:
            `logits` [N, vocabulary] and `targets` [N] of the N supervised positions, row by row
            (with `head_chunk`, `token_losses` [N, 2] in their place, see `nn.chunked_head`);
            with experts, `balance` (a scalar), see `nn.moe_lora.balance`.
        """
        hidden, more = self.states(inputs_embeds, attention_mask, plan)
        supervised = labels[:, 1:] != -100
        head = self.model.get_output_embeddings()
        return self.head_outputs(head, hidden[:, :-1][supervised], labels[:, 1:][supervised]) | more

    def states(
        self, inputs_embeds: Tensor, attention_mask: Tensor, plan: Plan | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Last hidden states [B, L, dim] in training, and what experts add; see `forward`."""
        self.fill_constants()
        seen = attention_mask if plan is None else plan.counts
        with collected(self.model) as sent:
            if plan is None:
                hidden = self.hidden(inputs_embeds, seen)
            else:
                hidden = packed_hidden(self.model, inputs_embeds.to(self.dtype), plan)
        return hidden, ({"balance": balance(sent, seen)} if sent else {})

    def head_outputs(
        self, head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, prefix: str = ""
    ) -> dict[str, Tensor]:
        """What a loss takes of hidden states [N, dim] and `targets` [N], under prefixed names.

        Args:
            head: hidden states to logits.
            hidden: of the positions that predict.
            targets: the words that they are to predict.
            prefix: of the names `logits` or `token_losses`, and `targets`.
        """
        if self.head_chunk is None:
            return {f"{prefix}logits": head(hidden), f"{prefix}targets": targets}
        losses = token_losses(head, hidden, targets, self.head_chunk)
        return {f"{prefix}token_losses": losses, f"{prefix}targets": targets}

    @torch.no_grad()
    def generate(
        self, inputs_embeds: Tensor, attention_mask: Tensor, **options: Any
    ) -> list[list[Generated]]:
        """Texts that go on from the embeddings, batched and with a cache.

        Args:
            inputs_embeds: [B, L, dim].
            attention_mask: [B, L], 1 where a token is; padding on the left.
            **options: see `generation.OPTIONS`; `processors`, further ones of transformers'.

        Returns:
            For each row, `num_return_sequences` texts, best first.

        Raises:
            UserError: an unknown option, more texts than beams, or padding on the right.
        """
        self.fill_constants()
        known = self.model.config if self._source is None else self.tokenizer
        end, pad = known.eos_token_id, known.pad_token_id
        end = end[0] if isinstance(end, list) else end
        more, pad = options.pop("processors", ()), end if pad is None else pad
        embeds = inputs_embeds.to(self.dtype)
        return generate(self.model, embeds, attention_mask, end, pad, options, processors=more)


def _unreadable(weights: str | Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0]
    return UserError(f"{weights} holds no language model that transformers can read ({reason}).")


def _one_of(what: str, word: str, known: Any) -> None:
    if word not in known:
        raise UserError(f"{what}: {word!r} is not known. {near(word, known)}")
