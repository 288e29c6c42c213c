"""Requests: what is tried again, what is said, and that no key is ever written."""

import json
import socket
import threading
import time

import pytest
from loopback import serving

from rsvlm.clients.http import EndpointError, HTTPClient, Refused
from rsvlm.clients.limits import Budget
from rsvlm.errors import UserError

BODY = {"question": "a port?"}


def asked(answer, body=BODY, **options):
    """The reply to one request, and the script behind it."""
    with serving(answer) as script:
        client = HTTPClient(first_wait=0.01, **options)
        return client.post(script.url, body), script


def error(answer, kind=EndpointError, **options):
    with serving(answer) as script, pytest.raises(kind) as caught:
        HTTPClient(first_wait=0.01, retries=1, **options).post(script.url, BODY)
    return str(caught.value), script


def always(status, body, headers=None):
    return lambda _: (status, body, headers or {})


def test_what_may_pass_is_tried_again():
    for status, retry_after in ((429, "0"), (503, None), (500, None)):
        replies = iter([(status, {"error": {"message": "busy"}}), (200, {"ok": 1})])

        def answer(_, replies=replies, retry_after=retry_after):
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            return (*next(replies), headers)

        reply, script = asked(answer)
        assert reply.json == {"ok": 1}
        assert len(script.asked) == 2


def test_a_cut_answer_is_tried_again_and_then_said():
    text, script = error(always(200, b'{"a": [1, 2'))
    assert "cut its answer short" in text
    assert len(script.asked) == 2
    text, _ = error(always(200, b"{}", {"Content-Length": "50"}))
    assert "cut its answer short" in text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            always(200, b"<html><title>Nginx</title>", {"Content-Type": "text/html"}),
            "HTML ('Nginx')",
        ),
        (always(404, {"error": {"message": "no model x"}}), "no model x. Look at model.url="),
        (always(307, b"", {"Location": "http://elsewhere/"}), "sends on to http://elsewhere/"),
        (
            always(429, {"error": {"message": "You exceeded your current quota"}}),
            "quota is used up",
        ),
        (always(429, {"error": "slow down"}), "model.per_minute="),
        (always(418, {"detail": "a teapot"}), "answers with 418. a teapot"),
    ],
)
def test_each_trouble_has_its_words(answer, words):
    text, script = error(answer)
    assert words in text
    assert len(script.asked) == (2 if "per_minute" in words else 1)


def test_a_request_that_is_refused_is_no_trouble_of_the_server():
    text, _ = error(always(400, {"error": {"message": "the image is too large"}}), Refused)
    assert text == "the image is too large"


def test_a_server_that_is_away_or_slow():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(EndpointError, match="cannot be reached"):
        HTTPClient(retries=5).post(f"http://127.0.0.1:{port}/v1", BODY)
    assert time.monotonic() - began < 5  # a wrong address is said at once

    released = threading.Event()

    def answer(_):
        released.wait(20)
        return 200, {}, {}

    with serving(answer) as script:
        with pytest.raises(EndpointError, match=r"within 0\.2 s: .*tried 2 times"):
            HTTPClient(timeout=0.2, retries=1, first_wait=0.01).post(script.url, BODY)
        released.set()


def test_keys_come_from_the_environment_and_go_nowhere_else(monkeypatch, tmp_path, caplog):
    secret = "sk-abcdefgh12345678"
    text, _ = error(always(401, {"error": {"message": "no key"}}), key_env="MY_KEY")
    assert "export MY_KEY=<key>" in text
    monkeypatch.setenv("MY_KEY", secret + "\n")  # as `cat` gives it
    reply, script = asked(always(200, {"ok": 1}), key_env="MY_KEY", cache=tmp_path)
    assert script.headers["authorization"] == f"Bearer {secret}"
    assert reply.json == {"ok": 1}
    quoted = {"error": {"message": f"Incorrect API key provided: {secret}"}}
    text, _ = error(always(401, quoted), key_env="MY_KEY")
    assert "refuses the key of $MY_KEY" in text
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert kept
    assert not any(secret in said for said in (text, kept, caplog.text))
    for wrong in (secret, "Bearer x"):
        with pytest.raises(UserError, match="never the key itself") as caught:
            HTTPClient(key_env=wrong)
        assert wrong not in str(caught.value)
    monkeypatch.setenv("MY_KEY", "a\x07b")
    with pytest.raises(EndpointError, match="no key has"):
        HTTPClient(key_env="MY_KEY")._headers()
    for url in ("http://me:secret@127.0.0.1/v1", "http://127.0.0.1/v1?api_key=x"):
        with pytest.raises(EndpointError, match="holds a key or a password"):
            HTTPClient().post(url, BODY)
    with pytest.raises(EndpointError, match="no address of a server"):
        HTTPClient().post("127.0.0.1:8000/v1", BODY)


def test_replies_are_kept_by_all_that_decides_them(tmp_path):
    count = iter(range(100))
    with serving(lambda _: (200, {"n": next(count)}, {})) as script:
        client = HTTPClient(cache=tmp_path)
        first = client.post(script.url, BODY)
        again = client.post(script.url, dict(reversed(list(BODY.items()))))
        other = client.post(script.url, {**BODY, "temperature": 1})
        assert (first.json, again.json, other.json) == ({"n": 0}, {"n": 0}, {"n": 1})
        assert (first.cached, again.cached) == (False, True)
        url = script.url
    # The server is gone.
    replay = HTTPClient(cache=tmp_path, replay=True)
    assert replay.post(url, BODY).json == {"n": 0}
    with pytest.raises(EndpointError, match=r"has no reply .* replay=false"):
        replay.post(url, {"question": "another"})
    with pytest.raises(UserError, match="give cache="):
        HTTPClient(replay=True)


def test_a_spoilt_file_of_the_cache_is_asked_again(tmp_path):
    with serving(always(200, {"ok": 1})) as script:
        client = HTTPClient(cache=tmp_path)
        client.post(script.url, BODY)
        (kept,) = tmp_path.rglob("*.json")
        for spoilt in ("", "[1]", '{"request": 1}', "[" * 5000):
            kept.write_text(spoilt)
            assert client.post(script.url, BODY).json == {"ok": 1}
            assert json.loads(kept.read_text())["reply"] == {"ok": 1}
        assert len(script.asked) == 5


def test_requests_keep_their_distance():
    with serving(always(200, {})) as script:
        client = HTTPClient(per_minute=1200)
        began = time.monotonic()
        for n in range(4):
            client.post(script.url, {"n": n})
        assert time.monotonic() - began >= 3 * 0.05
    with pytest.raises(UserError, match="above 0"):
        HTTPClient(per_minute=0)


@pytest.mark.parametrize(
    ("words", "url"), [("evaluation.judge.", "evaluation.judge.url="), ("--", "server's address")]
)
def test_advice_names_the_options_of_its_place(words, url):
    text, _ = error(always(404, {"error": {"message": "no"}}), words=words)
    assert url in text and "model.url" not in text
    text, _ = error(always(429, {"error": "slow down"}), words=words)
    assert f"{words}per_minute=" in text
    text, _ = error(always(401, {"error": "no key"}), words=words)
    assert f"{words}key_env=" in text
    with pytest.raises(UserError, match=rf"{words}input_price="):
        Budget(1.0, words=words)
