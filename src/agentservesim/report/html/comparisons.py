"""The report of a comparison or a sweep: paired differences, and latency against throughput."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from agentservesim.experiment.comparison import COMPARISON, SCHEMA_VERSION
from agentservesim.experiment.sweep import SWEEP
from agentservesim.model import InputError
from agentservesim.report.comparison import PLACES
from agentservesim.report.html.pictures import Picture
from agentservesim.report.html.wording import per_hour, seconds, share

HEADLINES = (
    ("Program latency, mean", "program.latency_s.mean"),
    ("TTFT, p99", "turn.ttft_s.p99"),
    ("TPOT, mean", "turn.tpot_s.mean"),
    ("Prompt from the cache", "tokens.hit_rate"),
    ("Programs served", "throughput.programs_per_s"),
)
THROUGHPUT, LATENCY = "throughput.programs_per_s", "program.latency_s.mean"

Content = dict[str, Any]


def comparison_file(folder: Path) -> Path | None:
    """The file that makes a folder one of a comparison or a sweep, if there is one."""
    return next((folder / name for name in (COMPARISON, SWEEP) if (folder / name).is_file()), None)


def comparison_data(file: Path) -> dict[str, Any]:
    """Everything that the page of a comparison or a sweep shows.

    Raises InputError if the file cannot be read or is of another version.
    """
    try:
        content = orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{file}: has schema_version {version!r}, this agentservesim reads {SCHEMA_VERSION}")
    name = file.absolute().parent.name
    drawn = _comparison(_shortened(content), name) if file.name == COMPARISON else _sweep(content, name)
    return {"classes": [], "quantiles": [], **drawn}


def _shortened(content: Content) -> Content:
    """The comparison with its arms called by their values, if it is one field in which all of them differ."""
    names = {arm: arm.partition("=")[2] for arm in content["arms"]}
    fields = {arm.partition("=")[0] for arm in names}
    if len(fields) > 1 or not all(names.values()) or any(" " in arm for arm in names):
        return content
    metrics = {
        place: {
            **metric,
            "winner": names.get(metric["winner"]),
            "arms": {names[arm]: cell for arm, cell in metric["arms"].items()},
        }
        for place, metric in content["metrics"].items()
    }
    arms = {names[arm]: told for arm, told in content["arms"].items()}
    return {**content, "baseline": names[content["baseline"]], "arms": arms, "metrics": metrics}


def _comparison(content: Content, name: str) -> dict[str, Any]:
    arms = list(content["arms"])
    metrics = content["metrics"]
    oracles = [arm for arm, told in content["arms"].items() if told["oracle"]]
    points = [
        {
            "arm": arm,
            "x": [value for value in told["values"].get(THROUGHPUT, []) if value is not None],
            "y": [value for value in told["values"].get(LATENCY, []) if value is not None],
        }
        for arm, told in content["arms"].items()
    ]
    return {
        "name": name,
        "verdict": {
            "title": f"{len(arms)} arms on one workload, {_seeds(content)}; baseline {content['baseline']}",
            "hint": _finding(content),
            "warnings": _oracles(oracles),
            "slos": _slos(content),
            "lines": [],
            "numbers": [
                _tile(label, place, metrics[place], content["baseline"])
                for label, place in HEADLINES
                if place in metrics
            ],
            "facts": [
                ("intervals", f"{content['confidence']:.0%}, over {content['intervals_over']}"),
                *([("note", content["note"])] if content["note"] else []),
                *((arm, _policies(told["scenario"])) for arm, told in content["arms"].items()),
            ],
        },
        "pictures": [vars(picture) for picture in (_differences(content), _pareto(points, COMPARISON))],
    }


def _sweep(content: Content, name: str) -> dict[str, Any]:
    points = [
        {
            "arm": arm,
            "x": [metrics[THROUGHPUT]["value"]] if THROUGHPUT in metrics else [],
            "y": [metrics[LATENCY]["value"]] if LATENCY in metrics else [],
        }
        for arm, metrics in content["points"].items()
    ]
    verdict = {
        "title": f"{len(points)} points of a grid, {_seeds(content)}",
        "hint": "The points on the line are those that no other point beats in both latency and throughput.",
        "warnings": _oracles(content.get("oracles", [])),
        **{key: [] for key in ("slos", "lines", "numbers", "facts")},
    }
    return {"name": name, "verdict": verdict, "pictures": [vars(_pareto(points, SWEEP))]}


def _differences(content: Content) -> Picture:
    places = [place for place in PLACES if place in content["metrics"]]
    others = [arm for arm in content["arms"] if arm != content["baseline"]]
    rows = []
    for place in places:
        metric = content["metrics"][place]
        cells = [metric["arms"].get(arm, {}).get("relative") for arm in others]
        if any(cell is not None for cell in cells):
            said = {"unit": metric["unit"], "better": metric["better"], "winner": metric["winner"]}
            means = [metric["arms"].get(arm, {}).get("mean") for arm in (content["baseline"], *others)]
            rows.append({"place": place, **said, "cells": cells, "means": means})
    return Picture(
        "differences",
        f"How do the others differ from {content['baseline']}?",
        _winners([row["winner"] for row in rows]),
        {"runs": ()},
        {"baseline": content["baseline"], "arms": others, "rows": rows},
        note="Each mark is the difference as a share of the baseline's value, with its "
        f"{content['confidence']:.0%} interval over {content['intervals_over']}, the arms of a pair sharing "
        "arrivals and tool times. An interval that leaves out 0 is a difference that is there.",
    )


def _pareto(points: Sequence[Content], file: str) -> Picture:
    known = [point for point in points if point["x"] and point["y"]]
    front = _front(known)
    answer = "No arm has both a latency and a throughput."
    if known:
        best = ", ".join(known[index]["arm"] for index in front)
        answer = f"Not beaten in both latency and throughput: {best}."
    return Picture(
        "pareto",
        "Which is fast, and which serves much?",
        answer,
        {"runs": ()},
        {"points": known, "front": front},
        note="Large marks are means" + (", small ones are the seeds." if file == COMPARISON else "."),
    )


def _front(points: Sequence[Content]) -> list[int]:
    """The points that no other one beats in both means, by throughput."""
    means = [(sum(p["x"]) / len(p["x"]), sum(p["y"]) / len(p["y"])) for p in points]
    unbeaten = [
        index
        for index, (x, y) in enumerate(means)
        if not any(a >= x and b <= y and (a, b) != (x, y) for a, b in means)
    ]
    return sorted(unbeaten, key=lambda index: means[index])


def _oracles(names: Sequence[str]) -> list[str]:
    return [f"{', '.join(names)}: an oracle; it knows the future, as no server can."] if names else []


def _finding(content: Content) -> str:
    """The most that can be said of the mean program latency."""
    metric = content["metrics"].get(LATENCY)
    if metric is None:
        return "No program came to its end."
    winner, baseline = metric["winner"], content["baseline"]
    if winner is None:
        return "No arm is clearly the best in mean program latency."
    if winner == baseline:
        return f"{baseline} is clearly the best in mean program latency."
    change = _change(metric["arms"][winner]["relative"])
    return f"{winner} is clearly the best in mean program latency: {change}."


def _winners(winners: Sequence[str | None]) -> str:
    """How often each arm is clearly the best."""
    counts = Counter(winner for winner in winners if winner is not None).most_common()
    if not counts:
        return f"No arm is clearly the best in any of {len(winners)} metrics."
    said = ", ".join(f"{arm} in {count}" for arm, count in counts)
    return f"Clearly the best among {len(winners)} metrics: {said}."


def _tile(label: str, place: str, metric: Content, baseline: str) -> dict[str, Any]:
    means = {arm: cell["mean"] for arm, cell in metric["arms"].items()}
    best = metric["winner"] or (min if metric["better"] == "lower" else max)(
        means, key=lambda arm: means[arm]
    )
    shown = seconds if metric["unit"] == "s" else share if metric["unit"] == "" else per_hour
    relative = metric["arms"][best]["relative"]
    detail = "the baseline" if best == baseline else "not compared" if relative is None else _change(relative)
    return {
        "label": f"{label}: {shown(means[best])}",
        "metric": place,
        "value": means[best],
        "text": best if metric["winner"] else "no clear best",
        "detail": detail if metric["winner"] else f"best mean: {best}, {detail}",
    }


def _change(relative: Content) -> str:
    """As -12% (-15 to -9)."""
    if relative["low"] is None:
        return f"{relative['value']:+.1%}"
    return f"{relative['value']:+.1%} ({100 * relative['low']:+.1f} to {100 * relative['high']:+.1f})"


def _slos(content: Content) -> list[dict[str, Any]]:
    runs = len(content["seeds"])
    return [
        {"text": f"{arm}: {slo}", "met": met == runs, "measured": f"{met} of {runs} runs"}
        for arm, told in content["arms"].items()
        for slo, met in told["slo_met"].items()
    ]


def _policies(scenario: Content) -> str:
    families = ("residency", "router", "scheduler", "admission")
    return ", ".join(f"{family} {scenario[family]}" for family in families if family in scenario)


def _seeds(content: Content) -> str:
    count = len(content["seeds"])
    return "1 seed" if count == 1 else f"{count} seeds"
