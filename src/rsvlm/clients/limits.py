"""How fast a server is asked, and how much may be spent on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from rsvlm.errors import UserError


class RateLimit:
    """Lets one request through at a time, at equal distances.

    Args:
        per_minute: requests in a minute; None lets all through.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        if per_minute is not None and not per_minute > 0:
            raise UserError(f"per_minute={per_minute}: it is above 0, or null for no limit.")
        self.distance = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Blocks until the next request may go."""
        if not self.distance:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self.distance
        time.sleep(at - now)


class Budget:
    """What was spent on tokens, and a ceiling that is not passed.

    Before a request goes, the most that its answer can cost is set aside, with the mean of what
    questions have cost so far: several requests at once do not pass the ceiling together. What a
    cache gives costs nothing.

    Args:
        ceiling: in the currency of the prices; None spends without one.
        input_price: of a million tokens of questions, pictures included.
        output_price: of a million tokens of answers.
        words: what stands before an option where an error names one.

    Attributes:
        spent: so far.
        input_tokens: and
        output_tokens: so far, as the server counts them.

    Raises:
        UserError: a ceiling without prices.
    """

    def __init__(
        self,
        ceiling: float | None = None,
        *,
        input_price: float | None = None,
        output_price: float | None = None,
        words: str = "model.",
    ) -> None:
        if ceiling is not None and (input_price is None or output_price is None):
            raise UserError(
                f"max_cost={ceiling:g} needs the prices of a million tokens: give "
                f"{words}input_price=<of questions> {words}output_price=<of answers>."
            )
        self.ceiling, self.words = ceiling, words
        self.prices = (input_price or 0.0) / 1e6, (output_price or 0.0) / 1e6
        self.spent = self._aside = 0.0
        self.input_tokens = self.output_tokens = self._requests = 0
        self._lock = threading.Lock()

    @property
    def unmeasured(self) -> bool:
        """Whether there is a ceiling, and no request so far that says what one costs."""
        return self.ceiling is not None and not self._requests

    def reserve(self, output_tokens: int) -> float:
        """Sets the cost of a request aside.

        Args:
            output_tokens: the most that its answer can have.

        Returns:
            What `settle` takes back.

        Raises:
            UserError: the ceiling could be passed.
        """
        with self._lock:
            asked = self.input_tokens / self._requests if self._requests else 0.0
            cost = asked * self.prices[0] + output_tokens * self.prices[1]
            if self.ceiling is not None and self.spent + self._aside + cost > self.ceiling:
                raise UserError(
                    f"{self.spent:.4f} of {self.words}max_cost={self.ceiling:g} is spent"
                    + (f", {self._aside:.4f} set aside for open requests" if self._aside else "")
                    + f", and the next request could cost {cost:.4f} more, so it was not sent. "
                    f"What was answered is kept where there is a {self.words}cache=: give a higher "
                    f"{self.words}max_cost= to go on from there.",
                    code="cost_ceiling",
                )
            self._aside += cost
        return cost

    def settle(self, reserved: float, usage: Mapping[str, Any] | None) -> None:
        """Counts what a request has cost.

        Args:
            reserved: of `reserve`.
            usage: the reply's `prompt_tokens` and `completion_tokens`; None of a request that
                failed.

        Raises:
            UserError: there is a ceiling and the server does not say what a request used.
        """
        with self._lock:
            self._aside -= reserved
            if usage is None:
                return
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            known = [int(count) for count in counts if isinstance(count, int)]
            if len(known) == 2:
                asked, said = known
                self._requests += 1
                self.input_tokens += asked
                self.output_tokens += said
                self.spent += asked * self.prices[0] + said * self.prices[1]
            elif self.ceiling is not None:
                raise UserError(
                    "the server does not say how many tokens a request used, so "
                    f"{self.words}max_cost= cannot be held: leave it out, or ask another server.",
                    code="cost_ceiling",
                )
