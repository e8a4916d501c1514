"""The head of the report: five numbers, whether SLOs were met, and what was simulated."""

from __future__ import annotations

from typing import Any

from agentservesim.report.html.wording import number, per_hour, seconds, share
from agentservesim.report.terminal import hint, title
from agentservesim.results.targets import parse_limit

Summary = dict[str, Any]


def verdict(summary: Summary) -> dict[str, Any]:
    """What the head of the report says."""
    served = summary["counts"]["programs"] > 0
    name = summary["scenario"]["name"]
    return {
        "title": title(summary).removeprefix(f"{name}: ") if served else "no program came to its end",
        "hint": f"Hint: {hint(summary)}" if served else "Only the pictures of turns and memory have data.",
        "warnings": _warnings(summary),
        "slos": [_slo(slo) for slo in summary.get("slo", ())],
        "lines": _lines(summary),
        "numbers": _numbers(summary),
        "facts": _facts(summary),
    }


def _numbers(summary: Summary) -> list[dict[str, Any]]:
    """The five numbers, each with the metric of summary.json that it is."""
    latency, ttft, tpot = (
        summary["program"]["latency_s"],
        summary["turn"]["ttft_s"],
        summary["turn"]["tpot_s"],
    )
    counts = summary["counts"]
    hits, rate = summary["tokens"]["hit_rate"], summary["throughput"]["programs_per_s"]
    return [
        _tile(
            "Program latency, p50",
            "program.latency_s.p50",
            latency["p50"],
            seconds,
            f"p99 {seconds(latency['p99'])}",
        ),
        _tile("TTFT, p99", "turn.ttft_s.p99", ttft["p99"], seconds, f"p50 {seconds(ttft['p50'])}"),
        _tile("TPOT, p99", "turn.tpot_s.p99", tpot["p99"], seconds, f"p50 {seconds(tpot['p50'])}"),
        _tile("Prompt from the cache", "tokens.hit_rate", hits, share, "of all prompt tokens"),
        {
            "label": "Programs served",
            "metric": "throughput.programs_per_s",
            "value": rate,
            "text": per_hour(rate),
            "detail": f"{counts['programs']:,} programs, {counts['turns'] or 0:,} turns",
        },
    ]


def _tile(label: str, metric: str, value: float | None, shown: Any, detail: str) -> dict[str, Any]:
    return {"label": label, "metric": metric, "value": value, "text": shown(value), "detail": detail}


def _slo(objective: dict[str, Any]) -> dict[str, Any]:
    value, shown = objective["value"], seconds if objective["unit"] == "s" else number
    measured = "no value" if value is None else f"measured {shown(value)}"
    return {"text": objective["slo"], "met": objective["met"], "measured": measured}


def _lines(summary: Summary) -> list[dict[str, Any]]:
    """The bounds in seconds that were asked for: where the distribution of `metric` is to be left of."""
    objectives = [
        {"metric": slo["metric"].rpartition(".")[0], "bound_s": slo["bound"], "text": slo["slo"]}
        for slo in summary.get("slo", ())
        if slo["unit"] == "s"
    ]
    limits = ((text, parse_limit(text)) for text in summary["scenario"].get("goodput", ()))
    return objectives + [
        {"metric": limit.metric.name, "bound_s": limit.most, "text": text}
        for text, limit in limits
        if limit.metric.unit == "s"
    ]


def _warnings(summary: Summary) -> list[str]:
    """What a reader must know before he believes the numbers."""
    warnings = []
    if "incomplete" in summary:
        warnings.append(
            f"This run is incomplete: {summary['incomplete']}. Turns are those served until then; "
            "programs are those that had come to their end."
        )
    if away := summary["counts"].get("rejected"):
        warnings.append(
            f"The admission policy turned {away:,} programs away. All figures are of those that it let in: "
            "compare goodput, not latency."
        )
    if summary["provenance"].get("oracle"):
        warnings.append("The policy is an oracle: it knows the future, as no server can.")
    return warnings


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """Label and text of what was simulated, and where its numbers come from."""
    scenario, provenance = summary["scenario"], summary["provenance"]
    facts = [
        ("trace", str(provenance["workload"]["source"] or scenario["workload"]["trace"])),
        *(("note", note) for note in provenance["workload"]["notes"]),
    ]
    for group in provenance["instances"]:
        facts.append(
            (
                f"{group['count']} x {group['name']}",
                f"{group['num_gpu_blocks']:,} KV blocks each; step times: {group['sources']['step_time']}",
            )
        )
    for tier in provenance["tiers"]:
        links = "; ".join(f"link {link['between']}: {link['source']}" for link in tier["links"])
        facts.append(
            (
                f"tier {tier['name']}",
                f"{tier['capacity_bytes'] / 1e9:,.4g} GB for each {tier['scope']}; {links}",
            )
        )
    policies = ("router", "residency", "scheduler", "admission")
    facts += [(name, str(scenario[name])) for name in policies if isinstance(scenario.get(name), str)]
    facts += [
        ("seed", str(summary["seed"])),
        ("simulated", f"{seconds(summary['simulated_s'])} in {seconds(summary['wall_s'])} of real time"),
        ("version", f"agentservesim {provenance['agentservesim']}"),
    ]
    return facts
