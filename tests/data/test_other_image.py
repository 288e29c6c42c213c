"""The baseline that sees another image, and what the recipes of learnability need of the world."""

from functools import partial

import numpy as np
import pytest

from rsvlm.data.loading.wrappers import ShuffledImages
from rsvlm.encoders.tokenizers import word_list, word_tokenizer
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes


def test_texts_stay_and_the_image_is_another_ones():
    own = Scenes("test", n=6, size=32, parts=("captions", "turns"))
    made = ShuffledImages(partial(Scenes, n=6, size=32, parts=("captions", "turns")), "test")
    assert len(made) == 6 and made.name == "scenes_other_image"
    shown = []
    for i in range(6):
        sample = made[i]
        assert sample.texts == own[i].texts and sample.turns == own[i].turns
        pictures = [np.asarray(own[j].images[0]) for j in range(6)]
        found = [j for j in range(6) if (pictures[j] == np.asarray(sample.images[0])).all()]
        assert found and found != [i]
        shown += found
    assert sorted(shown) == list(range(6))


def test_too_few_samples_are_told():
    with pytest.raises(UserError, match="three samples"):
        ShuffledImages(partial(Scenes, n=2, size=32), "test")


def test_small_things_can_be_left_out():
    every = Scenes(n=8, size=32, parts=("references",), classes=["parking lot"])
    large = Scenes(n=8, size=32, parts=("references",), classes=["parking lot"], least=0.2)
    for i in range(8):
        kept = {k.id for k in large[i].instances}
        sides = {k.id: min(k.box[2] - k.box[0], k.box[3] - k.box[1]) for k in every[i].instances}
        assert kept == {id for id, side in sides.items() if side >= 0.2 * 32}
        for turn in large[i].turns:
            assert set(turn.instance_ids) <= kept
    assert sum(len(large[i].instances) for i in range(8))
    with pytest.raises(UserError, match="least=2"):
        Scenes(least=2)


def test_the_words_of_chats_hold_those_of_the_world_and_the_numbers_of_boxes():
    world, chat = word_list("world"), word_list("chat")
    assert chat[: len(world)] == world and len(set(chat)) == len(chat)
    tokens = word_tokenizer("chat")
    for text in ("{<10><2><37><100>}", "[refer]", "[0.11,"):
        assert tokens.decode(tokens.encode(text)) == text
    assert len(tokens.encode("{<10><2><37><100>}")) <= 10
