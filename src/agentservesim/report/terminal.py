"""A run on one screen of a terminal, or as plain text in a pipe."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Summary = dict[str, Any]

_ROWS = (
    ("program latency", "program", "latency_s"),
    ("turn latency", "turn", "e2el_s"),
    ("TTFT", "turn", "ttft_s"),
    ("TPOT", "turn", "tpot_s"),
    ("queueing", "turn", "queue_s"),
    ("queue bubble", "program", "queue_s"),
    ("slowdown", "program", "slowdown"),
)
_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")
_PARTS = (
    ("tool", "tools", "blue"),
    ("queue", "queue", "red"),
    ("prefill", "prefill", "yellow"),
    ("decode", "decode", "green"),
    ("transfer", "transfer", "magenta"),
)
_BAR = 40


def print_summary(summary: Summary, file: TextIO, saved: str | None = None) -> None:
    """Print the result table; `saved` is the run folder, if there is one."""
    console = Console(file=file, highlight=False, width=None if file.isatty() else 120)
    with console.capture() as screen:
        console.print(Text(title(summary), style="bold"))
        served = summary["counts"]["programs"] > 0
        parts = (_latencies, _time_share, _facts, _memory, _fairness) if served else ()
        for part in (*(make(summary) for make in parts), _objectives(summary, console)):
            if part is None:
                continue
            console.print()
            console.print(Padding(part, (0, 0, 0, 2), expand=False))
        console.print()
        console.print(f"Hint: {hint(summary)}", soft_wrap=True)
        where = f"Results: {saved} (its README.md explains them)" if saved else "Keep the tables: --out DIR"
        console.print(where, soft_wrap=True)
    file.write("".join(f"{line.rstrip()}\n" for line in screen.get().splitlines()))


def title(summary: Summary) -> str:
    """What was run, in a line."""
    scenario, counts = summary["scenario"], summary["counts"]
    fleet = " + ".join(f"{g['count']} x {g['gpu']} ({_model(g)})" for g in scenario["instances"])
    programs = "synthetic programs" if summary["provenance"]["workload"]["synthetic"] else "programs"
    away = f" ({counts['rejected']:,} more turned away)" if counts.get("rejected") else ""
    served = f"{counts['programs']:,} {programs}{away}, {counts['turns']:,} turns"
    order, admission = scenario.get("scheduler", "fcfs"), scenario.get("admission", "always")
    scheduler = "" if order == "fcfs" else f", {order}"
    scheduler += "" if admission == "always" else f", admission {admission}"
    residency = f", residency {scenario['residency']}" if "kv" in summary else ""
    oracle = " (an oracle: it knows the future)" if summary["provenance"].get("oracle") else ""
    return f"{scenario['name']}: {served} on {fleet}, {scenario['router']}{scheduler}{residency}{oracle}"


def hint(summary: Summary) -> str:
    """The one thing about this run that its reader should know first."""
    share, counts, tokens = summary["program"]["time_share"], summary["counts"], summary["tokens"]
    if share["tool"] is None:
        return "no program came to its end, so there is nothing to tell of them."
    serving = 1 - share["tool"]
    if counts["preemptions"] > 0.01 * counts["turns"]:
        return (
            f"the KV pool is too small for this load: {counts['preemptions']:,} preemptions, "
            f"{_count(tokens['recomputed'])} tokens computed again. "
            "More blocks or instances, or a lower --max-num-seqs, would help."
        )
    if serving > 0 and share["queue"] > 0.3 * serving:
        return (
            f"{share['queue'] / serving:.0%} of the time spent in serving is queueing: "
            "the fleet is overloaded. More instances would shorten programs most."
        )
    if serving < 0.2:
        return (
            f"{share['tool']:.0%} of the programs' time is outside the engine (tools, think time): "
            f"no serving change can shorten programs by more than {serving:.0%} on average."
        )
    if tokens["prompt"] and tokens["cached"] < 0.3 * tokens["prompt"]:
        return (
            f"only {tokens['cached'] / tokens['prompt']:.0%} of the prompt tokens were in the prefix cache; "
            "agentservesim trace stats shows what an infinite cache could serve."
        )
    return (
        f"of the time spent in serving, {share['decode'] / serving:.0%} is decode: "
        "faster memory or fewer requests per instance would shorten programs most."
    )


def _latencies(summary: Summary) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in (*_STATISTICS, "n"):
        table.add_column(name, justify="right", style="dim" if name == "n" else "")
    for label, group, metric in _ROWS:
        values = summary[group][metric]
        scale, unit = (1.0, "s") if (values["mean"] or 0) >= 1 else (1e3, "ms")
        if not metric.endswith("_s"):
            scale, unit = 1.0, "x"
        shown = ["-" if values[name] is None else number(values[name] * scale) for name in _STATISTICS]
        table.add_row(f"{label} ({unit})", *shown, f"{values['n']:,}")
    return table


def _time_share(summary: Summary) -> RenderableType:
    share = summary["program"]["time_share"]
    table = _plain_table("left", "right", "left")
    table.add_row("where the time went", "", "")
    for key, label, colour in _PARTS:
        part = share[key]
        table.add_row(f"  {label}", f"{part:.1%}", Text("#" * round(part * _BAR), style=colour))
    return table


def _facts(summary: Summary) -> RenderableType:
    tokens, counts, rate = summary["tokens"], summary["counts"], summary["throughput"]
    hits = tokens["cached"] / tokens["prompt"] if tokens["prompt"] else 0.0
    rates = (("programs", "programs"), ("turns", "turns"), ("output_tokens", "output tokens"))
    speed = summary["simulated_s"] / summary["wall_s"] if summary["wall_s"] else 0.0
    table = _plain_table("left", "left")
    prompt, output = _count(tokens["prompt"]), _count(tokens["output"])
    table.add_row("tokens", f"{prompt} prompt ({hits:.1%} from the prefix cache), {output} output")
    table.add_row("throughput", ", ".join(_rate(rate[f"{key}_per_s"], label) for key, label in rates))
    table.add_row("engine", f"{counts['steps']:,} steps, {counts['leaps']:,} leaps")
    table.add_row(
        "preemptions", f"{counts['preemptions']:,} ({_count(tokens['recomputed'])} tokens computed again)"
    )
    if "cost" in summary:
        table.add_row("cost", _cost(summary["cost"]))
    for group in summary["provenance"]["instances"]:
        source = group["sources"]["step_time"].partition(",")[0]
        table.add_row(group["name"], f"{group['num_gpu_blocks']:,} KV blocks each; step times: {source}")
    took = f"{summary['wall_s']:.2f} s of real time ({speed:,.0f} times faster)"
    table.add_row("simulated", f"{_duration(summary['simulated_s'])} in {took}")
    return table


def _cost(cost: Summary) -> str:
    """Energy and, where prices are known, money."""
    per_program = (
        "" if cost["energy_per_program_j"] is None else f" ({_kwh(cost['energy_per_program_j'])} a program)"
    )
    text = f"{_kwh(cost['energy_j'])}{per_program}"
    if cost["usd"] is None:
        return text
    parts = [
        ("a program", cost["usd_per_program"]),
        ("for 1M output tokens", cost["usd_per_million_output_tokens"]),
    ]
    shares = ", ".join(f"${number(usd)} {what}" for what, usd in parts if usd is not None)
    return f"{text}, ${number(cost['usd'])} of rent ({shares})"


def _kwh(joules: float) -> str:
    kwh = joules / 3.6e6
    return f"{number(kwh)} kWh" if kwh >= 1 else f"{number(kwh * 1e3)} Wh"


def _memory(summary: Summary) -> RenderableType | None:
    """Where the prompts were found and what was moved for it; nothing where KV stays in HBM for LRU."""
    kv = summary.get("kv")
    if kv is None:
        return None
    tokens = summary["tokens"]
    table = _plain_table("left", "left")
    rates = {"hbm": tokens["hit_rate"], **kv.get("hit_rate", {})}
    found = ", ".join(f"{rate or 0:.1%} {tier}" for tier, rate in rates.items())
    table.add_row("prompts from", f"{found}, {1 - (tokens['hit_rate'] or 0):.1%} computed")
    table.add_row("prefilled", f"{number(tokens['prefill_amplification'] or 0)} tokens for each new one")
    for link, moved in kv.get("bytes_moved", {}).items():
        busy = kv["link_utilisation"][link]
        ways = (f"{_bytes(moved[way])} {way} ({busy[way]:.1%} busy)" for way in ("down", "up"))
        table.add_row(f"link {link}", ", ".join(ways))
    held = f"{kv['waste_share']:.1%} of HBM's space and time held in gaps or under way"
    table.add_row("pins", f"{held}; {kv['forced_unpins']:,} broken by force")
    return table


def _fairness(summary: Summary) -> RenderableType | None:
    """Who got what: goodput where limits were given, Jain's index where there are tenants."""
    table = _plain_table("left", "left")
    if goodput := summary.get("goodput"):
        limits = " ".join(summary["scenario"]["goodput"])
        good = f"{goodput['turn_share']:.1%} of turns, {goodput['program_share']:.1%} of programs"
        rates = (_rate(goodput[f"{what}_per_s"], f"good {what}") for what in ("turns", "programs"))
        table.add_row("goodput", f"{good} inside {limits}: {', '.join(rates)}")
    fairness = summary["fairness"]
    if (tenants := fairness.get("jain_tenants")) is not None:
        jain = f"{tenants:.3f} over tenants, {fairness['jain_programs']:.3f} over programs (1 is fair)"
        table.add_row("Jain's index", jain)
    return table if table.row_count else None


def _objectives(summary: Summary, console: Console) -> RenderableType | None:
    """Each objective with a tick or a cross, in words where no terminal shows them."""
    if "slo" not in summary:
        return None
    plain = not console.is_terminal or console.encoding != "utf-8"
    met, missed = ("met", "MISSED") if plain else ("\N{CHECK MARK}", "\N{BALLOT X}")
    table = _plain_table("left", "left", "left")
    for entry in summary["slo"]:
        value = "no value" if entry["value"] is None else _quantity(entry["value"], entry["unit"])
        mark = Text(met, style="green") if entry["met"] else Text(missed, style="bold red")
        table.add_row(mark, entry["slo"], value)
    return table


def _quantity(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{number(value * 1e3)} ms"
    return f"{number(value)} {unit}".rstrip()


def _plain_table(*justify: JustifyMethod) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for column in justify:
        table.add_column(justify=column)
    return table


def _model(group: dict[str, Any]) -> str:
    name = str(group["model"]).rstrip("/").removesuffix("/config.json").rpartition("/")[2]
    degrees = (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data"))
    shared = [(short, group[f"{kind}_parallel_size"]) for short, kind in degrees]
    return ", ".join([name, *(f"{short}{size}" for short, size in shared if size > 1)])


def number(value: float) -> str:
    """At least three digits: 1,234, 12.3, 1.23, 0.12, 0.00123."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def _rate(per_s: float | None, what: str) -> str:
    if per_s is None:
        return f"- {what}/s"
    return f"{number(per_s)} {what}/s" if per_s >= 0.1 else f"{number(per_s * 3600)} {what}/h"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def _count(value: int) -> str:
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.1f} {letter}"
    return str(value)


def _bytes(value: int) -> str:
    return f"{_count(value)}B" if value >= 1000 else f"{value} B"
