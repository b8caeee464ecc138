"""A real HTTP server on this machine that misbehaves by plan."""

import contextlib
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAIT_S = 60.0  # so that no test's mistake keeps a thread for ever


class FaultyServer(ThreadingHTTPServer):
    """Serves `files`; the k-th request for a path is answered by the k-th behaviour of its plan, and well beyond the last.

    Attributes:
        files: path → content.
        plans: path → behaviours.
        asked: how often each path was asked for.
        half_way: set when a behaviour has sent half of a file.
        released: what stalls waits for it.
        on_request: called at the beginning of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[Behaviour]] = defaultdict(list)
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.half_way = threading.Event()
        self.released = threading.Event()
        self.on_request: Callable[[], None] = lambda: None
        self.counting = threading.Lock()

    def url(self, path: str, userinfo: str = "") -> str:
        return f"http://{userinfo}127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.on_request()
        with self.server.counting:
            number = self.server.asked[path]
            self.server.asked[path] += 1
            self.server.headers.append(dict(self.headers))
        plan = self.server.plans[path]
        self.close_connection = True
        if path not in self.server.files:
            self.send_error(404)
        else:
            (plan[number] if number < len(plan) else good)(self, self.server.files[path])

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""

    def head(self, length: int | None, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def half(self, content: bytes) -> None:
        self.wfile.write(content[: len(content) // 2])
        self.server.half_way.set()


Behaviour = Callable[[_Handler, bytes], None]


def good(handler: _Handler, content: bytes) -> None:
    handler.head(len(content))
    handler.wfile.write(content)


def reset_half_way(handler: _Handler, content: bytes) -> None:
    """The connection breaks, as when the server's process dies."""
    handler.head(len(content))
    handler.half(content)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def cut(handler: _Handler, content: bytes) -> None:
    """Half of it, under the length of all of it."""
    handler.head(len(content))
    handler.half(content)


def short(handler: _Handler, content: bytes) -> None:
    """Half of it, and says that this is all."""
    handler.head(len(content) // 2)
    handler.half(content)


def silent(handler: _Handler, content: bytes) -> None:
    """Accepts, and never answers."""
    handler.server.released.wait(WAIT_S)


def stall_half_way(handler: _Handler, content: bytes) -> None:
    handler.head(len(content))
    handler.half(content)
    handler.server.released.wait(WAIT_S)


def drip(handler: _Handler, content: bytes) -> None:
    """A byte now and then, for ever."""
    handler.head(len(content))
    for byte in content:
        handler.wfile.write(bytes([byte]))
        if handler.server.released.wait(0.05):
            return


def endless(handler: _Handler, content: bytes) -> None:
    """Sends until the client has had enough."""
    handler.head(None)
    while not handler.server.released.is_set():
        handler.wfile.write(bytes(2**16))


def flipped(handler: _Handler, content: bytes) -> None:
    good(handler, bytes([content[0] ^ 1]) + content[1:])


def slow(handler: _Handler, content: bytes) -> None:
    """Takes its time, so that others come meanwhile."""
    handler.head(len(content))
    handler.half(content)
    handler.server.released.wait(0.3)
    handler.wfile.write(content[len(content) // 2 :])


def status(code: int) -> Behaviour:
    return lambda handler, content: handler.send_error(code, "what a secret")


def redirect(url: str) -> Behaviour:
    return lambda handler, content: handler.head(0, 302, Location=url)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FaultyServer]:
    """A server for the time of a `with`."""
    server = FaultyServer()
    server.files = files
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        with contextlib.suppress(OSError):
            server.shutdown()
        server.server_close()
        thread.join()
