"""A model behind an OpenAI-compatible endpoint as a member of the zoo; it is asked, not trained.

    rsvlm eval experiment=eval_... model=api model.url=http://127.0.0.1:8000/v1 model.name=<name>

Pictures go as addresses that hold them (`clients.pictures`), questions of data sets in the words
of the family that the name belongs to (`FAMILIES`), and boxes are read in its convention, for the
picture as it was sent. Those are the conventions that the families document; where a provider
changes one, `model.boxes=` names another. Answers have no score: endpoints differ in what they
give.

- Qwen2.5-VL counts pixels of the picture as its processor resizes it, sides to multiples of 28;
  the picture is sent at such a size, so that the server changes nothing more. Qwen3-VL and Qwen2-VL
  count thousandths, as does InternVL.
- Gemini writes `box_2d` [y0, x0, y1, x1] in thousandths.
- Molmo points, in per cent; measure it with `evaluation=pointing`. Florence-2 writes a thousand
  bins a side as tokens, which its server must leave in the text.
- Others document no convention; they are asked for fractions of the picture.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rsvlm.clients.chat_completions import ChatCompletions, Completion
from rsvlm.clients.http import HTTPClient
from rsvlm.clients.limits import Budget
from rsvlm.clients.pictures import PictureFormat
from rsvlm.data.as_stored import AsStored
from rsvlm.data.collate.chat import asked
from rsvlm.data.collate.messages import Bytes, MessageBatch, MessageCollate
from rsvlm.data.geometry import Geometry
from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import InstructionTemplates, merged
from rsvlm.data.text.instructions import system as prompts_of
from rsvlm.errors import UserError, near
from rsvlm.models.base import GenerativeModel
from rsvlm.models.protocols import Kinds

log = logging.getLogger(__name__)

#: What a model's name holds, to the words and boxes of its system (data/prompts/systems) and to how
#: pictures are sent, so that its server does not resize them.
FAMILIES: Mapping[str, tuple[str, dict[str, int]]] = {
    r"qwen-?2[.p-]5-?vl": ("qwen2_5_vl", {"multiple": 28, "min_pixels": 56 * 56}),
    r"qwen-?2-?vl": ("qwen2_vl", {}),
    r"qwen-?3(\.\d+)?-?vl": ("qwen3_vl", {}),
    r"internvl": ("internvl", {}),
    r"gemini": ("gemini", {}),
    r"molmo(?!-?2)": ("molmo", {}),
    r"florence-?2": ("florence2", {}),
}
#: Of a name that holds none of them.
OTHERS = "endpoint"
#: What `generate` understands.
OPTIONS = ("max_new_tokens", "num_beams", "temperature")


class Remote(nn.Module):
    """What stands here for the model there.

    Attributes:
        weights: where they are, for a run's results.
        placeholder: [0], never trained; whoever moves a model looks where its parameters are.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.weights = weights
        self.placeholder = nn.Parameter(torch.empty(0), requires_grad=False)


class APIModel(GenerativeModel):
    """See the head of this file.

    Args:
        url: of the API; often ends with /v1. It and the name are asked for with the first question.
        name: of the model there.
        key_env: the environment variable that holds the key; a server that wants none gets none
            where it is not set.
        system: whose words questions of data sets are asked in; None goes by the name.
        boxes: a convention of `data/text/box_codecs.py`; None takes the system's.
        pictures: options of `clients.pictures.PictureFormat`.
        max_tokens: longest answer.
        token_limit: `max_tokens`, or `max_completion_tokens` of OpenAI's models that reason.
        temperature: None leaves it out, as those models want.
        seed: None leaves it out.
        request: further fields of each request.
        workers: requests at a time.
        per_minute: most requests in a minute.
        retries: further tries of what may pass.
        timeout: seconds for one try.
        cache: a folder where replies are kept by all that decides them (address, model, words,
            pictures, settings); None keeps none.
        replay: answer from the cache alone, without network.
        max_cost: what may be spent; needs the prices.
        input_price: of a million tokens of questions.
        output_price: of a million tokens of answers.
        max_length: longest dialogue in bytes of its texts; history goes first.
        instructions: options of `data.text.instructions.InstructionTemplates`; None asks data
            sets' questions as they stand.

    Attributes:
        counts: `answered`, `cached`, `refused` and `cut`, questions; `unreadable`, boxes.

    Raises:
        UserError: an option out of its range.
    """

    several_pictures = True

    def __init__(
        self,
        url: str | None,
        name: str | None,
        *,
        key_env: str | None = "OPENAI_API_KEY",
        system: str | None = None,
        boxes: str | None = None,
        pictures: Mapping[str, Any] | None = None,
        max_tokens: int = 256,
        token_limit: str = "max_tokens",
        temperature: float | None = 0.0,
        seed: int | None = None,
        request: Mapping[str, Any] | None = None,
        workers: int = 4,
        per_minute: float | None = None,
        retries: int = 5,
        timeout: float = 120.0,
        cache: str | None = None,
        replay: bool = False,
        max_cost: float | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
        max_length: int | None = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        words, sent = family(name or "")
        self.system = prompts_of(system or words)
        self.codec = codec(boxes or self.system.boxes) if boxes or self.system.boxes else None
        self.pictures = PictureFormat(**{**sent, **(pictures or {})})
        self.budget = Budget(max_cost, input_price=input_price, output_price=output_price)
        client = HTTPClient(
            cache=cache,
            replay=replay,
            retries=retries,
            timeout=timeout,
            per_minute=per_minute,
            key_env=key_env,
        )
        self.url, self.name = url, name
        self.endpoint = ChatCompletions(
            url or "",
            name or "",
            client=client,
            budget=self.budget,
            max_tokens=max_tokens,
            token_limit=token_limit,
            temperature=temperature,
            seed=seed,
            options=request,
            workers=workers,
        )
        self._instructions, self.max_length = instructions, max_length
        self.counts: Counter[str] = Counter()
        self.remote = Remote(f"{name} at {url}")

    @property
    def usage(self) -> Mapping[str, int]:
        """Tokens so far, as the endpoint counts them; see `ChatCompletions.used`."""
        return self.endpoint.used

    @property
    def image_size(self) -> int:
        """The longest side of a picture as sent, pixels."""
        return self.pictures.max_side

    @property
    def preprocess(self) -> AsStored:
        """Pictures as stored."""
        return AsStored()

    @property
    def tokenizer(self) -> Bytes:
        """Bytes: the endpoint's own is not known."""
        return Bytes()

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> Callable[[Sequence[Any]], Any]:
        """From samples to messages; one for training refuses.

        Raises:
            UserError: there is no address or name.
        """
        missing = [f"model.{w}=" for w, v in (("url", self.url), ("name", self.name)) if not v]
        if missing:
            raise UserError(
                f"model=api needs {' and '.join(missing)}, the endpoint's address and the model's "
                "name there, as model.url=http://127.0.0.1:8000/v1 model.name=<name>."
            )
        if training:
            return _refuse
        options: dict[str, Any] = {}
        if self._instructions is not None:
            convention = {"boxes": self.codec.name} if self.codec is not None else {}
            given = {**convention, **merged(instructions, self._instructions)}
            templates = InstructionTemplates(self.system.name, **{"measuring": True, **given})
            options["instructions"] = templates
        return MessageCollate(
            picture=self.pictures.data_url,
            size=self.pictures.size,
            max_length=self.max_length,
            **options,
            **asked(kinds),
        )

    def forward(self, batch: Any) -> Any:
        """Refuses: nothing here can be trained."""
        return _refuse(batch)

    def generate(self, batch: MessageBatch, **options: Any) -> list[Answer]:
        """An answer to each dialogue; one that the endpoint refuses has no text and a note.

        Args:
            batch: of `collate(training=False)`.
            **options: `max_new_tokens`, `temperature`; `num_beams` is 1.

        Raises:
            UserError: another option, or the endpoint cannot be asked.
        """
        changes = _changes(options)
        replies = self.endpoint.ask_all(batch.messages, **changes)
        return [
            self._answer(reply, seen) for reply, seen in zip(replies, batch.geometry, strict=True)
        ]

    def _answer(self, reply: Completion, seen: Sequence[Geometry]) -> Answer:
        answer = Answer(reply.text, finished=reply.finished)
        if reply.note:
            answer.notes.append(reply.note)
            answer.asked["note"] = reply.note
        if reply.tokens is not None:
            answer.asked["tokens"] = list(reply.tokens)
        self.counts["refused" if reply.note and not reply.text else "answered"] += 1
        self.counts["cached"] += reply.cached
        self.counts["cut"] += not reply.finished
        if self.codec is not None and seen:
            parsed = self.codec.parse(reply.text, seen[0])
            answer.boxes = [place.box for place in parsed.boxes]
            self.counts["unreadable"] += len(parsed.unparsable)
        return answer


def family(name: str) -> tuple[str, dict[str, int]]:
    """The system of a model's name, and how its pictures are sent."""
    for pattern, found in FAMILIES.items():
        if re.search(pattern, name.lower().replace("_", "-")):
            return found
    return OTHERS, {}


def _refuse(_: Any) -> Any:
    raise UserError(
        "model=api is asked, not trained: what it has learnt lies behind the endpoint. Train "
        "model=hf_vlm or another member of the zoo (rsvlm list models)."
    )


def _changes(options: Mapping[str, Any]) -> dict[str, Any]:
    for word in options:
        if word not in OPTIONS:
            raise UserError(f"an endpoint takes no option {word}=. {near(word, OPTIONS)}")
    if int(options.get("num_beams") or 1) != 1:
        raise UserError(
            f"num_beams={options['num_beams']}: an endpoint searches with none; give 1."
        )
    changes: dict[str, Any] = {}
    if options.get("max_new_tokens") is not None:
        changes["max_tokens"] = int(options["max_new_tokens"])
    if "temperature" in options:
        changes["temperature"] = options["temperature"]
    return changes


#: Weights are somebody else's.
ROWS = ()
