"""The structures of native/kernels.h, as ctypes hands them over. All counts are int64, all steps bytes."""

import ctypes
from enum import IntEnum

from loradock.engine.kernels.constants import BLOCK_SIZE

PANEL = 16
"""Outputs of a weight that lie together."""
GROUP = 32
"""Inputs that share a scale."""
CHUNK = 64
"""Rows that go through a layer together."""
SHARE = 256
"""Logits that are looked through together."""
UNPACKED = 640
"""Inputs of a coded panel that are unpacked at once, at most."""
LANES = 16
"""Numbers of a vector."""
LINE = 64
"""Bytes of a vector, and of a cache line."""

_number, _address = ctypes.c_int64, ctypes.c_void_p


class Format(IntEnum):
    """How a weight's numbers are kept: the bits of one (CODED: bfloat16 in 12 bits, exactly)."""

    INT4 = 4
    INT8 = 8
    CODED = 12
    BFLOAT16 = 16
    FLOAT32 = 32


class Weight(ctypes.Structure):
    """A packed weight `[outputs, inputs]`, both padded."""

    _fields_ = [
        ("numbers", _address),
        ("scales", _address),
        ("bias", _address),
        ("rare", _address),
        ("rares", _number),
        ("format", _number),
        ("outputs", _number),
        ("inputs", _number),
    ]


class Inputs(ctypes.Structure):
    """Rows of activations as tiles and adapters read them."""

    _fields_ = [
        ("rows", _address),
        ("rows_step", _number),
        ("tiled", _address),
        ("tiled_step", _number),
        ("factors", _address),
        ("factors_step", _number),
        ("unpacked", _address),
    ]


class Run(ctypes.Structure):
    """Some rows of one sequence that follow each other."""

    _fields_ = [("blocks", _address), ("row", _number), ("rows", _number), ("start", _number)]


class Norms(ctypes.Structure):
    """A layer's weights of norms; `q` and `k` are 0 where the family has none."""

    _fields_ = [("attention", _address), ("mlp", _address), ("q", _address), ("k", _address)]


class Model(ctypes.Structure):
    """What all rows of all steps have in common."""

    _fields_ = [
        ("layers", _number),
        ("hidden", _number),
        ("inner", _number),
        ("vocabulary", _number),
        ("heads", _number),
        ("kv_heads", _number),
        ("dim", _number),
        ("window", _number),
        ("eps", ctypes.c_double),
        ("products", ctypes.POINTER(Weight)),
        ("norms", ctypes.POINTER(Norms)),
        ("last_norm", _address),
        ("head", ctypes.POINTER(Weight)),
        ("embedding", _address),
    ]


class Scratch(ctypes.Structure):
    """Room for CHUNK rows on the way through a layer."""

    _fields_ = [
        ("inputs", Inputs),
        ("wide", _address),
        ("wide_step", _number),
        ("sums", _address),
        ("sums_step", _number),
        ("tops", _address),
        ("places", _address),
        ("row", _address),
        ("seen", _address),
        ("attention", _address),
    ]


class Lane(ctypes.Structure):
    """Some rows of a step."""

    _fields_ = [
        ("rows", _number),
        ("runs", _number),
        ("tokens", _address),
        ("cos", _address),
        ("sin", _address),
        ("slots", _address),
        ("run", ctypes.POINTER(Run)),
        ("alone", _number),
        ("x", _address),
        ("qkv", _address),
        ("attended", _address),
        ("cache", _address),
        ("block_bytes", _number),
        ("kept", _number),
        ("stored", _address),
        ("ahead", _address),
        ("owners", _address),
        ("adapters", _address),
        ("adapter_count", _number),
        ("modules", _number),
        ("wanted", _address),
        ("wanted_rows", _number),
        ("logits", _address),
        ("best", _address),
        ("usable", _address),
    ]


class Attention(ctypes.Structure):
    """One layer of the cache, and rows of a step."""

    _fields_ = [
        ("cache", _address),
        ("block_bytes", _number),
        ("kept", _number),
        ("qkv", _address),
        ("out", _address),
        ("heads", _number),
        ("kv_heads", _number),
        ("dim", _number),
        ("window", _number),
        ("room", _address),
        ("floats", ctypes.c_bool),
    ]


class Matrix(ctypes.Structure):
    """Rows as a file holds them."""

    _fields_ = [
        ("numbers", _address),
        ("order", _address),
        ("kind", _number),
        ("rows", _number),
        ("columns", _number),
    ]


class Choice(ctypes.Structure):
    """How a token is chosen from a row of logits."""

    _fields_ = [
        ("logits", _address),
        ("top_k", _number),
        ("temperature", ctypes.c_float),
        ("uniform", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
    ]


class Team(ctypes.Structure):
    """One member's view of a team, and the gate int64 `[16]` where all meet."""

    _fields_ = [("number", _number), ("size", _number), ("gate", _address)]


_of = ctypes.POINTER


class Kernels(ctypes.Structure):
    """The functions of one instruction set. They give up the interpreter's lock."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("run", ctypes.CFUNCTYPE(None, _of(Model), _of(Lane), _of(Scratch), _of(Team))),
        (
            "product",
            ctypes.CFUNCTYPE(
                None, _of(Weight), _of(Inputs), _address, _number, _address, _number, _number, _number, _number
            ),
        ),
        (
            "adapt",
            ctypes.CFUNCTYPE(
                None,
                _address,
                _number,
                _address,
                _number,
                _of(Inputs),
                _number,
                _number,
                _address,
                _number,
                _address,
                _number,
                _number,
                _number,
            ),
        ),
        ("attend", ctypes.CFUNCTYPE(None, _of(Attention), _of(Run))),
        ("tiled_bytes", ctypes.CFUNCTYPE(_number, _number)),
        ("attention_room", ctypes.CFUNCTYPE(_number, _number, _number, _number)),
        ("pack", ctypes.CFUNCTYPE(_number, _of(Matrix), _number, _number, _address, _address, _address, _number)),
        ("convert", ctypes.CFUNCTYPE(None, _of(Matrix), _number, _address)),
        ("pack_adapter", ctypes.CFUNCTYPE(_number, _address, _address, _number, _address, _number, _address)),
        ("finite", ctypes.CFUNCTYPE(_number, _address, _number)),
        ("choose", ctypes.CFUNCTYPE(None, _of(Choice), _number, _number, _address, _address)),
        (
            "likeliest",
            ctypes.CFUNCTYPE(
                None, _address, _number, _number, _number, _address, _address, _address, _address, _address
            ),
        ),
        ("largest", ctypes.CFUNCTYPE(None, _address, _number, _number, _address, _address)),
    ]


MODULE, MOVE = 4, 8
"""The numbers of a module of an adapter, and of a move (see `adapter_packing`)."""
_STRUCTURES = (Kernels, Weight, Inputs, MODULE, Run, Norms, Model, Scratch, Lane, Team, Matrix, MOVE, Attention, Choice)
SIZES = (
    *(8 * each if isinstance(each, int) else ctypes.sizeof(each) for each in _STRUCTURES),
    *(PANEL, GROUP, BLOCK_SIZE, CHUNK, SHARE, UNPACKED),
)
"""What the library must say of itself before anything in it is called: `loradock_sizes` of native/select.c."""
