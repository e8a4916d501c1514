"""Every metric, defined once: the formula that is printed is the one that is computed.

A formula is an SQL expression over the columns of one of the run's tables (see TABLES). It reads in
seconds; it is evaluated on the recorded integer picoseconds, so that differences of large times lose
nothing. A metric with `<tier>` in its name exists for each tier, one with `<link>` and `<direction>` for
each link and direction.
"""

from __future__ import annotations

import re

from agentservesim.results.metric import Metric

_SPAN = "(MAX(finish_s) - MIN(arrival_s))"
_PARTS = ("tool", "queue", "prefill", "decode", "transfer")
_WHOLE = "(" + " + ".join(f"SUM({part}_s)" for part in _PARTS) + ")"
SERVED = "(" + " + ".join(f"{part}_s" for part in _PARTS[1:]) + ")"
"""Time of a program's turns from being sent to their last token, summed over its turns."""


def _jain(share: str) -> str:
    """Jain's index of a column: the square of the sum over n times the sum of squares."""
    return f"POWER(SUM({share}), 2) / (COUNT({share}) * SUM(POWER({share}, 2)))"


METRICS: tuple[Metric, ...] = (
    Metric(
        "program.latency_s",
        "s",
        "program",
        "finish_s - arrival_s",
        "From a program's arrival to its last token, tool calls and think time included.",
        "lower",
    ),
    Metric(
        "turn.ttft_s",
        "s",
        "turn",
        "first_token_s - ready_s",
        "Time to first token, as the client sees it: queueing, prefill and the front end.",
        "lower",
    ),
    Metric(
        "turn.tpot_s",
        "s",
        "turn",
        "CASE WHEN output_tokens > 1 THEN (finish_s - first_token_s) / (output_tokens - 1) END",
        "Time per output token after the first. A turn with a single output token has none and is not in n.",
        "lower",
    ),
    Metric(
        "turn.e2el_s",
        "s",
        "turn",
        "finish_s - ready_s",
        "End-to-end latency of a turn: from sending it to its last token.",
        "lower",
    ),
    Metric(
        "turn.queue_s",
        "s",
        "turn",
        "queue_s",
        "Waiting to be scheduled: before the first admission (the front end's way in included) and after "
        "every preemption.",
        "lower",
    ),
    Metric(
        "turn.slowdown",
        "",
        "turn",
        "(finish_s - ready_s) / alone_s",
        "Latency of a turn against alone_s: what it takes by itself on an idle instance, of the fastest kind "
        "in the fleet, whose cache holds whatever the turns before it had. Queueing, company in the batch, "
        "lost KV and moved KV make it more than 1. The reference is the same under every policy.",
        "lower",
    ),
    Metric(
        "program.queue_s",
        "s",
        "program",
        "queue_s",
        "Queue bubble: from ready to running, summed over a program's turns, waiting again after preemptions "
        "included.",
        "lower",
    ),
    Metric(
        "program.requeue_s",
        "s",
        "program",
        "requeue_s",
        "The part of the queue bubble that lies behind preemptions.",
        "lower",
    ),
    Metric(
        "program.slowdown",
        "",
        "program",
        f"{SERVED} / alone_s",
        "Time of a program's turns against the same turns alone on an idle instance (see turn.slowdown); "
        "tool calls and think time are in neither.",
        "lower",
    ),
    Metric("counts.programs", "", "run", "COUNT(finish_s)", "Programs that ran to their end."),
    Metric(
        "counts.rejected",
        "",
        "run",
        "COUNT(*) - COUNT(finish_s)",
        "Programs that the admission policy turned away.",
    ),
    Metric("counts.turns", "", "run", "SUM(turns)", "Turns (LLM calls) that were served."),
    Metric(
        "counts.steps",
        "",
        "run",
        None,
        "Engine steps (forward passes) of all instances, each engine's dummy batches in a wave included.",
    ),
    Metric(
        "counts.leaps",
        "",
        "run",
        None,
        "Times the engine took several decode steps at once; 0 with --no-leap, and nothing else differs.",
    ),
    Metric(
        "counts.preemptions",
        "",
        "run",
        "SUM(preemptions)",
        "Requests put back in the queue to free blocks.",
        "lower",
    ),
    Metric("tokens.prompt", "token", "run", "SUM(prompt_tokens)", "Prompt tokens of all turns."),
    Metric(
        "tokens.cached",
        "token",
        "run",
        "SUM(cached_tokens)",
        "Prompt tokens found in the prefix cache when a turn was first admitted.",
    ),
    Metric(
        "tokens.cached_<tier>",
        "token",
        "run",
        "SUM(cached_<tier>_tokens)",
        "Of the cached tokens, those that were in this tier when the turn was admitted; what lay lower was "
        "loaded. They sum to tokens.cached.",
    ),
    Metric(
        "tokens.computed",
        "token",
        "run",
        "SUM(computed_tokens)",
        "Prompt tokens that were not cached.",
        "lower",
    ),
    Metric(
        "tokens.recomputed",
        "token",
        "run",
        "SUM(recomputed_tokens)",
        "Tokens (prompt or reply) computed again because of a preemption.",
        "lower",
    ),
    Metric(
        "tokens.new",
        "token",
        "run",
        "SUM(new_tokens)",
        "Prompt tokens that no turn before had in its prompt or reply, programs taken one after the other: "
        "what an unlimited cache would leave to compute.",
    ),
    Metric(
        "tokens.hit_rate",
        "",
        "run",
        "SUM(cached_tokens) / SUM(prompt_tokens)",
        "Share of the prompt tokens that did not have to be computed.",
        "higher",
    ),
    Metric(
        "tokens.prefill_amplification",
        "",
        "run",
        "(SUM(computed_tokens) + SUM(recomputed_tokens)) / SUM(new_tokens)",
        "Tokens prefilled for each new one; 1 would be an unlimited cache of single tokens.",
        "lower",
    ),
    Metric("tokens.output", "token", "run", "SUM(output_tokens)", "Tokens generated."),
    Metric(
        "throughput.programs_per_s",
        "1/s",
        "run",
        f"COUNT(finish_s) / {_SPAN}",
        "Programs over the time from the first arrival to the last token.",
        "higher",
    ),
    Metric(
        "throughput.turns_per_s",
        "1/s",
        "run",
        f"SUM(turns) / {_SPAN}",
        "Turns over the time from the first arrival to the last token.",
        "higher",
    ),
    Metric(
        "throughput.output_tokens_per_s",
        "1/s",
        "run",
        f"SUM(output_tokens) / {_SPAN}",
        "Generated tokens over the time from the first arrival to the last token.",
        "higher",
    ),
    Metric(
        "throughput.agent_steps_per_min",
        "1/min",
        "run",
        f"60 * SUM(turns - sessions) / {_SPAN}",
        "Pairs of a turn and the gap behind it (a step of the agent, not of the engine) over the time from "
        "the first arrival to the last token. The last turn of a session has no gap.",
        "higher",
    ),
    Metric(
        "cost.energy_j",
        "J",
        "run",
        None,
        "Energy of all accelerators until the run's end: idle, decode and prefill watts times their times.",
        "lower",
    ),
    Metric(
        "cost.energy_per_program_j", "J", "run", None, "cost.energy_j over the finished programs.", "lower"
    ),
    Metric(
        "cost.energy_per_million_output_tokens_j",
        "J",
        "run",
        None,
        "cost.energy_j over the output tokens, times a million.",
        "lower",
    ),
    Metric(
        "cost.usd",
        "USD",
        "run",
        None,
        "Rent of all accelerators until the run's end, idle or not; none where a price is unknown.",
        "lower",
    ),
    Metric("cost.usd_per_program", "USD", "run", None, "cost.usd over the finished programs.", "lower"),
    Metric(
        "cost.usd_per_million_output_tokens",
        "USD",
        "run",
        None,
        "cost.usd over the output tokens, times a million.",
        "lower",
    ),
    Metric(
        "goodput.turns_per_s",
        "1/s",
        "run",
        f"SUM(good_turns) / {_SPAN}",
        "Turns inside every limit of --goodput over the time from the first arrival to the last token.",
        "higher",
    ),
    Metric(
        "goodput.turn_share",
        "",
        "run",
        "SUM(good_turns) / SUM(turns)",
        "Share of the turns that were inside every limit.",
        "higher",
    ),
    Metric(
        "goodput.programs_per_s",
        "1/s",
        "run",
        f"SUM(good) / {_SPAN}",
        "Programs of which every turn was inside every limit, and the program itself inside its own, over "
        "the time from the first arrival to the last token.",
        "higher",
    ),
    Metric(
        "goodput.program_share",
        "",
        "run",
        "SUM(good) / COUNT(*)",
        "Share of the programs that were inside every limit with every turn.",
        "higher",
    ),
    Metric(
        "fairness.max_to_mean_slowdown",
        "",
        "run",
        f"MAX({SERVED} / alone_s) / AVG({SERVED} / alone_s)",
        "The worst program's slowdown against the mean over programs; 1 if all are slowed down alike.",
        "lower",
    ),
    Metric(
        "fairness.jain_programs",
        "",
        "run",
        _jain(f"alone_s / {SERVED}"),
        "Jain's index over programs of their speed, the inverse of their slowdown: 1 if all are slowed down "
        "alike, 1/n if one alone gets on. (Jain, Chiu, Hawe: A Quantitative Measure of Fairness, 1984.)",
        "higher",
    ),
    Metric(
        "fairness.jain_tenants",
        "",
        "tenant",
        _jain("alone_s / NULLIF(served_s, 0)"),
        "Jain's index over tenants of the speed of all of a tenant's turns together, where the trace names "
        "tenants and something was served. It is about how much each is slowed down, not about how much each "
        "asks for.",
        "higher",
    ),
    *(
        Metric(f"program.time_share.{part}", "", "run", f"SUM({part}_s) / {_WHOLE}", meaning)
        for part, meaning in zip(
            _PARTS,
            (
                "Share of the programs' time outside the engine: tool calls and think time. Time is summed "
                "over turns, so sub-agents that run side by side each count; the five shares sum to 1.",
                "Share spent waiting to be scheduled.",
                "Share spent from being scheduled to the first token.",
                "Share spent from the first token to the last.",
                "Share spent waiting for KV to be moved between tiers or instances.",
            ),
            strict=True,
        )
    ),
    Metric(
        "kv.hit_rate.<tier>",
        "",
        "run",
        "SUM(cached_<tier>_tokens) / SUM(prompt_tokens)",
        "Share of the prompt tokens that were in this tier when the turn was admitted.",
    ),
    Metric(
        "kv.held_in_gap_byte_s",
        "B s",
        "instance",
        "SUM(held_in_gap_byte_s)",
        "KV pinned in HBM times how long, until the turn after the gap is admitted; what several pins "
        "share counts for each, and what is still on its way into a pin counts from when it was asked for.",
    ),
    Metric(
        "kv.waste_share",
        "",
        "instance",
        "SUM(pinned_byte_s + in_flight_byte_s) / SUM(pool_byte_s)",
        "Share of HBM's KV space and time that was taken by nothing but pins of idle sessions and copies "
        "under way, until the run's last event: a copy may end behind the last token. "
        "What a turn holds while it computes again is not in it, as others have it in their waste "
        "of memory: a policy that holds nothing wastes nothing here and pays in prefill.",
        "lower",
    ),
    Metric(
        "kv.forced_unpins",
        "",
        "instance",
        "SUM(forced_unpins)",
        "Pins broken before their time because blocks were short.",
        "lower",
    ),
    Metric(
        "kv.bytes_moved.<link>.<direction>",
        "B",
        "link",
        "SUM(bytes)",
        "KV sent over such links, down to the slower tier or up to the faster one, from when it is asked for;"
        " a copy that would end after 106 days counts, but is in no row of transfers.",
    ),
    Metric(
        "kv.link_utilisation.<link>.<direction>",
        "",
        "link",
        "SUM(busy_s) / SUM(open_s)",
        "Share of the time until the run's last event for which such links were at work in this direction.",
    ),
    Metric(
        "simulated_s",
        "s",
        "run",
        "MAX(finish_s)",
        "The simulated clock when the last token reached its client; the clock starts at 0 with the trace.",
    ),
    Metric("wall_s", "s", "run", None, "Real time the simulation took, without reading the trace."),
    Metric("cpu_s", "s", "run", None, "Processor time the simulation took, without reading the trace."),
)
ROW_METRICS = tuple(m for m in METRICS if m.subject in ("turn", "program"))


def find_metric(name: str) -> Metric | None:
    """The metric of this name, in which a tier or a link may stand for its placeholder."""
    for metric in METRICS:
        if re.fullmatch(re.sub(r"<\w+>", "[^.]+", re.escape(metric.name)), name):
            return metric
    return None
