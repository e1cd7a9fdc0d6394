#!/bin/sh
# Runs the self-test of the AVX-512 and AVX-VNNI kernels on a processor that has neither, with emulated intrinsics.
# On Debian: apt-get install libsimde-dev. CXX names another GCC.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/gdq_cli/csrc" "$work/csrc"
cd "$work/csrc"
sed -i 's/__asm__("" : "+v"(a));//' isa/vec_avx512.h # there is no such register
sed -i 's/f\.avx512vnni}/true}/; s/f\.avxvnni}/true}/' isa/isa.cpp
flags="-std=c++17 -O1 -ffp-contract=off -Wall -Wno-psabi -I."
for isa in avx512vnni avxvnni; do
    ${CXX:-g++} $flags -mavx2 -I"$root/tests/kernels/vnni" -c isa/$isa.cpp -o "$work/$isa.o"
done
${CXX:-g++} $flags -DGDQ_AVX512VNNI -DGDQ_AVXVNNI isa/isa.cpp kernels/portable.cpp layers/*.cpp \
    "$root/tests/kernels/selftest.cpp" "$work"/*.o -o "$work/selftest"
"$work/selftest"
