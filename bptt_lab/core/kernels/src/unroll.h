/* Eq. (1) and (2) over the whole sequence.
 *
 * The input's product is either taken within the step, as more inner steps of the same register
 * tile (no projection is ever written to memory or read back), or, where W_ih and W_hh together
 * would not stay in L2 or a step has too few rows to fill a tile, for a block of steps ahead, into
 * the states' own rows. Each is one sum in a fixed order for each number, whatever the tile: where
 * steady states are asked for, the number of rows decides nothing.
 */

#define L2_WEIGHTS (768 * 1024) /* bytes of packed weights that may be walked through every step */
#define BLOCK_ROWS 128          /* rows projected ahead: small enough to be still in L2 at its step */
#define FEW_ROWS 4

/* Where the parts of the shared workspace begin. */
typedef struct {
    REAL *w, *w_ih, *bias;
    PANELS cut, cut_ih;
} NAME(unroll_shared);

static NAME(unroll_shared) NAME(unroll_layout)(const bptt_job *job, size_t *size) {
    const bptt_unroll_args *a = job->args;
    NAME(unroll_shared) s;
    s.cut = NAME(cut)(a->H, NAME(cols_max)[job->split.tile_rows]);
    s.cut_ih = NAME(cut)(a->H, NAME(cols_max)[ROWS_MAX]);
    const long wide = s.cut.vectors * LANES, inner = job->block ? 0 : a->I;
    char *at = job->workspace;
    s.bias = (REAL *)at;
    size_t used = NAME(bytes)(wide);
    s.w = (REAL *)(at + used);
    used += NAME(bytes)(wide * (inner + a->H));
    s.w_ih = (REAL *)(at + used);
    if (job->block) used += NAME(bytes)(wide * a->I);
    if (size) *size = used;
    return s;
}

static void NAME(unroll_plan)(bptt_job *job) {
    const bptt_unroll_args *a = job->args;
    job->split = NAME(split_batch)(a->N, a->threads);
    const double weights = (double)(a->I + a->H) * (double)a->H * sizeof(REAL);
    job->block = 0;
    if ((job->split.rows < FEW_ROWS && !a->steady) || weights > L2_WEIGHTS) {
        job->block = BLOCK_ROWS / job->split.rows;
        if (job->block < 1) job->block = 1;
    }
    job->workspace = NULL;
    NAME(unroll_layout)(job, &job->shared);
    job->private = 0;
}

static void NAME(unroll_pack)(bptt_job *job) {
    const bptt_unroll_args *a = job->args;
    const NAME(unroll_shared) s = NAME(unroll_layout)(job, NULL);
    const long within = job->block ? 0 : a->I;
    if (within) NAME(pack)(s.w, &s.cut, within + a->H, 0, a->w_ih, a->I, 1, a->I);
    NAME(pack)(s.w, &s.cut, within + a->H, within, a->w_hh, a->H, 1, a->H);
    if (!within) NAME(pack)(s.w_ih, &s.cut_ih, a->I, 0, a->w_ih, a->I, 1, a->I);
    const REAL *bias_ih = a->bias_ih, *bias_hh = a->bias_hh;
    for (long j = 0; j < s.cut.vectors * LANES; j++) {
        REAL b = 0;
        if (j < a->H && bias_ih) b += bias_ih[j];
        if (j < a->H && bias_hh) b += bias_hh[j];
        s.bias[j] = b;
    }
}

/* a + W_ih x_t + b, left of a product, becomes h_t. */
typedef struct {
    const REAL *sum; /* the product's tile */
    long rows, cols; /* its size in rows and vectors */
    long width;      /* columns of it that exist */
    const REAL *add; /* what to add to it: the bias (add_stride 0) or the projection */
    long add_stride;
    const REAL *h_tm1;
    REAL *h_t, *value; /* value NULL: not wanted */
    long stride;       /* of h_tm1, h_t and value */
    REAL leak, stay; /* stay = 1 - leak */
} NAME(state_tile);

INLINE void NAME(state_tile_body)(const int phi, const int plain, const NAME(state_tile) *s) {
    const VR leak = VSET(s->leak), stay = VSET(s->stay);
    const REAL *sum = s->sum;
    for (long r = 0; r < s->rows; r++) {
        const REAL *add = s->add + r * s->add_stride, *h_tm1 = s->h_tm1 + r * s->stride;
        REAL *h_t = s->h_t + r * s->stride;
        for (long j = 0; j < s->cols * LANES; j += LANES, sum += LANES) {
            if (plain) {
                VSTORE(h_t + j, NAME(phi_value)(phi, VLOAD(sum) + VLOAD(add + j)));
                continue;
            }
            const long n = s->width - j;
            VR y = NAME(phi_value)(phi, VLOAD(sum) + VLOAD_N(add + j, n));
            if (s->value) VSTORE_N(s->value + r * s->stride + j, y, n);
            if (s->leak != 1) y = leak * y + stay * VLOAD_N(h_tm1 + j, n);
            VSTORE_N(h_t + j, y, n);
        }
    }
}

/* Plain: no leak and only whole vectors, as most layers are. */
#define X(name, phi)                                                                               \
    static void NAME(states_##name)(const NAME(state_tile) *s) {                                    \
        if (s->leak == 1 && s->width >= s->cols * LANES)                                            \
            NAME(state_tile_body)(phi, 1, s);                                                       \
        else                                                                                        \
            NAME(state_tile_body)(phi, 0, s);                                                       \
    }
X(tanh, BPTT_TANH)
X(relu, BPTT_RELU)
X(identity, BPTT_IDENTITY)
X(sigmoid, BPTT_SIGMOID)
#undef X

static void (*const NAME(finish_states)[])(const NAME(state_tile) *) = {
    NAME(states_tanh), NAME(states_relu), NAME(states_identity), NAME(states_sigmoid)};

/* Write W_ih x_t + b into rows t0 + 1 .. t0 + steps of the states, for one group. */
static void NAME(project)(const bptt_job *job, const NAME(unroll_shared) *s, GROUP group,
                          long t0, long steps) {
    const bptt_unroll_args *a = job->args;
    const REAL *x = (const REAL *)a->input + (t0 * a->N + group.begin) * a->I;
    REAL *out = (REAL *)a->states + ((t0 + 1) * a->N + group.begin) * a->H;
    /* Tiles run over time if a step has few rows; one index is then the other's stride. */
    const int over_time = group.rows < FEW_ROWS;
    const long rows = over_time ? steps : group.rows, others = over_time ? group.rows : steps;
    const long row = over_time ? a->N : 1, other = over_time ? 1 : a->N;
    const long tiles = NAME(tiles_of)(rows, ROWS_MAX);
    REAL sum[TILE_MAX * LANES] __attribute__((aligned(64)));
    for (int p = 0; p < s->cut_ih.panels; p++) {
        const long begin = NAME(panel_begin)(&s->cut_ih, p), j = begin * LANES;
        const long cols = NAME(panel_begin)(&s->cut_ih, p + 1) - begin;
        for (long o = 0; o < others; o++) {
            for (long i = 0; i < tiles; i++) {
                const long r0 = NAME(part_begin)(rows, tiles, i);
                const long height = NAME(part_begin)(rows, tiles, i + 1) - r0;
                const long first = r0 * row + o * other;
                const LEFT left = {x + first * a->I, row * a->I, a->I, 0, a->I};
                NAME(tile)[height][cols](&left, s->w_ih + j * a->I, sum);
                for (long r = 0; r < height; r++) {
                    REAL *to = out + (first + r * row) * a->H + j;
                    for (long v = 0; v < cols; v++) {
                        const VR y = VLOAD(sum + (r * cols + v) * LANES) +
                                     VLOAD(s->bias + j + v * LANES);
                        VSTORE_N(to + v * LANES, y, a->H - j - v * LANES);
                    }
                }
            }
        }
    }
}

/* One step of one group. */
static void NAME(unroll_step)(const bptt_job *job, const NAME(unroll_shared) *s, GROUP group,
                              long t) {
    const bptt_unroll_args *a = job->args;
    const long tiles = NAME(tiles_of)(group.rows, job->split.tile_rows);
    const long within = job->block ? 0 : a->I;
    const REAL *x = within ? (const REAL *)a->input + (t * a->N + group.begin) * a->I : NULL;
    const REAL *h_tm1 = (const REAL *)a->states + (t * a->N + group.begin) * a->H;
    REAL *h_t = (REAL *)a->states + ((t + 1) * a->N + group.begin) * a->H;
    REAL sum[TILE_MAX * LANES] __attribute__((aligned(64)));
    for (int i = 0; i < s->cut.panels; i++) {
        /* Every other step from the last panel to the first: what was read last is still in L1. */
        const int p = t % 2 ? s->cut.panels - 1 - i : i;
        const long begin = NAME(panel_begin)(&s->cut, p), j = begin * LANES;
        const long cols = NAME(panel_begin)(&s->cut, p + 1) - begin;
        const REAL *w = s->w + j * (within + a->H);
        for (long k = 0; k < tiles; k++) {
            const long r = NAME(part_begin)(group.rows, tiles, k);
            const long height = NAME(part_begin)(group.rows, tiles, k + 1) - r;
            const LEFT h = {h_tm1 + r * a->H, a->H, a->H, 0, a->H};
            if (within) {
                const LEFT in = {x + r * a->I, a->I, a->I, 0, a->I};
                NAME(pair_tile)[height][cols](&in, &h, w, sum);
            } else if (a->N == 1 && !a->steady) {
                NAME(row_product)((int)cols, h.start, w, a->H, t % 2, sum);
            } else {
                NAME(tile)[height][cols](&h, w, sum);
            }
            const NAME(state_tile) finish = {
                .sum = sum,
                .rows = height,
                .cols = cols,
                .width = a->H - j,
                .add = within ? s->bias + j : h_t + r * a->H + j,
                .add_stride = within ? 0 : a->H,
                .h_tm1 = h.start + j,
                .h_t = h_t + r * a->H + j,
                .value = a->values ? (REAL *)a->values + (t * a->N + group.begin + r) * a->H + j
                                   : NULL,
                .stride = a->H,
                .leak = (REAL)a->leak,
                .stay = (REAL)(1 - a->leak),
            };
            NAME(finish_states)[a->phi](&finish);
        }
    }
}

static void NAME(unroll_part)(void *argument, int part) {
    const bptt_job *job = argument;
    const bptt_unroll_args *a = job->args;
    const NAME(unroll_shared) s = NAME(unroll_layout)(job, NULL);
    for (int g = 0; g < job->split.groups; g++) {
        const GROUP group = NAME(group_of)(&job->split, a->N, part, g);
        if (group.rows == 0) continue;
        for (long t = 0; t < a->L; t++) {
            if (job->block && t % job->block == 0)
                NAME(project)(job, &s, group, t, a->L - t < job->block ? a->L - t : job->block);
            NAME(unroll_step)(job, &s, group, t);
        }
    }
}
