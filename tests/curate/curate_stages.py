"""Stages for tests of the engine; at the top of a module, as workers find them by name."""

from __future__ import annotations

import io
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsvlm.curate.record import Dropped, rng


@dataclass
class Numbers:
    count: int = 50
    name = "numbers"
    version = "1"

    def __len__(self):
        return self.count

    def fingerprint(self):
        return f"numbers-{self.count}"

    def __iter__(self):
        for i in range(self.count):
            yield {"id": f"{i:06d}", "number": i, "caption": f"picture {i}"}


class Captions(Numbers):
    """Records without their numbers."""

    def __iter__(self):
        yield from ({"id": r["id"], "caption": r["caption"]} for r in super().__iter__())


@dataclass
class NoMultiples:
    of: int = 7
    name = "no_multiples"
    version = "1"

    def __call__(self, record):
        if record["number"] % self.of == 0:
            return Dropped("multiple", f"{record['number']} of {self.of}")
        return record


class Twice:
    name = "twice"
    version = "1"

    def __call__(self, record):
        return [{**record, "id": f"{record['id']}-{half}"} for half in "ab"]


@dataclass
class Embed:
    batch_size: int = 4
    name = "embed"
    version = "1"

    def setup(self):
        self.offset = 0.5

    def process(self, records):
        return [
            {
                **record,
                "embedding": rng(0, record["id"]).random(3, np.float32) + self.offset,
                "image": bytes([record["number"] % 256]) * 3,
            }
            for record in records
        ]


@dataclass
class TopHalf:
    """Drops the lower half by the first number of the vector, and ranks the others."""

    name = "top_half"
    version = "1"

    def key(self, record):
        return record["embedding"]

    def decide(self, ids, keys):
        order = np.argsort(-keys[:, 0], kind="stable")
        place = np.empty(len(ids), int)
        place[order] = np.arange(len(ids))
        return [{"rank": int(p)} if p < len(ids) / 2 else Dropped("low_rank") for p in place]


@dataclass
class Dies:
    """Ends its process as a full memory does, at one record, where a file says so."""

    mark: str
    at: int
    name = "passes"
    version = "1"

    def __call__(self, record):
        if record["number"] == self.at and os.path.exists(self.mark):
            os.kill(os.getpid(), signal.SIGKILL)
        return record


@dataclass
class Slow:
    seconds: float
    name = "slow"
    version = "1"

    def __call__(self, record):
        time.sleep(self.seconds)
        return record


class Lines:
    """One line a record; also a stand-in for a data set's layout."""

    name = "lines"
    version = "1"

    def write(self, records, out):
        from rsvlm.files import write_text

        rows = [
            f"{r['id']} {r['number']} {r.get('rank')} {r['embedding'].tolist()} {r['image'].hex()}"
            for r in records
        ]
        write_text(out / "lines.txt", "\n".join(rows))
        return {"records": len(rows)}


def stages(**more):
    return {"filter": NoMultiples(), "twice": Twice(), "embed": Embed(), "rank": TopHalf(), **more}


class Colours:
    """An encoder without torch: how green a picture is, and its pattern."""

    def load(self):
        pass

    def images(self, images):
        return np.stack([self._image(image) for image in images])

    def _image(self, image):
        if isinstance(image, bytes):
            image = Image.open(io.BytesIO(image))
        small = np.asarray(image.convert("RGB").resize((8, 8)), np.float32) / 255
        green = float(small[..., 1].mean() / max(small.mean() * 3, 1e-6))
        pattern = small.mean(-1).ravel() - small.mean()
        pattern /= max(np.linalg.norm(pattern), 1e-6)
        made = np.r_[green, 1 - green, 1.5 * pattern].astype(np.float32)
        return made / np.linalg.norm(made)

    def texts(self, texts):
        above = [any(w in text for w in ("aerial", "satellite", "remote")) for text in texts]
        return np.array([[a, not a, *[0] * 64] for a in above], np.float32)
