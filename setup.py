"""Builds the kernels (native/) along with the package, which pyproject.toml describes."""

import importlib.util
import os
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

HERE = Path(__file__).resolve().parent
specification = importlib.util.spec_from_file_location("kernels_build", HERE / "native/build.py")
kernels = importlib.util.module_from_spec(specification)
specification.loader.exec_module(kernels)
LIBRARY = kernels.OUT.relative_to(HERE)
TARGET = kernels.TARGETS.get(kernels.machine())
"""None: this machine has no kernels, and the built-in engine will say so."""


class BuildKernels(Command):
    """Compiles into the wheel, or for an editable install beside the sources."""

    description = "compile the kernels"
    user_options = []

    def initialize_options(self) -> None:
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        family, system = kernels.machine()
        sets = [*reversed(kernels.SETS[family])]
        if not self.editable_mode:
            kernels.build(Path(self.build_lib, LIBRARY.relative_to("src")), family, system, sets, [])
        elif not kernels.is_current(HERE / LIBRARY):
            kernels.build(HERE / LIBRARY, family, system, sets, [])

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(Path(self.build_lib, LIBRARY.relative_to("src")))]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return [str(source.relative_to(HERE)) for source in sorted((HERE / "native").iterdir()) if source.is_file()]


class Wheel(bdist_wheel):
    """Named for any Python 3, as the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2] if os.environ.get("CC") else TARGET[1]


class Compiled(Distribution):
    """A package for one kind of machine."""

    def has_ext_modules(self) -> bool:
        return True


if TARGET is None:
    setup()
else:
    build.sub_commands.append(("build_kernels", None))
    setup(distclass=Compiled, cmdclass={"build_kernels": BuildKernels, "bdist_wheel": Wheel})
