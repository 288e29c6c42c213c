"""The list of metric words, and the names built from it."""

import pytest

from rsvlm.metrics import METRICS, PROTOCOLS, SCALARS, metric_name, parse, scalar_name


def test_the_words_that_users_may_rely_on():
    assert {"loss", "contrastive", "logit_scale", "lr", "pairs_per_second"} <= set(SCALARS)
    recalls = {f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10, 100)}
    assert recalls | {"mean_recall", "i2t_mean_recall", "t2i_mean_recall"} <= set(METRICS)
    assert {"top1", "top5", "mean_per_class", "rsu", "ras", "rda", "rmi"} <= set(METRICS)
    assert {"remoteclip", "skyscript"} <= set(PROTOCOLS["retrieval"])
    assert {"change_cider", "no_change_s_m", "change_f1", "road_mae", "road_loc_jaccard"} <= set(
        METRICS
    )
    assert {"oa", "aa", "acc_presence", "acc50", "box_ciou", "miou", "oiou", "giou"} <= set(METRICS)
    assert {word.task for word in METRICS.values()} == set(PROTOCOLS)
    assert len(PROTOCOLS) >= 12 and len(METRICS) >= 110
    for name, word in METRICS.items():
        errors = ("_mae", "_rmse", "hamming", "unparsable", "ras", "_empty", "_mask", "_list")
        errors += ("_none", "_misled")
        assert word.higher != name.endswith(errors), name


def test_every_name_is_read_back():
    for metric, word in METRICS.items():
        for protocol in PROTOCOLS[word.task]:
            name = metric_name("test", "whu_rs19", protocol, metric)
            assert name == f"test/whu_rs19/{protocol}/{metric}"
            assert str(parse(name)) == name
    for word in SCALARS:
        assert parse(scalar_name("train", word)).dataset is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("val", "rsicd", "remoteclip", "i2t_r2"), "unknown metric 'i2t_r2'. Did you mean i2t_r"),
        (("val", "rsicd", "remotclip", "i2t_r1"), "Did you mean remoteclip"),
        (("val", "whu_rs19", "linear_probe", "i2t_r1"), "protocol of retrieval"),
        (("valid", "rsicd", "remoteclip", "i2t_r1"), "stage"),
        (("val", "RSICD", "remoteclip", "i2t_r1"), "lower-case"),
    ],
)
def test_unknown_words_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        metric_name(*parts)
    with pytest.raises(ValueError, match=message):
        parse("/".join(parts))


def test_names_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="not a metric name"):
        parse("val/rsicd/i2t_r1")
    with pytest.raises(ValueError, match="value of the loop"):
        scalar_name("train", "los")
