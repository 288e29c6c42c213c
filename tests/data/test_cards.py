"""Data sets as facts: cards, where each is registered, and how deep readers stand on each other."""

import pickle

import pytest
from omegaconf import OmegaConf

from rsvlm.config import config_dir
from rsvlm.config.compose import options
from rsvlm.config.validate import locate
from rsvlm.data.datasets import DATASETS, cards
from rsvlm.data.datasets.base import FileDataset
from rsvlm.data.datasets.card import Card
from rsvlm.data.datasets.karpathy import Karpathy

CARDS = {
    name: kind
    for name, kind in vars(cards).items()
    if getattr(kind, "__module__", "") == cards.__name__
}
CARDS = {name: kind for name, kind in CARDS.items() if isinstance(kind, type)}


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_gives_a_class_like_any_other(name):
    kind = CARDS[name]
    assert kind.__name__ == kind.__qualname__ == name and issubclass(kind, FileDataset)
    assert pickle.loads(pickle.dumps(kind)) is kind and DATASETS[kind.name] is kind
    assert "{root}" in kind.layout and kind.title and kind.licence and kind.homepage
    assert "see `" in kind.__doc__ and "__init__" not in vars(kind)


def test_there_are_thirteen_and_a_wrong_word_is_an_error():
    assert len(CARDS) == 13
    facts = {"title": "", "doc": "", "layout": (), "licence": "", "paper": "", "homepage": ""}
    with pytest.raises(AttributeError, match="file_nam"):
        Card("Mine", Karpathy, "mine", words={"file_nam": "x"}, **facts).build()


def test_readers_stand_on_at_most_two_levels_above_file_dataset():
    """Shared bases: a data set's own class stands on these."""
    for word, kind in DATASETS.items():
        bases = [base for base in kind.__mro__[1:] if issubclass(base, FileDataset)]
        assert len(bases) <= 3, f"{word}: {[base.__name__ for base in bases]}"
        own = [base for base in bases if base in DATASETS.values() and base.name]
        assert not own, f"{word} stands on the data set {own[0].__name__}"


def test_every_reader_is_a_data_option_and_the_other_way_round():
    known = set(options("data"))
    assert set(DATASETS) <= known and not [name for name in known if name.startswith("_")]
    for option, kind in DATASETS.items():
        node = OmegaConf.load(config_dir() / "data" / f"{option}.yaml")
        assert locate(node.dataset._target_) is kind
