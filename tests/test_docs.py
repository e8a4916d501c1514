"""The documentation is executed: sessions must print what they show, examples must run.

`python tests/test_docs.py` writes the sessions anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("**/*.md"))]
SESSION = re.compile(r"```console\n(.*?)```", re.DOTALL)


def fences(language: str) -> list[tuple[str, str]]:
    """Code blocks of a language, with the name of their page."""
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(page.name, block) for page in PAGES for block in pattern.findall(page.read_text())]


def commands() -> list[str]:
    """The agentservesim commands of the sh blocks."""
    lines = [line for _, block in fences("sh") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("agentservesim ")]


def played(session: str) -> str:
    """A session as it prints now: each `$ ` line with what its command says."""
    parts = []
    for line in session.splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:])
            assert words[0] == "agentservesim"
            done = subprocess.run(
                [sys.executable, "-m", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
            )
            parts.append(f"{line}\n{done.stdout}")
    return "".join(parts)


def stable(text: str) -> str:
    """Without what depends on the machine's speed."""
    return re.sub(r"in [\d.]+ s of real time \([\d,]+ times faster\)", "in no time", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_sessions_print_what_they_show(page: Path) -> None:
    for session in SESSION.findall(page.read_text()):
        assert stable(played(session)) == stable(session)


def test_the_readme_has_a_session_and_both_commands_on_its_first_screen() -> None:
    first_screen = "".join((REPOSITORY / "README.md").read_text().splitlines(keepends=True)[:45])
    assert SESSION.search(first_screen)
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_commands_in_the_docs_exist() -> None:
    """Each is run as a check, with the flags it has, on a trace and a scenario that exist."""
    assert len(commands()) >= 5
    environment = {**os.environ, "COLUMNS": "200"}
    for command in commands():
        words = shlex.split(command)[1:]
        flags = [word for word in words if word.startswith("--")]
        path = ["trace", words[1]] if words[0] == "trace" else [words[0]]
        done = subprocess.run(
            [sys.executable, "-m", "agentservesim", *path, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        for flag in flags:
            assert flag in done.stdout, command


@pytest.mark.parametrize(("page", "block"), fences("python"))
def test_python_blocks_run(page: str, block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, page, "exec"), {})
    assert "<Result" in capsys.readouterr().out


@pytest.mark.parametrize(("page", "block"), fences("toml"))
def test_toml_blocks_are_scenarios(page: str, block: str, tmp_path: Path) -> None:
    from agentservesim.scenario import load_scenario

    (tmp_path / "s.toml").write_text(block)
    assert load_scenario(tmp_path / "s.toml").name


@pytest.mark.parametrize(("page", "block"), fences("json"))
def test_json_blocks_are_traces(page: str, block: str, tmp_path: Path) -> None:
    from agentservesim.workload import read_trace

    (tmp_path / "t.jsonl").write_text(json.dumps(json.loads(block)) + "\n")
    assert read_trace(tmp_path / "t.jsonl").num_turns == 2


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        page.write_text(SESSION.sub(lambda match: f"```console\n{played(match[1])}```", text))
