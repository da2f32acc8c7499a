/* AVX2 with FMA: 32-byte vectors, 16 registers. */
#if defined(__x86_64__) || defined(__i386__)

#include "kernel.h"

#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#endif

#define ISA_NAME avx2
#define VECTOR_ISA 256

#include "both_types.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
