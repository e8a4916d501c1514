"""What is loaded before it is needed: nothing that takes its time."""

import subprocess
import sys
from importlib import import_module

import pytest

MODULES = "import sys; print(' '.join(sys.modules))"
COMMAND = """
import sys
from agentservesim.cli import main
try:
    main({words})
finally:
    print("\\n" + " ".join(sys.modules))
"""
FIRST_TURN = """
import os, sys
from agentservesim.scenario import Scenario, prepare
def show(done):
    print(" ".join(sys.modules), flush=True)
    os._exit(0)
prepare(Scenario()).run(show)
"""
HEAVY = {"numpy", "polars", "pydantic", "rich", "pyarrow"}
POLICIES = [
    f"agentservesim.policies.{family}" for family in ("admission", "residency", "routing", "scheduling")
]
PACKAGES = [
    "agentservesim",
    *POLICIES,
    *(f"agentservesim.{name}" for name in ("cost", "fleet", "results", "scenario", "workload")),
]


def loaded(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_alone_loads_nothing() -> None:
    assert not loaded("import agentservesim; " + MODULES) & (HEAVY | {"typer", "agentservesim.model"})


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], HEAVY),
        (["--version"], HEAVY),
        (
            ["run", "--help"],
            HEAVY - {"pydantic"} | {"agentservesim.fleet.fleet", "agentservesim.cost.roofline"},
        ),
        (["list", "routers"], HEAVY - {"pydantic"} | {"agentservesim.policies.residency.lru"}),
        (["metrics"], HEAVY - {"pydantic"}),
    ],
)
def test_a_command_that_only_tells_loads_little(words: list[str], unwanted: set[str]) -> None:
    assert not loaded(COMMAND.format(words=words)) & unwanted


def test_what_is_needed_at_the_end_of_a_run_is_loaded_there() -> None:
    there = loaded(FIRST_TURN) - loaded("import numpy; " + MODULES)
    assert not there & {"polars", "rich", "numpy.random", "numpy.ma", "agentservesim.workload.synth"}
    policies = {name for name in there if name.rpartition(".")[0] in POLICIES}
    assert {name.rpartition(".")[2] for name in policies} == {"always", "fcfs", "lru", "session_affinity"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_names_that_it_says(package: str) -> None:
    module = import_module(package)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing
