"""From a scenario to its result: a plan, which has all that a run needs, and the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from operator import sub
from typing import TYPE_CHECKING, Any

from agentservesim.cost import Cost, build_cost
from agentservesim.engine.alone import Alone
from agentservesim.fleet import Busy, Fleet, InstanceSpec
from agentservesim.kernel import Kernel
from agentservesim.kv.advice import Advice
from agentservesim.kv.catalogue import LINKS
from agentservesim.kv.config import MemoryConfig, TierConfig
from agentservesim.kv.tiers import KvShape, build_tiers
from agentservesim.lookup import near_or_all
from agentservesim.model import InputError, Workload
from agentservesim.policies import FAMILIES, check_together, load_policies, policy_spec
from agentservesim.policies.asking import figures
from agentservesim.policies.hints import Want, find_wants
from agentservesim.policies.protocols import OraclePolicy
from agentservesim.results.expenses import Use
from agentservesim.results.recorder import Pool, Recorder
from agentservesim.scenario.config import InstanceConfig, Scenario
from agentservesim.workload.content import unlimited_hits
from agentservesim.workload.hints import count_hints
from agentservesim.workload.load import load_workload

if TYPE_CHECKING:
    from agentservesim.results import Result


class RunError(InputError):
    """A run that a policy brought to an end; `partial` is what it computed so far."""

    def __init__(self, message: str, partial: Result) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True)
class Plan:
    """A scenario with its trace read and its step times and KV pools known: ready to run.

    `costs` has one entry per group of instances.
    """

    scenario: Scenario
    workload: Workload
    costs: tuple[Cost, ...]

    def run(self, progress: Callable[[int], None] | None = None, **objects: object) -> Result:
        """Simulate to the end. `progress` is told the number of turns done so far.

        `objects` are policies by family, or texts that name them, in the place of the scenario's. Raises
        RunError, which has the result so far, where a policy fails.
        """
        scenario, policies = self._policies(objects)
        recorder = Recorder(scenario.record_steps, [tier.name for tier in scenario.memory.tiers])
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        fleet = self._fleet(scenario, policies, recorder)
        recorder.watch(fleet.residencies, self._pools(), fleet.network)
        oracle = any(isinstance(policy, OraclePolicy) for policy in policies.values())
        wants = [str(want) for want in self._wants(scenario, policies) if not want.turns]

        def result(figures: Mapping[str, object], fault: str = "") -> Result:
            from agentservesim.results import Targets, make_result  # only now: they load polars

            facts = {
                "scenario": scenario.model_dump(mode="json"),
                "seed": scenario.seed,
                "wall_s": time.perf_counter() - wall_s,
                "cpu_s": time.process_time() - cpu_s,
                "counts": {"steps": fleet.counts.steps, "leaps": fleet.counts.leaps},
                "policy_figures": figures,
                "policy_wants": wants,
                "provenance": {**self.provenance(), "oracle": oracle},
            }
            recorder.clock_ps, recorder.rejected = fleet.now_ps, fleet.rejected
            recorder.uses = self._uses(fleet.busy)
            targets = Targets.of(scenario.slo, scenario.goodput)
            return make_result(facts, recorder, self.workload.programs, self._known(), targets, fault)

        fault = None
        try:
            fleet.run(progress)
        except InputError as error:
            if not len(recorder):
                raise
            fault = error
        told, silent = _figures(policies)
        fault = fault or silent
        if fault is None:
            return result(told)
        raise RunError(str(fault), result(told, str(fault))) from fault

    def check(self) -> None:
        """Build what `run` would build. Raises InputError for what it would refuse before the first turn."""
        scenario, policies = self._policies({})
        self._fleet(scenario, policies, Recorder(False, [tier.name for tier in scenario.memory.tiers]))

    def _fleet(self, scenario: Scenario, policies: Mapping[str, Any], listener: Recorder) -> Fleet:
        return Fleet(
            self.workload,
            self.instances(),
            tools=scenario.tools,
            seed=scenario.seed,
            leap=scenario.leap,
            max_concurrency=scenario.workload.max_concurrency,
            memory=scenario.memory,
            routing=scenario.routing,
            network=scenario.network,
            listener=listener,
            **policies,
        )

    def _uses(self, busy: Sequence[Busy]) -> list[Use]:
        """What each instance's accelerators did."""
        groups = zip(self.scenario.instances, self.costs, strict=True)
        costs = [cost for group, cost in groups for _ in range(group.count * group.data_parallel_size)]
        return [
            Use(cost.accelerators, cost.power, at_work.prefill_ps, at_work.decode_ps)
            for cost, at_work in zip(costs, busy, strict=True)
        ]

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the result should know of the workload."""
        limits = {cost.provenance["model"]: cost.max_model_len for cost in self.costs}
        beyond = [_beyond(self.workload, name, limit) for name, limit in limits.items() if limit is not None]
        return [*self.workload.notes, *filter(None, beyond)]

    def wants(self) -> list[Want]:
        """The hints that the policies want, and how many turns have them."""
        specs = {family: getattr(self.scenario, family) for family in FAMILIES}
        return self._wants(self.scenario, load_policies(specs))

    def _wants(self, scenario: Scenario, policies: Mapping[str, Any]) -> list[Want]:
        if not any(getattr(policy, "wants", None) for policy in policies.values()):
            return []
        specs = {family: getattr(scenario, family) for family in FAMILIES}
        return find_wants(specs, policies, count_hints(self.workload), self.workload.num_turns)

    def _policies(self, objects: Mapping[str, object]) -> tuple[Scenario, dict[str, Any]]:
        """The policies by family, and the scenario with the specs of those that were given as objects."""
        unknown = next((family for family in objects if family not in FAMILIES), None)
        if unknown is not None:
            raise InputError(f"unknown kind of policy '{unknown}'{near_or_all(unknown, FAMILIES)}")
        named = {family: policy for family, policy in objects.items() if isinstance(policy, str)}
        made = {family: policy for family, policy in objects.items() if family not in named}
        specs = named | {family: policy_spec(family, policy) for family, policy in made.items()}
        scenario = self.scenario.model_copy(update=specs)
        specs = {family: getattr(scenario, family) for family in FAMILIES}
        others = {family: spec for family, spec in specs.items() if family not in made}
        policies = load_policies(others) | made
        check_together(specs, policies)
        return scenario, policies

    def _known(self) -> dict[str, list[int]]:
        """Columns of each turn, by program and turn, that do not depend on how the run went.

        new_tokens: prompt tokens that no turn before had. alone_ps: time on an idle instance of the group
        that is fastest for the turn.
        """
        turns = [turn for program in self.workload.programs for turn in program.turns]
        hits = list(unlimited_hits(turns))
        lengths = [turn.prompt_tokens for turn in turns], hits, [turn.output_tokens for turn in turns]
        idle = [
            Alone(group, cost.step_time, cost.frontend_in_ps + cost.frontend_out_ps)
            for group, cost in zip(self.scenario.instances, self.costs, strict=True)
        ]
        alone_ps = map(min, zip(*(map(group.turn_ps, *lengths) for group in idle), strict=True))
        return {"new_tokens": list(map(sub, lengths[0], hits)), "alone_ps": list(alone_ps)}

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: this program's version, the trace, each group's cost model."""
        groups = [
            {
                "name": group.name or group.gpu,
                "count": group.count,
                "num_gpu_blocks": cost.num_gpu_blocks,
                "kv_bytes_per_token": cost.kv_bytes_per_token,
                "sources": cost.provenance,
            }
            for group, cost in zip(self.scenario.instances, self.costs, strict=True)
        ]
        trace = {"source": self.workload.source, "synthetic": self.workload.synthetic}
        return {
            "agentservesim": version("agentservesim"),
            "workload": {**trace, "notes": list(self.notes)},
            "instances": groups,
            "tiers": [_sources(self.scenario.memory, tier) for tier in self.scenario.memory.tiers],
            "network": self.scenario.network and LINKS[self.scenario.network.kind].source,
        }

    def _pools(self) -> list[Pool]:
        sizes = [(spec.num_gpu_blocks - 1, spec.kv_shape) for spec in self.instances()]
        return [Pool(blocks, shape.block_bytes) for blocks, shape in sizes if shape is not None]

    def instances(self) -> list[InstanceSpec]:
        """The instances to build, group by group."""
        return [
            spec
            for group, cost in zip(self.scenario.instances, self.costs, strict=True)
            for number in range(group.count)
            for spec in instance_specs(group, cost, f"{group.name or group.gpu}-{number}")
        ]


def instance_specs(group: InstanceConfig, cost: Cost, name: str) -> list[InstanceSpec]:
    """One instance of a group: its engine, or each of its data-parallel engines."""
    engines = group.data_parallel_size
    shape = KvShape(
        group.block_size,
        group.block_size * cost.kv_bytes_per_token,
        group.tensor_parallel_size,
        cost.layers,
        cost.provenance["model"],
    )
    spec = InstanceSpec(
        name=name,
        engine=group,
        step_time=cost.step_time,
        num_gpu_blocks=cost.num_gpu_blocks,
        frontend_in_ps=cost.frontend_in_ps,
        frontend_out_ps=cost.frontend_out_ps,
        kv_shape=shape,
        wave=name if engines > 1 and cost.sparse else None,
    )
    return [replace(spec, name=f"{name}.{rank}") if engines > 1 else spec for rank in range(engines)]


def prepare(scenario: Scenario) -> Plan:
    """Read the trace, build the cost models, and check that every turn fits every instance, KV every tier.

    Raises InputError for what cannot be run.
    """
    _check_caching(scenario)
    policies = load_policies({family: getattr(scenario, family) for family in FAMILIES})
    Advice(policies["residency"], [tier.name for tier in scenario.memory.tiers])
    workload = load_workload(scenario.workload, scenario.seed)
    costs = tuple(
        build_cost(
            group,
            block_size=group.block_size,
            max_num_batched_tokens=group.max_num_batched_tokens,
            max_num_seqs=group.max_num_seqs,
            pipeline_parallel_size=group.pipeline_parallel_size,
            async_scheduling=group.async_scheduling,
            engine_version=group.engine_version,
        )
        for group in scenario.instances
    )
    for group, cost in zip(scenario.instances, costs, strict=True):
        _check_fit(workload, group, cost)
    plan = Plan(scenario, workload, costs)
    build_tiers(scenario.memory, [spec.kv_shape for spec in plan.instances() if spec.kv_shape], Kernel())
    return plan


def simulate(
    scenario: Scenario,
    progress: Callable[[int], None] | None = None,
    **policies: object,
) -> Result:
    """Run a scenario to its end. `progress` is told the number of turns done so far.

    `policies` are objects by family (`residency=Mine()`), new ones for each run, or texts as a scenario has
    them (`scheduler="plas"`), instead of the scenario's.
    Raises InputError for input that cannot be run: an unreadable trace, an unknown model, a turn that is
    larger than an instance's KV pool. Raises RunError where a policy fails on the way.
    """
    return prepare(scenario).run(progress, **policies)


def _figures(policies: Mapping[str, Any]) -> tuple[dict[str, dict[str, int | float]], InputError | None]:
    """What policies say of themselves at the end, by family, and a fault if one of them fails at it."""
    told, fault = {}, None
    for family, policy in policies.items():
        try:
            said = figures(policy, f"{family} {type(policy).__name__}")
        except InputError as error:
            fault = fault or error
            continue
        if said is not None:
            told[family] = said
    return told, fault


def _sources(memory: MemoryConfig, tier: TierConfig) -> dict[str, Any]:
    """A tier and its links, with the source of their figures."""
    links = [
        {
            "between": "-".join(link.between),
            "source": f"{link.kind}: {LINKS[link.kind].source}" if link.kind else "given",
        }
        for link in memory.links
        if tier.name in link.between
    ]
    return {
        "name": tier.name,
        "capacity_bytes": tier.capacity_bytes,
        "scope": tier.scope,
        "links": links,
    }


def _check_caching(scenario: Scenario) -> None:
    """A tier finds KV by its content, as prefix caching does."""
    for number, group in enumerate(scenario.instances):
        if scenario.memory.tiers and not group.enable_prefix_caching:
            raise InputError(
                f"instances.{number}.enable_prefix_caching is false, and without it no KV is found again, "
                f"in HBM or in tier '{scenario.memory.tiers[0].name}'; set it to true, or leave the tiers out"
            )


def _beyond(workload: Workload, model: str, limit: int) -> str:
    """Which turns no server of the model would take; nothing if there are none."""
    lengths = [turn.total_tokens for program in workload.programs for turn in program.turns]
    beyond = [tokens for tokens in lengths if tokens > limit]
    if not beyond:
        return ""
    return (
        f"{len(beyond):,} of {len(lengths):,} turns are beyond the {limit:,} positions of {model} (longest: "
        f"{max(beyond):,} tokens); vLLM would refuse them, here they are served"
    )


def _check_fit(workload: Workload, group: InstanceConfig, cost: Cost) -> None:
    """Every turn must fit the KV pool (one block is the engine's null block) and max_model_len."""
    size = group.block_size
    room = (cost.num_gpu_blocks - 1) * size
    limit = min(room, group.max_model_len or room)
    turns = ((program, turn) for program in workload.programs for turn in program.turns)
    too_long = [(program, turn) for program, turn in turns if turn.total_tokens > limit]
    if not too_long:
        return
    program, turn = max(too_long, key=lambda pair: pair[1].total_tokens)
    tokens = turn.total_tokens
    if limit < room:
        fault = f"max_model_len {limit:,}; it must be at least {tokens}, or unset"
    else:
        pool = f"{cost.num_gpu_blocks:,} KV blocks of {size} of '{group.name or group.gpu}'"
        fault = f"the {pool}; num_gpu_blocks must be at least {-(-tokens // size) + 1}"
    raise InputError(
        f"{workload.source}: {len(too_long):,} turns are too long; the longest, turn '{turn.id}' of program "
        f"'{program.id}' with {turn.prompt_tokens:,} + {turn.output_tokens:,} tokens, does not fit {fault}"
    )
