"""Hydra's line above an error stands above errors of the program alone."""

import sys

import pytest

from rsvlm.app.entry import _hydras_line_held
from rsvlm.errors import UserError


@pytest.mark.parametrize("kind, shown", [(UserError, False), (RuntimeError, True)])
def test_a_launchers_job_hands_its_error_over(capsys, kind, shown):
    with pytest.raises(kind), _hydras_line_held():
        print("job 0", file=sys.stderr)
        sys.stderr.write("Error executing job with overrides: ['seed=1']\n")
        raise kind("no such thing")
    said = capsys.readouterr().err
    assert "job 0" in said and ("Error executing job" in said) == shown
