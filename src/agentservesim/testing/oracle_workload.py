"""The scheduler oracle's workload files: one request a line, tokens from named streams.

A request's tokens are given (`prompt_token_ids`, `output_token_ids`), drawn from endless
deterministic streams by name (`program_id` + `prompt_len`, optionally `shared`), or appended to those
of an earlier request (`follows` + `append`). It arrives at a time (`arrival_time`), at a step
(`arrival_step`), or behind another request (`after` with `delay` or `delay_steps`).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from agentservesim.model import InputError, Turn
from agentservesim.workload.tokens import TokenTree

VOCABULARY = 32000


@dataclass(slots=True)
class OracleRequest:
    """One line of the file, with its tokens: `tokens` is prompt and output together."""

    order: int
    spec: dict[str, Any]
    tokens: list[int]
    turn: Turn

    @property
    def id(self) -> str:
        """The line's request_id."""
        return self.turn.id


class OracleWorkload:
    """All requests of a file, by id, in the order of the file."""

    def __init__(self, specs: list[dict[str, Any]], max_model_len: int) -> None:
        self.requests: dict[str, OracleRequest] = {}
        self._streams: dict[str, tuple[random.Random, list[int]]] = {}
        self._specs = {spec["request_id"]: spec for spec in specs}
        if len(self._specs) != len(specs):
            raise InputError("duplicate request_id in the workload")
        tree = TokenTree()
        for order, spec in enumerate(specs):
            prompt = self._prompt(spec)
            tokens = (prompt + self._output(spec)[: spec["max_tokens"]])[:max_model_len]
            turn = Turn(
                id=spec["request_id"],
                index=order,
                session_id=spec.get("program_id", spec["request_id"]),
                prompt_tokens=len(prompt),
                output_tokens=len(tokens) - len(prompt),
                path=tree.place(tokens),
                priority=spec.get("priority", 0),
            )
            self.requests[turn.id] = OracleRequest(order, spec, tokens, turn)

    def _stream(self, name: str, start: int, stop: int) -> list[int]:
        source, tokens = self._streams.setdefault(name, (random.Random("stream:" + name), []))
        while len(tokens) < stop:
            tokens.append(source.randrange(4, VOCABULARY))
        return tokens[start:stop]

    def _program(self, spec: dict[str, Any], start: int, stop: int) -> list[int]:
        shared = spec.get("shared", {"id": "", "len": 0})
        border = shared["len"]
        head = self._stream(shared["id"], start, min(stop, border)) if start < border else []
        return head + (self._stream(spec["program_id"], max(start, border), stop) if stop > border else [])

    def _prompt(self, spec: dict[str, Any]) -> list[int]:
        if "prompt_token_ids" in spec:
            return list(spec["prompt_token_ids"])
        if "program_id" in spec:
            return self._program(spec, 0, spec["prompt_len"])
        before = self._specs[spec["follows"]]
        appended = self._stream("append:" + spec["request_id"], 0, spec["append"])
        return self._prompt(before) + self._output(before) + appended

    def _output(self, spec: dict[str, Any]) -> list[int]:
        count = spec["max_tokens"]
        if "output_token_ids" in spec:
            return list(spec["output_token_ids"])
        if "program_id" in spec:
            return self._program(spec, spec["prompt_len"], spec["prompt_len"] + count)
        return self._stream("out:" + spec["request_id"], 0, count)


def read_lines(path: str) -> list[dict[str, Any]]:
    """The JSON objects of a file, or of stdin for "-"; blank lines and # comments are skipped.

    Raises InputError that names file and line.
    """
    name = "/dev/stdin" if path == "-" else path
    try:
        lines = FilePath(name).read_text().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    specs: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            spec = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(spec, dict):
            raise InputError(f"{path}:{number}: expected a JSON object")
        specs.append(spec)
    return specs


def check(specs: list[dict[str, Any]], path: str) -> None:
    """Raise InputError for a line without an id, a length, or with a reference to nothing."""
    ids = {spec.get("request_id") for spec in specs}
    for number, spec in enumerate(specs, 1):
        if not isinstance(spec.get("request_id"), str) or not isinstance(spec.get("max_tokens"), int):
            raise InputError(f"{path}: request {number}: needs request_id (text) and max_tokens (integer)")
        if not {"prompt_token_ids", "program_id", "follows"} & spec.keys():
            raise InputError(f"{path}: {spec['request_id']}: needs prompt_token_ids, program_id or follows")
        for key in ("after", "follows"):
            if key in spec and spec[key] not in ids:
                raise InputError(f"{path}: {spec['request_id']}: {key} names no request: {spec[key]!r}")
