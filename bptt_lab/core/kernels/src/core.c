/* The functions of bptt_core.h: choose an instruction set, get memory, run the parts. */
#include "kernel.h"

#include <stdatomic.h>
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

static int run(const bptt_pass *pass, const void *args, int threads) {
    bptt_job job = {.args = args};
    pass->plan(&job);
    /* Both sizes are whole cache lines. */
    job.workspace = aligned_alloc(64, job.shared + job.private * (size_t)job.split.parts);
    if (!job.workspace) return 1;
    pass->pack(&job);
    bptt_parallel(pass->part, &job, job.split.parts, threads);
    if (pass->finish) pass->finish(&job);
    free(job.workspace);
    return 0;
}

typedef struct {
    const void *first;
    const long *growth;
    const double *leaks;
    atomic_int failed;
} many;

/* Pointers and longs, `words` of them, grow. */
static void grow(char *args, size_t words, const long *growth, long index) {
    for (size_t k = 0; k < words; k++, args += sizeof(long)) {
        long word;
        memcpy(&word, args, sizeof word);
        word += growth[k] * index;
        memcpy(args, &word, sizeof word);
    }
}

/* With leak 1 phi's values are the states: there, or nowhere to be written. */
#define RUN(pass, type, states)                                                                    \
    int bptt_##pass##_##type(const bptt_##pass##_args *args) {                                      \
        const int empty = args->L <= 0 || args->N <= 0 || args->H <= 0;                             \
        return empty ? 0 : run(&choose()->type->pass, args, args->threads);                         \
    }                                                                                              \
    static void one_##pass##_##type(void *argument, int index) {                                    \
        many *all = argument;                                                                      \
        bptt_##pass##_args args = *(const bptt_##pass##_args *)all->first;                          \
        grow((char *)&args, offsetof(bptt_##pass##_args, L) / sizeof(long), all->growth, index);    \
        args.leak = all->leaks[index];                                                             \
        args.threads = 1;                                                                          \
        if (args.leak == 1) args.values = states;                                                  \
        if (bptt_##pass##_##type(&args)) all->failed = 1;                                           \
    }                                                                                              \
    int bptt_##pass##_many_##type(const bptt_##pass##_args *first, const long *growth,              \
                                  const double *leaks, int count, int threads) {                    \
        many all = {first, growth, leaks, 0};                                                      \
        bptt_parallel(one_##pass##_##type, &all, count, threads);                                   \
        return all.failed;                                                                         \
    }
RUN(unroll, f32, NULL)
RUN(unroll, f64, NULL)
RUN(sweep, f32, (const float *)args.states + args.N * args.H)
RUN(sweep, f64, (const double *)args.states + args.N * args.H)
