"""Tokenizers of language models: from a folder, or from a list of words, and how a prompt is cut.

All of them are transformers tokenizers, so a collate needs to know one kind only.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rsvlm.encoders.gguf import is_gguf
from rsvlm.errors import UserError, extra

#: What InstructBLIP and DeltaVLM use for the start, the end and the unknown token alike.
END = "</s>"


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words and numbers of some texts, sorted; for `word_tokenizer`."""
    return sorted({word for text in texts for word in re.findall(r"[^\W_]+", text)})


def word_list(words: str | Sequence[str]) -> list[str]:
    """A vocabulary.

    Args:
        words: the words; or `world` for those of the generated world and of ChangeChat's questions
            (words.txt); or `chat` for these, those of the prompts of chat models, and the numbers
            that boxes are written in (words_chat.txt); or a text file with one word a line.

    Raises:
        UserError: no such file.
    """
    if not isinstance(words, str):
        return list(words)
    if words in ("world", "chat"):
        names = ("words.txt", "words_chat.txt")[: 1 + (words == "chat")]
        folder = files("rsvlm.encoders")
        return [w for n in names for w in folder.joinpath(n).read_text(encoding="utf-8").split()]
    path = Path(words)
    if not path.is_file():
        raise UserError(
            f"words={words}: there is no such file. Give `world`, `chat`, a list, or a text file "
            "with one word a line."
        )
    return path.read_text(encoding="utf-8").split()


def word_tokenizer(words: str | Sequence[str]) -> Any:
    """A small tokenizer without a download: words where it knows them, else letters, else bytes.

    No text is lost: decoding gives back what was encoded, spaces and brackets included.

    Args:
        words: the vocabulary beside single characters, see `word_list`; its order gives the ids.

    Returns:
        A transformers tokenizer with <pad> 0, <s> 1, </s> 2, <unk> 3. It adds none of them itself.

    Raises:
        UserError: no words, or one with a space in it.
    """
    with extra("language"):
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

    words = list(dict.fromkeys(word_list(words)))
    wrong = [word for word in words if not word or re.search(r"\s", word)]
    if not words or wrong:
        raise UserError(
            f"a word tokenizer needs words without spaces, got {wrong[0]!r}."
            if wrong
            else "a word tokenizer needs at least one word."
        )
    special = ["<pad>", "<s>", END, "<unk>"]
    letters = ["▁", *(c for c in string.printable if not c.isspace())]
    scores = dict.fromkeys(special, 0.0)
    scores |= {f"<0x{byte:02X}>": 0.0 for byte in range(256)}
    # One known word always beats any split of it.
    for piece in (*(f"▁{word}" for word in words), *words):
        scores.setdefault(piece, -1.0)
    for letter in letters:
        scores.setdefault(letter, -10.0)
    model = models.Unigram(list(scores.items()), unk_id=3, byte_fallback=True)
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
    )
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=END,
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer in a folder, or on the Hugging Face hub.

    Args:
        source: a folder, or `hf://org/repo@rev`.

    Raises:
        UserError: there is none.
    """
    with extra("language"):
        from transformers import AutoTokenizer

    name, options = pretrained(source)
    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{source} holds no tokenizer that transformers can read ({reason}). Give the folder "
            "that the model was published in, with tokenizer.json or tokenizer.model."
        ) from error


#: Where nothing is said, transformers asks on the terminal whether a folder's own code may run.
_NO_CODE = {"trust_remote_code": False}


def pretrained(source: str | Path) -> tuple[str, dict[str, Any]]:
    """What transformers' `from_pretrained` takes for a folder, a file in it, or `hf://...`.

    A `.gguf` file, which holds weights, sizes and vocabulary, is read by itself.

    Raises:
        UserError: no such folder, a source of another form, or no reader for `.gguf`.
    """
    from rsvlm.checkpoints import hub
    from rsvlm.checkpoints.resolve import resolve

    packed = is_gguf(source)
    place = hub.parse(str(source))
    if place is not None:
        where = {"gguf_file": place.path} if packed else {"subfolder": place.path}
        return place.repo, {"revision": place.revision, **where, **_NO_CODE}
    path = resolve(str(source)).local()
    options: dict[str, Any] = {"local_files_only": True, **_NO_CODE}
    if packed:
        options["gguf_file"] = path.name
    return str(path if path.is_dir() else path.parent), options


def as_instructblip(tokenizer: Any) -> Any:
    """The language model's tokenizer as InstructBLIP sets it: a [PAD] of its own, the rest `</s>`.

    Every prompt then starts with `</s>`, not with `<s>`; weights that were trained so need it. A
    tokenizer without `</s>`, as Llama 3's, gets its own end token in that place.

    Args:
        tokenizer: changed in place.

    Raises:
        UserError: it has no end token at all.
    """
    end = END if END in tokenizer.get_vocab() else tokenizer.eos_token
    if end is None:
        raise UserError(
            f"the tokenizer has neither {END} nor an end token of its own, which InstructBLIP's "
            "prompts start with. Give the tokenizer of a language model."
        )
    tokenizer.add_special_tokens(
        {"pad_token": "[PAD]", "bos_token": end, "eos_token": end, "unk_token": end}
    )
    return tokenizer


def as_blip2(tokenizer: Any) -> Any:
    """The language model's tokenizer as BLIP-2 uses it: a line break ends a text.

    Args:
        tokenizer: changed in place.

    Raises:
        UserError: a line break is not one token.
    """
    ids = tokenizer.encode("\n", add_special_tokens=False)
    if len(ids) != 1:
        raise UserError(
            f"BLIP-2 ends a text with a line break, which this tokenizer writes in {len(ids)} "
            "tokens: give OPT's, or model.lm.special=own to end texts with the end token."
        )
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ids[0])
    return tokenizer


#: What changes a language model's tokenizer, by the word of `LanguageModel(special=)`.
SPECIAL = {"instructblip": as_instructblip, "blip2": as_blip2}


def as_bert(tokenizer: Any) -> Any:
    """The Q-Former's tokenizer as BLIP-2 sets it: BERT's and a [DEC]; cut on the left."""
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.truncation_side = "left"
    return tokenizer


def encode(
    tokenizer: Any,
    text: str,
    limit: int,
    *,
    start: bool = True,
    end: bool = False,
    keep: str = "right",
) -> list[int]:
    """Ids of a text with its start and end tokens, at most `limit` of them.

    Args:
        tokenizer: a transformers tokenizer.
        text: the text.
        limit: most ids, the added ones included.
        start: put the start token in front.
        end: put the end token behind; a text that is cut on its right loses it, as published.
        keep: the side that stays: `right` for prompts, `left` for answers.

    Raises:
        UserError: a limit that leaves no room.
    """
    if limit < 2:
        raise UserError(f"a limit of {limit} tokens leaves no room for a text.")
    ids = tokenizer.encode(text, add_special_tokens=False)
    if end:
        ids = [*ids, tokenizer.eos_token_id]
    room = limit - bool(start)
    if len(ids) > room:
        ids = ids[-room:] if keep == "right" else ids[:room]
    return [tokenizer.bos_token_id, *ids] if start else ids
