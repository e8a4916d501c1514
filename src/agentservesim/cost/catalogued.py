"""Which deployments of catalogued models have measured tables."""

from __future__ import annotations

from dataclasses import replace

from agentservesim.cost.accelerators import list_gpus, load_accelerator
from agentservesim.cost.composed import unmeasured
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.measured import Measured, load_measured
from agentservesim.cost.modelnames import list_models, load_model
from agentservesim.cost.models import Model, Quantization
from agentservesim.model import InputError

_TYPES: dict[Quantization, str] = {"none": "16 bit", "fp8": "fp8", "mxfp4": "mxfp4"}

DEGREES = (1, 2, 4, 8)
"""Degrees of tensor parallelism that are looked at."""

_DEGREES = " ".join(map(str, DEGREES))


def list_tables() -> dict[str, str]:
    """Accelerators: the engine that was measured on them, and by type of the linear layers the models that
    have tables, with the degrees of tensor parallelism unless all of 1, 2, 4 and 8."""
    lines = {}
    for gpu in list_gpus():
        measured = load_measured(gpu)
        if measured is None:
            lines[gpu] = "no measurements: roofline"
            continue
        kinds = {
            kind: [name for model in list_models() if (name := _covered(model, kind, measured))]
            for kind in _TYPES
        }
        texts = [f"{_TYPES[kind]}: {', '.join(names)}" for kind, names in kinds.items() if names]
        lines[gpu] = f"{measured.engine}, TP {_DEGREES} where none is said; {'; '.join(texts)}"
    return lines


def _covered(name: str, quantization: Quantization, measured: Measured) -> str:
    """The model's name, with the degrees if not all; empty if it has no tables of this type."""
    model = load_model(name)
    if model.quantization not in ("none", quantization):
        return ""
    if quantization == "mxfp4" != model.quantization:
        return ""
    model = replace(model, quantization=quantization)
    degrees = [degree for degree in DEGREES if _has(model, degree, measured)]
    if not degrees:
        return ""
    return name if len(degrees) == len(DEGREES) else f"{name} (TP {' '.join(map(str, degrees))})"


def _has(model: Model, degree: int, measured: Measured) -> bool:
    try:
        on = Deployment(model, load_accelerator(measured.name), degree)
        return unmeasured(on, measured) is None
    except InputError:
        return False
