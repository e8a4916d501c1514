"""The commands that simulate: run, and check, which stops short of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentservesim.cli.options import Json, NumInstances, Overrides, Source, Tiers, checked
from agentservesim.cli.output import MISSED, print_json
from agentservesim.model import InputError

if TYPE_CHECKING:
    from agentservesim.results import Result
    from agentservesim.scenario import RunError


def run(
    source: Source,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a run folder here.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="Keep a row per engine step in the run folder.")
    ] = False,
    num_instances: NumInstances = None,
    tiers: Tiers = None,
    overrides: Overrides = None,
    **flags: Any,
) -> None:
    """Simulate a scenario or a trace.

    Prints a table; --out writes a folder with report.html, the metrics and a row for every program and
    turn. The exit code is 99 if an --slo was missed.
    """
    from agentservesim.flags import source_settings
    from agentservesim.report.progress import counting, reading
    from agentservesim.scenario import RunError, prepare

    if out is not None:
        from agentservesim.results import check_target

        check_target(out)
    settings = source_settings(source, flags, num_instances, tiers or (), overrides or ())
    if steps:
        settings.put(("record_steps",), True, "--steps")
    with reading(source, quiet):
        plan = prepare(checked(settings))
    if not quiet:
        wants = [str(want) for want in plan.wants() if not want.turns]
        for line in (*(f"note: {note}" for note in plan.notes), *wants):
            print(f"agentservesim: {line}", file=sys.stderr)
    with counting(plan.workload.num_turns, quiet) as progress:
        try:
            result = plan.run(progress)
        except RunError as error:
            raise InputError(f"{error}{_keep(error, out)}") from error
    if out is not None:
        _write(result, out)
    if as_json and not quiet:
        print_json(result.summary)
    elif not quiet:
        from agentservesim.report.terminal import print_summary

        print_summary(result.summary, sys.stdout, str(out) if out is not None else None)
    if not all(objective["met"] for objective in result.summary.get("slo", ())):
        raise typer.Exit(MISSED)


def check(
    source: Source,
    as_json: Json = False,
    num_instances: NumInstances = None,
    tiers: Tiers = None,
    overrides: Overrides = None,
    **flags: Any,
) -> None:
    """Check a scenario or a trace without running it.

    Reads and builds everything that a run would, and says what would be run and where its numbers come from.
    """
    from agentservesim.flags import source_settings
    from agentservesim.scenario import prepare

    settings = source_settings(source, flags, num_instances, tiers or (), overrides or ())
    plan = prepare(checked(settings))
    plan.check()
    facts = plan.provenance()
    wants = plan.wants()
    if as_json:
        told = [want._asdict() for want in wants]
        print_json({"scenario": plan.scenario.model_dump(mode="json"), **facts, "wants": told})
        return
    print(f"good: {len(plan.workload.programs):,} programs, {plan.workload.num_turns:,} turns", end="")
    print(" (synthetic)" if plan.workload.synthetic else "")
    for note in plan.notes:
        print(f"  note: {note}")
    for want in wants:
        print(f"  {want}")
    for group, limits in zip(facts["instances"], plan.scenario.instances, strict=True):
        print(
            f"  {group['count']} x {group['name']}: {group['num_gpu_blocks']:,} KV blocks, "
            f"{limits.max_num_batched_tokens:,} tokens and {limits.max_num_seqs:,} sequences a step"
        )
        for what, source_ in group["sources"].items():
            print(f"    {what}: {source_}")
    for tier in facts["tiers"]:
        print(f"  tier {tier['name']}: {tier['capacity_bytes'] / 1e9:,.4g} GB for each {tier['scope']}")
        for link in tier["links"]:
            print(f"    link {link['between']}: {link['source']}")


def _write(result: Result, folder: Path) -> Path:
    """Write the run folder, and the report into it."""
    from agentservesim.report.html import write_report

    result.save(folder)
    write_report(folder)
    return folder


def _keep(error: RunError, out: Path | None) -> str:
    """Save what a failed run computed beside its folder; says where it is."""
    if out is None:
        return ""
    from agentservesim.results.run_folder import partial_of

    try:
        return f"; what was computed so far is in {_write(error.partial, partial_of(out))}"
    except InputError as fault:
        return f"; what was computed so far is lost: {fault}"
