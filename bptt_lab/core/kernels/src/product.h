/* The register-blocked product, and the packed layout of its right factor.
 *
 * A tile is ROWS rows by COLS vectors of the result, held in registers over the whole inner
 * dimension: each inner step loads COLS vectors of the right factor, broadcasts ROWS numbers of the
 * left one and does ROWS * COLS multiply-adds. Two multiply-adds start per cycle and take 4, so 8
 * accumulators are the least that keep the machine busy; loads stay below multiply-adds; the
 * vectors of the right factor, which come from L2 when it does not fit in L1, are used ROWS times
 * each. With 32 registers 8 x 3 (24 accumulators, 3 vectors, 1 broadcast) is the largest tile for 8
 * rows or more, and fewer rows get wider tiles; with 16 registers it is 6 x 2 (AVX2).
 *
 * The right factor is packed in panels, each as wide as a tile and contiguous over the inner
 * dimension, so that a tile streams through memory in one direction. Columns past the last are
 * zero.
 */

#if VECTOR_ISA == 512 || defined(__aarch64__)
#define ROWS_MAX 8
#define GRAD_COLS 3
static const int NAME(cols_max)[ROWS_MAX + 1] = {0, 8, 8, 6, 6, 4, 4, 3, 3};
#define EACH_TILE(X)                                                                               \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8)                                 \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8)                                 \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5) X(3, 6)                                                 \
    X(4, 1) X(4, 2) X(4, 3) X(4, 4) X(4, 5) X(4, 6)                                                 \
    X(5, 1) X(5, 2) X(5, 3) X(5, 4)                                                                 \
    X(6, 1) X(6, 2) X(6, 3) X(6, 4)                                                                 \
    X(7, 1) X(7, 2) X(7, 3)                                                                         \
    X(8, 1) X(8, 2) X(8, 3)
#define EACH_GRAD_TILE(X)                                                                          \
    X(1, 1) X(1, 2) X(1, 3) X(2, 1) X(2, 2) X(2, 3) X(3, 1) X(3, 2) X(3, 3) X(4, 1) X(4, 2) X(4, 3) \
    X(5, 1) X(5, 2) X(5, 3) X(6, 1) X(6, 2) X(6, 3) X(7, 1) X(7, 2) X(7, 3) X(8, 1) X(8, 2) X(8, 3)
#else
#define ROWS_MAX 6
#define GRAD_COLS 2
static const int NAME(cols_max)[ROWS_MAX + 1] = {0, 6, 4, 4, 3, 2, 2};
#define EACH_TILE(X)                                                                               \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6)                                               \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4)                                                                 \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4)                                                                 \
    X(4, 1) X(4, 2) X(4, 3)                                                                         \
    X(5, 1) X(5, 2)                                                                                 \
    X(6, 1) X(6, 2)
#define EACH_GRAD_TILE(X)                                                                          \
    X(1, 1) X(1, 2) X(2, 1) X(2, 2) X(3, 1) X(3, 2) X(4, 1) X(4, 2) X(5, 1) X(5, 2) X(6, 1) X(6, 2)
#endif
#define COLS_MAX 8
#define TILE_MAX 32 /* vectors in the largest tile, rounded up */

/* The inner dimension of the left factor may lie in pieces: `piece` elements, then the next piece
 * starts `jump` further on than this one did. */
typedef struct {
    const REAL *start;
    long stride; /* between rows (tile) or between inner steps (gradient tile) */
    long piece, jump;
    long inner; /* elements in all */
} NAME(left);
#define LEFT NAME(left)

/* One inner step of a tile: C += the column of `rows` numbers, `stride` apart, times a row of B. */
INLINE void NAME(tile_step)(const int rows, const int cols, const REAL *a, const long stride,
                            const REAL *b, VR sum[ROWS_MAX][COLS_MAX]) {
    VR column[COLS_MAX];
    UNROLL for (int v = 0; v < cols; v++) column[v] = VLOAD(b + v * LANES);
    UNROLL for (int r = 0; r < rows; r++) {
        const VR x = VSET(a[r * stride]);
        UNROLL for (int v = 0; v < cols; v++) sum[r][v] = VFMA(x, column[v], sum[r][v]);
    }
}

/* C = left * B (AFRESH), or C += left * B with C perhaps far away (ADD: it is fetched while the
 * product runs). In a plain tile the left factor's rows are `stride` apart and its inner dimension
 * contiguous; transposed, the other way round. `before`, if any, is what comes left of it in the
 * same factor: as many rows, contiguous too, in one piece. */
INLINE void NAME(tile_body)(const int rows, const int cols, const int transposed,
                            const LEFT *before, LEFT left, const REAL *b, const long b_stride,
                            REAL *c, const long c_stride, const int how) {
    VR sum[ROWS_MAX][COLS_MAX];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            sum[r][v] = VSET(0);
            if (how == ADD) __builtin_prefetch(c + r * c_stride + v * LANES, 1);
        }
    }
    if (before) {
        const REAL *a = before->start;
        const long stride = before->stride;
        for (long k = before->inner; k > 0; k--) {
            NAME(tile_step)(rows, cols, a, stride, b, sum);
            a++;
            b += b_stride;
        }
    }
    for (long done = 0; done < left.inner; done += left.piece, left.start += left.jump) {
        const REAL *a = left.start;
        const long rest = left.inner - done;
        for (long k = rest < left.piece ? rest : left.piece; k > 0; k--) {
            NAME(tile_step)(rows, cols, a, transposed ? 1 : left.stride, b, sum);
            a += transposed ? left.stride : 1;
            b += b_stride;
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            REAL *to = c + r * c_stride + v * LANES;
            VSTORE(to, how == ADD ? VLOAD(to) + sum[r][v] : sum[r][v]);
        }
    }
}

/* tile: C is a dense buffer of rows x cols vectors. pair_tile: of a left factor in two parts. */
#define X(rows, cols)                                                                              \
    static void NAME(tile_##rows##x##cols)(const LEFT *left, const REAL *b, REAL *c) {              \
        NAME(tile_body)(rows, cols, 0, NULL, *left, b, (cols) * LANES, c, (cols) * LANES, AFRESH);  \
    }                                                                                              \
    static void NAME(pair_##rows##x##cols)(const LEFT *before, const LEFT *left, const REAL *b,     \
                                           REAL *c) {                                              \
        NAME(tile_body)(rows, cols, 0, before, *left, b, (cols) * LANES, c, (cols) * LANES, AFRESH); \
    }
EACH_TILE(X)
#undef X

/* grad_tile: C += left^T B, B in panels GRAD_COLS vectors wide whatever part of one is used. */
#define X(rows, cols)                                                                              \
    static void NAME(grad_tile_##rows##x##cols)(const LEFT *left, const REAL *b, REAL *c,           \
                                                long c_stride) {                                   \
        NAME(tile_body)(rows, cols, 1, NULL, *left, b, GRAD_COLS * LANES, c, c_stride, ADD);              \
    }
EACH_GRAD_TILE(X)
#undef X

typedef void (*NAME(tile_function))(const LEFT *, const REAL *, REAL *);
typedef void (*NAME(pair_tile_function))(const LEFT *, const LEFT *, const REAL *, REAL *);
typedef void (*NAME(grad_tile_function))(const LEFT *, const REAL *, REAL *, long);

#define X(rows, cols) [rows][cols] = NAME(tile_##rows##x##cols),
static const NAME(tile_function) NAME(tile)[ROWS_MAX + 1][COLS_MAX + 1] = {EACH_TILE(X)};
#undef X
#define X(rows, cols) [rows][cols] = NAME(pair_##rows##x##cols),
static const NAME(pair_tile_function) NAME(pair_tile)[ROWS_MAX + 1][COLS_MAX + 1] = {EACH_TILE(X)};
#undef X
#define X(rows, cols) [rows][cols] = NAME(grad_tile_##rows##x##cols),
static const NAME(grad_tile_function) NAME(grad_tile)[ROWS_MAX + 1][GRAD_COLS + 1] = {
    EACH_GRAD_TILE(X)};
#undef X

/* One row: c = a B, with the inner dimension run upwards or downwards. A sequence whose batch is one
 * reads all of B at every step; in alternating directions the end of B that was read last is read
 * first, while it is still in L1 (B = W_hh of H = 128 is 64 KB, L1 is 48 KB). */
INLINE void NAME(row_body)(const int cols, const REAL *a, const REAL *b, long inner, int down,
                           REAL *c) {
    VR sum[COLS_MAX], more[COLS_MAX];
    const long step = down ? -1 : 1, b_step = step * cols * LANES;
    if (down) {
        a += inner - 1;
        b += (inner - 1) * cols * LANES;
    }
    UNROLL for (int v = 0; v < cols; v++) sum[v] = more[v] = VSET(0);
    long k = inner;
    for (; k >= 2; k -= 2) {
        const VR x = VSET(a[0]), y = VSET(a[step]);
        UNROLL for (int v = 0; v < cols; v++) sum[v] = VFMA(x, VLOAD(b + v * LANES), sum[v]);
        b += b_step;
        UNROLL for (int v = 0; v < cols; v++) more[v] = VFMA(y, VLOAD(b + v * LANES), more[v]);
        b += b_step;
        a += 2 * step;
    }
    if (k) {
        UNROLL for (int v = 0; v < cols; v++)
            sum[v] = VFMA(VSET(a[0]), VLOAD(b + v * LANES), sum[v]);
    }
    UNROLL for (int v = 0; v < cols; v++) VSTORE(c + v * LANES, sum[v] + more[v]);
}

static void NAME(row_product)(int cols, const REAL *a, const REAL *b, long inner, int down, REAL *c) {
    switch (cols) {
    case 1: NAME(row_body)(1, a, b, inner, down, c); break;
    case 2: NAME(row_body)(2, a, b, inner, down, c); break;
    case 3: NAME(row_body)(3, a, b, inner, down, c); break;
    case 4: NAME(row_body)(4, a, b, inner, down, c); break;
    case 5: NAME(row_body)(5, a, b, inner, down, c); break;
    case 6: NAME(row_body)(6, a, b, inner, down, c); break;
    case 7: NAME(row_body)(7, a, b, inner, down, c); break;
    default: NAME(row_body)(8, a, b, inner, down, c); break;
    }
}

/* How `columns` are cut into panels of nearly equal width, at most `widest` vectors each. */
typedef struct {
    long columns, vectors;
    int panels;
} NAME(panels);
#define PANELS NAME(panels)

static PANELS NAME(cut)(long columns, int widest) {
    const long vectors = (columns + LANES - 1) / LANES;
    const PANELS cut = {columns, vectors, (int)((vectors + widest - 1) / widest)};
    return cut;
}

/* A row tile takes a part of `rows` of nearly equal height: first row of part i of `parts`. */
INLINE long NAME(part_begin)(long rows, long parts, long i) {
    const long height = rows / parts, higher = rows % parts;
    return i * height + (i < higher ? i : higher);
}

/* First vector of panel p; of panel `panels`: the number of vectors. */
INLINE long NAME(panel_begin)(const PANELS *cut, long p) {
    return NAME(part_begin)(cut->vectors, cut->panels, p);
}

/* Pack `inner` rows of a factor into its panels, whose inner dimension is `depth`, from inner row
 * `at` on. Element (k, j) of the factor is w[k * k_stride + j * j_stride]. */
static void NAME(pack)(REAL *packed, const PANELS *cut, long depth, long at, const REAL *w,
                       long inner, long k_stride, long j_stride) {
    for (int p = 0; p < cut->panels; p++) {
        const long begin = NAME(panel_begin)(cut, p);
        const long width = (NAME(panel_begin)(cut, p + 1) - begin) * LANES;
        REAL *panel = packed + begin * LANES * depth + at * width;
        const long j0 = begin * LANES;
        const long used = cut->columns - j0 < width ? cut->columns - j0 : width;
        /* Blocks of 16 inner rows: a transposed source is then read a cache line at a time. */
        for (long k0 = 0; k0 < inner; k0 += 16) {
            const long k1 = k0 + 16 < inner ? k0 + 16 : inner;
            if (j_stride == 1) {
                for (long k = k0; k < k1; k++)
                    memcpy(panel + k * width, w + k * k_stride + j0, (size_t)used * sizeof(REAL));
            } else {
                long j = 0;
                /* Four columns at once: their four loads and stores do not wait for each other. */
                for (; j + 4 <= used; j += 4) {
                    const REAL *from = w + (j0 + j) * j_stride;
                    for (long k = k0; k < k1; k++) {
                        REAL *to = panel + k * width + j;
                        const REAL *at = from + k * k_stride;
                        const REAL a = at[0], b = at[j_stride], c = at[2 * j_stride];
                        const REAL d = at[3 * j_stride];
                        to[0] = a, to[1] = b, to[2] = c, to[3] = d;
                    }
                }
                for (; j < used; j++)
                    for (long k = k0; k < k1; k++)
                        panel[k * width + j] = w[k * k_stride + (j0 + j) * j_stride];
            }
            for (long k = k0; k < k1; k++)
                for (long j = used; j < width; j++) panel[k * width + j] = 0;
        }
    }
}
