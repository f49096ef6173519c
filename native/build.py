"""Builds the kernels into one library, once for each instruction set: `python native/build.py [--help]`.

The compiler is clang as the `ziglang` package brings it (PyPI; needed for building only), or any other by `CC`, for a
machine's own processor family. Every target is named: without one, zig makes code for the very machine it runs on.
"""

import argparse
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ZIG = "ziglang==0.17.1"
HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src/loradock/engine/kernels/native.so"
"""Where it is looked for."""
SETS = {
    "x86_64": {
        "plain": ("x86_64_v2", ["-march=x86-64-v2"]),
        "avx2": ("x86_64_v3", ["-march=x86-64-v3"]),
        "avxvnni": ("x86_64_v3+avxvnni", ["-march=x86-64-v3", "-mavxvnni"]),
        "avx512": ("x86_64_v4", ["-march=x86-64-v4"]),
        "avx512vnni": ("x86_64_v4+avx512vnni", ["-march=x86-64-v4", "-mavx512vnni"]),
        "avx512bf16": ("x86_64_v4+avx512vnni+avx512bf16", ["-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"]),
    },
    "aarch64": {
        "neon": ("baseline", ["-march=armv8-a"]),
        "neondot": ("baseline+dotprod+fullfp16", ["-march=armv8.2-a+dotprod+fp16"]),
        "neoni8mm": ("baseline+dotprod+fullfp16+i8mm+bf16", ["-march=armv8.6-a+i8mm+bf16+dotprod+fp16"]),
    },
}
"""For each processor family the names of the instruction sets (`ISA`), as zig and as other compilers call them."""
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden", "-g0"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unused-function"]
TARGETS = {
    ("x86_64", "Linux"): ("x86_64-linux-gnu.2.28", "manylinux_2_28_x86_64"),
    ("aarch64", "Linux"): ("aarch64-linux-gnu.2.28", "manylinux_2_28_aarch64"),
    ("x86_64", "Darwin"): ("x86_64-macos.13.0", "macosx_13_0_x86_64"),
    ("aarch64", "Darwin"): ("aarch64-macos.13.0", "macosx_13_0_arm64"),
}
"""For each machine that has kernels zig's name, and that of wheels for it: it needs a C library of 2018 or later."""
HERE_BY = {"x86_64": "flags", "aarch64": "Features"}
"""The line of /proc/cpuinfo that lists what a processor has."""
FEATURES = {
    "avx512bf16": "avx512_bf16",
    "avx512vnni": "avx512_vnni",
    "avx512": "avx512vl",
    "avxvnni": "avx_vnni",
    "avx2": "avx2",
    "neoni8mm": "i8mm",
    "neondot": "asimddp",
}
"""What Linux calls the newest part of an instruction set."""


def machine() -> tuple[str, str]:
    """Return this machine's processor family and system."""
    family = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(family, family), platform.system()


def best_here(family: str) -> list[str]:
    """Return the set that this machine will use, or all where nobody says what its processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [*SETS[family]]
    found = next((line.split() for line in lines if line.startswith(HERE_BY[family])), [])
    return [next((isa for isa in reversed(SETS[family]) if FEATURES.get(isa) in found), next(iter(SETS[family])))]


def is_current(out: Path) -> bool:
    """Whether the library is younger than all it is made of."""
    sources = [source for source in HERE.iterdir() if source.is_file()]
    return out.exists() and all(source.stat().st_mtime <= out.stat().st_mtime for source in sources)


def own_compiler() -> list[str]:
    """Return the command that `CC` names."""
    return shlex.split(os.environ.get("CC", ""))


def has_compiler() -> bool:
    return bool(own_compiler()) or importlib.util.find_spec("ziglang") is not None


def fetch(folder: str, family: str) -> None:
    """Put into a folder, and where Python looks, as much of zig as it takes to compile for Linux: unpacking all of it
    would take longer than using it.
    """
    headers = {"x86_64": "x86"}.get(family, family)
    libc = ("generic-glibc", "any-linux-any", f"{headers}-linux-any", f"{headers}-linux-gnu")
    parts = ("include/", "std/std.zig", *(f"libc/include/{kind}/" for kind in libc))
    needed = ("ziglang/__", "ziglang/zig", *(f"ziglang/lib/{part}" for part in parts))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, ZIG], check=True)
    (wheel,) = Path(folder).glob("ziglang-*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder, [name for name in files.namelist() if name.startswith(needed)])
    wheel.unlink()
    Path(folder, "ziglang/zig").chmod(0o755)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = folder


class Compiler:
    """Zig's clang for a target, or the compiler that `CC` names."""

    def __init__(self, family: str, target: str) -> None:
        self._family = family
        self._target = target
        self._own = own_compiler()
        if not has_compiler():
            raise SystemExit(f"the kernels need a compiler: pip install {ZIG}, or name one by CC (gcc, clang)")

    def __call__(self, arguments: list[str], isa: str | None = None) -> None:
        """Raises SystemExit with what the compiler printed."""
        zig, own = SETS[self._family][isa or next(iter(SETS[self._family]))]
        if self._own:
            command = [*self._own, *own]
        else:
            command = [sys.executable, "-m", "ziglang", "cc", "-target", self._target, f"-mcpu={zig}"]
            command.append("-fno-sanitize=all")
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{shlex.join([*command, *arguments])}\n{done.stderr}")


def build(out: Path, family: str, system: str, sets: list[str], extra: list[str]) -> None:
    """Compile instruction sets side by side and link them into the library `out`."""
    compiler = Compiler(family, TARGETS[family, system][0])
    # Python has loaded the C library before; zig would build its own stand-in for it first, which takes seconds.
    libraries = ["-lm"] if own_compiler() or system != "Linux" else ["-nostdlib"]
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with compiled(compiler, sets, extra) as objects:
        compiler(["-shared", "-fPIC", *(extra or ["-s"]), *objects, *libraries, "-o", str(partial)])
    # Whoever has the old one mapped keeps it.
    partial.rename(out)


def build_check(out: Path, family: str) -> None:
    """Link all sets of a family into the program check.c, which needs nothing else and runs in an emulator."""
    compiler = Compiler(family, f"{family}-linux-musl")
    with compiled(compiler, [*SETS[family]], []) as objects:
        compiler(["-static", "-std=gnu11", "-O2", *STRICT, str(HERE / "check.c"), *objects, "-o", str(out)])


@contextmanager
def compiled(compiler: Compiler, sets: list[str], extra: list[str]) -> Iterator[list[str]]:
    """Compile instruction sets side by side; yields the objects' files."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(source: str, isa: str | None) -> str:
            into = f"{folder}/{isa or 'select'}.o"
            named = [f"-DISA={isa}"] if isa else []
            compiler([*FLAGS, *STRICT, *extra, *named, "-c", str(HERE / source), "-o", into], isa)
            return into

        parts = [pool.submit(one, "isa.c", isa) for isa in sets]
        parts.append(pool.submit(one, "select.c", None))
        yield [part.result() for part in parts]


def main() -> None:
    """Build for this machine's processor family, or another's."""
    family, system = machine()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=family, choices=SETS, help="processor family")
    parser.add_argument("--system", default=system, choices=["Linux", "Darwin"])
    parser.add_argument("--only-here", action="store_true", help="only the instruction set that this machine will use")
    parser.add_argument("--fetch", action="store_true", help=f"fetch {ZIG} for this once where there is no compiler")
    parser.add_argument("--out", type=Path, default=OUT, help="the library to write")
    parser.add_argument("--check", action="store_true", help="the program check.c for an emulator, not the library")
    parser.add_argument("--flag", action="append", default=[], help="a further flag, such as -fsanitize=address")
    arguments = parser.parse_args()
    sets = best_here(family) if arguments.only_here else [*reversed(SETS[arguments.family])]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.fetch and not has_compiler():
            fetch(folder, arguments.family)
        if arguments.check:
            build_check(arguments.out, arguments.family)
        else:
            build(arguments.out, arguments.family, arguments.system, sets, arguments.flag)


if __name__ == "__main__":
    main()
