/* Runs every function on buffers of exactly the right size, for the sanitizers to watch.
 *
 * Sizes are odd on purpose: one of everything, a lane more or less than a vector, more rows than a
 * tile or a group, more steps than a segment. Each optional pointer is NULL in some calls.
 */
#include "bptt_core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double *wide(long count) {
    double *p = malloc((size_t)(count ? count : 1) * sizeof *p);
    for (long i = 0; i < count; i++) p[i] = sin((double)i * 0.7 + 1) * 0.5;
    return p;
}

static float *narrow(long count) {
    float *p = malloc((size_t)(count ? count : 1) * sizeof *p);
    for (long i = 0; i < count; i++) p[i] = (float)sin((double)i * 0.7 + 1) * 0.5f;
    return p;
}

#define RUN(name, real, make, unroll, sweep)                                                       \
    static double name(long L, long N, long I, long H, int phi, double leak, int threads,           \
                       unsigned ask) {                                                              \
        real *states = make((L + 1) * N * H), *input = make(L * N * I), *w_ih = make(H * I);        \
        real *values = make(L * N * H);                                                             \
        real *w_hh = make(H * H), *b = make(H), *q = make(L * N * H), *last = make(N * H);          \
        real *delta = make(L * N * H), *credit = make(L * N * H);                                    \
        real *hx = make(N * H), *gx = make(L * N * I), *gi = make(H * I), *gh = make(H * H);        \
        real *gb = make(H);                                                                         \
        double *keep = wide(L);                                                                     \
        if (L > 1) keep[L / 2] = 0;                                                                 \
        for (long i = 0; i < H * H; i++) w_hh[i] /= (real)H; /* or identity would overflow */       \
        const bptt_unroll_args u = {.states = states, .values = leak == 1 ? NULL : values,          \
                                    .input = input,                                                  \
                                    .w_ih = w_ih, .bias_ih = b, .bias_hh = ask & 2 ? NULL : b,      \
                                    .w_hh = w_hh, .L = L, .N = N, .I = I, .H = H, .phi = phi,       \
                                    .threads = threads, .leak = leak};                              \
        int failed = unroll(&u);                                                                    \
        const bptt_sweep_args s = {                                                                 \
            .q = ask & 4 ? NULL : q, .q_stride_t = ask & 8 ? 0 : N * H,                             \
            .q_stride_n = ask & 8 ? 0 : H, .q_last = ask & 16 ? last : NULL, .states = states,      \
            .values = leak == 1 ? states + N * H : values,                                          \
            .w_hh = w_hh, .keep = ask & 32 ? keep : NULL, .delta = ask & 64 ? delta : NULL,         \
            .credit = ask & 128 ? credit : NULL,                                                     \
            .grad_hx = ask & 512 ? hx : NULL, .input = input, .w_ih = w_ih,                         \
            .grad_input = ask & 1024 ? gx : NULL, .grad_w_ih = ask & 2048 ? gi : NULL,              \
            .grad_w_hh = ask & 4096 ? gh : NULL, .grad_bias = ask & 8192 ? gb : NULL, .L = L,       \
            .N = N, .I = I, .H = H, .phi = phi, .threads = threads, .leak = leak};                  \
        failed |= sweep(&s);                                                                        \
        double sum = failed ? NAN : (double)states[(L + 1) * N * H - 1] + gh[H * H - 1];            \
        void *all[] = {states, values, input, w_ih, w_hh, b,  q,  last, delta,                              \
                       credit, hx,   gx,   gi, gh, gb,   keep};                              \
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);                         \
        return sum;                                                                                 \
    }
RUN(run_f32, float, narrow, bptt_unroll_f32, bptt_sweep_f32)
RUN(run_f64, double, wide, bptt_unroll_f64, bptt_sweep_f64)

/* Several layers at once, more than threads; the last has a leak, the others none. */
static int many(void) {
    enum { R = 5, L = 7, N = 3, I = 2, H = 17, STATES = (L + 1) * N * H, REAL = sizeof(float) };
    float *states = narrow(R * STATES), *values = narrow(R * L * N * H), *input = narrow(L * N * I);
    float *w_ih = narrow(H * I), *w_hh = narrow(H * H), *q = narrow(L * N * H);
    float *gradients = narrow(R * H * H);
    const double leaks[R] = {1, 1, 1, 1, 0.5};
    const bptt_unroll_args u = {.states = states, .values = values, .input = input, .w_ih = w_ih,
                                .w_hh = w_hh, .L = L, .N = N, .I = I, .H = H};
    const bptt_sweep_args s = {.q = q, .q_stride_t = N * H, .q_stride_n = H, .states = states,
                               .values = values, .w_hh = w_hh, .input = input, .w_ih = w_ih,
                               .grad_w_hh = gradients, .L = L, .N = N, .I = I, .H = H};
    const long of_u[7] = {STATES * REAL, L * N * H * REAL};
    const long of_s[17] = {[4] = STATES * REAL, [5] = L * N * H * REAL, [15] = H * H * REAL};
    const int failed = bptt_unroll_many_f32(&u, of_u, leaks, R, 3) |
                       bptt_sweep_many_f32(&s, of_s, leaks, R, 3);
    void *all[] = {states, values, input, w_ih, w_hh, q, gradients};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return failed;
}

int main(void) {
    static const char *isas[] = {"avx512", "avx2", "generic"};
    static const long hidden[] = {1, 3, 16, 17, 48, 49, 127}, batch[] = {1, 2, 5, 9, 70};
    static const long steps[] = {1, 2, 7, 200}, inputs[] = {1, 2, 19};
    long calls = 0, bad = 0;
    for (size_t k = 0; k < 3; k++) {
        if (bptt_use_isa(isas[k])) continue;
        for (size_t h = 0; h < 7; h++)
            for (size_t n = 0; n < 5; n++)
                for (size_t l = 0; l < 4; l++)
                    for (size_t i = 0; i < 3; i++) {
                        if (steps[l] * batch[n] * hidden[h] > 60000) continue;
                        /* Other options each time; 0x3f00 asks for every gradient. */
                        const unsigned ask = (unsigned)(calls * 2654435761u >> 7) & 0x3fff;
                        for (int all = 0; all < 2; all++) {
                            const int phi = (int)(calls % 4), threads = 1 + (int)(calls % 3);
                            const double leak = calls % 5 < 2 ? 0.5 : 1;
                            const unsigned wanted = all ? ask | 0x3f00 : ask;
                            bad += isnan(run_f32(steps[l], batch[n], inputs[i], hidden[h], phi,
                                                 leak, threads, wanted));
                            bad += isnan(run_f64(steps[l], batch[n], inputs[i], hidden[h], phi,
                                                 leak, threads, wanted));
                            calls++;
                        }
                    }
        bad += many();
        printf("%s: %ld calls so far, %ld bad\n", bptt_isa(), 2 * calls, bad);
    }
    /* Weights too large to be walked through every step, so that the input is projected ahead. */
    bad += isnan(run_f32(5, 9, 300, 400, 0, 1, 2, 0x3fc0));
    bad += isnan(run_f64(5, 9, 300, 400, 0, 1, 2, 0x3fc0));
    return bad != 0;
}
