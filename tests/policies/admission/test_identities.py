"""Limits that are never reached are no limits: the results are those of `always`, byte for byte."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from agentservesim.policies import list_policies
from agentservesim.results import Result, comparable
from agentservesim.scenario import Scenario, simulate

UNLIMITED = {
    "always": "always",
    "max-programs": "max-programs,limit=1000000",
    "concur": "concur,first=1e9",
    "early-reject": "early-reject,ttft_s=1e9",
    "token-bucket": "token-bucket,tokens_per_s=1e15,burst=1e15",
    "thunderagent": "thunderagent",
    "mori": "mori",
}
"""The last two are unlimited where memory is."""


ROUTES = {"thunderagent"}
"""They route what they admit; where there is one instance to go to, all routers are one."""


@cache
def run(admission: str, router: str, count: int) -> Result:
    workload = {"trace": "demo", "max_programs": 4, "program_rate": 1.0}
    scenario = {"workload": workload, "instances": [{"count": count, "num_gpu_blocks": 200_000}], "seed": 3}
    return simulate(Scenario.model_validate({**scenario, "admission": admission, "router": router}))


@pytest.mark.parametrize("name", sorted(list_policies("admission")))
def test_without_limits_it_is_always(name: str, tmp_path: Path) -> None:
    count = 1 if name in ROUTES else 2
    always = run("always", "session-affinity", count)
    other = run(UNLIMITED[name], name if name in ROUTES else "session-affinity", count)
    for table in ("turns", "programs"):
        files = [tmp_path / f"{table}{number}" for number in range(2)]
        for result, file in zip((always, other), files, strict=True):
            getattr(result, table).write_parquet(file)
        assert files[0].read_bytes() == files[1].read_bytes()
    summaries = [comparable(result.summary) for result in (always, other)]
    for summary in summaries:
        del summary["scenario"]["admission"], summary["scenario"]["router"]
    assert summaries[0] == summaries[1]
