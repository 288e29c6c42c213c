"""How a router used its experts."""

import pytest

from rsvlm.metrics.routing import routing_statistics, routing_table

EXPERTS = ("theme", "objects", "relations")


def test_a_router_that_follows_the_question():
    routed = [("scene", "theme", 1.0), ("count", "objects", 1.0), ("comp", "relations", 1.0)]
    found = routing_statistics(routed, EXPERTS)
    assert found["information"] == pytest.approx(1.585, abs=1e-3)
    assert found["entropy"] == pytest.approx(1) and not found["collapsed"]
    assert routing_table(routed)["scene"] == {"theme": 1.0}


def test_a_collapse_is_found_and_shuffled_kinds_tell_nothing():
    one = [(kind, "theme", 1.0) for kind in ("scene", "count", "comp")]
    assert routing_statistics(one, EXPERTS) == {
        "most": 1.0,
        "entropy": 0.0,
        "information": 0.0,
        "collapsed": 1.0,
    }
    assert not routing_statistics(one, ("theme",))["collapsed"]
    even = [(kind, expert, 0.5) for kind in ("scene", "count") for expert in EXPERTS]
    assert routing_statistics(even, EXPERTS)["information"] == pytest.approx(0)
    assert routing_statistics([], EXPERTS)["most"] == 0


@pytest.mark.usefixtures("whole_pictures")
def test_routing_as_a_picture(tmp_path):
    from rsvlm.data.prediction_records import PredictionRecord
    from rsvlm.evaluation.question_answering import draw_routing
    from rsvlm.report.routing import routing_sheet

    assert routing_sheet([], EXPERTS, tmp_path / "a.png") is None
    part = {"expert": "objects", "prompt": "how many ?", "text": "two", "weight": 1.0}
    records = [PredictionRecord(0, parts=[part], more={"type": "count"}), PredictionRecord(1)]
    path = draw_routing(records, tmp_path)
    assert path == tmp_path / "routing.png" and path.stat().st_size > 1000
    assert draw_routing(records[1:], tmp_path / "none") is None
