"""The server of runs: what it shows, and what it does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from shutil import copytree
from threading import Thread

import pytest

from agentservesim.model import InputError
from agentservesim.report.view.server import make_server, serve
from tests.report.runs import HOSTILE, summary_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiered: Path, failed: Path, hostile: Path) -> Path:
    root = tmp_path_factory.mktemp("served")
    copytree(tiered, root / "deep" / "a b&c" / "tiered")
    copytree(failed, root / "failed")
    copytree(hostile, root / "hostile")
    (root / "broken").mkdir()
    (root / "broken" / "summary.json").write_text("{}")
    (root / "notes.md").write_text("secret")
    (root / "failed" / "other.txt").write_text("secret")
    (root.parent / "outside.json").write_text("secret")
    (root / "failed" / "link.json").symlink_to(root.parent / "outside.json")
    (root / "elsewhere").symlink_to(tiered)
    return root


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with make_server(folder, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str = "", method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_it_lists_every_run_that_can_be_read(port: int, folder: Path) -> None:
    response, content = get(port, "/")
    assert response.status == 200
    (text,) = re.findall(r'id="data">(.*?)</script>', content.decode(), re.DOTALL)
    data = json.loads(text)
    assert data["folder"] == str(folder.resolve())
    rows = {row["path"]: row for row in data["runs"]}
    assert set(rows) == {"deep/a b&c/tiered", "failed", "hostile"}
    assert rows["failed"]["marks"] == "incomplete"
    assert rows["deep/a b&c/tiered"]["marks"] == "SLO missed"
    assert (
        rows["deep/a b&c/tiered"]["turns"]
        == f"{summary_of(folder / 'deep/a b&c/tiered')['counts']['turns']:,}"
    )
    assert rows["hostile"]["name"] == HOSTILE
    assert content.count(b"<script") == 2


def test_a_report_is_drawn_from_the_tables_and_not_from_a_file(port: int, folder: Path) -> None:
    (folder / "failed" / "report.html").write_text("<script>somebody else's</script>")
    response, content = get(port, "/run/failed/report.html")
    assert response.status == 200
    assert b"somebody else" not in content
    assert b'id="data"' in content
    assert "default-src 'none'" in str(response.getheader("Content-Security-Policy"))


def test_the_files_behind_a_picture_can_be_had(port: int, folder: Path) -> None:
    response, content = get(port, "/run/deep/a%20b%26c/tiered/turns.parquet")
    assert response.status == 200
    assert content == (folder / "deep" / "a b&c" / "tiered" / "turns.parquet").read_bytes()


def test_two_side_by_side(port: int) -> None:
    response, content = get(port, "/two?run=deep%2Fa%20b%26c%2Ftiered&run=hostile")
    assert response.status == 200
    assert re.findall(rb'<iframe src="([^"]+)"', content) == [
        b"run/deep/a%20b%26c/tiered/report.html",
        b"run/hostile/report.html",
    ]
    assert b"<script" not in content, "a hostile name is text"


@pytest.mark.parametrize(
    "path",
    [
        "/run/../outside.json",
        "/run/..%2foutside.json",
        "/run/%2e%2e/outside.json",
        "/run/failed/../../outside.json",
        "/run//etc/passwd",
        "/run/failed/link.json",
        "/run/elsewhere/turns.parquet",
        "/run/elsewhere/report.html",
        "/run/failed/other.txt",
        "/run/notes.md",
        "/run/broken/report.html",
        "/run/nowhere/report.html",
        "/run/failed/",
        "/run/failed%00/report.html",
        "/run/" + "x" * 5000 + "/report.html",
        "/two?run=failed",
        "/two?run=failed&run=../outside",
        "/etc/passwd",
        "/favicon.ico",
    ],
)
def test_nothing_else_is_shown(port: int, path: str) -> None:
    response, content = get(port, path)
    assert response.status == 404
    assert b"secret" not in content
    assert b"Traceback" not in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.0.1"])
def test_a_name_that_was_bent_to_this_machine_is_refused(port: int, host: str) -> None:
    response, content = get(port, "/", host=host)
    assert response.status == 403
    assert b"tiered" not in content


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:9"])
def test_names_of_this_machine_are_fine(port: int, host: str) -> None:
    assert get(port, "/", host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_it_only_reads(port: int, method: str) -> None:
    assert get(port, "/", method=method)[0].status == 501


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.168.0.1"])
def test_only_the_loopback_unless_asked(folder: Path, host: str) -> None:
    with pytest.raises(InputError, match=f"--host {host}: others could read the runs; add --public"):
        make_server(folder, host, 0)


def test_public_when_asked(folder: Path) -> None:
    with make_server(folder, "0.0.0.0", 0, public=True) as server:
        assert server.server_address[0] == "0.0.0.0"


def test_faults_get_one_line(folder: Path, port: int) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        serve(folder / "notes.md", "127.0.0.1", 0, False)
    with pytest.raises(InputError, match=f"--port {port}: cannot serve there: Address already in use"):
        serve(folder, "127.0.0.1", port, False)


def test_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "agentservesim", "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", line)
        assert get(int(port), "/")[0].status == 200
        os.kill(process.pid, 2)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
