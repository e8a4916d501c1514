"""The result table: what it says, and that it fits a pipe and a narrow terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from agentservesim.report.terminal import hint, print_summary, title

SINGLE = {f"{kind}_parallel_size": 1 for kind in ("tensor", "pipeline", "data")}


def summary(**changes: Any) -> dict[str, Any]:
    spread = {"mean": 0.2, "p50": 0.1, "p90": 0.3, "p95": 0.4, "p99": 0.5, "max": 1234.5, "n": 9}
    none = dict.fromkeys(spread) | {"n": 0}
    whole = {
        "scenario": {
            "name": "s",
            "router": "round-robin",
            "scheduler": "fcfs",
            "instances": [
                {"count": 2, "gpu": "h100-sxm", "model": "qwen3-32b", **SINGLE, "tensor_parallel_size": 2},
                {"count": 1, "gpu": "l40s", "model": "models/mine/config.json", **SINGLE},
            ],
        },
        "simulated_s": 7200.0,
        "wall_s": 0.5,
        "counts": {"programs": 3, "turns": 9, "steps": 1000, "leaps": 10, "preemptions": 0},
        "tokens": {
            "prompt": 1_500_000,
            "cached": 1_200_000,
            "computed": 300_000,
            "recomputed": 0,
            "output": 900,
        },
        "program": {
            "latency_s": spread | {"mean": 3.0},
            "queue_s": spread,
            "slowdown": spread,
            "time_share": {"tool": 0.5, "queue": 0.1, "prefill": 0.1, "decode": 0.3, "transfer": 0.0},
        },
        "turn": {"ttft_s": spread, "tpot_s": none, "e2el_s": spread, "queue_s": spread},
        "fairness": {"max_to_mean_slowdown": 1.5, "jain_programs": 0.91},
        "throughput": {"programs_per_s": 0.001, "turns_per_s": 0.5, "output_tokens_per_s": None},
        "provenance": {
            "workload": {"synthetic": False},
            "instances": [
                {"name": "h100-sxm", "num_gpu_blocks": 30000, "sources": {"step_time": "roofline, x"}}
            ],
        },
    }
    return whole | changes


def printed(**changes: Any) -> str:
    out = io.StringIO()
    print_summary(summary(**changes), out, None)
    return out.getvalue()


def test_title_names_the_whole_fleet() -> None:
    assert (
        title(summary())
        == "s: 3 programs, 9 turns on 2 x h100-sxm (qwen3-32b, tp2) + 1 x l40s (mine), round-robin"
    )


def test_title_names_who_was_turned_away_and_by_whom() -> None:
    base = summary()
    whole = base | {"counts": base["counts"] | {"rejected": 4}}
    whole["scenario"] = base["scenario"] | {"admission": "early-reject,ttft_s=2"}
    assert title(whole).startswith("s: 3 programs (4 more turned away), 9 turns on ")
    assert title(whole).endswith(", round-robin, admission early-reject,ttft_s=2")


def test_where_all_were_turned_away_there_is_nothing_to_tell() -> None:
    base = summary()
    program = base["program"] | {"time_share": dict.fromkeys(base["program"]["time_share"])}
    text = printed(program=program, counts=base["counts"] | {"programs": 0, "turns": 0, "rejected": 4})
    assert text.startswith("s: 0 programs (4 more turned away), 0 turns on ")
    assert "Hint: no program came to its end" in text
    assert "program latency" not in text


def test_title_says_how_accelerators_share_a_model() -> None:
    group = {"count": 1, "gpu": "b200", "model": "m", **SINGLE, "pipeline_parallel_size": 2}
    scenario = summary()["scenario"] | {"instances": [group | {"data_parallel_size": 4}]}
    assert "on 1 x b200 (m, pp2, dp4), round-robin" in title(summary(scenario=scenario))


def test_units_suit_the_size_and_missing_values_are_dashes() -> None:
    lines = {line.strip().split("  ")[0]: line.split() for line in printed().splitlines() if line.strip()}
    assert lines["program latency (s)"][3:] == ["3.00", "0.10", "0.30", "0.40", "0.50", "1,234", "9"]
    assert lines["TTFT (ms)"][2:] == ["200", "100", "300", "400", "500", "1,234,500", "9"]
    assert lines["TPOT (ms)"][2:] == ["-"] * 6 + ["0"]


def test_facts() -> None:
    text = printed()
    assert "1.5 M prompt (80.0% from the prefix cache), 900 output" in text
    assert "3.60 programs/h, 0.50 turns/s, - output tokens/s" in text
    assert "30,000 KV blocks each; step times: roofline\n" in text
    assert "2.00 h in 0.50 s of real time (14,400 times faster)" in text
    assert "Keep the tables: --out DIR" in text


KV = {
    "hit_rate": {"hbm": 0.5, "dram": 0.3},
    "bytes_moved": {"hbm-dram": {"down": 3_200_000_000_000, "up": 0}},
    "link_utilisation": {"hbm-dram": {"down": 0.25, "up": 0.0}},
    "waste_share": 0.125,
    "forced_unpins": 1234,
    "held_in_gap_byte_s": 1.0,
}


def test_memory_has_a_block_of_its_own_where_there_is_any() -> None:
    assert "HBM" not in printed()
    base = summary()
    scenario = base["scenario"] | {"residency": "ttl,ttl_s=3"}
    tokens = base["tokens"] | {"hit_rate": 0.8, "prefill_amplification": 1.53}
    text = printed(kv=KV, tokens=tokens, scenario=scenario)
    assert "round-robin, residency ttl,ttl_s=3" in " ".join(text.split())
    assert "prompts from   50.0% hbm, 30.0% dram, 20.0% computed" in text
    assert "prefilled      1.53 tokens for each new one" in text
    assert "link hbm-dram  3.2 TB down (25.0% busy), 0 B up (0.0% busy)" in text
    assert "12.5% of HBM's space and time held in gaps or under way; 1,234 broken by force" in text
    assert text.isascii()


def test_objectives_are_ticked_and_goodput_is_told() -> None:
    assert "MISSED" not in printed()
    base = {"metric": "turn.ttft_s.p99", "unit": "s", "bound": 2.0, "slo": "turn.ttft.p99<2s"}
    share = {"slo": "tokens.hit_rate>0.9", "unit": "", "value": 0.85, "met": False}
    goodput = {"turns_per_s": 0.4, "turn_share": 0.8, "programs_per_s": 0.001, "program_share": 0.5}
    scenario = summary()["scenario"] | {"goodput": ["ttft:2s", "tpot:50ms"]}
    slo = [base | {"value": 0.25, "met": True}, base | share, base | {"value": None, "met": False}]
    text = printed(slo=slo, goodput=goodput, scenario=scenario)
    assert "met     turn.ttft.p99<2s     250 ms" in text
    assert "MISSED  tokens.hit_rate>0.9  0.85" in text
    assert "MISSED  turn.ttft.p99<2s     no value" in text
    assert "80.0% of turns, 50.0% of programs inside ttft:2s tpot:50ms: 0.40 good turns/s" in text
    fairness = {"jain_tenants": 0.9, "jain_programs": 0.8}
    assert "0.900 over tenants, 0.800 over programs (1 is fair)" in printed(fairness=fairness)


def test_an_oracle_is_called_one() -> None:
    base = summary()
    whole = base | {"kv": KV, "scenario": base["scenario"] | {"residency": "belady"}}
    assert "oracle" not in title(whole)
    whole["provenance"] = base["provenance"] | {"oracle": True}
    assert title(whole).endswith("residency belady (an oracle: it knows the future)")


def test_a_pipe_gets_plain_text() -> None:
    text = printed()
    assert text.isascii()
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": {"turns": 9, "preemptions": 5}}, "KV pool is too small"),
        (
            {"program": {"time_share": {"tool": 0.1, "queue": 0.6, "decode": 0.3}}},
            "67% of the time spent in serving",
        ),
        ({"program": {"time_share": {"tool": 0.9, "queue": 0.0, "decode": 0.1}}}, "no serving change"),
        ({"tokens": {"prompt": 100, "cached": 10, "recomputed": 0}}, "only 10% of the prompt tokens"),
        ({}, "60% is decode"),
    ],
)
def test_the_hint_names_what_matters_most(changes: dict[str, Any], said: str) -> None:
    assert said in hint(summary(**changes))
