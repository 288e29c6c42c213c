"""OpenAI's chat completions, which most servers of language models speak."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from rsvlm.clients.http import EndpointError, HTTPClient, Refused
from rsvlm.clients.limits import Budget

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    """What an endpoint answered.

    Attributes:
        text: its words; empty where it refused.
        finished: False where the text was cut at its greatest length.
        note: why there is no text, or what was kept back; empty where all is well.
        cached: whether it came from the disk.
        tokens: of question and answer, as the server counts them; None where it does not say.
    """

    text: str
    finished: bool = True
    note: str = ""
    cached: bool = False
    tokens: tuple[int, int] | None = None


class ChatCompletions:
    """One model behind one endpoint.

    Args:
        url: of the API, as `https://api.openai.com/v1` or `http://127.0.0.1:8000/v1`.
        model: its name there.
        client: asks.
        budget: counts the tokens; None counts them without a ceiling.
        max_tokens: longest answer.
        token_limit: the word for it; `max_completion_tokens` of OpenAI's models that reason.
        temperature: None leaves the word out, which such models want.
        seed: for servers that take one; None leaves it out.
        options: further fields of the request.
        workers: requests at a time.
        give_up: after this many refusals in a row, with no answer before, the endpoint is held to
            refuse all.

    Attributes:
        used: `prompt_tokens` and `completion_tokens` of all answers, those from the cache too, as
            the server counts them.

    Raises:
        UserError: no address, or no name.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        client: HTTPClient,
        budget: Budget | None = None,
        max_tokens: int = 256,
        token_limit: str = "max_tokens",
        temperature: float | None = 0.0,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        workers: int = 4,
        give_up: int = 5,
    ) -> None:
        base, mark, query = url.partition("?")  # some providers want a version behind it
        self.url, self.model = f"{base.rstrip('/')}/chat/completions{mark}{query}", model
        self.client, self.budget = client, budget or Budget()
        self.max_tokens, self.token_limit = max_tokens, token_limit
        self.temperature, self.seed = temperature, seed
        self.options, self.workers, self.give_up = dict(options or {}), workers, give_up
        self._answered = self._refused = 0
        self.used: Counter[str] = Counter()
        self._lock = threading.Lock()

    def body(self, messages: Sequence[Message], **changes: Any) -> dict[str, Any]:
        """The request for one dialogue.

        Args:
            messages: in OpenAI's form.
            **changes: `max_tokens` and `temperature` of this request alone.
        """
        limit = int(changes.get("max_tokens", self.max_tokens))
        temperature = changes.get("temperature", self.temperature)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            self.token_limit: limit,
        }
        if temperature is not None:
            body["temperature"] = temperature
        if self.seed is not None:
            body["seed"] = self.seed
        return body | self.options

    def ask(self, messages: Sequence[Message], **changes: Any) -> Completion:
        """The answer to one dialogue; a refusal is an answer without text, with a note.

        Raises:
            EndpointError: the server cannot be asked, or refuses everything.
            UserError: the ceiling of costs.
        """
        body = self.body(messages, **changes)
        free = self.client.cached(self.url, body)
        aside = 0.0 if free else self.budget.reserve(int(body[self.token_limit]))
        usage: Mapping[str, Any] | None = None
        try:
            reply = self.client.post(self.url, body)
            told = _mapping(reply.json, "usage") or {}
            self._count(told)
            if not reply.cached:
                usage = told
        except Refused as error:
            self._refused += 1
            if not self._answered and self._refused >= self.give_up:
                raise EndpointError(
                    f"{self.url} has refused the first {self._refused} questions. It says: {error}"
                ) from error
            return Completion("", note=f"the endpoint refused this question: {error}")
        finally:
            if not free:
                self.budget.settle(aside, usage)
        self._answered += 1
        return replace(self._read(reply.json, reply.cached), tokens=_tokens(told))

    def ask_all(self, dialogues: Sequence[Sequence[Message]], **changes: Any) -> list[Completion]:
        """Answers in the order of the dialogues, `workers` at a time; errors as of `ask`."""
        # The first one alone where a ceiling holds: nobody knows yet what a question costs.
        alone = len(dialogues) if self.workers < 2 else int(self.budget.unmeasured)
        first = [self.ask(messages, **changes) for messages in dialogues[:alone]]
        rest = dialogues[alone:]
        if not rest:
            return first
        with ThreadPoolExecutor(min(self.workers, len(rest))) as pool:
            waiting = [pool.submit(self.ask, messages, **changes) for messages in rest]
            try:
                return first + [one.result() for one in waiting]
            except BaseException:  # Ctrl-C too
                for one in waiting:
                    one.cancel()  # what was not sent costs nothing
                raise

    def _count(self, usage: Mapping[str, Any]) -> None:
        with self._lock:
            for word in ("prompt_tokens", "completion_tokens"):
                if isinstance(usage.get(word), int):
                    self.used[word] += usage[word]

    def _read(self, reply: Any, cached: bool) -> Completion:
        choices = reply.get("choices") if isinstance(reply, Mapping) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        message = _mapping(first, "message")
        if message is None:
            raise EndpointError(
                f"{self.url} answers without choices[0].message: is it an OpenAI-compatible "
                f"endpoint? It says {str(reply)[:200]!r}."
            )
        content = message.get("content")
        if isinstance(content, list):  # parts, of which some are text
            content = "".join(
                str(part.get("text", "")) for part in content if isinstance(part, Mapping)
            )
        reason = first.get("finish_reason") if isinstance(first, Mapping) else None
        note = ""
        if message.get("refusal"):
            note = f"the model refused: {message['refusal']}"
        elif reason == "content_filter":
            note = "the endpoint's filter kept the answer back"
        elif not content:
            note = "the endpoint gave an empty answer" + (
                f": its length went into reasoning, give {self.client.words}max_tokens=2048"
                if reason == "length"
                else ""
            )
        return Completion(str(content or "").strip(), reason != "length", note, cached)


def _tokens(usage: Mapping[str, Any]) -> tuple[int, int] | None:
    asked, said = (usage.get(word) for word in ("prompt_tokens", "completion_tokens"))
    return (asked, said) if isinstance(asked, int) and isinstance(said, int) else None


def _mapping(value: Any, name: str) -> Mapping[str, Any] | None:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else None
