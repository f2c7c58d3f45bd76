"""A server that behaves badly: answers come through, or are counted as missing, and nothing hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from counterpoint.decode import endpoint
from counterpoint.decode.endpoint import Endpoint
from counterpoint.decode.generator import Answer, Prompt
from counterpoint.errors import ConfigError, ModelError

Reply = tuple[int, dict[str, str], bytes] | float
"""Status, headers and body; or seconds to stay silent for."""


def said(text: Any, **usage: int) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()


class Server:
    """Replies to the n-th request for a prompt as `script` says. seen: (path, headers, body) of every request."""

    def __init__(self, script: Callable[[str, int], Reply]) -> None:
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.times: list[float] = []
        self.busy = self.most = 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                with lock:
                    nth = sum(b["messages"][0]["content"] == prompt for *_, b in outer.seen)
                    outer.seen.append((self.path, dict(self.headers), body))
                    outer.times.append(time.monotonic())
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                reply = script(prompt, nth)
                if isinstance(reply, float):
                    time.sleep(reply)
                    reply = said("too late")
                with lock:
                    outer.busy -= 1
                status, headers, content = reply  # type: ignore[misc]
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(content))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:  # the client has gone
                    pass

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str, int], Reply]], Server]]:
    held: list[Server] = []

    def start(script: Callable[[str, int], Reply]) -> Server:
        held.append(Server(script))
        return held[-1]

    yield start
    for server in held:
        server.http.shutdown()
        server.http.server_close()


def ask(server: Server, *prompts: str, **settings: Any) -> list[Answer]:
    quick = {"pause": 0.01, "retries": 3, "timeout": 5.0, "key": "secret-key"}
    found = dict(Endpoint(server.url, "m", **(quick | settings)).answers([Prompt(p) for p in prompts], max_new=7))
    assert sorted(found) == list(range(len(prompts)))
    return [found[i] for i in range(len(prompts))]


def test_what_is_sent_and_what_comes_back(serve: Any) -> None:
    server = serve(lambda prompt, nth: said(prompt.upper(), prompt_tokens=5, completion_tokens=2))
    assert ask(server, "a", "b") == [Answer("A", 5, 2), Answer("B", 5, 2)]
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret-key"
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": body["messages"][0]["content"]}],
        "max_tokens": 7, "temperature": 0.0,
    }  # fmt: skip


def test_errors_of_the_server_pass(serve: Any) -> None:
    server = serve(lambda prompt, nth: (500, {}, b"oops") if nth < 2 else said("fine"))
    assert [a.text for a in ask(server, "a", "b", "c")] == ["fine"] * 3
    assert len(server.seen) == 9


@pytest.mark.parametrize("how", ["seconds", "date"])
def test_it_waits_as_long_as_the_server_asks(serve: Any, how: str) -> None:
    def script(prompt: str, nth: int) -> Reply:
        later = "0.4" if how == "seconds" else formatdate(time.time() + 1.5, usegmt=True)
        return said("now") if nth else (429, {"Retry-After": later}, b"")

    server = serve(script)
    assert ask(server, "a")[0].text == "now"
    assert server.times[1] - server.times[0] >= (0.4 if how == "seconds" else 0.5)  # dates have whole seconds


@pytest.mark.parametrize(
    "body",
    [b"<html>busy</html>", b"{}", b'{"choices": []}', b"null", b'{"choices": [{"message": {"content": null}}]}', b""],
)
def test_what_is_no_answer_is_asked_again_and_then_counted(serve: Any, body: bytes) -> None:
    server = serve(lambda prompt, nth: (200, {}, body) if prompt == "bad" or not nth else said("good"))
    bad, good = ask(server, "bad", "good")
    assert good.text == "good"
    assert bad.text is None
    assert "reply" in bad.why
    assert len(server.seen) == 4 + 2


def test_silence_ends_at_the_timeout(serve: Any) -> None:
    server = serve(lambda prompt, nth: 30.0 if prompt == "hang" else said("good"))
    start = time.monotonic()
    hang, good = ask(server, "hang", "good", timeout=0.3, retries=1)
    assert time.monotonic() - start < 5
    assert (hang.text, good.text) == (None, "good")
    assert "timed out" in hang.why


def test_a_reply_cut_short_and_one_without_end(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LARGEST", 1_000)

    def script(prompt: str, nth: int) -> Reply:
        status, _, content = said("good")  # type: ignore[misc]
        if prompt == "cut":
            return status, {"Content-Length": str(len(content) + 9)}, content[:20]
        return (status, {}, b"x" * 2_000) if prompt == "long" else said("good")

    found = ask(serve(script), "cut", "long", "good", retries=1, timeout=1.0)
    assert [a.text for a in found] == [None, None, "good"]
    assert "longer than 1,000 bytes" in found[1].why


def test_nobody_there_is_counted_too() -> None:
    gone = Endpoint("http://127.0.0.1:9/v1", "m", retries=1, pause=0.01, timeout=1.0)
    ((_, answer),) = gone.answers([Prompt("a")], max_new=7)
    assert answer.text is None
    assert answer.why.startswith("No reply: ")


def test_a_server_that_is_gone_for_good_ends_the_run(serve: Any) -> None:
    server = serve(lambda prompt, nth: (503, {}, b""))
    with pytest.raises(ModelError, match=r"no answer to \d+ prompts one after another.*\(503\).*goes on from there"):
        ask(server, *map(str, range(200)), retries=0)
    assert len(server.seen) < 40


def test_a_refused_key_ends_the_run_at_once_and_is_not_repeated(serve: Any) -> None:
    server = serve(lambda prompt, nth: (401, {}, b"wrong key: secret-key"))
    with pytest.raises(ModelError, match=r"refuses to answer \(401\): wrong key: \*\*\*") as error:
        ask(server, *map(str, range(50)))
    assert "secret-key" not in str(error.value)
    assert len(server.seen) <= 4


def test_a_prompt_that_is_refused_is_dropped_without_another_try(serve: Any) -> None:
    server = serve(lambda prompt, nth: (400, {}, b"too long") if prompt == "bad" else said("good"))
    bad, good = ask(server, "bad", "good")
    assert (bad.text, good.text) == (None, "good")
    assert "too long" in bad.why
    assert len(server.seen) == 2


def test_the_key_goes_to_no_other_address(serve: Any) -> None:
    other = serve(lambda prompt, nth: said("caught"))
    server = serve(lambda prompt, nth: (302, {"Location": f"{other.url}/chat/completions"}, b""))
    with pytest.raises(ModelError, match="302"):
        ask(server, "a")
    assert other.seen == []


def test_so_many_at_once_and_so_many_in_a_minute(serve: Any) -> None:
    server = serve(lambda prompt, nth: time.sleep(0.05) or said("x"))
    ask(server, *map(str, range(9)), at_once=3)
    assert server.most == 3
    slow = serve(lambda prompt, nth: said("x"))
    ask(slow, *map(str, range(5)), at_once=5, per_minute=1200)
    gaps = [b - a for a, b in zip(slow.times, slow.times[1:])]
    assert slow.times[-1] - slow.times[0] >= 4 * 0.05 - 0.03
    assert min(gaps) > 0.0


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERPOINT_LLM_URL", raising=False)
    monkeypatch.setenv("COUNTERPOINT_LLM_MODEL", "m")
    with pytest.raises(ConfigError, match=r"^COUNTERPOINT_LLM_URL not set\. Type for instance: export"):
        Endpoint.from_environment()
    monkeypatch.setenv("COUNTERPOINT_LLM_URL", "http://host/v1/")
    monkeypatch.setenv("COUNTERPOINT_LLM_KEY", "k")
    found = Endpoint.from_environment()
    assert found.settings == {"url": "http://host/v1", "model": "m", "temperature": 0.0}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "host/v1", "ftp://host", ""])
def test_only_addresses_of_servers(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a server"):
        Endpoint(url, "m")


def test_settings_and_prompts_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        Endpoint("http://host", "m", timeout=0)
    with pytest.raises(ConfigError, match="not probabilities"):
        next(Endpoint("http://host", "m").answers([Prompt("a", against="b")], max_new=1))
