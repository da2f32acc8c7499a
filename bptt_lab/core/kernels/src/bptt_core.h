/* The recurrence and its adjoint for a CPU, on raw pointers.
 *
 *     (1) a_t = W_ih x_t + b_ih + b_hh + W_hh h_{t-1}
 *     (2) h_t = (1 - leak) h_{t-1} + leak phi(a_t)
 *     (3) c_t = q_t + keep_{t+1} ((1 - leak) c_{t+1} + W_hh^T delta_{t+1})
 *     (4) delta_t = leak phi'(a_t) c_t
 *     (5) dE/dW_hh = sum_t delta_t h_{t-1}^T,  dE/dW_ih = sum_t delta_t x_t^T,  dE/db = sum_t delta_t
 *
 * L steps, N batch, I input, H hidden. Every array is contiguous and row-major unless it comes with
 * strides; the element type is float in functions that end in _f32 and double in _f64. Optional
 * pointers may be NULL. Nothing may alias anything it is not said to alias.
 *
 * Functions return 0, or 1 if there was no memory for their workspace (nothing was written).
 */
#ifndef BPTT_CORE_H
#define BPTT_CORE_H

#define BPTT_API __attribute__((visibility("default")))

enum bptt_phi { BPTT_TANH = 0, BPTT_RELU = 1, BPTT_IDENTITY = 2, BPTT_SIGMOID = 3 };

typedef struct {
    void *states;        /* (L+1, N, H). Row 0: h_0, given. Rows 1..L: h_t, written. */
    void *values;        /* out (L, N, H) phi(a_t), or NULL; NULL with leak 1, where it is h_t */
    const void *input;   /* (L, N, I) */
    const void *w_ih;    /* (H, I) */
    const void *bias_ih; /* (H) or NULL */
    const void *bias_hh; /* (H) or NULL */
    const void *w_hh;    /* (H, H) */
    long L, N, I, H;
    int phi;
    int threads; /* upper bound; the batch is split over them once, for the whole sequence */
    double leak;
    int steady; /* 1: a sequence's states depend on nothing but its inputs and h_0: not on L, on N,
                 * on its place in the batch or on threads. 0: to rounding only. */
} bptt_unroll_args;

typedef struct {
    const void *q;                 /* (L, N, H) dE_t/dh_t, or NULL: zero. Contiguous over H only. */
    long q_stride_t, q_stride_n;   /* in elements; may be 0 */
    const void *q_last;            /* (N, H), added to q at the last step, or NULL */
    const void *states;            /* (L+1, N, H), as unroll leaves them; rows 0..L-1 are read */
    const void *values;            /* (L, N, H), as unroll leaves them; with leak 1 rows 1..L of states */
    const void *w_hh;              /* (H, H) */
    const double *keep;            /* (L) factors; keep[t] on what step t hands to t-1; NULL: ones */
    void *delta;                   /* out (L, N, H) dE/da_t, or NULL */
    void *credit;                  /* out (L, N, H) dE/dh_t, or NULL */
    void *grad_hx;                 /* out (N, H) dE/dh_0, or NULL */
    const void *input;             /* (L, N, I); read only for grad_w_ih */
    const void *w_ih;              /* (H, I); read only for grad_input */
    void *grad_input;              /* out (L, N, I), or NULL */
    void *grad_w_ih;               /* out (H, I), or NULL */
    void *grad_w_hh;               /* out (H, H), or NULL */
    void *grad_bias;               /* out (H), or NULL */
    long L, N, I, H;
    int phi;
    int threads;
    double leak;
} bptt_sweep_args;

/* Eq. (1) and (2). */
BPTT_API int bptt_unroll_f32(const bptt_unroll_args *args);
BPTT_API int bptt_unroll_f64(const bptt_unroll_args *args);

/* Eq. (3) and (4), and (5) for the gradients asked for. Delta exists only for a few steps at a time
 * unless it is asked for. */
BPTT_API int bptt_sweep_f32(const bptt_sweep_args *args);
BPTT_API int bptt_sweep_f64(const bptt_sweep_args *args);

/* `count` calls of the functions above at once, on up to `threads` threads. Each is one part, with
 * the bits of its call with threads = 1. Call r has the arguments of `first`, whose fields before L
 * are r times their `growth` larger, pointers in bytes, and leaks[r]. With leak 1 its values are its
 * states, whatever `first` says. After a 1 some have run. */
#define BPTT_MANY(pass, type)                                                                      \
    BPTT_API int bptt_##pass##_many_##type(const bptt_##pass##_args *first, const long *growth,     \
                                           const double *leaks, int count, int threads);
BPTT_MANY(unroll, f32)
BPTT_MANY(unroll, f64)
BPTT_MANY(sweep, f32)
BPTT_MANY(sweep, f64)

/* Name of the instruction set in use: "avx512", "avx2" or "generic". */
BPTT_API const char *bptt_isa(void);

/* Use another one, if this machine has it. Returns 0, or 1 and changes nothing. For tests. */
BPTT_API int bptt_use_isa(const char *name);

/* Run parallel regions on an OpenMP runtime that is already loaded: pass the address of its
 * GOMP_parallel. NULL: start plain threads for each call instead. */
BPTT_API void bptt_use_gomp(void *gomp_parallel);

#endif
