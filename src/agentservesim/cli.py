"""The command line: stdout is the result, stderr the progress and the diagnostics.

Exit codes: 0 good, 1 a bug, 2 bad input, 99 an SLO was missed, 130 interrupted. Commands import
what they need when they run, so that help and errors come at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperCommand

from agentservesim.model import InputError

if TYPE_CHECKING:
    from agentservesim.model import Workload
    from agentservesim.scenario import RunError, Scenario
    from agentservesim.settings import Settings
    from agentservesim.workload.profiles import Profile

BUG, BAD_INPUT, INTERRUPTED = 1, 2, 130

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A scenario (.toml, .json), a trace, or demo: the shipped trace."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Set any field of the scenario, as --set tools.max_workers=8."
    ),
]
NumInstances = Annotated[int | None, typer.Option("--num-instances", min=1, help="Instances in the fleet.")]

Tiers = Annotated[
    list[str] | None,
    typer.Option(
        "--tier",
        metavar="NAME=SIZE@LINK",
        rich_help_panel="Memory below HBM",
        help="Add a tier, as dram=200GB@pcie5-x16; end in ,node or ,fleet where instances share it. "
        "Repeatable, fastest first.",
    ),
]


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

    Prints a table; --out writes a folder with the metrics and a row for every program and turn.
    """
    from agentservesim.flags import source_settings
    from agentservesim.report.progress import counting, reading
    from agentservesim.results import check_target
    from agentservesim.scenario import RunError, prepare

    if out is not None:
        check_target(out)
    settings = source_settings(source, flags, num_instances, tiers or (), overrides or ())
    if steps:
        settings.put(("record_steps",), True, "--steps")
    with reading(source, quiet):
        plan = prepare(_scenario(settings))
    with counting(plan.workload.num_turns, quiet) as progress:
        try:
            result = plan.run(progress)
        except RunError as error:
            raise InputError(f"{error}{_keep(error, out)}") from error
    if out is not None:
        result.save(out)
    if quiet:
        return
    if as_json:
        _print_json(result.summary)
        return
    from agentservesim.report.terminal import print_summary

    print_summary(result.summary, sys.stdout, str(out) if out is not None else None)


def check(
    source: Source,
    as_json: Json = False,
    num_instances: NumInstances = None,
    tiers: Tiers = None,
    overrides: Overrides = None,
    **flags: Any,
) -> None:
    """Check a scenario or a trace without running it.

    Reads everything that a run would read, and says what would be run and where its numbers come from.
    """
    from agentservesim.flags import source_settings
    from agentservesim.scenario import prepare

    settings = source_settings(source, flags, num_instances, tiers or (), overrides or ())
    plan = prepare(_scenario(settings))
    facts = plan.provenance()
    if as_json:
        _print_json({"scenario": plan.scenario.model_dump(mode="json"), **facts})
        return
    print(f"good: {len(plan.workload.programs):,} programs, {plan.workload.num_turns:,} turns", end="")
    print(" (synthetic)" if plan.workload.synthetic else "")
    for note in plan.workload.notes:
        print(f"  note: {note}")
    for group in facts["instances"]:
        print(f"  {group['count']} x {group['name']}: {group['num_gpu_blocks']:,} KV blocks")
        for what, source_ in group["sources"].items():
            print(f"    {what}: {source_}")
    for tier in facts["tiers"]:
        print(f"  tier {tier['name']}: {tier['capacity_bytes'] / 1e9:,.4g} GB for each {tier['scope']}")
        for link in tier["links"]:
            print(f"    link {link['between']}: {link['source']}")


def list_(
    what: Annotated[
        Literal["models", "gpus", "routers", "residency", "links", "profiles"] | None,
        typer.Argument(metavar="WHAT", help="What to list; all if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List models, GPUs, routers, residency policies, links and synthetic workload profiles."""
    from agentservesim.cost import list_gpus, list_models
    from agentservesim.kv.catalogue import list_links
    from agentservesim.policies import list_policies
    from agentservesim.workload.profiles import PROFILES

    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "models": list_models,
        "gpus": list_gpus,
        "routers": lambda: list_policies("router"),
        "residency": lambda: list_policies("residency"),
        "links": list_links,
        "profiles": lambda: {name: _described(profile) for name, profile in PROFILES.items()},
    }
    chosen = {name: describe() for name, describe in kinds.items() if what in (None, name)}
    if as_json:
        _print_json(chosen if what is None else chosen[what])
        return
    for name, entries in chosen.items():
        print(f"{name}:")
        _print_rows(entries, indent="  ")


def _described(profile: Profile) -> str:
    agents = "with" if profile.sub_agents else "without"
    return (
        f"{agents} sub-agents; {profile.shared_prefix:,} tokens of instructions are the same in all programs"
    )


def metrics(as_json: Json = False) -> None:
    """Print the definition of every metric.

    Each has its name in summary.json, its unit, its formula and its meaning.
    """
    from dataclasses import asdict

    from agentservesim.results import METRICS

    if as_json:
        _print_json([asdict(metric) for metric in METRICS])
        return
    for metric in METRICS:
        unit = f" [{metric.unit}]" if metric.unit else ""
        print(f"{metric.name}{unit}")
        if metric.formula:
            print(f"    = {metric.formula}")
        print(f"    {metric.meaning}")
    print(
        "\nFormulas are SQL over the columns of turns.parquet (turn.*), instances.parquet and links.parquet"
    )
    print("(kv.*, but for hit rates) and programs.parquet (the rest). <tier>, <link>: there is one for each.")
    print("Percentiles interpolate linearly between neighbouring values.")


def validate(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of recorded runs: meta.json and requests.jsonl."),
    ],
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Operator tables, of one accelerator or of several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare with recorded runs of vLLM.

    Replays each run with its own arrivals and settings, and prints how far the simulation is off.
    """
    from agentservesim.validation import print_validation, validate_run

    reports = [validate_run(folder, tables) for folder in runs]
    if as_json:
        _print_json([report.as_dict() for report in reports])
        return
    print_validation(reports, sys.stdout)


def trace_stats(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trace, or demo: the shipped one.")],
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Describe a trace: programs, turns, tokens, gaps, reuse.

    Reuse is the share of the prompt tokens that an infinite prefix cache would hold.
    """
    from dataclasses import asdict

    from agentservesim.workload import trace_stats as measure

    statistics = measure(_load_trace(file, flags))
    if as_json:
        _print_json(asdict(statistics))
        return
    _print_rows(dict(statistics.rows()))


def trace_synth(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="What to imitate, as claude-code; see list profiles.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the trace here (.jsonl or .jsonl.gz).")],
    programs: Annotated[int, typer.Option("--programs", min=1, help="Programs to draw.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
) -> None:
    """Draw a synthetic trace from a profile's distributions."""
    from agentservesim.workload import synthesise, write_trace

    write_trace(synthesise(profile, programs, seed), out)


def trace_convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trace in any format that can be read.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The trace to write, in the canonical format, version 2.")
    ],
    **flags: Any,
) -> None:
    """Convert a trace to the canonical format."""
    from agentservesim.workload import write_trace

    write_trace(_load_trace(file, flags), out)


def _keep(error: RunError, out: Path | None) -> str:
    """Save what a failed run computed beside its folder; says where it is."""
    if out is None:
        return ""
    partial = out.with_name(out.name + ".partial")
    try:
        return f"; what was computed so far is in {error.partial.save(partial)}"
    except InputError as fault:
        return f"; what was computed so far is lost: {fault}"


def _load_trace(file: str, flags: dict[str, Any]) -> Workload:
    from agentservesim.flags import source_settings
    from agentservesim.workload import load_workload

    scenario = _scenario(source_settings(file, flags))
    return load_workload(scenario.workload, scenario.seed)


def _scenario(settings: Settings) -> Scenario:
    from agentservesim.scenario import Scenario
    from agentservesim.settings import validate

    return validate(Scenario, settings)


def _print_rows(rows: dict[str, str], indent: str = "") -> None:
    width = max(map(len, rows), default=0)
    for label, text in rows.items():
        print(f"{indent}{label:{width}}  {text}")


def _print_json(value: object) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def _usage_fault(error: typer.TyperException) -> str:
    """A fault of the command line in one line, with the nearest option if there is one."""
    from agentservesim.lookup import did_you_mean

    message = error.format_message().replace("Value error, ", "").replace("\n", " ")
    message = message.replace(". Did you mean", "; did you mean")
    possible = getattr(error, "possibilities", None)
    if possible:
        hint = did_you_mean(getattr(error, "option_name", ""), possible)
        message = message.partition(" (Possible options")[0] + hint
    return message[:1].lower() + message[1:]


def _fail(message: str, code: int) -> NoReturn:
    print(f"agentservesim: {message}", file=sys.stderr)
    sys.exit(code)


def build_app(with_flags: bool) -> typer.Typer:
    """The application; the flags of scenarios take time to make and are left out unless wanted."""
    settings: dict[str, Any] = {
        "add_completion": False,
        "pretty_exceptions_enable": False,
        "rich_markup_mode": None,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
    app = typer.Typer(
        name="agentservesim",
        help="Simulate multi-turn LLM agent serving: programs, tool calls, vLLM instances, routing.",
        **settings,
    )
    trace = typer.Typer(help="Look at, draw and convert traces.", **settings)
    app.callback()(_about)
    app.command("run", cls=Grouped)(_flagged(run, with_flags))
    app.command("check", cls=Grouped)(_flagged(check, with_flags))
    app.command("list")(list_)
    app.command("metrics")(metrics)
    app.command("validate")(validate)
    trace.command("stats", cls=Grouped)(_flagged(trace_stats, with_flags, only="workload"))
    trace.command("convert", cls=Grouped)(_flagged(trace_convert, with_flags, only="workload"))
    trace.command("synth")(trace_synth)
    app.add_typer(trace, name="trace")
    return app


class Grouped(TyperCommand):
    """A command whose help lists its options by panel, in plain text of any width."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options, a section for each panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            default = "Arguments" if param.param_type_name == "argument" else "Options"
            if record is not None:
                panels.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def _flagged(command: Callable[..., None], wanted: bool, only: str | None = None) -> Callable[..., None]:
    if wanted:
        from agentservesim.flags import with_flags

        return with_flags(command, only)

    def described() -> None:
        raise AssertionError("built for help alone")

    described.__doc__ = command.__doc__
    return described


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("agentservesim"))
        raise typer.Exit


def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["trace"]):
        words.append("--help")
    sys.path.append(str(Path.cwd()))  # where --router my_module:MyRouter looks
    try:
        app = build_app(with_flags=words[0] in ("run", "check", "trace"))
        code = app(words, prog_name="agentservesim", standalone_mode=False)
    except InputError as error:
        _fail(str(error), BAD_INPUT)
    except typer.TyperException as error:
        _fail(_usage_fault(error), error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:
        traceback.print_exc()
        _fail("this is a bug; please report it with the lines above", BUG)
    if code == INTERRUPTED:
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code or 0)
