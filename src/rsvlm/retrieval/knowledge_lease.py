"""Who writes a base on a Qdrant server: a point that changes hands in one step of the server.

The point is written by an upsert that is done only if it is still the one that was read (servers
from 1.16 on), and read again: of two processes that begin at once, one has it and the other ends
with an error. Servers before 1.16 know no condition: there the first of two that begin within one
round trip ends with an error at its next batch.

A writer that said nothing for `LEASE` seconds may be replaced, since it is likely to be dead. One
that hangs and wakes ends with an error at its next batch and can no longer name a version; a batch
that was under way may still arrive among the points of the one that replaced it. `remove` and `add`
of these records, or a new build, mends that.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_lock import alive

#: Id of the point, and the seconds after which a writer that says nothing is taken for dead.
WRITER, LEASE = 1 << 40, 600.0


class Lease:
    """This process's claim to write.

    Args:
        root: the base's address, for errors.
        models: of `qdrant_client`.
        read: payload of a point, by id; empty without one.
        write: keeps a payload as a point, `only=` where one that is there meets conditions.

    Attributes:
        token: stands for this process.
    """

    def __init__(
        self,
        root: object,
        models: Any,
        read: Callable[[int], dict[str, Any]],
        write: Callable[..., None],
    ) -> None:
        self.root, self.models, self.read, self.write = root, models, read, write
        self.token = uuid.uuid4().hex

    def hold(self) -> None:
        """Says, or says again, that this process writes.

        Raises:
            UserError: another one does; says which.
        """
        m = self.models
        now, here = time.time(), socket.gethostname()
        held = self.read(WRITER)
        if held and held["token"] != self.token:
            # A number of a process comes again, in containers soon: time decides on this host too.
            dead = held["host"] == here and not alive(held["pid"])
            if held["until"] > now and not dead:
                raise self._busy(held)
        elif held and held["until"] - now > LEASE / 2:
            return
        mine = {"token": self.token, "host": here, "pid": os.getpid(), "until": now + LEASE}
        # In the place of what was read, or of nothing: what has come between stays as it is.
        until = held.get("until", 0.0)
        same = m.FieldCondition(key="until", range=m.Range(gte=until, lte=until))
        self.write(WRITER, mine, only=[self._by(held.get("token", self.token)), same])
        held = self.read(WRITER)
        if held.get("token") != self.token:
            raise self._busy(held)

    def own(self) -> Any:
        """Chooses the point while it is this process's."""
        m = self.models
        must = [m.HasIdCondition(has_id=[WRITER]), self._by(self.token)]
        return m.FilterSelector(filter=m.Filter(must=must))

    def _by(self, token: str) -> Any:
        match = self.models.MatchValue(value=token)
        return self.models.FieldCondition(key="token", match=match)

    def _busy(self, held: dict[str, Any]) -> UserError:
        who = f"{held.get('pid', 'unknown')} on {held.get('host', 'unknown')}"
        return UserError(
            f"{self.root} is being written by another process ({who}): wait until it has ended, "
            "and ask again. It can be searched meanwhile. A writer that says nothing for "
            f"{LEASE:.0f} s is taken for dead."
        )
