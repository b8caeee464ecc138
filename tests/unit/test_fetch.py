"""What comes from elsewhere comes whole or as one error, whatever the server does, and no secret is printed."""

import asyncio
import logging
import threading
import traceback
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bigan.data import fetch
from bigan.data.fetch import RetryPolicy, fetch_bytes, is_remote, joined, shown

from .cached import IMPATIENT, QUICK
from .http_server import (
    Behaviour,
    FaultyServer,
    cut,
    drip,
    endless,
    redirect,
    reset_half_way,
    silent,
    stall_half_way,
    status,
)

CONTENT = bytes(range(256)) * 1000
SECRET = str(2**80)  # which no source line holds


@pytest.fixture
def server(server: FaultyServer) -> FaultyServer:
    server.files["/file"] = CONTENT
    return server


def get(url: str, limit: int = len(CONTENT), policy: RetryPolicy = QUICK) -> bytes:
    return fetch_bytes(url, limit=limit, policy=policy)


# URLs


@pytest.mark.parametrize(
    "path", ["data/x", "/data/http://x", "./pipe:x", "./a::b", "a:b", "shard:1.tar", "~/x", "", "C:\\data"]
)
def test_paths_are_no_urls(path: str) -> None:
    assert not is_remote(path)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/x", "https://user:pw@host:8080/x?token=1", "http://[::1]:80/x", "http://host/a::b", "s3://bucket/key?#",
        "gs://b/k", "file:///data/x", "file://localhost/data/x",
    ],
)  # fmt: skip
def test_urls(url: str) -> None:
    assert is_remote(url)


@pytest.mark.parametrize(
    "path",
    [
        "pipe:cat x", "PIPE:cat x", "simplecache::http://host/x", "local::x", "ssh://host/x", "ftp://host/x", "memory://x", "HTTP://x/y",
        "file:/data/x", "http:x", "http:///x", "http://", "http://[host/x", "http://host:port/x", "http://host/\x1b[31m", "s3:///key",
        "file://host/x", "file:///x?y", "file:///x#y", "https://user:secret/x@host/y", "ssh://user:secret@host/x?secret",
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-zA-Z0-9]+:.*: is (not opened; give|no URL of the form) .+") as caught:
        is_remote(path)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_a_name_joins_before_the_token() -> None:
    assert joined("http://u:p@h/a/?sig=1&x=2#z", "m.json") == "http://u:p@h/a/m.json?sig=1&x=2"
    assert joined("http://h", "m.json") == "http://h/m.json"
    assert joined("s3://bucket/a?b/", "m.json") == "s3://bucket/a?b/m.json"
    assert joined("file:///a%20b", "m.json") == "file:///a%20b/m.json"


def test_what_is_shown_holds_no_secret() -> None:
    assert shown("https://user:secret@host:1/a@b/c?secret#secret") == "https://host:1/a@b/c"
    assert shown("s3://bucket/k") == "s3://bucket/k"


# Servers that serve


def test_a_file_comes_whole_without_being_measured_first(server: FaultyServer) -> None:
    assert get(server.url("/file")) == CONTENT
    assert server.asked["/file"] == 1
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_an_empty_file(server: FaultyServer) -> None:
    server.files["/empty"] = b""
    assert get(server.url("/empty")) == b""


def test_a_redirect_is_followed(server: FaultyServer) -> None:
    server.files["/old"] = b""
    server.plans["/old"] = [redirect("/file")]
    assert get(server.url("/old")) == CONTENT


def test_user_and_password_are_sent(server: FaultyServer) -> None:
    assert get(server.url("/file?token=1", userinfo="me:secret@")) == CONTENT
    assert server.headers[0]["Authorization"].startswith("Basic ")


def test_a_file_url(tmp_path: Path) -> None:
    path = tmp_path / "a b#?%20.tar"
    path.write_bytes(CONTENT)
    assert is_remote(path.as_uri())
    assert get(path.as_uri()) == CONTENT
    with pytest.raises(ValueError, match=r"^file://.+: not found; check the address$"):
        get(path.as_uri() + "x")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_object_stores(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for s3fs and gcsfs: an fsspec file system, with the options that these are given."""
    given: list[str] = []
    bucket = MemoryFileSystem(skip_instance_cache=True)

    def filesystem(protocol: str, **options: object) -> MemoryFileSystem:
        given.extend([protocol, *options])
        return bucket

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(fsspec, "filesystem", filesystem)
    content = bytes(range(256)) * 40_000  # more than one request
    bucket.pipe_file(f"{scheme}://bucket/key", content)
    assert get(f"{scheme}://bucket/key", limit=len(content)) == content
    assert given == [scheme, "skip_instance_cache", {"s3": "config_kwargs", "gs": "requests_timeout"}[scheme]]
    with pytest.raises(ValueError, match=rf"^{scheme}://bucket/other: not found"):
        get(f"{scheme}://bucket/other")


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs")])
def test_a_missing_package_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(ValueError, match=rf"^{scheme}://bucket/key: .* pip install 'bigan\[{extra}\]'$"):
        get(f"{scheme}://bucket/key")


def test_within_a_notebooks_loop(server: FaultyServer) -> None:
    async def cell() -> bytes:
        return get(server.url("/file"))

    assert asyncio.run(cell()) == CONTENT


# Servers that fail


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (reset_half_way, "reset|broke off|disconnect"),
        (cut, "broke off"),
        (silent, r"stalled after 0 bytes, for 0\.5 s"),
        (stall_half_way, r"stalled after 128000 bytes, for 0\.5 s"),
        (drip, r"stalled after \d+ bytes, for 0\.5 s"),
        (endless, "sends more than the 256000 bytes"),
        (status(500), "HTTP status 500"),
        (status(503), "HTTP status 503"),
        (status(408), "HTTP status 408"),
        (status(425), "HTTP status 425"),
        (status(429), "HTTP status 429"),
    ],
)
def test_what_may_pass_is_tried_again(
    fault: Behaviour, said: str, server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    policy = IMPATIENT if "stalled" in said else QUICK
    server.plans["/file"] = [fault, fault]
    assert get(server.url("/file"), policy=policy) == CONTENT
    assert server.asked["/file"] == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    server.asked.clear()
    server.plans["/file"] = [fault] * 3
    with pytest.raises(ValueError, match=rf"(?i)^http://127.0.0.1:\d+/file: .*({said}).*\(tried 3 times\); check .+$"):
        get(server.url("/file"), policy=policy)
    assert server.asked["/file"] == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(400), "HTTP status 400"),
        (status(401), "access denied"),
        (status(403), "access denied"),
        (status(404), "not found"),
        (status(410), "HTTP status 410"),
        (redirect("file:///etc/passwd"), "leads on to an address of another kind"),
        (redirect("/file"), "leads on and on"),
    ],
)
def test_what_stays_is_told_at_once(fault: Behaviour, said: str, server: FaultyServer) -> None:
    server.plans["/file"] = [fault] * 20
    with pytest.raises(ValueError, match=rf"^http://127.0.0.1:\d+/file: .*{said}[^()]*$"):
        get(server.url("/file"))
    assert server.asked["/file"] == (10 if "on and on" in said else 1)


def test_nobody_listens(server: FaultyServer) -> None:
    url = server.url("/file")
    server.server_close()
    with pytest.raises(ValueError, match=r"/file: ClientConnector.* \(tried 3 times\)"):
        get(url)


def test_the_delay_doubles_with_jitter() -> None:
    waited: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    policy = RetryPolicy()

    def attempt() -> None:
        raise OSError("no")

    with pytest.raises(ValueError, match=r"^http://h/x: OSError: no \(tried 6 times\)"):
        fetch.persist("http://h/x", attempt, policy, Clock())
    assert len(waited) == 5
    assert all(0.5 <= wait / (2.0 * 2**number) <= 1.5 for number, wait in enumerate(waited))
    assert len({wait / 2**number for number, wait in enumerate(waited)}) > 1


@pytest.mark.parametrize("fault", [status(404), status(503), cut, redirect(f"http://127.0.0.1:1/?token={SECRET}")])
def test_no_secret_is_printed(fault: Behaviour, server: FaultyServer, caplog: pytest.LogCaptureFixture) -> None:
    server.plans["/file"] = [fault] * 3
    with pytest.raises(ValueError, match="/file: ") as caught:
        get(server.url(f"/file?token={SECRET}", userinfo=f"me:{SECRET}@"))
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert str(caught.value).isprintable()


def test_what_a_client_says_is_kept_short_and_printable() -> None:
    def attempt() -> None:
        raise RuntimeError("\x1b[31m\n http://u:secret@h/?secret" + "x" * 10_000)

    with pytest.raises(ValueError, match=r"RuntimeError: \?\[31m\? …") as caught:
        fetch.persist("http://h/x", attempt, QUICK, threading.Event())
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)
