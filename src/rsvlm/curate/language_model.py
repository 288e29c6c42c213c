"""A language model behind an endpoint, as a stage of a pipeline holds it: settings until asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.clients.chat_completions import ChatCompletions, Completion, Message
from rsvlm.clients.http import HTTPClient
from rsvlm.clients.limits import Budget
from rsvlm.curate.record import Dropped
from rsvlm.errors import UserError

#: What stands before an option of the client, in the pipeline that has one.
OPTIONS = "pipeline.stages.questions.model."


@dataclass
class LanguageModel:
    """Settings of an OpenAI-compatible endpoint; they mean what they mean for `model=api`.

    It goes to other processes as it stands and connects with the first question there. A ceiling
    of costs holds for one process; with several, each has its share of it (`shares`).

    Args:
        url: of the API; None is no model.
        name: of the model there.
        key_env: the environment variable that holds the key.
        max_tokens: longest answer.
        token_limit: the request's word for it.
        temperature: None leaves it out.
        seed: None leaves it out.
        request: further fields of each request.
        workers: requests at a time.
        per_minute: most requests in a minute.
        retries: further tries of what may pass.
        timeout: seconds for one try.
        cache: a folder where replies are kept by all that decides them, the prompt among it.
        replay: answer from the cache alone.
        max_cost: what may be spent; needs the prices.
        input_price: of a million tokens of questions.
        output_price: of a million tokens of answers.
        shares: processes that spend it.
        words: what stands before an option where an error names one; of a stage called `captions`
            it is `pipeline.stages.captions.model.`.
        structured: ask for JSON of a schema (`response_format`), which most servers know; False
            asks in words alone.
    """

    url: str | None = None
    name: str | None = None
    key_env: str | None = "OPENAI_API_KEY"
    max_tokens: int = 1024
    token_limit: str = "max_tokens"
    temperature: float | None = 0.0
    seed: int | None = None
    request: Mapping[str, Any] | None = None
    workers: int = 4
    per_minute: float | None = None
    retries: int = 5
    timeout: float = 120.0
    cache: str | None = None
    replay: bool = False
    max_cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    shares: int = 1
    structured: bool = True
    words: str = OPTIONS

    def connect(self, schema: Mapping[str, Any] | None = None) -> ChatCompletions:
        """The client, whose answers hold to a JSON schema where the server knows such.

        Raises:
            UserError: no address or name, or settings out of their range.
        """
        if not self.url or not self.name:
            raise UserError(
                "a language model needs its address and its name there: give "
                f"{self.words}url=http://127.0.0.1:8000/v1 and "
                f"{self.words}name=<name>."
            )
        options = dict(self.request or {})
        if schema is not None and self.structured:
            named = {"name": "reply", "strict": True, "schema": dict(schema)}
            options |= {"response_format": {"type": "json_schema", "json_schema": named}}
        ceiling = None if self.max_cost is None else self.max_cost / max(1, self.shares)
        return ChatCompletions(
            self.url,
            self.name,
            client=HTTPClient(
                cache=self.cache,
                replay=self.replay,
                retries=self.retries,
                timeout=self.timeout,
                per_minute=self.per_minute,
                key_env=self.key_env,
                words=self.words,
            ),
            budget=Budget(
                ceiling,
                input_price=self.input_price,
                output_price=self.output_price,
                words=self.words,
            ),
            max_tokens=self.max_tokens,
            token_limit=self.token_limit,
            temperature=self.temperature,
            seed=self.seed,
            options=options,
            workers=self.workers,
        )


_FENCE = re.compile(r"^```[a-z]*\s*\n(.*?)\n?```$", re.DOTALL)
#: How models decline in words, where the server does not say so.
_REFUSAL = re.compile(
    r"\b(i(['’]m| am) (sorry|unable)|i (cannot|can['’]t|can not|won['’]t)|as an ai\b"
    r"|unable to (assist|help|comply)|against (my|the) (policy|guidelines))",
    re.IGNORECASE,
)


def read_reply(completion: Completion, words: str = OPTIONS) -> dict[str, Any] | Dropped:
    """The JSON object of an answer, or why there is none.

    Dropped: `refused`, `empty_reply`, `cut_reply` (longer than `max_tokens`), `no_json`.

    Args:
        completion: what the endpoint answered.
        words: of the `LanguageModel`.
    """
    text = completion.text
    if completion.note:
        said = "refused" in completion.note or "filter" in completion.note
        return Dropped("refused" if said else "empty_reply", completion.note)
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if not completion.finished:
        return Dropped("cut_reply", f"it ends {text[-60:]!r}: give a larger {words}max_tokens=")
    return Dropped("refused" if _REFUSAL.search(text) else "no_json", text[:200])


def messages(system: str, question: str, pictures: Sequence[str] = ()) -> list[Message]:
    """A dialogue of one question, in OpenAI's form.

    Args:
        system: what holds for every question.
        question: the question.
        pictures: addresses that hold pictures (`clients.pictures`), shown before it.
    """
    parts: Any = question
    if pictures:
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
        parts = [*shown, {"type": "text", "text": question}]
    return [{"role": "system", "content": system}, {"role": "user", "content": parts}]
