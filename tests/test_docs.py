"""The documentation is executed: commands print what pages show, examples run, generated pages are current.

`python tests/test_docs.py` (`make docs`) writes what commands print, and the generated pages, anew. The kinds
of fenced blocks are in EXECUTED, GENERATED and ILLUSTRATIONS; a block of another kind fails a test.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from agentservesim.cli import main
from agentservesim.policies.bundles import BUNDLES
from agentservesim.report.definitions import metrics_markdown
from scripts.scenario_fields import fields_markdown

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("**/*.md"))]
GUIDE = DOCS / "write-a-policy.md"
FAMILIES = ("residency", "scheduler", "router", "admission")
WRITTEN: dict[Path, Callable[[], str]] = {
    DOCS / "metrics.md": metrics_markdown,
    DOCS / "fields.md": fields_markdown,
}

FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXECUTED = {
    "console": "each `$ ` line is run, and prints what follows it",
    "sh": "run by bash; what simulates takes two programs and one seed, unless an output block follows",
    "output": "what the sh block before it prints",
    "python": "run, or, if its first line is `# name.py`, a file that others use",
    "toml": "a scenario",
    "json": "a trace of one line",
    "ini": "the entry point of a package",
}
GENERATED = {"sql": "formulas of the page of metrics, which is compared with what is computed"}
ILLUSTRATIONS = {
    # page: first lines of its text blocks; they need what CI does not have, or are no commands
    "architecture.md": [
        "cli, flags              commands, exit codes, options made from the configuration models"
    ],
    "calibration.md": [
        "agentservesim profile llama-3.1-8b --out my-tables",
        "agentservesim calibrate monday.steps.jsonl tuesday.steps.jsonl.gz --out mine.json",
        "host_overhead_s        0.002478 +- 4.5e-05    Host time of every step.",
    ],
    "hardware.md": [
        "   2 rows,    16 tiles:   8 tiles keep the memory busy",
        "linear layers and small kernels, 1 tokens           10.056 ms    10.159 ms    -1.0%",
        "tables: operators measured on h100-sxm: aiconfigurator-core 0.12.0, h100_sxm (vllm 0.24.0)",
    ],
    "oracle.md": [
        "python3 -m venv V",
        "python -m tests.oracle.generate clones/async/1750000000 > case.jsonl",
    ],
    "runs.md": ["my-run/"],
}
TRACES = {"trace.jsonl": "think-time.jsonl", "w.jsonl": "mooncake.jsonl"}
"""Names that pages use for the reader's own traces, and what stands for them here."""

FAST = {
    "run": " --max-programs 2",
    "compare": " --max-programs 2 --seeds 1 --jobs 1",
    "sweep": " --max-programs 1 --seeds 1 --jobs 1",
}
AGENTSERVESIM = f"""#!/bin/sh
exec {shlex.quote(sys.executable)} -m agentservesim "$@"
"""
MAKE = f"""#!/bin/sh
grep -q "^$1:" {shlex.quote(str(REPOSITORY / "Makefile"))}
"""


def fences(language: str) -> list[tuple[str, str]]:
    """Code blocks of a language, with the name of their page."""
    return [
        (page.name, block)
        for page in PAGES
        for kind, block in FENCE.findall(page.read_text())
        if kind == language
    ]


def modules(page: Path) -> dict[str, str]:
    """Python blocks that are files: their first line is `# name.py`."""
    blocks = [block for kind, block in FENCE.findall(page.read_text()) if kind == "python"]
    return {name[1]: block for block in blocks if (name := re.match(r"# (\w+\.py)\n", block))}


def lay_out(page: Path, folder: Path) -> None:
    """What the commands of a page find in their folder: its own files, and stand-ins for the reader's."""
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    for name, text in modules(page).items():
        (folder / name).write_text(text)
    for name, trace in TRACES.items():
        (folder / name).write_text((REPOSITORY / "examples" / "traces" / trace).read_text())
    scenarios = [block for kind, block in FENCE.findall(page.read_text()) if kind == "toml"]
    (folder / "scenario.toml").write_text("".join(scenarios[:1]))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    (folder / "bin").mkdir()
    for name, script in (("agentservesim", AGENTSERVESIM), ("make", MAKE)):
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)


def said(script: str, folder: Path) -> str:
    """What a script prints. A line of agentservesim alone is run in this process, which saves its start."""
    lines = [shlex.split(line, comments=True) for line in script.replace("\\\n", " ").splitlines()]
    if all(words[:1] == ["agentservesim"] for words in lines):
        return "".join(answered(words[1:], folder) for words in lines)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, f"{script}{done.stderr}"
    return done.stdout


def answered(words: list[str], folder: Path) -> str:
    """What a command of agentservesim prints, started in a folder."""
    out, err, modules = io.StringIO(), io.StringIO(), set(sys.modules)
    words = ["view", "--help"] if words[0] == "view" else words  # it would serve for ever
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(words)
    sys.path.remove(str(folder))
    for name in set(sys.modules) - modules:
        if (folder / f"{name}.py").exists():
            del sys.modules[name]
    assert not ended.value.code, f"agentservesim {shlex.join(words)}\n{err.getvalue()}"
    return out.getvalue()


def shortened(script: str) -> str:
    """The script with less to simulate."""

    def less(match: re.Match[str]) -> str:
        return match[0].rstrip() + FAST.get(match[1], "") + " "

    return re.sub(r"^agentservesim (\w+)[^#\n]*", less, script, flags=re.MULTILINE)


def played(page: Path, folder: Path) -> str:
    """The page with what its commands print now."""
    lay_out(page, folder)
    text, last = page.read_text(), ""

    def again(match: re.Match[str]) -> str:
        nonlocal last
        kind, block = match.groups()
        if kind == "console":
            commands = [line for line in block.splitlines(keepends=True) if line.startswith("$ ")]
            block = "".join(line + said(line[2:], folder) for line in commands)
        elif kind == "sh":
            shown = text[match.end() :].lstrip().startswith("```output")
            last = said(block if shown else shortened(block), folder)
        elif kind == "output":
            block = last
        return f"```{kind}\n{block}```"

    return FENCE.sub(again, text)


def stable(text: str) -> str:
    """Without what depends on the machine's speed."""
    return re.sub(r"in [\d.]+ s of real time \([\d,]+ times faster\)", "in no time", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_run_and_print_what_is_shown(page: Path, tmp_path: Path) -> None:
    assert stable(played(page, tmp_path)) == stable(page.read_text()), "make docs writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_block_is_executed_or_a_listed_illustration(page: Path) -> None:
    blocks = FENCE.findall(page.read_text())
    assert page.read_text().count("```") == 2 * len(blocks), "a fence is indented, or not closed"
    assert {kind for kind, _ in blocks} <= {*EXECUTED, *GENERATED, "text"}
    assert page.name == "metrics.md" or "sql" not in dict(blocks)
    assert [block.splitlines()[0] for kind, block in blocks if kind == "text"] == ILLUSTRATIONS.get(
        page.name, []
    )


def test_commands_that_are_only_shown_have_the_options_they_use(tmp_path: Path) -> None:
    lines = [
        line
        for _, block in fences("text")
        for line in block.splitlines()
        if line.startswith("agentservesim ")
    ]
    assert lines
    for line in lines:
        words = shlex.split(line)
        options = answered([words[1], "--help"], tmp_path)
        assert all(word in options for word in words if word.startswith("--")), line


def test_the_readme_has_a_session_and_both_commands_on_its_first_screen() -> None:
    first_screen = "".join((REPOSITORY / "README.md").read_text().splitlines(keepends=True)[:45])
    assert "console" in dict(FENCE.findall(first_screen))
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_five_minutes_are_five_commands() -> None:
    blocks = [block for page, block in fences("sh") if page == "five-minutes.md"]
    assert len(blocks) == 5
    for block in blocks:
        command = re.sub(r"<<'END'.*?^END$", "", block, flags=re.DOTALL | re.MULTILINE)
        assert len(command.replace("\\\n", "").splitlines()) == 1, block
    assert " --vary " in blocks[3]
    assert f"{shlex.split(blocks[3])[-1]}/report.html" in (DOCS / "five-minutes.md").read_text()


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the guide to policies, in which Python finds them."""
    for name, text in modules(GUIDE).items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in modules(GUIDE):
        sys.modules.pop(name.removesuffix(".py"), None)


SCRIPTS = [(page, block) for page, block in fences("python") if not re.match(r"# \w+\.py\n", block)]


@pytest.mark.parametrize(("page", "block"), SCRIPTS)
def test_python_blocks_run(page: str, block: str, guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, page, "exec"), {})
    assert "<Result" in capsys.readouterr().out


POLICIES = {name.removesuffix(".py") for name in modules(GUIDE) if not name.startswith("test_")}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_policies_of_the_guide_are_short_and_keep_the_laws(policy: str, guide: Path) -> None:
    code = [line for line in modules(GUIDE)[f"{policy}.py"].splitlines()[1:] if line.strip()]
    assert len(code) <= 20
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{policy}.py"]
    done = subprocess.run(command, cwd=guide, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_guide_has_a_policy_of_each_family() -> None:
    laws = re.findall(r"from agentservesim.testing import (\w+)Laws", GUIDE.read_text())
    assert sorted(laws) == ["Admission", "Residency", "Router", "Scheduler"]
    assert len(POLICIES) == 4


def test_the_residency_policy_of_the_docs_loads_in_three_ways(guide: Path) -> None:
    from agentservesim import Scenario, WorkloadConfig, simulate

    (entry_points,) = (block for _, block in fences("ini"))
    group, line = re.match(r'\[project\.entry-points\."(.+)"\]\n(.+)\n', entry_points).groups()  # type: ignore[union-attr]
    metadata = guide / "patient-1.0.dist-info"
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


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_generated_pages_are_what_is_defined(page: Path) -> None:
    assert page.read_text() == WRITTEN[page](), "make docs writes it anew"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_is_in_the_index(family: str) -> None:
    linked = set(re.findall(r"\]\(([\w-]+)\.md\)", (DOCS / "policies" / "index.md").read_text()))
    assert {entry.name for entry in entry_points(group=f"agentservesim.{family}")} <= linked


ENTRIES = [entry for family in FAMILIES for entry in entry_points(group=f"agentservesim.{family}")]
ENTRY_NAMES = [f"{entry.group.rpartition('.')[2]} {entry.name}" for entry in ENTRIES]


@pytest.mark.parametrize("policy", ENTRIES, ids=ENTRY_NAMES)
def test_a_policys_page_has_its_rule_its_source_and_its_parameters(policy: EntryPoint) -> None:
    page = (DOCS / "policies" / f"{policy.name}.md").read_text()
    assert "**Rule" in page
    assert "**Source." in page
    parameters = [field.name for field in fields(policy.load()) if field.init]
    assert not [name for name in parameters if f"`{name}`" not in page]


@pytest.mark.parametrize("policy", ENTRIES, ids=ENTRY_NAMES)
def test_a_policys_docstring_says_what_its_page_says_was_read(policy: EntryPoint) -> None:
    page = (DOCS / "policies" / f"{policy.name}.md").read_text()
    sources = " ".join(re.findall(r"\*\*Source\.\*\*(.*?)(?:\n\n|\Z)", page, re.DOTALL))
    graded = re.findall(r"\bgrades? ([PCNAK](?:(?:, | and )[PCNAK]\b)*)|\(([PCNAK])\b", sources)
    grades = set(re.findall(r"[PCNAK]", " ".join("".join(pair) for pair in graded)))
    words = {"N": "notes", "A": "abstract"} | ({"K": "own knowledge"} if grades == {"K"} else {})
    told = (policy.load().__doc__ or "").lower()
    assert [word for grade, word in words.items() if grade in grades and word not in told] == []
    assert [word for word in ("notes", "abstract") if word in sources and word not in told] == []


def test_every_bundle_is_on_its_page() -> None:
    assert {f"`{name}`" for name in BUNDLES} <= set((DOCS / "policies" / "bundles.md").read_text().split())


if __name__ == "__main__":
    for page, written in WRITTEN.items():
        page.write_text(written())
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            page.write_text(played(page, Path(folder).resolve()))
