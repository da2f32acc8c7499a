/* Eq. (3) and (4) from the last step to the first, and Eq. (5) on the way.
 *
 * Delta is kept for one segment of steps at a time, a few hundred rows that are still in L2 when
 * the weight gradients and the input's gradient take them; only then does the next segment
 * overwrite them. It lies in panels GRAD_COLS vectors wide, each contiguous over the segment's rows:
 * the right factor of the gradient's tiles, which are formed transposed,
 *
 *     dW_hh^T += H_{t-1}^T Delta,    dW_ih^T += X^T Delta,
 *
 * so that their left factors are the states and the input as they are and any I fits. The same
 * panels, read by rows, are the left factor of the sweep's own product Delta_{t+1} W_hh.
 */

/* Delta_{t+1} W_hh, left of a product, becomes c_t and delta_t. */
typedef struct {
    const REAL *sum;
    long rows, cols, width;
    REAL keep, stay, leak; /* keep_{t+1}, 1 - leak, leak */
    const REAL *q, *q_last; /* NULL: zero */
    long q_stride;
    const REAL *value; /* phi(a_t); NULL: no delta wanted, c_0 only */
    REAL *credit;      /* c_{t+1}, then c_t */
    long credit_stride;
    REAL *delta; /* row 0, column 0 of the panels' rows for step t */
    long panel_size;
    long j; /* this tile's first vector */
    REAL *delta_out, *credit_out, *grad_hx; /* NULL: not wanted */
    long stride; /* of value, q_last and the three before */
} NAME(credit_tile);

INLINE void NAME(credit_tile_body)(const int phi, const int plain, const NAME(credit_tile) *s) {
    const VR keep = VSET(s->keep), stay = VSET(s->stay), leak = VSET(s->leak);
    const int leaky = !plain && s->leak != 1;
    const REAL *sum = s->sum;
    for (long r = 0; r < s->rows; r++) {
        const long row = r * s->stride;
        REAL *delta = s->delta + s->j / GRAD_COLS * s->panel_size + r * PANEL;
        long within = s->j % GRAD_COLS;
        for (long j = 0; j < s->cols * LANES; j += LANES, sum += LANES) {
            const long n = plain ? LANES : s->width - j;
            VR c = VLOAD(sum);
            if (plain) {
                c = c + VLOAD(s->q + r * s->q_stride + j);
            } else {
                if (s->keep != 1) c = c * keep;
                REAL *carry = s->credit + r * s->credit_stride + j;
                if (leaky && s->keep != 0) c = VFMA(keep * stay, VLOAD(carry), c);
                if (s->q) c = c + VLOAD_N(s->q + r * s->q_stride + j, n);
                if (s->q_last) c = c + VLOAD_N(s->q_last + row + j, n);
                if (leaky) VSTORE(carry, c);
                if (s->credit_out) VSTORE_N(s->credit_out + row + j, c, n);
                if (s->grad_hx) VSTORE_N(s->grad_hx + row + j, c, n);
                if (!s->value) continue;
            }
            VR slope = NAME(phi_slope)(phi, VLOAD_N(s->value + row + j, n));
            if (leaky) slope = slope * leak;
            c = slope * c;
            VSTORE(delta + within * LANES, c);
            if (!plain && s->delta_out) VSTORE_N(s->delta_out + row + j, c, n);
            if (++within == GRAD_COLS) {
                within = 0;
                delta += s->panel_size;
            }
        }
    }
}

/* Plain: no leak, no factor, only whole vectors, nothing to write but delta's panels. */
#define X(name, phi)                                                                               \
    static void NAME(credit_##name)(const NAME(credit_tile) *s) {                                   \
        if (s->leak == 1 && s->keep == 1 && s->width >= s->cols * LANES && s->q && !s->q_last &&    \
            s->value && !s->delta_out && !s->credit_out && !s->grad_hx)                               \
            NAME(credit_tile_body)(phi, 1, s);                                                      \
        else                                                                                        \
            NAME(credit_tile_body)(phi, 0, s);                                                      \
    }
X(tanh, BPTT_TANH)
X(relu, BPTT_RELU)
X(identity, BPTT_IDENTITY)
X(sigmoid, BPTT_SIGMOID)
#undef X

static void (*const NAME(finish_credit)[])(const NAME(credit_tile) *) = {
    NAME(credit_tanh), NAME(credit_relu), NAME(credit_identity), NAME(credit_sigmoid)};

/* One step of one group, t >= 0; or c_0 alone, t = -1. Slot `slot` of the panels is delta_t's. */
static void NAME(sweep_step)(const bptt_job *job, const NAME(sweep_shared) *s,
                             const NAME(sweep_private) *own, GROUP group, long t, long slot) {
    const bptt_sweep_args *a = job->args;
    const long tiles = NAME(tiles_of)(group.rows, job->split.tile_rows);
    const double keep = t + 1 == a->L ? 0 : t < 0 || !a->keep ? 1 : a->keep[t + 1];
    const long at = (t * a->N + group.begin) * a->H; /* row t of the values and the outputs */
    const REAL *delta_tp1 = own->delta + (slot + 1) * group.rows * PANEL;
    const REAL *q = NULL;
    if (a->q && t >= 0)
        q = (const REAL *)a->q + t * a->q_stride_t + group.begin * a->q_stride_n;
    REAL sum[TILE_MAX * LANES] __attribute__((aligned(64)));
    if (a->N == 1 && keep != 0) {
        for (long j = 0; j < a->H; j += LANES)
            VSTORE(own->row + j,
                   VLOAD(delta_tp1 + j / PANEL * own->panel_size + j % PANEL));
    }
    for (int i = 0; i < s->cut.panels; i++) {
        const int p = t % 2 ? s->cut.panels - 1 - i : i;
        const long begin = NAME(panel_begin)(&s->cut, p), j = begin * LANES;
        const long cols = NAME(panel_begin)(&s->cut, p + 1) - begin;
        const REAL *w = s->w_hh + j * a->H;
        for (long k = 0; k < tiles; k++) {
            const long r = NAME(part_begin)(group.rows, tiles, k);
            const long height = NAME(part_begin)(group.rows, tiles, k + 1) - r;
            if (keep == 0) {
                memset(sum, 0, sizeof(REAL) * (size_t)(height * cols * LANES));
            } else if (a->N == 1) {
                NAME(row_product)((int)cols, own->row, w, a->H, t % 2, sum);
            } else {
                const LEFT left = {delta_tp1 + r * PANEL, PANEL, PANEL, own->panel_size, a->H};
                NAME(tile)[height][cols](&left, w, sum);
            }
            const long offset = at + r * a->H + j;
            const NAME(credit_tile) finish = {
                .sum = sum,
                .rows = height,
                .cols = cols,
                .width = a->H - j,
                .keep = (REAL)keep,
                .stay = (REAL)(1 - a->leak),
                .leak = (REAL)a->leak,
                .q = q ? q + r * a->q_stride_n + j : NULL,
                .q_last = a->q_last && t + 1 == a->L
                              ? (const REAL *)a->q_last + (group.begin + r) * a->H + j
                              : NULL,
                .q_stride = a->q_stride_n,
                .value = t >= 0 ? (const REAL *)a->values + offset : NULL,
                .credit = own->credit + r * own->wide + j,
                .credit_stride = own->wide,
                .delta = own->delta + (slot * group.rows + r) * PANEL,
                .panel_size = own->panel_size,
                .j = begin,
                .delta_out = a->delta && t >= 0 ? (REAL *)a->delta + offset : NULL,
                .credit_out = a->credit && t >= 0 ? (REAL *)a->credit + offset : NULL,
                .grad_hx = t < 0 ? (REAL *)a->grad_hx + offset + a->N * a->H : NULL,
                .stride = a->H,
            };
            NAME(finish_credit)[a->phi](&finish);
        }
    }
}

/* gradient rows `to`.. += left^T Delta, where the left factor has `columns` columns. */
static void NAME(add_product)(const NAME(sweep_private) *own, LEFT left, long columns, REAL *to) {
    const long tiles = NAME(tiles_of)(columns, ROWS_MAX), vectors = own->wide / LANES;
    for (long begin = 0; begin < vectors; begin += GRAD_COLS) {
        const long cols = vectors - begin < GRAD_COLS ? vectors - begin : GRAD_COLS;
        const REAL *panel = own->delta + begin / GRAD_COLS * own->panel_size;
        for (long i = 0; i < tiles; i++) {
            const long c = NAME(part_begin)(columns, tiles, i);
            LEFT part = left;
            part.start += c;
            NAME(grad_tile)
            [NAME(part_begin)(columns, tiles, i + 1) - c][cols](
                &part, panel, to + c * own->wide + begin * LANES, own->wide);
        }
    }
}

/* Eq. (5) for the `steps` steps from t0 on, whose delta is in slots 0.. of the panels. */
static void NAME(add_gradients)(const bptt_job *job, const NAME(sweep_private) *own,
                                GROUP group, long t0, long steps) {
    const bptt_sweep_args *a = job->args;
    const long rows = steps * group.rows;
    const int whole = group.rows == a->N; /* then rows of successive steps are contiguous */
    const long piece = whole ? rows : group.rows, first = t0 * a->N + group.begin;
    if (a->grad_w_hh) {
        const LEFT left = {(const REAL *)a->states + first * a->H, a->H, piece, a->N * a->H, rows};
        NAME(add_product)(own, left, a->H, own->gradient);
    }
    if (a->grad_w_ih) {
        const LEFT left = {(const REAL *)a->input + first * a->I, a->I, piece, a->N * a->I, rows};
        NAME(add_product)(own, left, a->I, own->gradient + a->H * own->wide);
    }
    if (a->grad_bias) {
        REAL *bias = own->gradient + (a->H + a->I) * own->wide;
        for (long j = 0; j < own->wide; j += LANES) {
            const REAL *d = own->delta + j / PANEL * own->panel_size + j % PANEL;
            VR even = VLOAD(bias + j), odd = VSET(0);
            long k = 0;
            for (; k + 2 <= rows; k += 2) {
                even = even + VLOAD(d + k * PANEL);
                odd = odd + VLOAD(d + (k + 1) * PANEL);
            }
            if (k < rows) even = even + VLOAD(d + k * PANEL);
            VSTORE(bias + j, even + odd);
        }
    }
}

/* dE/dx_t = W_ih^T delta_t for the same steps. */
static void NAME(put_input_gradient)(const bptt_job *job, const NAME(sweep_shared) *s,
                                     const NAME(sweep_private) *own, GROUP group, long t0,
                                     long steps) {
    const bptt_sweep_args *a = job->args;
    const long rows = steps * group.rows, tiles = NAME(tiles_of)(rows, ROWS_MAX);
    REAL sum[TILE_MAX * LANES] __attribute__((aligned(64)));
    for (int p = 0; p < s->cut_ih.panels; p++) {
        const long begin = NAME(panel_begin)(&s->cut_ih, p), j = begin * LANES;
        const long cols = NAME(panel_begin)(&s->cut_ih, p + 1) - begin;
        for (long i = 0; i < tiles; i++) {
            const long r0 = NAME(part_begin)(rows, tiles, i);
            const long height = NAME(part_begin)(rows, tiles, i + 1) - r0;
            const LEFT left = {own->delta + r0 * PANEL, PANEL, PANEL, own->panel_size, a->H};
            NAME(tile)[height][cols](&left, s->w_ih + j * a->H, sum);
            for (long r = 0; r < height; r++) {
                const long t = t0 + (r0 + r) / group.rows, n = group.begin + (r0 + r) % group.rows;
                REAL *to = (REAL *)a->grad_input + (t * a->N + n) * a->I + j;
                for (long v = 0; v < cols; v++)
                    VSTORE_N(to + v * LANES, VLOAD(sum + (r * cols + v) * LANES),
                             a->I - j - v * LANES);
            }
        }
    }
}

static void NAME(sweep_part)(void *argument, int part) {
    const bptt_job *job = argument;
    const bptt_sweep_args *a = job->args;
    const NAME(sweep_shared) s = NAME(sweep_layout)(job, NULL);
    const NAME(sweep_private) own = NAME(part_layout)(job, part, NULL);
    const long panels = (a->H + PANEL - 1) / PANEL;
    if (job->gradients)
        memset(own.gradient, 0, sizeof(REAL) * (size_t)(own.wide * (a->H + a->I + 1)));
    for (int g = 0; g < job->split.groups; g++) {
        const GROUP group = NAME(group_of)(&job->split, a->N, part, g);
        if (group.rows == 0) continue;
        for (long end = a->L; end > 0;) {
            const long begin = end > job->segment ? end - job->segment : 0, steps = end - begin;
            /* delta_end, computed last, was the first slot of the segment before. */
            if (end < a->L)
                for (long p = 0; p < panels; p++)
                    memcpy(own.delta + p * own.panel_size + steps * group.rows * PANEL,
                           own.delta + p * own.panel_size,
                           sizeof(REAL) * (size_t)(group.rows * PANEL));
            for (long t = end - 1; t >= begin; t--)
                NAME(sweep_step)(job, &s, &own, group, t, t - begin);
            if (job->gradients) NAME(add_gradients)(job, &own, group, begin, steps);
            if (a->grad_input)
                NAME(put_input_gradient)(job, &s, &own, group, begin, steps);
            end = begin;
        }
        if (a->grad_hx) NAME(sweep_step)(job, &s, &own, group, -1, -1);
    }
}

/* to[i][j] = the parts' sum, in their order, of gradient[j][i]: (H, columns) from row `from` on. */
static void NAME(collect)(const bptt_job *job, long from, long columns, REAL *to) {
    const bptt_sweep_args *a = job->args;
    const long hidden = a->H;
    for (long i0 = 0; i0 < hidden; i0 += 16) {
        const long i1 = i0 + 16 < hidden ? i0 + 16 : hidden;
        for (long j0 = 0; j0 < columns; j0 += 16) {
            const long j1 = j0 + 16 < columns ? j0 + 16 : columns;
            for (int part = 0; part < job->split.parts; part++) {
                const NAME(sweep_private) own = NAME(part_layout)(job, part, NULL);
                const REAL *gradient = own.gradient + from * own.wide;
                for (long i = i0; i < i1; i++)
                    for (long j = j0; j < j1; j++) {
                        const REAL g = gradient[j * own.wide + i];
                        if (part == 0)
                            to[i * columns + j] = g;
                        else
                            to[i * columns + j] += g;
                    }
            }
        }
    }
}

static void NAME(sweep_finish)(bptt_job *job) {
    const bptt_sweep_args *a = job->args;
    if (a->grad_w_hh) NAME(collect)(job, 0, a->H, a->grad_w_hh);
    if (a->grad_w_ih) NAME(collect)(job, a->H, a->I, a->grad_w_ih);
    if (a->grad_bias) NAME(collect)(job, a->H + a->I, 1, a->grad_bias);
}
