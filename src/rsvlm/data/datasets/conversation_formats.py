"""Conversations in the formats that people keep them in: LLaVA's, ShareGPT, OpenAI's, Qwen's.

| format | a record |
|---|---|
| `llava` | `image`, `conversations` of `from` and `value`, `<image>` in the text |
| `sharegpt` | the same with `images`, also `system` |
| `messages` | `messages` of `role` and `content`, text with `<image>`, and `images` |
| `openai` | `messages` whose `content` is a list of parts: `text`, `image_url` |
| `qwen` | parts of `text` and `image`; Qwen-VL's `<img>a.png</img>` in the text |
| `answers` | `image`, `question` and `answer`, a text or a number |
| `swift` | `query`, `response`, `history`, `images` |

Which one a record is shows in its keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsvlm.data.sample import Role
from rsvlm.errors import UserError

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}
MARKER = "<image>"
_QWEN = re.compile(r"(?:Picture \d+:\s*)?<img>(.*?)</img>\s*")
_PLACE = re.compile(r"<Img>\s*<ImageHere>\s*</Img>")


@dataclass(slots=True)
class Said:
    """A record, whatever its format.

    Attributes:
        images: what it names as images; None where they are not in a form that is known.
        turns: roles and texts with `<image>` where an image stands; None where they are malformed.
    """

    images: list[str] | None
    turns: list[tuple[Role, str]] | None


def read(record: Mapping[str, Any]) -> Said:
    """A record in the form of its keys.

    Raises:
        UserError: an image that is an address of the web, or written out in the text.
    """
    images = record.get("image", record.get("images"))
    named = [images] if isinstance(images, str) else images
    if isinstance(record.get("messages"), list):
        found = _messages(record["messages"])
    elif isinstance(record.get("query"), str) and isinstance(record.get("response"), str):
        found = Said(None, _swift(record))
    else:
        found = _conversations(record)
    if found.images is None:
        # Hugging Face's sets keep a list of pictures, each a struct or a path.
        named = [_path(each) for each in named] if isinstance(named, list) else named
        found.images = named if isinstance(named, list) else None
    if found.images is not None:
        found.images = [_local(name) for name in found.images]
    system = record.get("system")
    if isinstance(system, str) and system.strip() and found.turns is not None:
        found.turns = [("system", system), *found.turns]
    return found


def form(record: Any) -> str:
    """The format that a record is in, by its keys and the kinds of its parts alone."""
    if not isinstance(record, Mapping):
        return "none"
    if isinstance(record.get("messages"), list):
        contents = [m.get("content") for m in record["messages"] if isinstance(m, Mapping)]
        kinds = {
            p.get("type")
            for c in contents
            if isinstance(c, list)
            for p in c
            if isinstance(p, Mapping)
        }
        if not kinds:
            return "messages"
        return "qwen" if "image" in kinds and "images" not in record else "openai"
    if "query" in record and "response" in record:
        return "swift"
    if "question" in record and "answer" in record and "conversations" not in record:
        return "answers"
    said = record.get("conversations")
    if isinstance(said, list) and "image" not in record and "images" not in record:
        texts = [str(turn.get("value")) for turn in said if isinstance(turn, Mapping)]
        if any(_QWEN.search(text) for text in texts):
            return "qwen"
    return "sharegpt" if "images" in record or "system" in record else "llava"


def _conversations(record: Mapping[str, Any]) -> Said:
    conversations = record.get("conversations")
    answer = record.get("ground_truth", record.get("answer"))
    if conversations is None and _plain(answer):
        question = record.get("text", record.get("question"))
        if not isinstance(question, str) or not question:
            return Said(None, None)
        return Said(None, [("user", question), ("assistant", str(answer))])
    if not isinstance(conversations, list) or not conversations:
        return Said(None, None)
    turns: list[tuple[Role, str]] = []
    for turn in conversations:
        role = ROLES.get(str(turn.get("from", "")).lower()) if isinstance(turn, Mapping) else None
        if role is None or not isinstance(turn.get("value"), str):
            return Said(None, None)
        turns.append((role, turn["value"]))
    if "image" in record or "images" in record:
        return Said(None, turns)
    if any(_QWEN.search(text) and not _PLACE.search(text) for _, text in turns):
        images = [name for _, text in turns for name in _QWEN.findall(text)]
        return Said(images, [(role, _QWEN.sub(f"{MARKER}\n", text)) for role, text in turns])
    return Said(None, turns)


def _plain(answer: Any) -> bool:
    return isinstance(answer, str | int | float) and not isinstance(answer, bool)


def _messages(messages: list[Any]) -> Said:
    images: list[str] = []
    turns: list[tuple[Role, str]] = []
    for message in messages:
        role = (
            ROLES.get(str(message.get("role", "")).lower())
            if isinstance(message, Mapping)
            else None
        )
        content = message.get("content") if isinstance(message, Mapping) else None
        if role is None or not isinstance(content, str | list):
            return Said(None, None)
        if isinstance(content, str):
            turns.append((role, content))
            continue
        texts = []
        for part in content:
            kind = str(part.get("type", "")) if isinstance(part, Mapping) else ""
            if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind in ("image", "image_url", "input_image"):
                texts.append(MARKER)
                name = _path(part.get("image_url", part.get("image")))
                if name is not None:
                    images.append(name)
            else:
                return Said(None, None)
        turns.append((role, "\n".join(texts)))
    return Said(images or None, turns or None)


def _swift(record: Mapping[str, Any]) -> list[tuple[Role, str]]:
    turns: list[tuple[Role, str]] = []
    for pair in record.get("history") or ():
        if isinstance(pair, list) and len(pair) == 2:
            turns += [("user", str(pair[0])), ("assistant", str(pair[1]))]
    return [*turns, ("user", record["query"]), ("assistant", record["response"])]


def _path(value: Any) -> Any:
    """The name of an image, which parts and structs wrap."""
    if isinstance(value, Mapping):
        return value.get("url", value.get("path"))
    return value


def _local(name: Any) -> Any:
    """A name without `file://`.

    Raises:
        UserError: it is an address of the web, or a picture written out.
    """
    if not isinstance(name, str):
        return name
    if name.startswith(("http://", "https://")):
        raise UserError(
            f"the image {name[:80]!r} is an address: fetch the images first, and name files."
        )
    if name.startswith("data:"):
        raise UserError(
            f"an image is written out in the text ({name[:30]}...): save it as a file, and name "
            "that."
        )
    return name.removeprefix("file://")
