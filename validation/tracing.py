"""vLLM schedulers that write a step log (`agentservesim.calibration.steplog`) and change no decision.

Runs in vLLM's environment. `STEP_LOG` names the file where the engine is a process of its own; in one
process `scheduler.lines` has the objects, and `scheduler.clock` may be replaced.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

KEEP = 500
"""Lines kept before they are written out."""


class _Logged:
    """Comes before a scheduler of vLLM's in the order of base classes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.clock = time.monotonic
        self.lines = []
        self._path = os.environ.get("STEP_LOG")
        self._open = []  # scheduled, output not seen
        self._arrived, self._preempted, self._evicted = [], [], []
        self._watch(self.kv_cache_manager.block_pool)
        self.config_line = self._config()
        self._write(self.config_line)

    def _config(self):
        scheduler, cache = self.scheduler_config, self.cache_config
        return {
            "ev": "config",
            "block_size": self.block_size,
            "num_blocks": self.kv_cache_manager.block_pool.num_gpu_blocks,
            "max_num_batched_tokens": self.max_num_scheduled_tokens,
            "max_num_seqs": self.max_num_running_reqs,
            "max_model_len": self.max_model_len,
            "long_prefill_token_threshold": scheduler.long_prefill_token_threshold,
            "chunked_prefill": bool(scheduler.enable_chunked_prefill),
            "reserve_full_isl": bool(getattr(self, "scheduler_reserve_full_isl", True)),
            "watermark": float(getattr(scheduler, "watermark", 0.0)),
            "prefix_caching": bool(cache.enable_prefix_caching),
            "async_scheduling": isinstance(self, AsyncScheduler),
            "policy": str(getattr(scheduler.policy, "value", scheduler.policy)),
        }

    def _watch(self, pool):
        evict = pool._maybe_evict_cached_block

        def watched(block):
            gone = evict(block)
            if gone:
                self._evicted.append(str(block.block_id))
            return gone

        pool._maybe_evict_cached_block = watched

    def _write(self, line):
        self.lines.append(line)
        if self._path and len(self.lines) >= KEEP:
            self.write_out()

    def write_out(self):
        """Append what is kept to the file."""
        if self._path:
            with Path(self._path).open("a") as file:
                file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines)
            self.lines.clear()

    def add_request(self, request):
        """A request arrives."""
        self._write(
            {
                "ev": "req",
                "id": request.request_id,
                "t": self.clock(),
                "prompt_len": request.num_prompt_tokens,
                "max_tokens": request.max_tokens,
                "prompt": list(request.prompt_token_ids),
            }
        )
        self._arrived.append(request.request_id)
        super().add_request(request)

    def _preempt_request(self, request, *args, **kwargs):
        self._preempted.append(request.request_id)
        super()._preempt_request(request, *args, **kwargs)

    def schedule(self, *args, **kwargs):
        """Decide a step, and note what was decided."""
        begin, known = self.clock(), {name: r.num_computed_tokens for name, r in self.requests.items()}
        out = super().schedule(*args, **kwargs)
        rows = []
        admitted = []
        for name, tokens in out.num_scheduled_tokens.items():
            request = self.requests[name]
            start = request.num_computed_tokens - tokens
            rows.append((name, start, tokens))
            if known.get(name, 0) == 0:
                admitted.append((name, start, "resumed" if request.num_preemptions else "new"))
        line = {"ev": "step", "sched": rows, "t0": begin, "admitted": admitted}
        line |= {"arrived": self._arrived, "preempted": self._preempted, "evicted": self._evicted}
        self._arrived, self._preempted, self._evicted = [], [], []
        self._open.append(line)
        return out

    def update_from_output(self, scheduler_output, model_runner_output):
        """Take in a step's output, and note when that was."""
        line = self._open.pop(0)
        line["t2"] = self.clock()
        alive = {name: self.requests[name] for name, _, _ in line["sched"] if name in self.requests}
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        line["t3"] = self.clock()
        if line["sched"] or line["preempted"]:
            self._write(line)
        else:  # nothing ran: who arrived is of the next step
            self._arrived = line["arrived"] + self._arrived
        for name, request in alive.items():
            if name not in self.requests:
                self._write({"ev": "fin", "id": name, "out": list(request.output_token_ids)})
        if not self.requests:
            self.write_out()
        return outputs

    def shutdown(self):
        """The engine ends."""
        self.write_out()
        super().shutdown()


class LoggedScheduler(_Logged, Scheduler):
    """vLLM's scheduler."""


class LoggedAsyncScheduler(_Logged, AsyncScheduler):
    """vLLM's asynchronous scheduler."""
