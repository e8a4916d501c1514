"""The documentation is executed: sessions must print what they show, examples must run.

`python tests/test_docs.py` writes the sessions anew.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
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


def modules() -> dict[str, str]:
    """Python blocks that are files: their first line is `# name.py`."""
    blocks = [block for _, block in fences("python")]
    return {name[1]: block for block in blocks if (name := re.match(r"# (\w+\.py)\n", block))}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the documentation, in which Python finds them."""
    for name, text in modules().items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in modules():
        sys.modules.pop(name.removesuffix(".py"), None)


SCRIPTS = [(page, block) for page, block in fences("python") if block not in modules().values()]


@pytest.mark.parametrize(("page", "block"), SCRIPTS)
def test_python_blocks_run(page: str, block: str, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, page, "exec"), {})
    assert "<Result" in capsys.readouterr().out


def test_the_residency_policy_of_the_docs_is_short_and_keeps_the_laws(written: Path) -> None:
    code = [line for line in modules()["patient.py"].splitlines()[1:] if line.strip()]
    assert len(code) <= 20
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_patient.py"]
    done = subprocess.run(command, cwd=written, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("laws", ["test_sticky.py", "test_calm.py"])
def test_the_other_policies_of_the_docs_keep_the_laws(laws: str, written: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", laws]
    done = subprocess.run(command, cwd=written, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_residency_policy_of_the_docs_loads_in_three_ways(written: Path) -> None:
    from agentservesim import Scenario, WorkloadConfig, simulate

    (entry_points,) = (block for _, block in fences("ini"))
    group, line = re.match(r'\[project\.entry-points\."(.+)"\]\n(.+)\n', entry_points).groups()  # type: ignore[union-attr]
    metadata = written / "patient-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: patient\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")

    workload = WorkloadConfig(trace="demo", max_programs=3)
    by_name, by_entry_point = (
        simulate(Scenario(workload=workload, residency=f"{name},ttl_s=30"))
        for name in ("patient:Patient", "patient")
    )
    patient = importlib.import_module("patient").Patient(ttl_s=30)
    as_object = simulate(Scenario(workload=workload), residency=patient)
    assert by_name.turns.equals(as_object.turns)
    assert by_entry_point.turns.equals(as_object.turns)
    assert as_object.summary["kv"] == by_name.summary["kv"]
    assert as_object.summary["kv"]["held_in_gap_byte_s"] > 0
    assert as_object.summary["scenario"]["residency"] == "patient:Patient,ttl_s=30"


@pytest.mark.parametrize(("page", "block"), fences("toml"))
def test_toml_blocks_are_scenarios(page: str, block: str, tmp_path: Path) -> None:
    from agentservesim.scenario import load_scenario

    (tmp_path / "s.toml").write_text(block)
    assert load_scenario(tmp_path / "s.toml").name


@pytest.mark.parametrize(("page", "block"), fences("json"))
def test_json_blocks_are_traces(page: str, block: str, tmp_path: Path) -> None:
    from agentservesim.workload import read_trace

    (tmp_path / "t.jsonl").write_text(json.dumps(json.loads(block)) + "\n")
    turns = len(re.findall(r'"output_(?:tokens|length)"', block))
    assert read_trace(tmp_path / "t.jsonl").num_turns == turns > 0


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


METRICS_PAGE = REPOSITORY / "docs" / "metrics.md"


def test_the_page_of_metrics_is_what_is_defined() -> None:
    from agentservesim.report.definitions import metrics_markdown

    assert METRICS_PAGE.read_text() == metrics_markdown(), "make docs writes it anew"


if __name__ == "__main__":
    from agentservesim.report.definitions import metrics_markdown

    METRICS_PAGE.write_text(metrics_markdown())
    for page in PAGES:
        text = page.read_text()
        page.write_text(SESSION.sub(lambda match: f"```console\n{played(match[1])}```", text))
