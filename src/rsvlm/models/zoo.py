"""Which file has which rows of the zoo: published weights and all that their user must know.

A row is called `<model option>.<tag>`; nothing is registered by an import.
"""

from __future__ import annotations

from functools import cache

from rsvlm.checkpoints import zoo
from rsvlm.checkpoints.zoo import Row
from rsvlm.models.blip2 import model as blip2
from rsvlm.models.change_captioning import chg2cap, mmodalcc, rsiccformer
from rsvlm.models.clip import gaia_clip, georsclip, openai_clip, remoteclip, skyclip
from rsvlm.models.deltavlm import model as deltavlm
from rsvlm.models.geopix import model as geopix
from rsvlm.models.hf_vlm import model as hf_vlm
from rsvlm.models.lisa import model as lisa
from rsvlm.models.llava import model as llava
from rsvlm.models.pixellm import model as pixellm
from rsvlm.models.rscapret import model as rscapret
from rsvlm.models.rsgpt import model as rsgpt
from rsvlm.models.skyeyegpt import model as skyeyegpt

FILES = (
    *(georsclip, skyclip, remoteclip, gaia_clip, openai_clip),
    *(deltavlm, mmodalcc, rsiccformer, chg2cap),
    *(rscapret, blip2, rsgpt, skyeyegpt, llava, hf_vlm),
    *(geopix, lisa, pixellm),
)


@cache
def rows() -> dict[str, Row]:
    """All rows by name."""
    found: dict[str, Row] = {}
    for file in FILES:
        for each in file.ROWS:
            if each.name in found:
                raise ValueError(f"two zoo rows are called {each.name}; tags must differ.")
            found[each.name] = each
    return found


def row(name: str) -> Row:
    """The row of a name.

    Raises:
        UserError: there is none; names the near ones.
    """
    return zoo.row(name, rows())
