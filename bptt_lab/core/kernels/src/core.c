/* The functions of bptt_core.h: choose an instruction set, get memory, run the parts. */
#include "kernel.h"
#include "threads.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const bptt_kernel *f32, *f64;
} kernels;

static const kernels all[] = {
#if defined(__x86_64__) || defined(__i386__)
    {&bptt_avx512_f32, &bptt_avx512_f64},
    {&bptt_avx2_f32, &bptt_avx2_f64},
#endif
    {&bptt_generic_f32, &bptt_generic_f64},
};

static int supported(const char *isa) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (strcmp(isa, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return strcmp(isa, "generic") == 0;
}

static const kernels *chosen;

static const kernels *choose(void) {
    /* Two threads that get here first choose the same one. */
    if (!chosen) {
        const kernels *k = all;
        while (!supported(k->f32->isa)) k++;
        chosen = k;
    }
    return chosen;
}

const char *bptt_isa(void) { return choose()->f32->isa; }

int bptt_use_isa(const char *name) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].f32->isa, name) == 0 && supported(name)) {
            chosen = &all[i];
            return 0;
        }
    return 1;
}

/* `bytes` from a 64-byte boundary on; *block is what to free. */
static char *take(size_t bytes, void **block) {
    *block = malloc(bytes + 64);
    return *block ? (char *)(((uintptr_t)*block + 63) / 64 * 64) : NULL;
}

static int unroll(const bptt_kernel *kernel, const bptt_unroll_args *args) {
    if (args->L <= 0 || args->N <= 0 || args->H <= 0) return 0;
    bptt_unroll_job job = {.args = args};
    void *block;
    kernel->unroll_plan(&job);
    job.workspace = take(job.shared + job.private * (size_t)job.split.parts, &block);
    if (!job.workspace) return 1;
    kernel->unroll_pack(&job);
    bptt_parallel(kernel->unroll_part, &job, job.split.parts, args->threads);
    free(block);
    return 0;
}

static int sweep(const bptt_kernel *kernel, const bptt_sweep_args *args) {
    if (args->L <= 0 || args->N <= 0 || args->H <= 0) return 0;
    bptt_sweep_job job = {.args = args};
    void *block;
    kernel->sweep_plan(&job);
    job.workspace = take(job.shared + job.private * (size_t)job.split.parts, &block);
    if (!job.workspace) return 1;
    kernel->sweep_pack(&job);
    bptt_parallel(kernel->sweep_part, &job, job.split.parts, args->threads);
    kernel->sweep_finish(&job);
    free(block);
    return 0;
}

int bptt_unroll_f32(const bptt_unroll_args *args) { return unroll(choose()->f32, args); }
int bptt_unroll_f64(const bptt_unroll_args *args) { return unroll(choose()->f64, args); }
int bptt_sweep_f32(const bptt_sweep_args *args) { return sweep(choose()->f32, args); }
int bptt_sweep_f64(const bptt_sweep_args *args) { return sweep(choose()->f64, args); }

void bptt_phi_f32(float *x, long count, int phi) { choose()->f32->phi(x, count, phi); }
void bptt_phi_f64(double *x, long count, int phi) { choose()->f64->phi(x, count, phi); }
