"""Runs in local processes. Each leaves its folder, and one whose folder is there is not repeated."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import active_children, get_context
from pathlib import Path

import orjson

from agentservesim.experiment.arms import Arm
from agentservesim.model import InputError
from agentservesim.results.run_folder import partial_of
from agentservesim.scenario import RunError, Scenario, simulate
from agentservesim.scenario.config import FILES

RUNS = "runs"
WAKE_S = 0.2
"""How soon an interrupt is seen, even if another thread was given the signal."""


@dataclass(frozen=True)
class Job:
    """A run to make: an arm with a seed, and the folder that it leaves."""

    arm: str
    scenario: Scenario
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the run was made before; folders appear whole or not at all."""
        return self.folder.is_dir()

    def run(self) -> None:
        """Make the run. Raises InputError, which names it; what it computed until then is kept beside."""
        try:
            simulate(self.scenario).save(self.folder)
        except InputError as error:
            if isinstance(error, RunError):
                with suppress(InputError):
                    error.partial.save(partial_of(self.folder))
            raise InputError(f"{self.arm}, seed {self.scenario.seed}: {error}") from None


def make_jobs(arms: Iterable[Arm], seeds: Sequence[int], folder: Path) -> list[list[Job]]:
    """For each arm a run per seed; the name of a run's folder changes with all that decides its result.

    That is the scenario, the content of the files that it names (the module of a policy of one's own too,
    but not what that imports), and the version of this program.
    """
    digests: dict[Path, str] = {}
    return [
        [Job(arm.name, arm.at(seed), folder / RUNS / _folder(arm.at(seed), digests)) for seed in seeds]
        for arm in arms
    ]


def run_all(jobs: Sequence[Job], processes: int, done: Callable[[], None]) -> None:
    """Make the runs that are not there yet, several at a time; `done` is called behind each.

    Raises InputError for a run that cannot be made. Whatever ends this early, the finished runs stay.
    """
    todo = [job for job in jobs if not job.done]
    if processes == 1 or len(todo) < 2:
        for job in todo:
            job.run()
            done()
        return
    with ProcessPoolExecutor(
        min(processes, len(todo)), get_context("spawn"), initializer=_leave_interrupts
    ) as pool:
        try:
            left = {pool.submit(job.run) for job in todo}
            while left:
                ended, left = wait(left, timeout=WAKE_S, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
                    done()
        except BaseException as error:
            _stop(pool, jobs)
            if isinstance(error, BrokenProcessPool):
                raise InputError(
                    "a process was killed from outside, perhaps for want of memory; finished runs are kept: "
                    "start again with fewer --jobs"
                ) from None
            raise


def _leave_interrupts() -> None:
    """An interrupt is for the parent, which ends its processes itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(pool: ProcessPoolExecutor, jobs: Sequence[Job]) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for process in active_children():
        process.terminate()
        process.join()
    for place in {job.folder.parent for job in jobs}:
        for draft in place.glob(".*"):
            shutil.rmtree(draft, ignore_errors=True)


def _folder(scenario: Scenario, digests: dict[Path, str]) -> str:
    values = scenario.model_dump(mode="json")
    files = [_digest(path, digests) for path in _files(values)]
    decides = orjson.dumps([version("agentservesim"), values, files])
    name = re.sub(r"[^\w=.,-]+", "_", scenario.name)[:60]
    return f"{name}.seed{scenario.seed}.{sha256(decides).hexdigest()[:10]}"


def _files(values: object, key: str = "") -> Iterator[Path]:
    """The files and folders that a scenario names, the modules of policies among them."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _files(value, name)
    elif isinstance(values, list):
        for value in values:
            yield from _files(value, key)
    elif isinstance(values, str) and key in FILES:
        yield Path(values)
    elif isinstance(values, str) and (module := re.match(r"([\w.]+):[A-Za-z_]", values)):
        with suppress(ImportError, ValueError):
            spec = find_spec(module[1])
            if spec is not None and spec.origin is not None:
                yield Path(spec.origin)


def _digest(path: Path, digests: dict[Path, str]) -> str:
    """Of a file, or of the files in a folder; empty for what is neither."""
    if path not in digests:
        files = sorted(path.glob("**/*")) if path.is_dir() else [path]
        contents = [sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
        digests[path] = ",".join(contents)
    return digests[path]
