#!/bin/sh
# Cross-compiles the NEON kernels and runs their self-test in an emulator.
# On Debian: apt-get install g++-aarch64-linux-gnu qemu-user. CXX names another cross compiler.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cxx=${CXX:-aarch64-linux-gnu-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root/gdq_cli/csrc"
flags="-std=c++17 -O2 -ffp-contract=off -Wall -Wextra -DGDQ_NEON -I."
$cxx $flags -march=armv8.2-a+dotprod -c isa/neon.cpp -o "$work/neon.o"
$cxx $flags -static isa/isa.cpp kernels/portable.cpp layers/*.cpp "$root/tests/kernels/selftest.cpp" "$work/neon.o" \
    -o "$work/selftest"
qemu-aarch64 -cpu max "$work/selftest"
