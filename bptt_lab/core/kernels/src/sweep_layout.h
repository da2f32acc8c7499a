/* Where the sweep keeps its numbers: the workspace that all parts share, and what a part owns. */

#define SEGMENT_ROWS 192 /* a panel of 192 rows x 192 bytes fills 3/4 of a 48 KB L1 */
#define PANEL (GRAD_COLS * LANES)

typedef struct {
    REAL *w_hh, *w_ih;
    PANELS cut, cut_ih;
} NAME(sweep_shared);

static NAME(sweep_shared) NAME(sweep_layout)(const bptt_job *job, size_t *size) {
    const bptt_sweep_args *a = job->args;
    NAME(sweep_shared) s;
    s.cut = NAME(cut)(a->H, NAME(cols_max)[job->split.tile_rows]);
    s.cut_ih = NAME(cut)(a->grad_input ? a->I : 0, NAME(cols_max)[ROWS_MAX]);
    s.w_hh = (REAL *)job->workspace;
    size_t used = NAME(bytes)(s.cut.vectors * LANES * a->H);
    s.w_ih = (REAL *)(job->workspace + used);
    used += NAME(bytes)(s.cut_ih.vectors * LANES * a->H);
    if (size) *size = used;
    return s;
}

/* What a part owns. */
typedef struct {
    REAL *delta;     /* panels of (segment + 1) * rows rows; one step more for the one after */
    long panel_size; /* numbers from one panel to the next */
    REAL *credit;    /* (rows, H in whole vectors): c_{t+1}, then c_t */
    REAL *row;       /* (H in whole vectors): one row of delta, contiguous, for a batch of one */
    REAL *gradient;  /* (H + I + 1, H in whole vectors): dW_hh^T, dW_ih^T, db */
    long wide;       /* H in whole vectors */
} NAME(sweep_private);

static NAME(sweep_private) NAME(part_layout)(const bptt_job *job, int part, size_t *size) {
    const bptt_sweep_args *a = job->args;
    NAME(sweep_private) own;
    char *at = job->workspace + job->shared + (size_t)part * job->private;
    const long panels = (a->H + PANEL - 1) / PANEL;
    own.wide = (a->H + LANES - 1) / LANES * LANES;
    own.panel_size = (job->segment + 1) * job->split.rows * PANEL;
    own.gradient = (REAL *)at;
    size_t used = job->gradients ? NAME(bytes)(own.wide * (a->H + a->I + 1)) : 0;
    own.delta = (REAL *)(at + used);
    used += NAME(bytes)(own.panel_size * panels);
    own.credit = (REAL *)(at + used);
    used += NAME(bytes)(own.wide * job->split.rows);
    own.row = (REAL *)(at + used);
    used += NAME(bytes)(own.wide);
    if (size) *size = used;
    return own;
}

static void NAME(sweep_plan)(bptt_job *job) {
    const bptt_sweep_args *a = job->args;
    job->split = NAME(split_batch)(a->N, a->threads);
    job->gradients = a->grad_w_ih || a->grad_w_hh || a->grad_bias;
    job->segment = SEGMENT_ROWS / job->split.rows;
    if (job->segment > a->L) job->segment = a->L;
    if (job->segment < 1) job->segment = 1;
    job->workspace = NULL;
    NAME(sweep_layout)(job, &job->shared);
    job->private = 0;
    NAME(part_layout)(job, 0, &job->private);
}

static void NAME(sweep_pack)(bptt_job *job) {
    const bptt_sweep_args *a = job->args;
    const NAME(sweep_shared) s = NAME(sweep_layout)(job, NULL);
    NAME(pack)(s.w_hh, &s.cut, a->H, 0, a->w_hh, a->H, a->H, 1);
    if (a->grad_input) NAME(pack)(s.w_ih, &s.cut_ih, a->H, 0, a->w_ih, a->H, a->I, 1);
}
