/* How the batch is shared out: over threads for the whole sequence, and within a thread in groups.
 *
 * Sequences never meet, so no step synchronises. A group is at most 64 rows: enough that W_hh, read
 * once a step, costs nothing beside the arithmetic (its traffic is 1/64 of a multiply-add per
 * element), few enough that a group's states and delta of several steps stay in L2.
 */
#define GROUP_ROWS 64

static bptt_split NAME(split_batch)(long batch, int threads) {
    bptt_split split;
    split.parts = threads < 1 ? 1 : threads < batch ? threads : (int)batch;
    const long most = (batch + split.parts - 1) / split.parts;
    split.groups = (int)((most + GROUP_ROWS - 1) / GROUP_ROWS);
    split.rows = (most + split.groups - 1) / split.groups;
    const long tiles = (split.rows + ROWS_MAX - 1) / ROWS_MAX;
    split.tile_rows = (int)((split.rows + tiles - 1) / tiles);
    return split;
}

typedef struct {
    long begin, rows;
} NAME(group);
#define GROUP NAME(group)

static GROUP NAME(group_of)(const bptt_split *split, long batch, int part, int g) {
    const long p0 = NAME(part_begin)(batch, split->parts, part);
    const long p1 = NAME(part_begin)(batch, split->parts, part + 1);
    const long begin = p0 + NAME(part_begin)(p1 - p0, split->groups, g);
    const long end = p0 + NAME(part_begin)(p1 - p0, split->groups, g + 1);
    const GROUP group = {begin, end - begin};
    return group;
}

/* Number of row tiles of at most tile_rows that cover `rows`. */
INLINE long NAME(tiles_of)(long rows, int tile_rows) { return (rows + tile_rows - 1) / tile_rows; }

/* Bytes of `count` numbers, up to a whole number of cache lines. */
INLINE size_t NAME(bytes)(long count) {
    return ((size_t)count * sizeof(REAL) + 63) / 64 * 64;
}
