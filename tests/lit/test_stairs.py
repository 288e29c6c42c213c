"""The learning rate that falls by stairs."""

import pytest
import torch

from rsvlm.errors import UserError
from rsvlm.lit.optim import step_decay


def test_the_rate_is_halved_after_each_part():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = step_decay(optimizer, total_steps=50, stairs=10, factor=0.5)
    rates = []
    for _ in range(55):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # StepLR(step_size=5, gamma=0.5) over 50 epochs of one step, and no further fall after the end.
    assert rates[:50] == [0.5 ** (step // 5) for step in range(50)]
    assert set(rates[50:]) == {0.5**9}
    with pytest.raises(UserError, match="stairs=0"):
        step_decay(optimizer, total_steps=50, stairs=0)
