"""Builds the optional extension ``gdq_cli._kernels``; everything else about the package is in pyproject.toml.

Each instruction set is one source file with its own compiler flags; the program asks the processor which of them to
use. A file that this compiler cannot build is left out; without a compiler the package installs without kernels. On
Windows that compiler is clang-cl, which Visual Studio's installer has beside MSVC; MSVC itself knows no vector
extensions.
``GDQ_SANITIZE=1`` builds with AddressSanitizer and UndefinedBehaviorSanitizer (tests/kernels/sanitize.sh).
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nanobind
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
# Python's own flags have -fwrapv, with which GCC 12 takes four times as long and overflow of integers is never found.
SANITIZE = ["-O1", "-g", "-fno-wrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZE += ["-fno-omit-frame-pointer"]


def machine_isas() -> dict[str, list[str]]:
    """Instruction sets of the machine we build for."""
    name = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine()).lower()
    if any(word in name for word in ("x86_64", "amd64", "i686")):
        return ISAS["x86"]
    if any(word in name for word in ("aarch64", "arm64")):
        return ISAS["arm"]
    return {}


def find_clang_cl() -> str:
    """Clang with MSVC's options: on the path, or where Visual Studio or LLVM's own installer put it.

    Raises:
        CompileError: if there is none; torch's int8 engine takes over.
    """
    for folder in (os.environ.get("VCINSTALLDIR"), os.environ.get("PROGRAMFILES")):
        for inside in ("Tools/Llvm/x64/bin", "LLVM/bin"):
            if folder and (found := shutil.which("clang-cl", path=str(Path(folder) / inside))):
                return found
    found = shutil.which("clang-cl")
    if found is None:
        raise CompileError("the kernels need clang-cl, which Visual Studio's installer offers as C++ Clang tools")
    return found


class BuildKernels(build_ext):
    """Compiles all files at a time, those of the instruction sets with flags of their own, then links them."""

    def build_extension(self, ext: Extension) -> None:
        extra = SANITIZE if os.environ.get("GDQ_SANITIZE") else []
        base = [*FLAGS, *extra]
        if is_msvc := self.compiler.compiler_type == "msvc":
            self.compiler.initialize()
            self.compiler.cc = find_clang_cl()
            base = ["/EHsc", *(f"/clang:{flag}" for flag in FLAGS)]
        ext.extra_compile_args = base
        ext.extra_link_args = [*extra, *([] if is_msvc or sys.platform == "darwin" else ["-pthread"])]

        def start(source: Path, flags: Sequence[str]) -> Future[list[str]]:
            return pool.submit(
                self.compiler.compile,
                [str(source)],
                output_dir=self.build_temp,
                macros=list(ext.define_macros),
                include_dirs=ext.include_dirs,
                extra_postargs=[*base, *flags],
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            isas = {
                name: start(SOURCES / f"isa/{name.lower()}.cpp", [*flags, *ISA_FLAGS])
                for name, flags in machine_isas().items()
            }
            # nanobind is built without strict aliasing.
            objects = [start(NANOBIND / "src/nb_combined.cpp", [] if is_msvc else ["-fno-strict-aliasing"])]
            objects += [start(path, []) for path in PLAIN]
        for name, made in isas.items():
            if isinstance(made.exception(), CCompilerError):
                self.announce(f"the {name} kernels are left out: {made.exception()}", level=3)
            else:
                objects.append(made)
                ext.define_macros.append((f"GDQ_{name}", "1"))
        ext.extra_objects = [made for one in objects for made in one.result()]
        super().build_extension(ext)  # compiles isa.cpp, which asks for these macros


PLAIN = sorted(path for room in ("kernels", "layers", "network", "python") for path in (SOURCES / room).glob("*.cpp"))
NANOBIND = Path(nanobind.include_dir()).parent

setup(
    ext_modules=[
        Extension(
            "gdq_cli._kernels",
            sources=[str(SOURCES / "isa/isa.cpp")],
            include_dirs=[str(SOURCES), nanobind.include_dir(), str(NANOBIND / "ext/robin_map/include")],
            define_macros=[("NB_FREE_THREADED", "1")] if sysconfig.get_config_var("Py_GIL_DISABLED") else [],
            depends=sorted(str(path) for path in SOURCES.rglob("*.*")),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
