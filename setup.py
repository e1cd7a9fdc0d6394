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
    """Compiles the instruction-set files by themselves, then the extension that links them."""

    def build_extension(self, ext: Extension) -> None:
        extra = SANITIZE if os.environ.get("GDQ_SANITIZE") else []
        base = [*FLAGS, *extra]
        if is_msvc := self.compiler.compiler_type == "msvc":
            self.compiler.initialize()
            self.compiler.cc = find_clang_cl()
            base = ["/EHsc", *(f"/clang:{flag}" for flag in FLAGS)]
        ext.extra_compile_args = base
        ext.extra_link_args = [*extra, *([] if is_msvc or sys.platform == "darwin" else ["-pthread"])]
        # Not among the sources, which sdists hold; nanobind is built without strict aliasing.
        ext.extra_objects += self.compiler.compile(
            [str(NANOBIND / "src/nb_combined.cpp")],
            output_dir=self.build_temp,
            include_dirs=ext.include_dirs,
            extra_postargs=[*base, *([] if is_msvc else ["-fno-strict-aliasing"])],
        )
        for name, flags in machine_isas().items():
            source = SOURCES / "isa" / f"{name.lower()}.cpp"
            arguments = [*base, *flags, *ISA_FLAGS]
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
    "isa": ["isa"],
    "kernels": ["portable"],
    "layers": ["pack", "layer", "selftest"],
    "network": ["network", "forward", "describe", "runner"],
    "python": ["module", "module_describe", "module_network"],
}
NANOBIND = Path(nanobind.include_dir()).parent

setup(
    ext_modules=[
        Extension(
            "gdq_cli._kernels",
            sources=[str(SOURCES / room / f"{name}.cpp") for room, names in COMMON.items() for name in names],
            include_dirs=[str(SOURCES), nanobind.include_dir(), str(NANOBIND / "ext/robin_map/include")],
            define_macros=[("NB_FREE_THREADED", "1")] if sysconfig.get_config_var("Py_GIL_DISABLED") else [],
            depends=sorted(str(path) for path in [*SOURCES.rglob("*.h"), *SOURCES.glob("isa/*.cpp")]),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
