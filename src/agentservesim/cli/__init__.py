"""The command line: stdout is the result, stderr the progress and the diagnostics.

Exit codes: 0 good, 1 a bug, 2 bad input, 99 an SLO was missed, 130 interrupted. Commands import
what they need when they run, so that help and errors come at once.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from agentservesim.cli import comparing, facts, hardware, running, showing, traces
from agentservesim.cli.output import BAD_INPUT, BUG, INTERRUPTED, discard_stdout, stdout_is_gone
from agentservesim.model import InputError


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


def build_app(wanted: str) -> typer.Typer:
    """The application; the flags of scenarios take time to make and only the command `wanted` has them."""
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
    app.command("run", cls=Grouped)(_flagged(running.run, wanted == "run"))
    app.command("check", cls=Grouped)(_flagged(running.check, wanted == "check"))
    app.command("compare", cls=Grouped)(_flagged(comparing.compare, wanted == "compare"))
    app.command("sweep", cls=Grouped)(_flagged(comparing.sweep, wanted == "sweep"))
    app.command("report")(showing.report)
    app.command("view")(showing.view)
    app.command("list")(facts.list_)
    app.command("metrics")(facts.metrics)
    app.command("profile")(hardware.profile)
    app.command("calibrate")(hardware.calibrate)
    app.command("validate")(hardware.validate)
    trace.command("stats", cls=Grouped)(_flagged(traces.trace_stats, wanted == "trace", only="workload"))
    trace.command("convert", cls=Grouped)(_flagged(traces.trace_convert, wanted == "trace", only="workload"))
    trace.command("synth")(traces.trace_synth)
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


def _spread(words: list[str]) -> list[str]:
    """`--goodput ttft:2s tpot:50ms`, as vLLM's benchmarks take it, with the option before each limit."""
    spread: list[str] = []
    for word in words:
        more = len(spread) > 1 and spread[-2] == "--goodput" and re.fullmatch(r"[\w.]+:\w+", word)
        spread += ["--goodput", word] if more else [word]
    return spread


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["trace"]):
        words.append("--help")
    sys.path.append(str(Path.cwd()))  # where --router my_module:MyRouter looks
    try:
        app = build_app(words[0])
        code = app(_spread(words), prog_name="agentservesim", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        _fail(str(error), BAD_INPUT)
    except typer.TyperException as error:
        _fail(_usage_fault(error), error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if stdout_is_gone(error):
            discard_stdout()
            if isinstance(error, BrokenPipeError):
                sys.exit(1)  # as typer does: who reads has seen enough
            _fail(f"cannot write to stdout: {error}", BAD_INPUT)
        traceback.print_exc()
        _fail("this is a bug; please report it with the lines above", BUG)
    if code == INTERRUPTED:
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code or 0)
