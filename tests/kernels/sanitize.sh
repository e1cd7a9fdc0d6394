#!/bin/sh
# Builds the kernels with AddressSanitizer and UndefinedBehaviorSanitizer and runs their tests on every instruction set.
# Usage: tests/kernels/sanitize.sh [python]; needs GCC or Clang, nanobind, setuptools and the package's test dependencies.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/gdq_cli" "$root/tests" "$root/setup.py" "$root/pyproject.toml" "$work"
rm -f "$work"/gdq_cli/_kernels*.so
cd "$work"
touch README.md LICENSE
GDQ_SANITIZE=1 "$python" setup.py -q build_ext --inplace
runtimes="$(${CXX:-c++} -print-file-name=libasan.so):$(${CXX:-c++} -print-file-name=libubsan.so)"
# Python leaks by design; torch was not built for the checks, so only what our code does is looked at.
LD_PRELOAD="$runtimes" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 PYTHONPATH="$work" \
    "$python" -m pytest tests/kernels -p no:cacheprovider --deselect \
    tests/kernels/test_kernels_network.py::test_memory_that_runs_out_in_a_thread  # the sanitizers' allocator ends the process
