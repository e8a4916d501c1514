"""compare, sweep and objectives as their users meet them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_cli import RUN, TURNS, agentservesim, refused


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "six.jsonl"
    rows = [{"program_id": f"p{n}", "arrival_s": n * 0.5, "turns": TURNS} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(*more: str) -> list[str]:
    return ["--seeds", "2", "--jobs", "1", "--program-rate", "2", *more]


def test_objectives_decide_the_exit_code(trace: Path, tmp_path: Path) -> None:
    met = agentservesim("run", trace, "--slo", "turn.ttft.p99<1h", "--slo", "counts.preemptions<1")
    assert met.returncode == 0
    assert re.search(r"met +turn\.ttft\.p99<1h", met.stdout)
    missed = agentservesim("run", trace, "--slo", "turn.ttft.p99<1us", "--out", tmp_path / "out")
    assert (missed.returncode, missed.stderr) == (99, "")
    assert re.search(r"MISSED +turn\.ttft\.p99<1us", missed.stdout)
    (entry,) = json.loads((tmp_path / "out" / "summary.json").read_text())["slo"]
    assert entry["slo"] == "turn.ttft.p99<1us"
    assert entry["met"] is False
    assert entry["value"] > entry["bound"] == pytest.approx(1e-6)
    quiet = agentservesim("run", trace, "--slo", "turn.ttft.p99<1us", "--quiet")
    assert (quiet.returncode, quiet.stdout) == (99, "")


@pytest.mark.parametrize(
    "limits",
    [["--goodput", "ttft:1h", "tpot:1us"], ["--goodput", "ttft:1h", "--goodput", "tpot:1us"]],
    ids=["as vLLM has it", "repeated"],
)
def test_goodput_takes_several_limits(trace: Path, limits: list[str]) -> None:
    summary = json.loads(agentservesim("run", *limits, str(trace), "--json").stdout)
    assert summary["scenario"]["goodput"] == ["ttft:1h", "tpot:1us"]
    assert summary["goodput"] == dict.fromkeys(summary["goodput"], 0.0)


def test_objectives_in_a_scenario(trace: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(f'slo = ["turn.ttft.p99<1us"]\n[workload]\ntrace = "{trace}"\n')
    assert agentservesim("run", scenario, "-q").returncode == 99
    assert agentservesim("run", scenario, "-q", "--slo", "turn.ttft.p99<1h").returncode == 0
    scenario.write_text('slo = ["turn.tttf.p99<1us"]\n')
    said = refused("check", scenario)
    assert said.endswith("s.toml:1: slo.0: no metric 'turn.tttf'; did you mean 'turn.ttft'?")


def test_compare_prints_a_table(trace: Path) -> None:
    done = agentservesim("compare", trace, "--vary", "residency=lru,drop,ttl,ttl_s=1", *words())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 arms, 2 seeds; differences from residency=lru\n")
    assert done.stdout.isascii()
    assert re.search(r"tokens\.hit_rate +residency=lru +0\.\d\d", done.stdout)
    assert "residency=ttl,ttl_s=1" in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


def test_hints_that_an_arm_lacks_are_told_once(trace: Path, tmp_path: Path) -> None:
    vary = ["--vary", "scheduler=fcfs,priority", "--out", "out"]
    first = agentservesim("compare", trace, *vary, *words(), cwd=tmp_path)
    hints = re.findall(r"note: scheduler=priority: scheduler priority wants the hint '(\w+)'", first.stderr)
    assert hints == ["priority", "strict_priority"]
    assert first.stderr.count("\n") == 2
    again = agentservesim("sweep", trace, *vary, *words(), cwd=tmp_path)
    assert again.stderr == first.stderr
    both = agentservesim("compare", trace, "--scheduler", "priority", "--vary", "num-instances=1,2", *words())
    assert both.stderr.startswith("agentservesim: note: scheduler priority wants")
    assert agentservesim("compare", trace, *vary, *words("--quiet"), cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_a_metric_that_no_run_has_is_named(trace: Path, command: str) -> None:
    asked = ["--metric", "tokens.cached_dram", "--metric", "turn.ttft.mean"]
    done = agentservesim(command, trace, "--vary", "residency=lru,drop", *asked, *words())
    assert "tokens.cached_dram: no run has a value of it.\n" in done.stdout
    assert "turn.ttft.mean: no run" not in done.stdout


def test_compare_writes_markdown_and_json(trace: Path, tmp_path: Path) -> None:
    arms = ["--vary", "residency=lru,drop", "--metric", "turn.ttft.p99", "--out", "out"]
    printed = agentservesim("compare", trace, *arms, *words("--markdown"), cwd=tmp_path).stdout
    assert printed == (tmp_path / "out" / "comparison.md").read_text()
    assert "| turn.ttft.p99 (ms) | residency=lru |" in printed
    told = json.loads(agentservesim("compare", trace, *arms, *words("--json"), cwd=tmp_path).stdout)
    assert told == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert told["baseline"] == "residency=lru"
    assert set(told["metrics"]["turn.ttft_s.p99"]["arms"]) == {"residency=lru", "residency=drop"}


def test_compare_scenarios_and_fields_of_them(trace: Path, tmp_path: Path) -> None:
    for name, seqs in (("a", 8), ("b", 2)):
        text = f'[workload]\ntrace = "{trace}"\n[[instances]]\nmax_num_seqs = {seqs}\n'
        (tmp_path / f"{name}.toml").write_text(text)
    done = agentservesim("compare", "a.toml", "b.toml", *words("--json"), cwd=tmp_path)
    assert list(json.loads(done.stdout)["arms"]) == ["a", "b"]
    vary = ["--vary", "max-num-seqs=4,8", "--vary", "instances.0.count=1,2"]
    done = agentservesim("compare", "a.toml", *vary, *words("--json"), cwd=tmp_path)
    arms = json.loads(done.stdout)["arms"]
    assert list(arms)[:2] == [
        "max-num-seqs=4 instances.0.count=1",
        "max-num-seqs=4 instances.0.count=2",
    ]
    groups = [arm["scenario"]["instances"][0] for arm in arms.values()]
    assert [(g["max_num_seqs"], g["count"]) for g in groups] == [(4, 1), (4, 2), (8, 1), (8, 2)]


def test_any_arm_may_be_the_baseline(trace: Path) -> None:
    vary = ["--vary", "residency=lru,drop", "--baseline", "drop"]
    assert "differences from residency=drop" in agentservesim("compare", trace, *vary, *words()).stdout


def test_sweep_prints_a_row_per_point(trace: Path, tmp_path: Path) -> None:
    vary = ["--vary", "program-rate=1,4", "--vary", "num-instances=1,2", "--jobs", "1"]
    done = agentservesim("sweep", trace, *vary, "--out", "out", "--seeds", "2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"program-rate=4 num-instances=2 +\d+\.\d+ \+- ", done.stdout)
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert left >= {"runs", "sweep.json", "sweep.md", "runs.parquet"}
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert len(told["points"]) == 4
    one = agentservesim("sweep", trace, "--json", "--jobs", "1")
    assert list(json.loads(one.stdout)["points"]) == ["six"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "TRACE"], "one scenario cannot be compared with itself; give several, or --vary"),
        (["compare", "TRACE", "TRACE"], "two arms are called 'six'; give each scenario its own name"),
        (["compare", "TRACE", "--vary", "residency"], "--vary residency: expected FIELD=A,B"),
        (["compare", "TRACE", "--vary", "residency=lru,"], "expected FIELD=A,B"),
        (
            ["compare", "TRACE", "--vary", "residency=lru,drpo"],
            "unknown residency 'drpo'; did you mean 'drop'",
        ),
        (["compare", "TRACE", "--vary", "residense=lru,drop"], "did you mean 'residency'?"),
        (["compare", "TRACE", "--vary", "max-num-seqs=1,0"], "--vary max-num-seqs: must be at least 1"),
        (["compare", "TRACE", "--vary", "seed=1,2"], "say how many with --seeds"),
        (
            ["compare", "TRACE", "--vary", "residency=lru,lru"],
            "--vary residency: the value lru is there twice",
        ),
        (
            ["sweep", "TRACE", "--vary", "num-instances=1,2", "--vary", "num-instances=3"],
            "--vary num-instances: it is varied twice",
        ),
        (["compare", "TRACE", "--vary", "program-rate=1,2"], "do not serve the same workload"),
        (["compare", "TRACE", "--vary", "tool-durations=recorded,drawn"], "do not serve the same workload"),
        (
            ["compare", "TRACE", "--vary", "residency=lru,drop", "--num-gpu-blocks", "100", "--out", "out"],
            "turns are too long",
        ),
        (["sweep", "TRACE", "--vary", "router=random,thunderagent", "--out", "out"], "goes with admission"),
        (["compare", "TRACE", "--vary", "router=round-robin,least-loaded", "--seeds", "0"], "--seeds"),
        (["compare", "TRACE", "--vary", "residency=lru,drop", "--baseline", "x"], "no arm is called so"),
        (["compare", "TRACE", "--vary", "residency=lru,drop", "--metric", "ttft"], "no metric 'ttft'"),
        (["compare", "missing.jsonl", "--vary", "residency=lru,drop"], "missing.jsonl: no such file"),
        (["compare"], "missing argument 'SOURCE...'"),
        (["sweep", "TRACE", "--vary", "workload.progam_rate=1"], "did you mean 'program_rate'?"),
        (["sweep", "TRACE", "--metric", "turn.ttft"], "say which, as in turn.ttft.p99"),
        (["run", "TRACE", "--slo", "turn.ttft.p99<2"], "--slo: '"),
        (["run", "TRACE", "--goodput", "tttf:2s"], "--goodput: 'tttf:2s': no metric 'tttf' of turns"),
    ],
)
def test_faults_get_one_line(trace: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    line = [str(trace) if word == "TRACE" else word for word in arguments]
    assert said in refused(*line, *(["--jobs", "1"] if arguments[0] != "run" else []), cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_keeps_what_is_finished(trace: Path, tmp_path: Path) -> None:
    """The second arm's policy never ends; the first arm's run is there, and nothing half-made."""
    (tmp_path / "endless.py").write_text(
        "import time\n"
        "from agentservesim.policies.residency.lru import Lru\n"
        "class Endless(Lru):\n"
        "    def place(self, chain, server):\n"
        "        time.sleep(60)\n"
    )
    arguments = ["--vary", "residency=lru,drop,endless:Endless", "--seeds", "1", "--out", "out"]
    process = subprocess.Popen(
        [*RUN, "compare", str(trace), *arguments, "--jobs", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        runs = tmp_path / "out" / "runs"
        while not runs.is_dir() or len([p for p in runs.iterdir() if p.name[0] != "."]) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err == (
        "agentservesim: interrupted; finished runs are in out: the same command goes on from there\n"
    )
    assert sorted(p.name.partition(".")[0] for p in runs.iterdir()) == ["residency=drop", "residency=lru"]
    before = {p.name: p.stat().st_mtime_ns for p in runs.iterdir()}
    done = agentservesim(
        "compare", trace, "--vary", "residency=lru,drop", "--seeds", "1", "--out", "out", cwd=tmp_path
    )
    assert done.returncode == 0
    assert {p.name: p.stat().st_mtime_ns for p in runs.iterdir()} == before
