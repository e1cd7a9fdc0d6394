#pragma once
// The instruction-set files are compiled by GCC and Clang only (setup.py leaves them out elsewhere).
#define GDQ_INLINE inline __attribute__((always_inline))
// Micro kernels are functions of their own: in a large caller GCC 12 spills or copies their accumulators.
#define GDQ_NOINLINE __attribute__((noinline))
#define GDQ_LAMBDA __attribute__((always_inline))
#define GDQ_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define GDQ_UNROLL(n) GDQ_PRAGMA(clang loop unroll(full))
#define GDQ_ROLLED GDQ_PRAGMA(clang loop unroll(disable))
#else
#define GDQ_UNROLL(n) GDQ_PRAGMA(GCC unroll n)
#define GDQ_ROLLED GDQ_PRAGMA(GCC unroll 1)
#endif
#define GDQ_PREFETCH(p) __builtin_prefetch(p, 1, 2)
