/* What each (element type, instruction set) offers, and the job that core.c hands to it. */
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
    const bptt_unroll_args *args;
    bptt_split split;
    char *workspace; /* `shared` bytes for all, then `private` bytes for each part; 64-aligned */
    size_t shared, private;
    long block; /* steps whose input is projected at once; 0: within the step */
} bptt_unroll_job;

typedef struct {
    const bptt_sweep_args *args;
    bptt_split split;
    char *workspace;
    size_t shared, private;
    long segment; /* steps whose delta exists at once */
    int gradients; /* whether any of grad_w_ih, grad_w_hh, grad_bias is asked for */
} bptt_sweep_job;

typedef struct {
    const char *isa;
    /* Decide everything in the job but the workspace, whose two sizes it sets. */
    void (*unroll_plan)(bptt_unroll_job *);
    void (*unroll_pack)(bptt_unroll_job *);
    void (*unroll_part)(void *job, int part);
    void (*sweep_plan)(bptt_sweep_job *);
    void (*sweep_pack)(bptt_sweep_job *);
    void (*sweep_part)(void *job, int part);
    void (*sweep_finish)(bptt_sweep_job *);
    void (*phi)(void *array, long count, int phi);
} bptt_kernel;

extern const bptt_kernel bptt_generic_f32, bptt_generic_f64;
#if defined(__x86_64__) || defined(__i386__)
extern const bptt_kernel bptt_avx2_f32, bptt_avx2_f64, bptt_avx512_f32, bptt_avx512_f64;
#endif

#endif
