/* What each (element type, instruction set) offers, the job that core.c hands to it, and names. */
#ifndef BPTT_KERNEL_H
#define BPTT_KERNEL_H

#include "bptt_core.h"

#include <stddef.h>
#include <string.h>

/* The batch is cut into `parts`, one a thread, and a part into `groups` of rows that run through
 * the whole sequence one after the other; `rows` is the largest group, `tile_rows` the height of
 * its register tiles. */
typedef struct {
    int parts, groups, tile_rows;
    long rows;
} bptt_split;

typedef struct {
    const void *args; /* bptt_unroll_args or bptt_sweep_args */
    bptt_split split;
    char *workspace; /* `shared` bytes for all, then `private` bytes for each part; 64-aligned */
    size_t shared, private;
    long block; /* unroll: steps whose input is projected at once; 0: within the step */
    long segment; /* sweep: steps whose delta exists at once */
    int gradients; /* sweep: whether any of grad_w_ih, grad_w_hh, grad_bias is asked for */
} bptt_job;

typedef struct {
    void (*plan)(bptt_job *); /* decides all of the job but the workspace, whose two sizes it sets */
    void (*pack)(bptt_job *);
    void (*part)(void *job, int part);
    void (*finish)(bptt_job *); /* or NULL */
} bptt_pass;

typedef struct {
    const char *isa;
    bptt_pass unroll, sweep;
} bptt_kernel;

extern const bptt_kernel bptt_generic_f32, bptt_generic_f64;
#if defined(__x86_64__) || defined(__i386__)
extern const bptt_kernel bptt_avx2_f32, bptt_avx2_f64, bptt_avx512_f32, bptt_avx512_f64;
#endif

/* Call work(job, part) once for each part < parts, on up to `threads` threads, and wait. */
void bptt_parallel(void (*work)(void *job, int part), void *job, int parts, int threads);

/* NAME(f) is f with the element type and the instruction set appended: f_f32_avx512. */
#define BPTT_JOIN_(a, b, c) a##_##b##_##c
#define BPTT_JOIN(a, b, c) BPTT_JOIN_(a, b, c)
#define NAME(f) BPTT_JOIN(f, REAL_NAME, ISA_NAME)
#define BPTT_STRING_(a) #a
#define BPTT_STRING(a) BPTT_STRING_(a)

#define INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How a tile of product.h meets what is in C. */
enum { AFRESH, ADD };

#endif
