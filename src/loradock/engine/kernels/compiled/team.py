"""Threads that go through the same lane side by side, and meet between two of its operations.

A meeting takes a microsecond or less, since who waits keeps looking; sleeping and being woken would take as long as
several operations. Where a member has to wait long, somebody else wants its processor, and gets it.
"""

import platform
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from loradock.engine.kernels.compiled.memory import aligned
from loradock.engine.kernels.kernels import FAST, address

ARRIVED, MEETINGS = 0, 8
"""The places on a gate, each on a cache line of its own, of how many wait and how many meetings there were."""
GONE = 2**62
"""The number of who cannot go on: more than anybody waits for."""
PATIENCE = 10_000
"""The number of looks (a tenth of a millisecond or two on x86-64) after which a member lets others have the processor
between two looks. Not much sooner: whoever gets it keeps it for some milliseconds, while all members wait for this
one."""
_PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "yield", "arm64": "yield"}.get(platform.machine().lower(), "")
_part = njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_give_way = types.ExternalFunction("sched_yield", types.int32())


class Team(NamedTuple):
    """One member's view: its number, the size of the team, and the gate int64 `[16]` where they meet."""

    number: int
    size: int
    gate: np.ndarray


def team_of(size: int) -> list[Team]:
    """All members' views of a new team."""
    gate = aligned(16, np.int64)
    gate[:] = 0
    return [Team(number, size, gate) for number in range(size)]


def leave(team: Team) -> None:
    """Keep others from waiting for this member any more: it cannot go on."""
    team.gate[MEETINGS] = GONE


@_part
def meet(team):
    """Wait until all members are here; what each wrote before, all can read after."""
    if team.size == 1:
        return
    arrived, meetings = address(team.gate[ARRIVED:]), address(team.gate[MEETINGS:])
    following = min(_read(meetings) + 1, GONE)
    if _count(arrived) < team.size - 1:
        _wait(meetings, following)
        return
    _write(arrived, 0)
    _lift(meetings, following)


@_part
def share(count, team):
    """A member's part of `count` things: (first, end)."""
    return count * team.number // team.size, count * (team.number + 1) // team.size


@_part
def announce(place, number):
    """Let others see, with all that was written before, that `place` int64 `[1]` is `number` now."""
    _write(address(place), number)


@_part
def await_number(place, number):
    """Wait until another thread has announced at least `number`."""
    _wait(address(place), number)


@_part
def _wait(address, number):
    looks = 0
    while _read(address) < number:
        looks += 1
        if looks > PATIENCE:
            _give_way()
        _pause()


@intrinsic
def _read(typingctx, address):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _write(typingctx, address, number):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _lift(typingctx, address, number):
    """Write the number unless a larger one is there."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.atomic_rmw("max", pointer, arguments[1], "acq_rel")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _count(typingctx, address):
    """Add one; gives what was there."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread only waits."""

    def generate(context, builder, signature, arguments):
        builder.asm(ir.FunctionType(ir.VoidType(), []), _PAUSE, "", [], True)
        return context.get_dummy_value()

    return types.void(), generate
