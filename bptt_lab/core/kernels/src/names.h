/* NAME(f) is f with the element type and the instruction set appended: f_f32_avx512. */
#ifndef BPTT_NAMES_H
#define BPTT_NAMES_H

#define BPTT_JOIN_(a, b, c) a##_##b##_##c
#define BPTT_JOIN(a, b, c) BPTT_JOIN_(a, b, c)
#define NAME(f) BPTT_JOIN(f, REAL_NAME, ISA_NAME)

#define INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How a tile of product.h meets what is in C. */
enum { AFRESH, RESUME, ADD };

#endif
