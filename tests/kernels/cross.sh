#!/bin/sh
# Compiles the kernels for Windows and macOS and runs their self-test where an emulator is: wine for Windows (Debian:
# apt-get install wine64 wine). Usage: tests/kernels/cross.sh [python]; the compiler is PyPI's ziglang (pip install ziglang).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
zig="${1:-python} -m ziglang c++"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root/gdq_cli/csrc"
flags="-std=c++17 -O2 -ffp-contract=off -Wall -Wextra -I."
common="isa/isa.cpp kernels/portable.cpp layers/*.cpp network/*.cpp $root/tests/kernels/selftest.cpp"
avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"

compile() { # target, instruction set, flags
    $zig -target "$1" $flags $3 -c "isa/$2.cpp" -o "$work/$1-$2.o"
}

target=x86_64-windows-gnu
compile $target avx2 "-mavx2"
compile $target avxvnni "-mavx2 -mavxvnni"
compile $target avx512vl "$avx512 -mprefer-vector-width=256"
compile $target avx512vnni "$avx512"
$zig -target $target $flags -DGDQ_AVX2 -DGDQ_AVXVNNI -DGDQ_AVX512VL -DGDQ_AVX512VNNI $common "$work/$target"-*.o -o "$work/selftest.exe"
if command -v wine > /dev/null; then
    export WINEPREFIX="$work/wine" WINEDEBUG=-all
    wine "$work/selftest.exe"
    wineserver -w 2> /dev/null || true
else
    echo "windows: compiled; no wine to run it"
fi

target=aarch64-macos
compile $target neon "-mcpu=apple_m1"
$zig -target $target $flags -DGDQ_NEON $common "$work/$target-neon.o" -o "$work/selftest-macos"
echo "macos: compiled"
