"""Tensors that say they lie on a GPU: they compute on the CPU, with real values, and what a GPU would not forgive is noticed.

Within `device("cuda")` a tensor that is moved or made there answers `cuda:0` when it is asked where it lies. Its operations are
carried out on the CPU, after a look at what a real device would say: tensors of two devices in one operation, a generator that
lies elsewhere and, for `mps`, numbers in float64 are refused as PyTorch refuses them. The host waiting for a value, results whose
size depends on values, and copies to the CPU are noted with the function of ours that asked for them. Kernels run in Triton's
interpreter.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

import weightbook

OURS = str(Path(weightbook.__file__).parent)
WAITS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount", "repeat_interleave", "_unique2",
         "unique_dim", "unique_consecutive"}  # fmt: skip
DOUBLE = (torch.float64, torch.complex128)


class Pretend(Tensor):
    "A tensor on a device that is not there; `held` is the CPU tensor behind it"

    @staticmethod
    def __new__(cls, held: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, layout=held.layout)
        made.held = held
        return made

    device = property(lambda self: torch.device(Device.kind_now(), 0))
    is_cuda = property(lambda self: Device.kind_now() == "cuda")
    is_mps = property(lambda self: Device.kind_now() == "mps")
    is_cpu = property(lambda self: False)

    def __repr__(self):
        return f"Pretend({self.held!r})"

    def __deepcopy__(self, memo):
        made = Pretend(self.held.clone())
        if isinstance(self, nn.Parameter):
            return nn.Parameter(made, self.requires_grad)
        return made.requires_grad_(self.requires_grad)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if Device.current is None:
            raise RuntimeError("the device is no longer there")
        return Device.current.run(func, args, kwargs or {})


def moved(value, go):
    "Tensors, modules, containers and records of the library, each tensor through `go`; what is no tensor stays"
    if isinstance(value, nn.Module):
        made, done = copy.deepcopy(value), {}
        for part in made.modules():
            for table in (part._parameters, part._buffers):
                table.update({k: done.setdefault(id(v), moved(v, go)) for k, v in table.items() if v is not None})
        return made
    if isinstance(value, nn.Parameter):
        return nn.Parameter(go(value.detach()), value.requires_grad)
    if isinstance(value, Tensor):
        return go(value).requires_grad_(value.requires_grad)
    if type(value) in (list, tuple):
        return type(value)(moved(v, go) for v in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(v, go) for v in value))
    if isinstance(value, dict):
        return {k: moved(v, go) for k, v in value.items()}
    if type(value).__module__.startswith("weightbook") and hasattr(value, "__dict__") and not isinstance(value, type):
        made = copy.copy(value)
        vars(made).update({k: moved(v, go) for k, v in vars(value).items()})
        return made
    return value


class Device(TorchFunctionMode):
    "A device that is not there: cuda or mps. As a context it sees every function of PyTorch that is called"

    current: Device | None = None

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.notes, self.pulling = kind, Counter(), False

    @classmethod
    def kind_now(cls) -> str:
        return cls.current.kind if cls.current else "meta"

    # ---- going there and back ----

    def put(self, value):
        "Tensors, modules and containers, on the device"
        return moved(value, lambda t: t if isinstance(t, Pretend) else self.wrap(self.fitting(t.detach().clone())))

    def fitting(self, value: Tensor) -> Tensor:
        "What a user of the device has: in single precision where there is no other"
        return value.to({torch.float64: torch.float32, torch.complex128: torch.complex64}.get(value.dtype, value.dtype)
                        if self.kind == "mps" else value.dtype)

    def wrap(self, value: Tensor) -> Pretend:
        if self.kind == "mps" and value.dtype in DOUBLE:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        return Pretend(value.resolve_conj().resolve_neg())  # the wrapper has neither bit

    def note(self, what: str) -> None:
        "Count something under the innermost function of ours that asked for it"
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(OURS):
            frame = frame.f_back
        code = frame and frame.f_code
        self.notes[what, f"{Path(code.co_filename).stem}.{code.co_qualname}" if code else "outside"] += 1

    # ---- what is called ----

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._move(func, args, kwargs)
        if func is Tensor.tolist and isinstance(args[0], Pretend):
            self.note("waits")
            return args[0].held.tolist()
        if func in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], Pretend):
            raise TypeError(f"can't convert {self.kind}:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func in (Tensor.quantile, torch.quantile) and isinstance(args[0], Pretend):  # makes tensors of its own, in C++
            return self.wrap(func(args[0].held, *args[1:], **kwargs))
        if func is Tensor.backward:  # the functions that it calls are to be seen too
            options = dict(zip(("gradient", "retain_graph", "create_graph", "inputs"), args[1:], strict=False)) | kwargs
            self.pulling = True  # zeros for gradients that are not there are made in C++, on the CPU
            try:
                with self:
                    return torch.autograd.backward(args[0], options.pop("gradient", None), **options)
            finally:
                self.pulling = False
        if kwargs.get("generator") is not None and "device" not in kwargs and any(isinstance(v, Pretend) for v in args):
            self._check_generator(kwargs["generator"], self.kind)
        kind = kwargs.get("device")
        kind = None if kind is None else torch.device(kind).type
        if kind is None:
            return func(*args, **kwargs)
        kwargs["device"] = "cpu" if kind == self.kind else kwargs["device"]
        self._check_generator(kwargs.get("generator"), kind)
        out = func(*args, **kwargs)
        if kind == self.kind:
            return out if isinstance(out, Pretend) else self.put(out) if out.requires_grad else self.wrap(out)
        return out.held if isinstance(out, Pretend) else out

    def _move(self, func, args, kwargs):
        value, *rest = args
        rest = ["cpu"] if func is Tensor.cpu else [self.kind] if func is Tensor.cuda else rest
        if rest and isinstance(rest[0], Tensor):
            rest = [rest[0].device, rest[0].dtype]
        place = lambda v: isinstance(v, torch.device) or isinstance(v, str)  # noqa: E731
        target = next((torch.device(v).type for v in [*rest, kwargs.pop("device", None)] if place(v)), None)
        rest = [v for v in rest if isinstance(v, torch.dtype)]
        here = isinstance(value, Pretend)
        if here and target == "cpu":
            self.note("to the CPU")
            value = _Leave.apply(value)
        if target == self.kind and not here:
            return _Enter.apply(Tensor.to(value, *rest, **kwargs) if rest or kwargs else value)
        return Tensor.to(value, *rest, **kwargs) if rest or kwargs else value

    def _check_generator(self, generator, kind: str) -> None:
        if generator is not None and generator.device.type != kind:
            raise RuntimeError(f"Expected a '{kind}' device type for generator but found '{generator.device.type}'")

    # ---- what is computed ----

    def run(self, func, args, kwargs):
        space, _, name = func._schema.name.partition("::")
        if space == "weightbook":
            with self:  # this runs within a call that the mode has let through, and is itself not seen
                return torch._library.custom_ops.OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        flat, form = tree_flatten((args, kwargs))
        others = [v for v in flat if isinstance(v, Tensor) and not isinstance(v, Pretend)]
        masks = tree_leaves(args[1]) if name.lstrip("_").startswith("index") else ()
        by_mask = any(isinstance(v, Tensor) and v.dtype == torch.bool for v in masks)
        if name in WAITS or by_mask:
            self.note("waits")
        if name == "copy_":
            self.note("to the CPU") if others and others[0] is args[0] else None
        elif not self.pulling and any(v.ndim and (v.is_floating_point() or "index" not in name) for v in others):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {self.kind}:0 and cpu ({name})")
        args, kwargs = tree_unflatten([v.held if isinstance(v, Pretend) else v for v in flat], form)
        known = {id(v.held): v for v in flat if isinstance(v, Pretend)}
        out = func(*args, **kwargs)
        if name == "copy_" and others and others[0] is args[0]:
            return out
        return tree_map(lambda v: known.get(id(v)) if id(v) in known else self.wrap(v) if isinstance(v, Tensor) else v, out)


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return Device.current.wrap(x.detach().clone())

    @staticmethod
    def backward(ctx, g):
        return g.held


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.held.clone()

    @staticmethod
    def backward(ctx, g):
        return Device.current.wrap(g)


class _Kind(type(torch.Generator)):
    __instancecheck__ = lambda cls, value: isinstance(value, _REAL)  # noqa: E731


_REAL = torch.Generator


class _Generator(_REAL, metaclass=_Kind):
    "A generator that knows where it was told to lie"

    def __new__(cls, device="cpu"):
        made = _REAL.__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    device = property(lambda self: self.place)


@contextlib.contextmanager
def device(kind: str) -> Iterator[Device]:
    "The device, for as long as the context is open"
    from weightbook.blocks.kernels import HAS_TRITON

    quiet = lambda *args, **options: contextlib.nullcontext()  # noqa: E731
    with contextlib.ExitStack() as stack:
        news = (torch.cuda, "_lazy_init", quiet), (torch.cuda, "device", quiet), (torch, "Generator", _Generator)
        for place, name, new in news:
            stack.enter_context(mock.patch.object(place, name, new))
        if HAS_TRITON:
            from triton.runtime.interpreter import GridExecutor

            call = GridExecutor.__call__
            bare = lambda v: v.held if isinstance(v, Pretend) else v  # noqa: E731
            stack.enter_context(mock.patch.object(
                GridExecutor, "__call__",
                lambda self, *args, **options: call(self, *map(bare, args), **{k: bare(v) for k, v in options.items()})))
        Device.current = made = Device(kind)
        overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # the wrapper is of another type
        try:
            with made:
                yield made
        finally:
            Device.current = None
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
