/* AVX-512: 64-byte vectors, 32 registers. */
#if defined(__x86_64__) || defined(__i386__)

#include "kernel.h"

#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#include <immintrin.h>
#endif

#define ISA_NAME avx512
#define VECTOR_ISA 512

#include "both_types.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
