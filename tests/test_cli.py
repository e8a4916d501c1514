"""The command line as its users meet it: real processes, exit codes, one line for every fault."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from agentservesim.cli import main
from agentservesim.fleet import Fleet

RUN = [sys.executable, "-m", "agentservesim"]
TURNS = [{"new_tokens": 3000, "output_tokens": 40, "tools": [{"name": "Bash", "duration_s": 2.0}]}] * 3

VLLM_FLAGS = """
--model --max-model-len --block-size --num-gpu-blocks --gpu-memory-utilization --tensor-parallel-size --dtype
--max-num-seqs --max-num-batched-tokens --long-prefill-token-threshold --scheduling-policy --watermark
--enable-prefix-caching --no-enable-prefix-caching --enable-chunked-prefill --async-scheduling
--no-async-scheduling --max-concurrency --burstiness --seed
"""
OUR_FLAGS = """
--format --gpu --num-instances --router --out --quiet --json --set --steps --engine-version --no-leap
--program-rate --no-reuse-output --residency --tier --kv-load
"""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six programs of three turns in the compact form."""
    path = tmp_path_factory.mktemp("traces") / "six.jsonl"
    rows = [{"program_id": f"p{n}", "arrival_s": n * 0.5, "turns": TURNS} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def agentservesim(*arguments: str | Path, cwd: Path | None = None) -> Done:
    """Run a command inside this process, which saves the start of an interpreter."""
    out, err, code, before = io.StringIO(), io.StringIO(), 0, Path.cwd()
    with redirect_stdout(out), redirect_stderr(err), chdir(cwd or before):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def refused(*arguments: str | Path, cwd: Path | None = None) -> str:
    """The one line that a fault gets."""
    done = agentservesim(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip().removeprefix("agentservesim: ")


def test_a_trace_runs_and_leaves_a_folder(trace: Path, tmp_path: Path) -> None:
    done = agentservesim("run", trace, "--num-instances", "2", "--steps", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "six: 6 programs, 18 turns on 2 x h100-sxm (llama-3.1-8b), session-affinity" in done.stdout
    assert "TTFT (ms)" in done.stdout
    assert "Hint: " in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["counts"]["turns"] == pl.read_parquet(tmp_path / "run" / "turns.parquet").height == 18
    assert pl.read_parquet(tmp_path / "run" / "steps.parquet").height == summary["counts"]["steps"]
    assert summary["tokens"]["cached"] > 0


def test_a_process_prints_the_same(trace: Path, tmp_path: Path) -> None:
    done = subprocess.run([*RUN, "check", str(trace)], capture_output=True, text=True, check=False)
    inside = agentservesim("check", trace)
    assert (done.returncode, done.stdout, done.stderr) == (0, inside.stdout, "")
    done = subprocess.run([*RUN, "check", "missing.jsonl"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("agentservesim: missing.jsonl: no such file")


def test_quiet_prints_nothing_and_json_prints_the_summary(trace: Path, tmp_path: Path) -> None:
    quiet = agentservesim("run", trace, "--quiet", "--out", tmp_path / "run")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    printed = json.loads(agentservesim("run", trace, "--json").stdout)
    saved = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert printed["turn"] == saved["turn"]


def test_flags_file_and_set_in_that_order(trace: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        f'seed = 1\n[workload]\ntrace = "{trace.name}"\n[[instances]]\nmax_num_seqs = 3\n[[instances]]\n'
    )
    (tmp_path / trace.name).write_bytes(trace.read_bytes())
    flags = ["--seed", "2", "--max-num-seqs", "7", "--no-leap", "--set", "instances.1.max_num_seqs=9"]
    checked = json.loads(agentservesim("check", scenario, *flags, "--json").stdout)["scenario"]
    assert checked["seed"] == 2
    assert checked["leap"] is False
    assert [group["max_num_seqs"] for group in checked["instances"]] == [7, 9]
    assert checked["name"] == "s"


def test_check_says_what_would_run(trace: Path) -> None:
    done = agentservesim("check", trace, "--num-gpu-blocks", "5000")
    assert done.returncode == 0
    assert "6 programs, 18 turns" in done.stdout
    assert "5,000 KV blocks" in done.stdout


@pytest.mark.parametrize("what", ["models", "gpus", "routers", "residency", "links", "profiles"])
def test_list(what: str) -> None:
    entries = json.loads(agentservesim("list", what, "--json").stdout)
    assert len(entries) >= 1
    text = agentservesim("list", what).stdout
    assert all(name in text for name in entries)


def test_metrics_prints_every_definition() -> None:
    printed = agentservesim("metrics").stdout
    entries = json.loads(agentservesim("metrics", "--json").stdout)
    assert len(entries) > 20
    for entry in entries:
        assert entry["name"] in printed
        assert entry["meaning"] in printed
    assert "= first_token_s - ready_s" in printed


def test_help_is_quick() -> None:
    """Below 0.3 s on an idle machine; here only what makes it so: nothing heavy is imported."""
    code = (
        "import sys\nfrom agentservesim.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'polars', 'pydantic', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Simulate multi-turn LLM agent serving" in done.stdout
    assert done.stderr.strip() in ("[]", "['pydantic']")  # typer itself may load pydantic


@pytest.mark.parametrize(
    "command", [[], ["run"], ["check"], ["trace"], ["trace", "stats"], ["trace", "synth"]]
)
def test_help_of_every_command(command: list[str]) -> None:
    done = agentservesim(*command, "--help")
    assert done.returncode == 0
    assert "Usage: agentservesim" in done.stdout


def test_every_setting_is_a_flag_with_a_description() -> None:
    text = agentservesim("run", "--help").stdout
    for flag in re.findall(r"--\S+", VLLM_FLAGS + OUR_FLAGS):
        assert f"{flag} " in text or f"{flag}\n" in text, flag


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu", "TRACE"], "did you mean 'run'?"),
        (["run"], "missing argument 'SOURCE'"),
        (["run", "TRACE", "--max-num-sequences", "3"], "did you mean '--max-num-seqs'?"),
        (["run", "TRACE", "--max-num-seqs", "0"], "--max-num-seqs: must be at least 1"),
        (["run", "TRACE", "--max-num-seqs", "many"], "--max-num-seqs: must be a whole number"),
        (["run", "TRACE", "--program-rate", "nan"], "--program-rate: must be a finite number"),
        (["run", "TRACE", "--program-rate", "-1"], "--program-rate: must be greater than 0"),
        (["run", "TRACE", "--scheduling-policy", "fcsf"], "did you mean 'fcfs'?"),
        (["run", "TRACE", "--format", "mooncaek"], "did you mean 'mooncake'?"),
        (["run", "TRACE", "--model", "lama-3.1-8b"], "did you mean 'llama-3.1-8b'?"),
        (["run", "TRACE", "--gpu", "h100-smx"], "did you mean 'h100-sxm'?"),
        (["run", "TRACE", "--router", "round-robbin"], "did you mean 'round-robin'?"),
        (["run", "TRACE", "--router", "nowhere:Router"], "cannot import 'nowhere'"),
        (["run", "TRACE", "--residency", "ttll"], "unknown residency 'ttll'; did you mean 'ttl'?"),
        (["run", "TRACE", "--residency", "ttl,ttls=3"], "unknown parameter 'ttls'; did you mean 'ttl_s'?"),
        (["run", "TRACE", "--tier", "dram"], "expected name=size@link, for example dram=200GB@pcie5-x16"),
        (["run", "TRACE", "--tier", "dram=1@pcie5-x16"], "'1' is no size; expected one such as 200GB"),
        (["run", "TRACE", "--tier", "dram=1GB@pcie5x16"], "link kind 'pcie5x16'; did you mean 'pcie5-x16'?"),
        (["run", "TRACE", "--tier", "dram=1GB@pcie5-x16,flet"], "got 'flet'; did you mean 'fleet'?"),
        (["run", "TRACE", "--tier", "dram=1MB@pcie5-x16"], "is less than a KV block (2097152 bytes)"),
        (["run", "TRACE", "--tier", "hbm=1GB@pcie5-x16"], "hbm is every instance's own"),
        (["run", "TRACE", "--tier", "cache=9GB@pcie5-x16"], "memory: no tier can be called 'cache'"),
        (["run", "TRACE", "--tier", "drop=9GB@pcie5-x16"], "memory: no tier can be called 'drop'"),
        (
            ["run", "TRACE", "--tier", "dram=9GB@pcie5-x16", "--tier", "dram=1GB@pcie5-x16"],
            "--tier dram=1GB@pcie5-x16: there is a --tier dram before it",
        ),
        (
            ["run", "TRACE", "--tier", "dram=9GB@pcie5-x16", "--no-enable-prefix-caching"],
            "instances.0.enable_prefix_caching is false, and without it no KV is found again",
        ),
        (["run", "TRACE", "--kv-load", "layrwise"], "did you mean 'layerwise'?"),
        (["run", "TRACE", "--num-instances", "0"], "--num-instances"),
        (["run", "TRACE", "--set", "workload.progam_rate=1"], "did you mean 'program_rate'?"),
        (["run", "TRACE", "--set", "seed"], "expected name=value"),
        (["run", "TRACE", "--set", "seed=-1"], "--set seed: must be at least 0"),
        (["run", "TRACE", "--num-gpu-blocks", "100"], "num_gpu_blocks must be at least"),
        (
            ["run", "TRACE", "--max-model-len", "4000"],
            "does not fit max_model_len 4,000; it must be at least",
        ),
        (["run", "TRACE", "--tables", "nowhere"], "nowhere"),
        (["run", "missing.jsonl"], "missing.jsonl: no such file"),
        (["run", "missing.toml"], "missing.toml: no such file"),
        (["run", "dmo"], "dmo: no such file; did you mean 'demo'?"),
        (["trace", "stats", "Demo"], "Demo: no such file; did you mean 'demo'?"),
        (["run", "TRACE", "--set", "instances=[]"], "--set instances: must not be empty"),
        (["check", "missing.jsonl"], "no such file"),
        (["check", "TRACE", "--router", "thunderagent"], "goes with admission 'thunderagent'"),
        (["run", "TRACE", "--admission", "thunderagent"], "goes with router 'thunderagent'"),
        (["trace", "stats", "missing.jsonl"], "no such file"),
        (["trace", "synth", "claude-cod", "--out", "x.jsonl"], "did you mean 'claude-code'?"),
        (["validate", "nowhere"], "nowhere"),
        (["list", "modles"], "modles"),
        (["list", "models", "gpus"], "unexpected extra argument"),
    ],
)
def test_faults_get_one_line(trace: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    words = [str(trace) if word == "TRACE" else word for word in arguments]
    if words[0] == "run" and "--out" not in words:
        words += ["--out", "out"]
    assert said in refused(*words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ":1: "),
        (b"\n\n", ":1: "),
        (b"not json\n", ":1: "),
        (b'{"program_id": "a", "turns": [{"new_tokens": -5, "output_tokens": 3}]}\n', ":1: "),
        (b'{"request_id": "a", "input_length": 10}\n', ":1: "),
        (b"\x00\x01\x02", ":1: "),
        (b"\x1f\x8bnot gzip", ""),
    ],
)
def test_broken_traces_get_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    assert refused("run", "t.jsonl", "--out", "out", cwd=tmp_path).startswith(f"t.jsonl{said}")
    assert [p.name for p in tmp_path.iterdir()] == ["t.jsonl"]


def test_a_broken_scenario_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[workload]\ntrace = "demo"\n\n[[instances]]\nmax_num_seq = 4\n')
    said = refused("run", "s.toml", cwd=tmp_path)
    assert said == "s.toml:5: instances.0.max_num_seq: no such setting; did you mean 'max_num_seqs'?"


DRAM = '[[memory.tiers]]\nname = "dram"\ncapacity_bytes = 1e11\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (DRAM, "memory: tier 'dram' has no link to hbm"),
        (
            DRAM + '[[memory.links]]\nbetween = ["hbm", "dramm"]\nkind = "pcie5-x16"\n',
            "memory: a link leads to 'dramm', which is no tier; there are dram, hbm",
        ),
        (DRAM + DRAM, "memory: two tiers are called 'dram'"),
        (
            DRAM + '[[memory.links]]\nbetween = ["dram", "hbm"]\nkind = "pcie5-x16"\n',
            "memory: a link names the faster tier first: 'hbm', then 'dram'",
        ),
        (
            DRAM + 2 * '[[memory.links]]\nbetween = ["hbm", "dram"]\nkind = "pcie5-x16"\n',
            "memory: two links join 'hbm' and 'dram'",
        ),
        (DRAM.replace("dram", "hbm"), "memory: hbm is every instance's own"),
        (DRAM.replace("capacity_bytes", "capacity"), "no such setting; did you mean 'capacity_bytes'?"),
        (DRAM.replace("dram", "Main memory"), "s.toml:2: memory.tiers.0.name: must match "),
    ],
)
def test_memory_that_cannot_be_gets_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "s.toml").write_text(content)
    assert said in refused("check", "s.toml", cwd=tmp_path)


def test_tiers_on_the_command_line(trace: Path, tmp_path: Path) -> None:
    """A flag adds a tier, or takes the place of the scenario's; check says where the figures are from."""
    link = '[[memory.links]]\nbetween = ["hbm", "dram"]\nkind = "pcie4-x16"\n'
    (tmp_path / "s.toml").write_text(f'[workload]\ntrace = "{trace}"\n{DRAM}{link}')
    tiers = ["--tier", "dram=64GiB@nvlink-c2c", "--tier", "cxl=1.5TB@cxl3-x16,fleet"]
    words = ["check", "s.toml", *tiers, "--kv-load", "layerwise", "--residency", "demote,copy=true"]
    memory = json.loads(agentservesim(*words, "--json", cwd=tmp_path).stdout)["scenario"]["memory"]
    assert [(t["name"], t["capacity_bytes"], t["scope"]) for t in memory["tiers"]] == [
        ("dram", 64 * 1024**3, "instance"),
        ("cxl", 1.5e12, "fleet"),
    ]
    assert [(link["between"], link["up_bytes_per_s"]) for link in memory["links"]] == [
        (["hbm", "dram"], 375e9),
        (["hbm", "cxl"], 100e9),
    ]
    assert memory["load"] == "layerwise"
    said = agentservesim(*words, cwd=tmp_path).stdout
    assert "tier cxl: 1,500 GB for each fleet" in said
    assert "link hbm-dram: nvlink-c2c: GH200 measured: 297 GB/s" in said


def test_a_run_with_tiers_leaves_tables_of_them(trace: Path, tmp_path: Path) -> None:
    words = ["run", str(trace), "--tier", "dram=50GB@pcie5-x16", "--residency", "demote", "--out", "out"]
    done = agentservesim(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "session-affinity, residency demote" in " ".join(done.stdout.split())
    assert "link hbm-dram" in done.stdout
    tables = {path.stem for path in (tmp_path / "out").glob("*.parquet")}
    assert tables == {"programs", "turns", "transfers", "residency", "instances", "links"}
    guide = (tmp_path / "out" / "README.md").read_text()
    assert "| cached_dram_tokens | of the cached tokens, those in dram and no faster tier |" in guide
    assert "## residency.parquet: one row per tier and moment" in guide


FAILING = """
from agentservesim.model import InputError
from agentservesim.policies.protocols import Placement

class Raises:
    left = 7
    def place(self, chain, server):
        self.left -= 1
        return Placement("cache") if self.left else 1 / 0

class Nonsense(Raises):
    def place(self, chain, server):
        return super().place(chain, server) if self.left > 1 else "hbm"

class Exits(Raises):
    def place(self, chain, server):
        return super().place(chain, server) if self.left > 1 else exit(0)

class Refuses(Raises):
    def place(self, chain, server):
        if self.left > 1:
            return super().place(chain, server)
        raise InputError("no more")

class Five(Raises):
    left = 100
    figures = lambda self: 5

class Divides(Five):
    figures = lambda self: 1 / 0

class AtOnce:
    def place(self, chain, server):
        return Placement("moon")
"""


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("Raises", "residency Raises: place() of program 'p5' raised ZeroDivisionError: division by zero"),
        ("Nonsense", "residency Nonsense: place() of program 'p5' returned 'hbm'; it must be a Placement"),
        ("Exits", "residency Exits: place() of program 'p5' raised SystemExit: 0"),
        ("Refuses", "residency Refuses: place() of program 'p5': no more"),
        ("AtOnce", "residency AtOnce: place() of program 'p0' returned Placement(tier='moon'"),
    ],
)
def test_what_a_policy_that_fails_left_is_kept_apart(
    trace: Path, tmp_path: Path, policy: str, said: str
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = ["run", str(trace), "--residency", f"failing:{policy}", "--out", "out"]
    fault = refused(*words, cwd=tmp_path)
    assert fault.startswith(said)
    assert fault.endswith("; what was computed so far is in out.partial")
    assert not (tmp_path / "out").exists()
    partial = tmp_path / "out.partial"
    assert "**This run is incomplete.**" in (partial / "README.md").read_text()
    assert said in json.loads((partial / "summary.json").read_text())["incomplete"]
    turns, programs = (pl.read_parquet(partial / f"{name}.parquet") for name in ("turns", "programs"))
    assert 0 < turns.height < 18
    assert set(programs["turns"]) <= {3}


@pytest.mark.parametrize(("policy", "did"), [("Five", "returned 5"), ("Divides", "raised ZeroDivisionError")])
def test_a_policy_that_fails_at_the_end_costs_no_turn(
    trace: Path, tmp_path: Path, policy: str, did: str
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = ["run", str(trace), "--residency", f"failing:{policy}", "--out", "out"]
    assert refused(*words, cwd=tmp_path).startswith(f"residency {policy}: figures() {did}")
    assert pl.read_parquet(tmp_path / "out.partial" / "turns.parquet").height == 18


def test_folders_of_others_are_safe(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert "not a run of agentservesim" in refused("run", trace, "--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_num_instances_needs_a_single_group(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[[instances]]\n[[instances]]\n")
    said = refused("run", "s.toml", "--num-instances", "2", cwd=tmp_path)
    assert "--set instances.0.count=N" in said


def test_a_router_of_ones_own(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Last:\n"
        "    back: int = 1\n"
        "    def route(self, turn, instances, now_s):\n"
        "        return len(instances) - self.back\n"
    )
    words = ["run", str(trace), "--num-instances", "3", "--router", "mine:Last,back=2", "--out", "out"]
    assert agentservesim(*words, cwd=tmp_path).returncode == 0
    assert pl.read_parquet(tmp_path / "out" / "turns.parquet")["instance"].unique().to_list() == [1]


def test_a_bug_is_told_from_bad_input(trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "run", lambda *arguments: 1 / 0)
    done = agentservesim("run", trace, "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def endless(trace: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that is busy: its router sleeps, after leaving a sign that it was called."""
    (tmp_path / "mine.py").write_text(
        "import pathlib, time\n"
        "class Slow:\n"
        "    def route(self, turn, instances, now_s):\n"
        "        pathlib.Path('called').touch()\n"
        "        time.sleep(60)\n"
        "        return 0\n"
    )
    words = [*RUN, "run", str(trace), "--router", "mine:Slow", "--out", "out"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    yield process
    process.kill()
    process.communicate()


def test_an_interrupt_leaves_no_folder(endless: subprocess.Popen[str], tmp_path: Path) -> None:
    deadline = time.monotonic() + 30
    while not (tmp_path / "called").exists():
        assert time.monotonic() < deadline
        assert endless.poll() is None, endless.communicate()
        time.sleep(0.05)
    endless.send_signal(signal.SIGINT)
    out, err = endless.communicate(timeout=30)
    assert endless.returncode == 130
    assert (out, err) == ("", "agentservesim: interrupted; nothing was written\n")
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == {"mine.py", "called"}


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (131_071, ""),
        (131_072, "1 of 2 turns are beyond the 131,072 positions of llama-3.1-8b (longest: 131,073 tokens)"),
    ],
)
def test_turns_beyond_what_the_model_was_made_for_are_told(tmp_path: Path, tokens: int, said: str) -> None:
    """llama-3.1-8b has 131,072 positions."""
    turns = [
        {"new_tokens": 20, "output_tokens": 1},
        {"keep_tokens": 0, "new_tokens": tokens, "output_tokens": 1},
    ]
    (tmp_path / "t.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    ran = agentservesim("run", tmp_path / "t.jsonl", "--out", tmp_path / "out")
    checked = agentservesim("check", tmp_path / "t.jsonl")
    assert ran.returncode == checked.returncode == 0
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["provenance"]["workload"]["notes"]
    assert len(notes) == bool(said)
    assert (said in ran.stderr, said in checked.stdout, "note" in ran.stderr) == (True, True, bool(said))
    assert "note" not in agentservesim("run", tmp_path / "t.jsonl", "--quiet").stderr


def test_a_closed_pipe_is_no_error(trace: Path) -> None:
    command = f"{sys.executable} -m agentservesim metrics | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("program.latency_s")
    assert done.stderr == ""
    early = f"{sys.executable} -m agentservesim run {trace} --json | true"
    done = subprocess.run(early, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize(
    "words", [["metrics"], ["run", "TRACE"], ["run", "TRACE", "--json"], ["check", "TRACE"]]
)
def test_a_full_disk_behind_stdout_gets_one_line(trace: Path, words: list[str]) -> None:
    arguments = [str(trace) if word == "TRACE" else word for word in words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*RUN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    said = "agentservesim: cannot write to stdout: [Errno 28] No space left on device"
    assert done.stderr.splitlines()[-1:] == [said]
    assert "Traceback" not in done.stderr


def test_trace_commands(trace: Path, tmp_path: Path) -> None:
    stats = json.loads(agentservesim("trace", "stats", trace, "--json").stdout)
    assert stats["programs"] == 6
    assert stats["turns"] == 18
    converted = tmp_path / "converted.jsonl"
    assert agentservesim("trace", "convert", trace, converted).returncode == 0
    again = json.loads(agentservesim("trace", "stats", converted, "--json").stdout)
    assert again | {"source": ""} == stats | {"source": ""}
    drawn = tmp_path / "drawn.jsonl"
    words = ["trace", "synth", "claude-code", "--programs", "3", "--seed", "5", "--out", str(drawn)]
    assert agentservesim(*words).returncode == 0
    assert json.loads(agentservesim("trace", "stats", drawn, "--json").stdout)["programs"] == 3
    first = drawn.read_bytes()
    agentservesim(*words)
    assert drawn.read_bytes() == first
