"""One loader for built-in policies and for anybody's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from agentservesim.model import InputError
from agentservesim.policies import InstanceView, Router, TurnView, list_policies, load_policy, policy_spec
from agentservesim.policies.routing import LeastLoaded, RoundRobin, SessionAffinity


@dataclass
class Capped:
    """Fills one instance after the other."""

    cap: int = 8
    share: float = 1.0
    strict: bool = False
    label: str = "none"
    patience_s: float = 0.0

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise ValueError("cap must be at least 1")

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return next((view.index for view in instances if view.load < self.cap), 0)


class Plain:
    """A router without parameters."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return 0


class Unmade(Plain):
    """Cannot be made."""

    def __init__(self) -> None:
        raise SystemExit(0)


class NoRouter:
    """Lacks route."""


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of somebody else's."""
    module = ModuleType("mine")
    module.Capped, module.Plain, module.NoRouter = Capped, Plain, NoRouter  # type: ignore[attr-defined]
    module.Unmade = Unmade  # type: ignore[attr-defined]
    module.number = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)


def refused(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        load_policy("router", spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_built_in_routers_by_name() -> None:
    for name, kind in {
        "round-robin": RoundRobin,
        "least-loaded": LeastLoaded,
        "session-affinity": SessionAffinity,
    }.items():
        router = load_policy("router", name)
        assert type(router) is kind
        assert isinstance(router, Router)


def test_the_list_says_what_each_does() -> None:
    listed = list_policies("router")
    assert set(listed) >= {"round-robin", "least-loaded", "session-affinity"}
    assert listed["round-robin"] == "Every turn goes to the next instance."


def test_every_load_is_a_new_object() -> None:
    one, other = load_policy("router", "round-robin"), load_policy("router", "round-robin")
    assert one is not other


def test_a_class_of_any_module_with_parameters() -> None:
    assert load_policy("router", "mine:Capped") == Capped()
    loaded = load_policy("router", "mine:Capped,cap=3,share=-1.25,strict=true,label=7,patience_s=2")
    assert loaded == Capped(3, -1.25, True, "7", 2.0)
    assert isinstance(load_policy("router", "mine:Plain"), Plain)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("sesion-affinity", ["unknown router 'sesion-affinity'", "did you mean 'session-affinity'?"]),
        ("zzz", ["unknown router 'zzz'", "session-affinity, thunderagent"]),
        ("", ["unknown router ''"]),
        ("round-robin,cap=1", ["'round-robin,cap=1': unknown parameter 'cap'; it has none"]),
        ("mine:Capped,capp=1", ["unknown parameter 'capp'", "did you mean 'cap'?"]),
        ("mine:Capped,zzz=1", ["unknown parameter 'zzz'", "there are cap, share, strict, label"]),
        ("mine:Capped,cap", ["name=value", "'cap'"]),
        ("mine:Capped,cap=0", ["cap must be at least 1"]),
        ("mine:Capped,cap=1.5", ["cap must be a whole number, got '1.5'"]),
        ("mine:Capped,share=much", ["share must be a finite number, got 'much'"]),
        ("mine:Capped,share=nan", ["share must be a finite number, got 'nan'"]),
        ("mine:Capped,share=1e400", ["share must be a finite number"]),
        ("mine:Capped,strict=1", ["strict must be true or false, got '1'"]),
        ("mine:Capped,patience_s=-1", ["patience_s must be at least 0, got '-1'"]),
        ("mine:Capped,patience_s=nan", ["patience_s must be a finite number"]),
        ("mine:Plain,cap=1", ["mine:Plain", "cap"]),
        ("mine:NoRouter", ["mine:NoRouter", "needs the method route"]),
        ("mine:number", ["mine:number"]),
        ("mine:Unmade", ["router 'mine:Unmade': __init__() raised SystemExit: 0"]),
        ("mine:Absent", ["'mine' has no 'Absent'"]),
        ("mine:", ["mine:"]),
        (":Plain", [":Plain"]),
        ("no_such_module:Plain", ["cannot import 'no_such_module'"]),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(spec: str, parts: list[str]) -> None:
    message = refused(spec)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "the import of 'half_done' raised ZeroDivisionError: division by zero"),
        ("nothing", "the import of 'half_done' raised NameError: name 'nothing' is not defined"),
        ("raise SystemExit(0)", "the import of 'half_done' raised SystemExit: 0"),
        ("def (", "cannot import 'half_done': invalid syntax (half_done.py, line 1)"),
    ],
)
def test_a_module_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "half_done.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert refused("half_done:X") == f"router 'half_done:X': {said}"


def test_a_broken_package_is_named_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[agentservesim.router]\nlost = not_there:Lost\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = "router 'lost': cannot import 'not_there': No module named 'not_there'"
    assert refused("lost") == said
    listed = list_policies("router")
    assert listed["lost"] == f"note: this one is broken: {said}"
    assert listed["round-robin"].startswith("Every turn goes")
    load_policy("router", "round-robin")


def test_the_spec_of_an_object_loads_its_like() -> None:
    spec = policy_spec("router", Capped(cap=3, share=0.5))
    assert spec == f"{__name__}:Capped,cap=3,share=0.5,strict=False,label=none,patience_s=0.0"
    assert load_policy("router", spec.replace(__name__, "mine")) == Capped(cap=3, share=0.5)
    assert policy_spec("router", Plain()).endswith(":Plain")
    with pytest.raises(InputError, match="a router needs the method route"):
        policy_spec("router", NoRouter())


def test_a_part_that_is_missing_is_named_be_it_a_method_or_not() -> None:
    class NoChanges:
        def key(self, request: object, now_s: float) -> int:
            return 0

    class NoKey:
        changes = "never"

    with pytest.raises(InputError, match="a scheduler needs the attribute changes"):
        policy_spec("scheduler", NoChanges())
    with pytest.raises(InputError, match="a scheduler needs the method key"):
        policy_spec("scheduler", NoKey())
