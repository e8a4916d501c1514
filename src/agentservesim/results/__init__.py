"""What a run leaves behind: tables, metrics with their definitions, a summary, a folder."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.results.expenses import Use
    from agentservesim.results.metric import TABLES, Metric
    from agentservesim.results.metrics import METRICS, find_metric
    from agentservesim.results.recorder import Pool, Recorder
    from agentservesim.results.result import Result, make_result
    from agentservesim.results.run_folder import check_target
    from agentservesim.results.summary import SCHEMA_VERSION, Summary, comparable
    from agentservesim.results.tables import COLUMNS
    from agentservesim.results.targets import Targets, parse_limit, parse_objective, parse_place
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "COLUMNS",
    "METRICS",
    "SCHEMA_VERSION",
    "TABLES",
    "Metric",
    "Pool",
    "Recorder",
    "Result",
    "Summary",
    "Targets",
    "Use",
    "check_target",
    "comparable",
    "find_metric",
    "make_result",
    "parse_limit",
    "parse_objective",
    "parse_place",
]
