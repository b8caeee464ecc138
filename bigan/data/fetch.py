"""Files from elsewhere: http, https, s3, gs and file URLs, read whole through fsspec, with retries and an end to every wait.

Credentials, endpoints and the like are the clients' own: ~/.aws, gcloud's login, ~/.netrc, HTTPS_PROXY, or fsspec's
configuration (FSSPEC_S3_ANON=true for a public bucket, FSSPEC_S3_ENDPOINT_URL=… for another store than Amazon's).

An event loop of its own for each attempt, in the thread that asks: no connection and no loop's thread lies idle between two
files, where a fork would copy it.
"""

import asyncio
import logging
import random
import re
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

T = TypeVar("T")

PROGRESS_BYTES = 64 * 2**10  # what must come within every `stall_s`: else a server that drips would hold a run for ever

_SCHEMES = ("http", "https", "s3", "gs", "file")
_PACKAGES = {"s3": "bigan[s3]", "gs": "bigan[gcs]", "http": "aiohttp", "https": "aiohttp", "file": "fsspec"}
_HEADS = {"s3": "bucket", "gs": "bucket"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::|:)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")
_PASSING = frozenset({408, 425, 429})  # of the 4xx: timeout, too early, too many requests
_SAID = {
    "ClientPayloadError": ("broke off", True),
    "TooManyRedirects": ("leads on and on; check the address", False),
    "NonHttpUrlRedirectClientError": ("leads on to an address of another kind; check the address", False),
}
_STORE_BYTES = 4 * 2**20  # a request to s3 or gs each
_POLL_S = 0.2
_LOG = logging.getLogger("bigan.data")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a server is waited for, and how often it is asked again.

    Attributes:
        attempts: how often a file is asked for before the error is told.
        delay_s: seconds between the first attempt and the second; doubled from one to the next, each time with a jitter of
            half of it, so that a cluster's ranks do not come back all at once. Six attempts wait a minute in all.
        stall_s: seconds of silence after which an attempt is given up; PROGRESS_BYTES must come within each.
    """

    attempts: int = 6
    delay_s: float = 2.0
    stall_s: float = 30.0


RETRIES = RetryPolicy()


class UnfitError(Exception):
    """What came is not what was asked for; another attempt may bring it."""


class StoreError(ValueError):
    """What came cannot be written down; another attempt would not help."""


def is_remote(path: str) -> bool:
    """Is this a URL that can be fetched, and not a path?

    Raises:
        ValueError: it is a URL of another kind (ssh://…), a chain (simplecache::…), a command (pipe:…) or malformed.
    """
    match = _SCHEME.match(path)
    if match is None:
        return False
    scheme, mark = match.groups()
    if mark == ":" and scheme.lower() not in (*_SCHEMES, "pipe"):
        return False  # a folder's name may hold a colon
    if mark != "://" or scheme not in _SCHEMES:
        raise ValueError(
            f"{shown(path) if mark == '://' else scheme + mark + '…'}: is not opened; give a folder, or a URL that begins with "
            f"{', '.join(f'{name}://' for name in _SCHEMES)} (a folder of such a name: ./{scheme}{mark}…)"
        )
    if not _well_formed(path, scheme):
        form = "file:///path (%3F for ?, %23 for #)" if scheme == "file" else f"{scheme}://{_HEADS.get(scheme, 'host')}/path"
        raise ValueError(f"{scheme}://…: is no URL of the form {form}")  # what part of it is a password, nobody knows
    return True


def _well_formed(url: str, scheme: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed, and refused, only when it is asked for
    except ValueError:
        return False
    if scheme == "file":
        return url.isprintable() and parts.netloc in ("", "localhost") and not (parts.query or parts.fragment)
    return url.isprintable() and bool(parts.hostname)


def joined(url: str, name: str) -> str:
    """The URL of a file in a folder's URL; what follows a `?` (an access token, say) stays behind the name."""
    if not url.startswith(("http://", "https://")):
        return f"{url.rstrip('/')}/{name}"
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))


def shown(url: str) -> str:
    """A URL as it may be printed: without user, password, query and fragment, any of which may be a secret."""
    scheme, mark, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return _printable(f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}")


def fetch_bytes(
    url: str,
    *,
    limit: int,
    policy: RetryPolicy = RETRIES,
    check: Callable[[bytes], object] | None = None,
    stopped: threading.Event | None = None,
) -> bytes:
    """A whole small file. Several threads may fetch at once.

    Args:
        url: one that `is_remote`.
        limit: bytes at most; a longer file is an error, since a server may send for ever.
        policy: of the retries.
        check: raises ValueError for content that is not what it should be: then it is fetched again.
        stopped: ends the fetching when it is set.

    Raises:
        ValueError: naming the URL, what happened and how often it was tried.
        CancelledError: `stopped` was set.
    """
    stopped = stopped or threading.Event()

    def attempt() -> bytes:
        content = bytearray()
        pour(url, content.extend, limit=limit, stall_s=policy.stall_s, stopped=stopped)
        try:
            if check is not None:
                check(bytes(content))
        except ValueError as error:
            raise UnfitError(str(error)) from None
        return bytes(content)

    return persist(url, attempt, policy, stopped)


def persist(url: str, attempt: Callable[[], T], policy: RetryPolicy, stopped: threading.Event) -> T:
    """Call `attempt`, again and again with a growing delay, until it succeeds, cannot succeed or the attempts are used up.

    Raises:
        ValueError: the last attempt's error, in one line with the URL. Nothing is chained to it: the client's own errors
            print the URL's query.
        StoreError: from `attempt`, as it is.
        CancelledError: `stopped` was set.
    """
    jitter = random.SystemRandom()  # the seeded generators are the run's, and equal on every rank
    number = 0
    while True:
        number += 1
        try:
            return attempt()
        except (StoreError, CancelledError):
            raise
        except Exception as error:  # every client has its own
            reason, passing = _explained(error, url, policy)
        if not passing:
            raise ValueError(f"{shown(url)}: {reason}")
        if number >= policy.attempts:
            raise ValueError(
                f"{shown(url)}: {reason} (tried {number} times); check the server and the network, then start again"
            )
        delay = policy.delay_s * 2 ** (number - 1) * jitter.uniform(0.5, 1.5)
        _LOG.warning("%s: %s; trying again in %.0f s (attempt %d of %d)", shown(url), reason, delay, number, policy.attempts)
        if stopped.wait(delay):
            raise CancelledError


def pour(url: str, write: Callable[[bytes], object], *, limit: int, stall_s: float, stopped: threading.Event) -> int:
    """One attempt: pass the file to `write` piece by piece; the number of bytes that came.

    Raises:
        UnfitError: more than `limit` bytes came, or less than PROGRESS_BYTES within `stall_s` seconds.
        CancelledError: `stopped` was set.
        Exception: whatever `write` and the clients raise.
    """
    work = _stoppable(_pour(url, write, limit, stall_s), stopped)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:  # a notebook's loop runs in this thread: another loop needs another thread
        return pool.submit(asyncio.run, work).result()


async def _stoppable(work: Coroutine[Any, Any, T], stopped: threading.Event) -> T:
    task = asyncio.create_task(work)
    while not (await asyncio.wait({task}, timeout=_POLL_S))[0]:
        if stopped.is_set():
            raise CancelledError  # the end of the loop cancels the task, and waits for it
    return task.result()


async def _pour(url: str, write: Callable[[bytes], object], limit: int, stall_s: float) -> int:
    received = marked = 0
    silence = asyncio.timeout(stall_s)
    try:
        async with silence, aclosing(_pieces(url, stall_s)) as pieces:
            async for piece in pieces:
                received += len(piece)
                if received > limit:
                    raise UnfitError(f"sends more than the {limit} bytes that it should have")
                write(piece)
                if received - marked >= PROGRESS_BYTES:
                    marked = received
                    silence.reschedule(asyncio.get_running_loop().time() + stall_s)
    except TimeoutError:
        if not silence.expired():
            raise
        raise UnfitError(f"stalled after {received} bytes, for {stall_s:g} s") from None
    return received


async def _pieces(url: str, stall_s: float) -> AsyncGenerator[bytes, None]:
    # Imported here: fsspec and aiohttp take a third of a second, which a run on local shards should not pay.
    import fsspec
    from aiohttp import ClientTimeout

    scheme = urlsplit(url).scheme
    # Those that work in threads of their own cannot be cancelled, and have to end by themselves.
    timeout = ClientTimeout(total=None, sock_connect=stall_s, sock_read=stall_s)
    options: dict[str, Any] = {
        "s3": {"config_kwargs": {"connect_timeout": stall_s, "read_timeout": stall_s}},
        "gs": {"requests_timeout": timeout},
        "file": {},
    }.get(scheme, {"asynchronous": True, "client_kwargs": _http_client(timeout)})
    # An instance of this attempt's own: a shared one would be closed by whoever forks, and not by us.
    system = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    if scheme in ("http", "https"):
        session = await system.set_session()
        try:
            file = await system.open_async(url, size=1)  # with no size it would ask for one first
            try:
                while piece := await file.read(2**20):
                    yield piece
            finally:
                await file.close()
        finally:
            await session.close()
    else:
        path = unquote(urlsplit(url).path) if scheme == "file" else url
        file = await asyncio.to_thread(system.open, path, "rb", cache_type="none")
        with file:
            while piece := await asyncio.to_thread(file.read, _STORE_BYTES):
                yield piece


def _http_client(timeout: Any) -> dict[str, Any]:
    """Settings of aiohttp: the proxy and the .netrc that everything else on the machine uses, and bytes as they are stored."""
    headers = {"Accept-Encoding": "identity"}
    return {"timeout": timeout, "trust_env": True, "headers": headers, "read_bufsize": 2**20, "raise_for_status": True}


def _explained(error: Exception, url: str, policy: RetryPolicy) -> tuple[str, bool]:
    """(what happened, whether it may pass), in words that hold no secret and that no server can make long."""
    name = type(error).__name__
    # aiohttp's and gcsfs's; by name, since what is not needed is not imported, and may not be there.
    status = str((error.code if name == "HttpError" else getattr(error, "status", None)) or "")  # pyright: ignore
    if isinstance(error, UnfitError):
        return str(error), True
    if isinstance(error, ImportError):
        return f"needs a package that is not there; pip install '{_PACKAGES[urlsplit(url).scheme]}'", False
    if isinstance(error, FileNotFoundError) or status == "404":
        return "not found; check the address", False
    if isinstance(error, PermissionError) or status in ("401", "403") or "Credentials" in name:
        return "access denied; check the address and your credentials", False
    if name in _SAID:
        return _SAID[name]
    if status.isdecimal():
        return f"answers with HTTP status {status}", int(status) >= 500 or int(status) in _PASSING
    if isinstance(error, TimeoutError):
        return f"no answer for {policy.stall_s:g} s", True
    text = _URL.sub("…", str(error))
    # A ValueError is a URL, a host name or a certificate that is wrong, and stays so.
    return _printable(f"{name}: {text}" if text else name)[:200], not isinstance(error, ValueError)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
