"""Values of the wrong kind are one error before anything is built."""

import pytest

from rsvlm.config.validate import check
from rsvlm.errors import UserError


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("data.batch_size=0", "data.batch_size=0: give 1 or more"),
        ("data.batch_size=many", "data.batch_size=many: give a whole number"),
        ("optimizer.lr=-1", "optimizer.lr=-1: give 0 or more"),
        ("trainer.precision=fp16", "Did you mean 16-mixed"),
        ("trainer.max_epochs=two", "trainer.max_epochs=two: give a whole number or null"),
        ("trainer.max_epochs=-3", "give 1 or more, or -1 for no end"),
        ("+data.order=shufled", "Did you mean shuffled"),
    ],
)
def test_a_value_of_another_kind_says_what_is_wanted(compose, word, say):
    with pytest.raises(UserError, match=say):
        check(compose("train", [word]))


def test_what_every_recipe_gives_fits(compose):
    for words in ([], ["trainer=gpu"], ["optimizer.lr={full: 1e-4}"], ["trainer.devices=-1"]):
        assert check(compose("train", words)) > 5
