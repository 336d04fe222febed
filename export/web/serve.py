"""A local web server with the headers that the page needs.

    with serving(folder) as address: ...      in tests and exports: a free port, in a
                                              thread, gone when the block ends
    serve_forever(folder, port)               `make web`

`HEADERS` is what any host should send; `header_file` writes it in the form that static
hosts read (``_headers``).
"""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from export.errors import ExportError
from keras_megan.video.errors import reason

#: Nothing but the folder itself, no inline scripts or styles, no eval but WebAssembly.
#: ``index.html`` has it, too, for hosts that send no headers.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
#: Pages cannot say themselves who may put them into a frame.
POLICY = f"{PAGE_POLICY}; frame-ancestors 'none'"
HEADERS = {
    # Both together allow memory shared among threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".f32": "application/octet-stream",
}


def header_file() -> str:
    """The headers in the form that Netlify and Cloudflare Pages read."""
    lines = [f"  {name}: {value}" for name, value in HEADERS.items()]
    return "\n".join(["/*", *lines]) + "\n"


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | _TYPES

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # browsers hang up in the middle of files


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Serves a folder to this machine alone while the block runs.

    Args:
        folder: What to serve.
        port: 0 takes a free one.

    Yields:
        The address, without a slash at its end.

    Raises:
        ExportError: If the port is taken.
    """
    handler = partial(_Handler, directory=str(folder))
    try:
        server = _Server(("127.0.0.1", port), handler)
    except OSError as error:
        raise ExportError(
            f"Cannot serve on port {port}: {reason(error)}. Give another --port."
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
