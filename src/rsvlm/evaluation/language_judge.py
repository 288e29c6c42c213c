"""A language model behind an endpoint as the judge of answers to open questions.

The wording is ours. `match` asks for one of two verdicts, as VRSBench's judge of answers does
(GPT-4o-mini: 1 for an answer of the same meaning); `grade` asks for 0 to 10, as SkySenseGPT's does
(GPT-3.5). Values hang on the model and on the wording: both stand in the protocol's name, with a
digest of all else that decides a verdict.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.clients.chat_completions import ChatCompletions
from rsvlm.clients.http import EndpointError, HTTPClient
from rsvlm.clients.limits import Budget
from rsvlm.errors import UserError, near

#: What stands before an option of the judge.
OPTIONS = "evaluation.judge."
_MATCH = (
    "Somebody answered a question about a remote sensing image.\nQuestion: {question}\n"
    "True answer: {truth}\nGiven answer: {answer}\nDoes the given answer mean the same as the "
    "true one, as far as the question asks? Reply with one digit alone: 1 for yes, 0 for no."
)
_GRADE = (
    "Somebody answered a question about a remote sensing image.\nQuestion: {question}\n"
    "True answer: {truth}\nGiven answer: {answer}\nHow well does the given answer say what the "
    "true one says? Reply with 'Score: ' and a whole number alone, from 0 (nothing of it, or "
    "wrong) to 10 (all of it)."
)
#: Prompt -> its version, its words and the highest verdict.
PROMPTS: Mapping[str, tuple[int, str, float]] = {
    "match": (1, _MATCH, 1.0),
    "grade": (1, _GRADE, 10.0),
}


class LanguageJudge:
    """Verdicts from 0 to 1 of a model behind an OpenAI-compatible endpoint.

    Args:
        url: of the API, as `http://127.0.0.1:8000/v1`.
        name: of the model there.
        prompt: `match` or `grade`.
        tries: questions before a reply without a verdict counts as unreadable.
        max_tokens: longest reply; models that reason need hundreds.
        token_limit: see `clients.chat_completions`.
        temperature: None leaves it out.
        cache: a folder where replies are kept; None keeps none.
        replay: judge from the cache alone, without network.
        key_env: the environment variable that holds the key.
        workers: requests at a time.
        per_minute: most requests in a minute.
        retries: further tries of what may pass.
        timeout: seconds for one try.
        max_cost: what may be spent; needs the prices.
        input_price: of a million tokens of questions.
        output_price: of a million tokens of verdicts.

    Attributes:
        protocol: `judge_<prompt>_<version>_<model>_<digest>`.
        facts: of a result: prompt, model, address, cache.

    Raises:
        UserError: no address or name, or an unknown prompt.
    """

    def __init__(
        self,
        url: str | None,
        name: str | None,
        *,
        prompt: str = "match",
        tries: int = 2,
        max_tokens: int = 16,
        token_limit: str = "max_tokens",
        temperature: float | None = 0.0,
        cache: str | None = None,
        replay: bool = False,
        key_env: str | None = "OPENAI_API_KEY",
        workers: int = 4,
        per_minute: float | None = None,
        retries: int = 5,
        timeout: float = 60.0,
        max_cost: float | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
    ) -> None:
        if not url or not name:
            raise UserError(
                "a judge is a language model behind an endpoint: give evaluation.judge.url="
                "http://127.0.0.1:8000/v1 evaluation.judge.name=<model>."
            )
        if prompt not in PROMPTS:
            raise UserError(f"evaluation.judge.prompt={prompt}: {near(prompt, PROMPTS)}")
        if tries < 1:
            raise UserError(f"evaluation.judge.tries={tries}: ask at least once.")
        version, self.words, self.most = PROMPTS[prompt]
        self.tries = tries
        client = HTTPClient(
            cache=cache,
            replay=replay,
            retries=retries,
            timeout=timeout,
            per_minute=per_minute,
            key_env=key_env,
            words=OPTIONS,
        )
        self.endpoint = ChatCompletions(
            url,
            name,
            client=client,
            budget=Budget(
                max_cost, input_price=input_price, output_price=output_price, words=OPTIONS
            ),
            max_tokens=max_tokens,
            token_limit=token_limit,
            temperature=temperature,
            workers=workers,
        )
        decides = [self.words, name, temperature, max_tokens, tries]
        digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:6]
        model = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "model"
        self.protocol = f"judge_{prompt}_{version}_{model}_{digest}"
        self.facts: dict[str, Any] = {
            "prompt": f"{prompt}, version {version}",
            "model": name,
            "url": url,
            "cache": cache,
        }

    def __call__(self, question: str, answer: str, truth: str) -> float | None:
        """The verdict, 0 to 1; None of a reply that holds none."""
        return self.all([(question, answer, truth)])[0]

    def all(self, asked: Sequence[tuple[str, str, str]]) -> list[float | None]:
        """Verdicts on (question, answer, true answer), several requests at a time.

        Raises:
            EndpointError: the endpoint cannot be asked.
        """
        found: list[float | None] = [None] * len(asked)
        left = list(range(len(asked)))
        for attempt in range(self.tries):
            said = [self._dialogue(*asked[n], attempt) for n in left]
            try:
                replies = self.endpoint.ask_all(said)
            except EndpointError as error:
                raise EndpointError(f"the judge: {error}") from error
            for n, reply in zip(left, replies, strict=True):
                found[n] = verdict(reply.text, self.most)
            left = [n for n in left if found[n] is None]
        return found

    def _dialogue(self, question: str, answer: str, truth: str, attempt: int) -> list[Any]:
        text = self.words.format(question=question, truth=truth, answer=answer)
        said: list[Any] = [{"role": "user", "content": text}]
        # The same question again would have the same reply, from the cache if not from the model.
        again = "Reply with the verdict alone, as asked." + "!" * (attempt - 1)
        return said + ([{"role": "user", "content": again}] if attempt else [])


def verdict(reply: str, most: float) -> float | None:
    """The verdict of a reply, as a share of the highest; None where it holds none, or several.

    Args:
        reply: of the judge.
        most: the highest verdict.
    """
    text = reply.strip().lower()
    scored = re.findall(r"score\W{0,5}(\d+(?:\.\d+)?)", text)
    numbers = scored or re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w]|\.\d)", text)
    if not numbers and most == 1.0:
        numbers = ["1"] if re.match(r"yes\b", text) else ["0"] if re.match(r"no\b", text) else []
    values = {float(number) for number in numbers}
    if len(values) != 1:
        return None
    (value,) = values
    if value > most or (most == 1.0 and value not in (0.0, 1.0)):
        return None
    return value / most
