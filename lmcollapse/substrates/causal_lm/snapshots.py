"""The state of a fit on disk: what a start after a kill goes on from, with the same end as if nothing had happened.

Weights and optimizer are in one safetensors file; `fit.json` names it with its hash, has a hash of its own, and is
written last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lmcollapse import files, processes
from lmcollapse.records import is_sealed, sealed

RECORD = "fit.json"

Tensors = dict[str, Tensor]
"""Tensors by the name of their parameter, in the memory of the CPU."""


@dataclass
class Course:
    """How far a fit is; all that is random in it follows from its seed and the step.

    step : optimizer steps taken.
    tokens : predicted so far.
    history : records of `fit.jsonl`.
    best : lowest validation loss so far.
    waited : looks at the validation part since then.
    """

    step: int = 0
    tokens: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    waited: int = 0


def keep(folder: Path, course: Course, model: nn.Module, optimizer: torch.optim.Optimizer, best: Tensors) -> None:
    """Write the state of a fit, and remove the one before it. All processes call it, the first one writes."""
    tensors = {f"model/{name}": tensor for name, tensor in weights_of(model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = whole(value)
    if not processes.is_first():
        return
    file = folder / f"fit_{course.step:09d}.safetensors"
    files.write_atomically(file, save(tensors))
    record = {"file": file.name, "sha256": files.sha256(file), "course": asdict(course)}
    files.write_json(folder / RECORD, sealed(record))
    for older in folder.glob("fit_*.safetensors"):
        if older != file:
            older.unlink()


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Course, Tensors]:
    """Put a fit back into the state that was kept last, if there is one that is whole; course and best weights."""
    found = processes.agree(_read(folder) if processes.is_first() else None)
    if found is None:
        return Course(), {}
    course, file = found
    tensors = load(file.read_bytes())
    put(model, {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")})
    for name, parameter in model.named_parameters():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            value = tensors.get(f"optimizer/{key}/{name}")
            if value is not None:
                # AdamW counts its steps where it finds the fused kernel's own
                there = value.to(parameter.device) if key == "step" else _like(parameter, value)
                optimizer.state[parameter][key] = there
    return course, {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}


def _read(folder: Path) -> tuple[Course, Path] | None:
    try:
        record = files.parse_json(files.regular(folder / RECORD).read_bytes())
        file = folder / record["file"]
        if not is_sealed(record) or files.sha256(file) != record["sha256"]:
            return None
        return Course(**record["course"]), file
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged: the fit begins anew
        return None


def weights_of(model: nn.Module) -> Tensors:
    """A copy of all parameters; tied ones once."""
    return {name: whole(parameter).clone() for name, parameter in model.named_parameters()}


def put(model: nn.Module, weights: Tensors) -> None:
    """Overwrite the parameters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_like(parameter, weights[name]))


def whole(tensor: Tensor) -> Tensor:
    """A tensor in the memory of the CPU, put together where processes have parts of it."""
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).detach().cpu()


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """The value on the device of a parameter, and spread over processes as it is."""
    there = value.to(parameter.device)
    if not hasattr(parameter, "full_tensor"):
        return there
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(there, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
