"""A language model behind an address: any server with OpenAI's `chat/completions`, asked with the standard library.

The address, the key and the model's name come from the environment, ``COUNTERPOINT_LLM_URL``, ``COUNTERPOINT_LLM_KEY``
and ``COUNTERPOINT_LLM_MODEL``; the key is sent to that address alone and never written down.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from counterpoint.decode.generator import Answer, Prompt
from counterpoint.errors import ConfigError, ModelError

URL, KEY, MODEL = (f"COUNTERPOINT_LLM_{name}" for name in ("URL", "KEY", "MODEL"))
LARGEST = 4_000_000
"""Bytes of a reply that are read."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""States of a server that may pass."""
IN_A_ROW = 20
"""Prompts without an answer, one after another, after which the server is taken to be gone."""


class _Nothing(Exception):
    """No answer to this prompt. again: whether another try may bring one. wait: seconds that the server asks for."""

    def __init__(self, why: str, *, again: bool = True, wait: float | None = None) -> None:
        super().__init__(why)
        self.again, self.wait = again, wait


class _NoRedirect(HTTPRedirectHandler):
    """The key is for the address it was given for."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Endpoint:
    """Prompts to answers over HTTP.

    url: up to, and without, ``/chat/completions``. retries: tries after the first, each after twice the pause, from
    ``pause`` seconds to ``longest``, or what the server says. timeout: seconds of one try, to the last byte. at_once:
    requests under way. per_minute: requests begun in a minute, at most (None: any number). temperature: 0 gives the
    same answer each time, as far as the server keeps to it. model: its name on the server. key: sent as a bearer token
    ('': none is).

    >>> server = Endpoint("http://localhost:8000/v1", "a-model", at_once=2)
    >>> server.settings["model"]
    'a-model'
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        temperature: float = 0.0,
        timeout: float = 60.0,
        retries: int = 5,
        pause: float = 1.0,
        longest: float = 60.0,
        at_once: int = 4,
        per_minute: float | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"{url!r} is no address of a server. Give one like https://host/v1 in {URL}.")
        if at_once < 1 or timeout <= 0 or retries < 0 or (per_minute is not None and per_minute <= 0):
            raise ConfigError(
                f"at_once={at_once}, timeout={timeout}, retries={retries}, per_minute={per_minute}: at least one "
                "request at once, more than 0 seconds, at least 0 tries more, more than 0 requests in a minute."
            )
        self.url, self.model, self.temperature = url.rstrip("/"), model, temperature
        self.timeout, self.retries, self.pause, self.longest = timeout, retries, pause, longest
        self.at_once, self.gap = at_once, 0.0 if per_minute is None else 60 / per_minute
        self._key = key
        self._opener = build_opener(_NoRedirect)
        self._lock, self._next, self._stop = threading.Lock(), 0.0, threading.Event()

    @classmethod
    def from_environment(cls, **settings: Any) -> Endpoint:
        """The server that the environment names. Raises `ConfigError` for what it does not say."""
        said = {name: os.environ.get(name, "") for name in (URL, MODEL)}
        if missing := [name for name, value in said.items() if not value]:
            raise ConfigError(
                f"{' and '.join(missing)} not set. Type for instance: export {URL}=https://host/v1 {MODEL}=name "
                f"{KEY}=..."
            )
        return cls(said[URL], said[MODEL], key=os.environ.get(KEY, ""), **settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides what is answered, without the key."""
        return {"url": self.url, "model": self.model, "temperature": self.temperature}

    def answers(self, prompts: Sequence[Prompt], *, max_new: int) -> Iterator[tuple[int, Answer]]:
        """As `Generator.answers`: several requests are under way at once, and answers come in any order. prompts:
        without ``against``, as a server gives no probabilities. max_new: tokens of an answer, at most."""
        if any(p.against is not None for p in prompts):
            raise ConfigError("A server gives texts, not probabilities: it cannot decode against another prompt.")
        todo, silent = iter(range(len(prompts))), 0
        waiting: dict[Future[Answer], int] = {}
        self._stop.clear()
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                while True:
                    while len(waiting) < self.at_once and (i := next(todo, None)) is not None:
                        waiting[pool.submit(self._ask, prompts[i].text, max_new)] = i
                    if not waiting:
                        return
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        i, answer = waiting.pop(future), future.result()
                        silent = 0 if answer.text is not None else silent + 1
                        yield i, answer
                    if silent >= IN_A_ROW:
                        raise ModelError(
                            f"{self.url} gave no answer to {silent} prompts one after another; the last reason: "
                            f"{answer.why} What came before is kept: the same command goes on from there."
                        )
            finally:  # also where nobody wants the rest
                self._stop.set()
                _cancel(waiting)

    def _ask(self, prompt: str, max_new: int) -> Answer:
        """The answer to one prompt; without text where every try failed."""
        for attempt in range(self.retries + 1):
            self._take_turn()
            if self._stop.is_set():
                return Answer(None, why="Stopped.")
            try:
                return self._once(prompt, max_new)
            except _Nothing as error:
                why = str(error)
                if not error.again:
                    break
                pause = min(self.longest, self.pause * 2**attempt) * random.uniform(0.5, 1)
                if attempt < self.retries:
                    self._stop.wait(pause if error.wait is None else min(self.longest, error.wait))
        return Answer(None, why=why)

    def _take_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            begin, self._next = max(now, self._next), max(now, self._next) + self.gap
        self._stop.wait(max(0.0, begin - now))

    def _once(self, prompt: str, max_new: int) -> Answer:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_new,
            "temperature": self.temperature,
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            return _read(self._reply(request))
        except HTTPError as error:
            raise self._refused(error) from None
        except (URLError, HTTPException, OSError) as error:  # no connection, cut off, too slow
            reason = getattr(error, "reason", None) or error
            raise _Nothing(f"No reply: {str(reason) or type(reason).__name__}.") from None

    def _reply(self, request: Request) -> bytes:
        deadline, parts, size = time.monotonic() + self.timeout, [], 0
        with self._opener.open(request, timeout=self.timeout) as reply:
            while part := reply.read1(65_536):
                parts.append(part)
                size += len(part)
                if size > LARGEST:
                    raise _Nothing(f"The reply is longer than {LARGEST:,} bytes.")
                if time.monotonic() > deadline:  # byte by byte no single wait is too long
                    raise TimeoutError("timed out")
        return b"".join(parts)

    def _refused(self, error: HTTPError) -> Exception:
        """What a state other than success means: another try, or the end of it all."""
        with error:
            said = error.read(2_000).decode("utf-8", "replace").replace(self._key or "\0", "***").strip()
        if error.code in AGAIN:
            asked = _retry_after(error.headers.get("Retry-After"))
            return _Nothing(f"The server is not ready ({error.code}).", wait=asked)
        if error.code in (400, 413, 422):  # of this prompt, perhaps: too long, or filtered
            return _Nothing(f"The server refuses the prompt ({error.code}): {said[:200]}", again=False)
        return ModelError(
            f"{self.url} refuses to answer ({error.code}): {said[:300] or error.reason}. Check {URL}, {MODEL} and "
            f"{KEY}."
        )


def _cancel(waiting: dict[Future[Answer], int]) -> None:
    for future in waiting:
        future.cancel()


def _read(body: bytes) -> Answer:
    """The text of a reply. Raises `_Nothing` where it holds none."""
    try:
        said = json.loads(body)
        text = said["choices"][0]["message"]["content"]
        usage = said.get("usage") or {}
        read, written = (int(usage.get(key) or 0) for key in ("prompt_tokens", "completion_tokens"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise _Nothing(f"The reply is no answer: {body[:80].decode('utf-8', 'replace')!r}.") from None
    if not isinstance(text, str):
        raise _Nothing("The reply holds no text.")
    return Answer(text, read, written)


def _retry_after(value: str | None) -> float | None:
    """Seconds that the server asks to wait: a number, or the date of the next try."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
