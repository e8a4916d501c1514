"""The server: standard library only, read only, for this machine only unless asked otherwise."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, quote, unquote, urlsplit

from agentservesim.model import InputError
from agentservesim.report.html import REPORT, render
from agentservesim.report.html.page import as_script_text
from agentservesim.report.view.catalogue import Catalogue

HTML = "text/html; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Answer = tuple[bytes, str]


def serve(
    folder: Path, host: str, port: int, public: bool, started: Callable[[str], None] = lambda url: None
) -> None:
    """Serve the runs in a folder until interrupted; `started` is told the address.

    Raises InputError if the folder is none, the port is taken, or the host is not of the loopback and
    `public` is not said.
    """
    with make_server(folder, host, port, public) as server:
        started(f"http://{_in_url(host)}:{server.server_port}/")
        server.serve_forever()


def make_server(folder: Path, host: str, port: int, public: bool = False) -> ThreadingHTTPServer:
    """The server, bound and not yet at work. Raises InputError like `serve`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder that holds run folders")
    if not public and not _is_loopback(host):
        raise InputError(f"--host {host}: others could read the runs; add --public if they shall")
    catalogue = Catalogue(folder.resolve())

    @lru_cache(maxsize=16)
    def drawn(folder: Path, changed_ns: int) -> bytes:
        return render(folder).encode()

    class Handler(_Handler):
        runs = catalogue
        only_loopback = not public

        def report(self, path: str) -> Answer:
            return drawn(*catalogue.report(path)), HTML

    class Server(ThreadingHTTPServer):
        address_family = _family(host)
        daemon_threads = True

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot serve there: {error.strerror}") from None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET; everything that is not a run, a file of one or a page of the server is not found."""

    runs: Catalogue
    only_loopback: bool
    server_version = "agentservesim"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, or say in a line why not."""
        if self.only_loopback and not self._from_here():
            self._send(HTTPStatus.FORBIDDEN, b"this server answers on the loopback only\n", "text/plain")
            return
        try:
            content, kind = self._answer()
        except (InputError, OSError) as error:
            text = f"{error}\n".encode("utf-8", "replace")
            self._send(HTTPStatus.NOT_FOUND, text, "text/plain; charset=utf-8")
            return
        self._send(HTTPStatus.OK, content, kind)

    def report(self, path: str) -> Answer:
        """The report of a run."""
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _from_here(self) -> bool:
        """Whether the browser was told a name of this machine: no other site's name was bent to it."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return _is_loopback(name)

    def _answer(self) -> Answer:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path == "/":
            data = as_script_text({"folder": str(self.runs.root), "runs": list(self.runs.runs())})
            return _page("list.html", data=data), HTML
        if path == "/two":
            chosen = parse_qs(url.query).get("run", [])
            if len(chosen) != 2:
                raise InputError("two runs are needed: /two?run=A&run=B")
            names = [self.runs.report(one)[0].name for one in chosen]
            sources = [f"run/{quote(one)}/{REPORT}" for one in chosen]
            return _page("two.html", first=names[0], second=names[1], a=sources[0], b=sources[1]), HTML
        if path.startswith("/run/"):
            inside = path.removeprefix("/run/")
            if inside.endswith(f"/{REPORT}"):
                return self.report(inside.removesuffix(f"/{REPORT}"))
            return self.runs.file(inside)
        raise InputError("no such page")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _page(name: str, data: str = "", **texts: str) -> bytes:
    template = Template(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return template.substitute(data=data, **{key: escape(text) for key, text in texts.items()}).encode()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
