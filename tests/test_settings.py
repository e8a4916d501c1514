"""Settings: files, overrides, and one line for every fault."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentservesim.model import InputError
from agentservesim.settings import Settings, parse_override, read_settings, validate


class Engine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    max_num_seqs: int = Field(8, ge=1, le=4096)
    policy: Literal["fcfs", "priority"] = "fcfs"
    share: float | None = Field(None, ge=0, lt=1)

    @field_validator("max_num_seqs")
    @classmethod
    def _not_thirteen(cls, value: int) -> int:
        if value == 13:
            raise ValueError("13 brings bad luck; take 12")
        return value


class Top(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    fast: bool = True
    engines: tuple[Engine, ...] = (Engine(),)


def fault(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as error:
        validate(Top, read_settings(path))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).removeprefix(":")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\nfsat = true', "2: fsat: no such setting; did you mean 'fast'?"),
        ('name = "x"\nzzz = 1', "2: zzz: no such setting; known here: name, fast, engines"),
        ("fast = true", " name: is missing"),
        ('name = "x"\nfast = "maybe"', "2: fast: must be true or false, got 'maybe'"),
        ('name = "x"\n[[engines]]\nmax_num_seqs = 0', "3: engines.0.max_num_seqs: must be at least 1, got 0"),
        (
            'name = "x"\n[[engines]]\n[[engines]]\nmax_num_seqs = 5000',
            "4: engines.1.max_num_seqs: must be at most 4096, got 5000",
        ),
        (
            'name = "x"\n[[engines]]\nmax_num_seqs = "many"',
            "3: engines.0.max_num_seqs: must be a whole number, got 'many'",
        ),
        (
            'name = "x"\n[[engines]]\nmax_num_seqs = 1.5',
            "3: engines.0.max_num_seqs: must be a whole number, got 1.5",
        ),
        (
            'name = "x"\n[[engines]]\nmax_num_seqs = 13',
            "3: engines.0.max_num_seqs: 13 brings bad luck; take 12",
        ),
        (
            'name = "x"\n[[engines]]\npolicy = "fcsf"',
            "3: engines.0.policy: must be one of fcfs, priority, got 'fcsf'; did you mean 'fcfs'?",
        ),
        (
            'name = "x"\n[[engines]]\nmax_num_sequences = 3',
            "3: engines.0.max_num_sequences: no such setting; did you mean 'max_num_seqs'?",
        ),
        ('name = "x"\n[[engines]]\nshare = nan', "3: engines.0.share: must be a finite number, got nan"),
        ('name = "x"\n[[engines]]\nshare = -1', "3: engines.0.share: must be at least 0, got -1"),
        ('name = "x"\n[engines]\nshare = 0.5', "2: engines: must be a list, got a table"),
        ('name = "x"\nengines = [3]', "2: engines.0: must be a table of settings, got 3"),
        ('name = "x"\nfast = 7\nengines = 3', "2: fast: must be true or false, got 7 (and 1 more)"),
        ('name = "x"\nname = "y"', "2: not valid TOML: Cannot overwrite a value"),
        ("name = ", "1: not valid TOML: Invalid value"),
    ],
)
def test_faults_in_toml(tmp_path: Path, text: str, said: str) -> None:
    assert fault(tmp_path / "s.toml", text).strip() == said.strip()


def test_faults_in_json(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    assert fault(path, '{"name": "x",\n "fast": }') == "2: not valid JSON: Expecting value"
    assert fault(path, '{"name": "x", "fsat": 1}') == " fsat: no such setting; did you mean 'fast'?"
    assert fault(path, "[1]") == " expected an object of settings, found a list"
    assert fault(path, '{"name": "x", "engines": [{"share": NaN}]}') == (
        " engines.0.share: must be a finite number, got nan"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text("")
    with pytest.raises(InputError, match=r"scenari.toml: no such file; did you mean 'scenario.toml'\?"):
        read_settings(tmp_path / "scenari.toml")
    (tmp_path / "b.toml").write_bytes(b"\x80\x81")
    with pytest.raises(InputError, match="not a text file"):
        read_settings(tmp_path / "b.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "location", "value"),
    [
        ("a=1", ("a",), 1),
        ("a.b=2.5", ("a", "b"), 2.5),
        ("a.0.b=true", ("a", 0, "b"), True),
        ("a=fcfs", ("a",), "fcfs"),
        ('a="1"', ("a",), "1"),
        ("a=[1, 2]", ("a",), [1, 2]),
        ("a=x=y", ("a",), "x=y"),
    ],
)
def test_overrides(text: str, location: tuple[str | int, ...], value: object) -> None:
    assert parse_override(text) == (location, value)


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ""])
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(InputError, match="expected name=value"):
        parse_override(text)


def test_an_override_is_named_in_its_fault() -> None:
    settings = Settings({"name": "x", "engines": [{}, {}]}, source="s.toml")
    settings.put(("engines", 1, "max_num_seqs"), -2, "--set engines.1.max_num_seqs=-2")
    with pytest.raises(InputError) as error:
        validate(Top, settings)
    assert str(error.value) == "--set engines.1.max_num_seqs: must be at least 1, got -2"


@pytest.mark.parametrize("value", [2**63, str(2**63), 10.0**30, "1e400"])
def test_numbers_that_no_result_can_hold(value: object) -> None:
    class Free(BaseModel):
        whole: int = 0
        real: float = 0.0

    settings = Settings({"real" if value == "1e400" else "whole": value}, source="s.toml")
    with pytest.raises(
        InputError, match=r"s.toml: (whole|real): must be (less than 2\^63|a finite number), got"
    ):
        validate(Free, settings)


def test_overrides_that_lead_nowhere() -> None:
    settings = Settings({"name": "x", "engines": [{}]})
    with pytest.raises(InputError, match=r"--x: no '3': 'engines' has 1 entries, numbered from 0"):
        settings.put(("engines", 3, "share"), 1, "--x")
    with pytest.raises(InputError, match="--x: 'name' is a value and holds no 'first'"):
        settings.put(("name", "first"), 1, "--x")
