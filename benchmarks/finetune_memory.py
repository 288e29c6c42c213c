"""Counts what a training step of a finetuning recipe holds at most: no GPU, no weights.

    python benchmarks/finetune_memory.py clip_finetune vlm_lora

The step runs on tensors without numbers (PyTorch's FakeTensorMode) at full size, under bfloat16's
autocast, with gradients and AdamW's two moments; every tensor that is alive is counted, so that
what gradient checkpointing saves is saved here too. Counted, not measured: a GPU adds the CUDA
context (about 0.5 GiB), the workspaces of its kernels, and what its allocator leaves unused.
"""

from __future__ import annotations

import argparse
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

GIB = 2**30


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def note(self, tensor: torch.Tensor) -> None:
        """Counts the storage of a tensor until nobody holds it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)

        def gone() -> None:
            self.now -= size
            self._known.discard(key)

        weakref.finalize(storage, gone)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        torch.utils._pytree.tree_map_only(torch.Tensor, self.note, out)
        return out


def batch_of_pairs(model: Any, count: int) -> Any:
    """Pictures and captions of 77 tokens, as a contrastive model reads them."""
    from rsvlm.data.collate.pairs import PairBatch

    side = model.image_size
    return PairBatch(
        images=torch.empty(count, 3, side, side, dtype=torch.uint8),
        input_ids=torch.ones(count, 77, dtype=torch.long),
        image_of_text=torch.arange(count),
        index=torch.arange(count),
        label=torch.empty(count, dtype=torch.long),
        texts=[f"caption {i}" for i in range(count)],
        ids=[str(i) for i in range(count)],
        truncated=0,
        skipped=[],
    )


def contrastive(cfg: Any, model: Any) -> torch.Tensor:
    """The loss of a CLIP on a batch."""
    from hydra.utils import instantiate

    loss = instantiate(cfg.loss)
    loss.duplicates = "negatives"  # equal captions are found by value
    given = batch_of_pairs(model, cfg.data.batch_size)
    return sum(loss(model(given), given).values())


def written(cfg: Any, model: Any) -> torch.Tensor:
    """The loss of a language model on full rows, half of each an answer.

    Towers of pictures are frozen: they run before, without gradients, a picture at a time at most.
    """
    rows, length = cfg.data.batch_size, cfg.model.max_length
    decoder = getattr(model.lm, "decoder", model.lm.model)
    width = model.lm.model.get_input_embeddings().weight.shape[1]
    read = torch.empty(rows, length, width, dtype=model.lm.dtype, requires_grad=True)
    base = getattr(decoder, "base_model", decoder) if decoder is model.lm.model else decoder
    hidden = base(inputs_embeds=read * 1, use_cache=False).last_hidden_state
    logits = model.lm.model.get_output_embeddings()(hidden[:, length // 2 :].reshape(-1, width))
    return torch.nn.functional.cross_entropy(
        logits.float(), torch.zeros(len(logits), dtype=torch.long)
    )


def faked(model: torch.nn.Module) -> None:
    """Puts fake tensors of a processor in the place of a model's that have no device."""
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                new = torch.empty(old.shape, dtype=old.dtype)
                module._parameters[name] = torch.nn.Parameter(new, old.requires_grad)
        for name, held in module._buffers.items():
            if held is not None:
                module._buffers[name] = torch.empty(held.shape, dtype=held.dtype)


def count(recipe: str, words: list[str]) -> dict[str, float]:
    """GiB that a recipe's step holds at most, and those of its weights.

    Args:
        recipe: its name.
        words: what is typed behind it.
    """
    from hydra.utils import instantiate
    from torch._subclasses.fake_tensor import FakeTensorMode

    from rsvlm.config.compose import compose

    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false", *words])
    if "lm" in cfg.model:
        cfg.model.lm.weights = None
        if "tokenizer" in cfg.model.lm:  # a word list, for lack of the published tokenizer
            cfg.model.lm.words = "world"
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    with FakeTensorMode(allow_non_fake_inputs=True), Alive() as alive:
        faked(model)
        for tensor in (*model.parameters(), *model.buffers()):
            alive.note(tensor)
        weights = alive.now
        optimizer = instantiate(cfg.optimizer)(model)
        with torch.autocast("cpu", torch.bfloat16):
            total = (written if "lm" in cfg.model else contrastive)(cfg, model)
        total.backward()
        optimizer.step()
    return {"weights": weights / GIB, "step": alive.most / GIB}


def main() -> None:
    """Prints a row for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--words", nargs="*", default=[], help="key=value behind each recipe")
    args = parser.parse_args()
    print("| recipe | weights, GiB | a step at most, GiB |\n|---|---|---|")
    for recipe in args.recipes:
        found = count(recipe, args.words)
        print(f"| {recipe} | {found['weights']:.1f} | {found['step']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
