"""Builds the optional extension ``gdq_cli._kernels``; everything else about the package is in pyproject.toml.

Each instruction set is one source file with its own compiler flags; the program asks the processor which of them to
use. A file that this compiler cannot build is left out; without a compiler, or with MSVC, the package installs without
kernels.
``GDQ_SANITIZE=1`` builds with AddressSanitizer and UndefinedBehaviorSanitizer (tests/kernels/sanitize.sh).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError

SOURCES = Path("gdq_cli/csrc")
X86_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"]
ISAS = {  # macro and source -> flags, by machine
    "x86": {
        "AVX512VNNI": X86_AVX512,
        "AVXVNNI": ["-mavx2", "-mavxvnni"],
        "AVX512VL": [*X86_AVX512, "-mprefer-vector-width=256"],
        "AVX2": ["-mavx2"],
    },
    "arm": {"NEON": ["-march=armv8.2-a+dotprod"]},
}
# Contraction into fused multiply-adds would change results: the integer contract rounds products and sums separately.
FLAGS = ["-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]
# GCC 12 warns about its own AVX-512 header (bug 105593).
ISA_FLAGS = ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


def machine_isas() -> dict[str, list[str]]:
    """Instruction sets of the machine we build for."""
    name = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine()).lower()
    if any(word in name for word in ("x86_64", "amd64", "i686")):
        return ISAS["x86"]
    if any(word in name for word in ("aarch64", "arm64")):
        return ISAS["arm"]
    return {}


class BuildKernels(build_ext):
    """Compiles the instruction-set files by themselves, then the extension that links them."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":  # has no vector extensions; torch's int8 engine takes over
            raise CompileError("the kernels need GCC or Clang")
        extra = SANITIZE if os.environ.get("GDQ_SANITIZE") else []
        ext.extra_compile_args = [*FLAGS, *extra]
        ext.extra_link_args = [*extra, *([] if sys.platform == "darwin" else ["-pthread"])]
        for name, flags in machine_isas().items():
            source = SOURCES / "kernels" / f"isa_{name.lower()}.cpp"
            arguments = [*FLAGS, *flags, *ISA_FLAGS, *extra]
            try:
                ext.extra_objects += self.compiler.compile(
                    [str(source)],
                    output_dir=self.build_temp,
                    include_dirs=ext.include_dirs,
                    depends=ext.depends,
                    extra_postargs=arguments,
                )
            except CCompilerError as error:
                self.announce(f"{source} left out: {error}", level=3)
            else:
                ext.define_macros.append((f"GDQ_{name}", "1"))
        super().build_extension(ext)


COMMON = {
    "kernels": ["portable", "isa", "selftest"],
    "network": ["pack", "network", "forward", "describe", "runner", "layer"],
    "python": ["buffers", "module", "module_describe", "module_network"],
}

setup(
    ext_modules=[
        Extension(
            "gdq_cli._kernels",
            sources=[str(SOURCES / room / f"{name}.cpp") for room, names in COMMON.items() for name in names],
            include_dirs=[str(SOURCES)],
            depends=sorted(str(path) for path in [*SOURCES.rglob("*.h"), *SOURCES.rglob("isa_*.cpp")]),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
