/* Exact causal attention, forward and backward, for one processor with many threads.
 *
 * In: packed queries, keys and values [batch, seq, (heads + 2 kv_heads) * dim], bf16 or fp32. Out: mixed values
 * [batch, seq, heads * dim] and, for the way back, the logarithm of each query's softmax sum. Backward gives the
 * gradient of the packed tensor. Memory beside that: a few copies of one head for each thread, never seq x seq
 * (online softmax: Milakov & Gimelshein 2018; recomputation from the saved sum: Dao et al. 2022, arXiv 2205.14135).
 *
 * Everything is built on one product of small tiles, C[rows][32] (+)= A[rows][k] B[k][32], where A and B hold
 * 32-bit words: a pair of bf16 numbers that are neighbours along k where the processor multiplies such pairs
 * (AVX512-BF16), one float elsewhere and for fp32 tensors. Scores are computed transposed, keys down and queries
 * across, so that the maximum, the exponential and the sum of a query stay in one lane of a vector:
 *
 *     forward, 32 queries at a time      S' = K Q'      P' = exp(S' - max)      O' (+)= V' P'
 *     backward, 128 keys x 128 queries   S' = K Q'      G' = V dO'              P' = exp(S' - lse)
 *                                        D' = P' (G' - delta)                   delta = rowsum(dO O)
 *                                        dV += P' dO    dK += D' Q              dQ' += K' D'
 *
 * Tiles that no query of theirs may look at are never touched: later keys, and keys before the start of a query's
 * document, so that packed documents make it faster.
 *
 * Compiled as one: attention_tiles.c holds vectors, packing and the product of tiles; attention_forward.c and
 * attention_backward.c the two passes; this file what both share: which keys a query sees, how work is dealt out.
 *
 * Every sum has a fixed order: bits depend on the number of threads only where one head's keys are shared out among
 * threads in the backward pass, and never on timing.
 */

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attention_tiles.c"

/* ---- who may see what ------------------------------------------------------------------------------------- */

/* Of every row: own[q], the first position that q may look at; seen[q], the first that q or a later query may look at,
 * so that it never falls whatever `starts` says. */
static void first_seen(const int32_t *starts, int64_t batch, int64_t seq, int32_t *own, int32_t *seen) {
    for (int64_t row = 0; row < batch * seq; row += seq) {
        int32_t lowest = (int32_t)seq;
        for (int64_t q = seq - 1; q >= 0; q--) {
            own[row + q] = starts ? (int32_t)most(0, least(starts[row + q], q)) : 0;
            seen[row + q] = lowest = (int32_t)least(lowest, own[row + q]);
        }
    }
}

/* The largest of own[first] .. own[first + have - 1]: from that key on, all of these queries see what is not later. */
static int64_t last_start(const int32_t *own, int64_t first, int64_t have) {
    int64_t last = 0;
    for (int64_t q = first; q < first + have; q++) last = most(last, own[q]);
    return last;
}

/* Bounds of the panel of queries from `first` on: keys low[q] <= k <= high[q], counted from key `base`. */
static void panel_bounds(const int32_t *own, int64_t seq, int64_t first, int64_t base, float *low, float *high) {
    for (int64_t i = 0; i < PANEL; i++) {
        const int64_t q = least(first + i, seq - 1);
        low[i] = (float)(own[q] - base);
        high[i] = (float)(first + i - base);
    }
}

/* The part of `tasks` of one thread when they are laid end to end by cost and cut into equal lengths. */
static void share(const int64_t *cost, int64_t tasks, int thread, int threads, int64_t *from, int64_t *to) {
    double total = 0, before = 0;
    for (int64_t i = 0; i < tasks; i++) total += (double)cost[i];
    *from = *to = 0;
    for (int64_t i = 0; i < tasks; i++) {
        const double middle = before + 0.5 * (double)cost[i];
        before += (double)cost[i];
        const int owner = (int)least(threads - 1, (int64_t)(middle * threads / total));
        if (owner < thread) *from = i + 1;
        if (owner <= thread) *to = i + 1;
    }
}

static void *scratch(int64_t bytes) { return aligned_alloc(64, (size_t)round_up(bytes, 64)); }

typedef struct {
    int64_t batch, seq, heads, kv_heads, dim;
    int bf16;
    int64_t group, step, deep, length; /* step: of qkv, row to row; deep, length: dim, seq up to whole panels, blocks */
    float scale;
} shape;

static shape shape_of(int64_t batch, int64_t seq, int64_t heads, int64_t kv_heads, int64_t dim, int bf16) {
    shape s = {.batch = batch, .seq = seq, .heads = heads, .kv_heads = kv_heads, .dim = dim, .bf16 = bf16};
    s.group = heads / kv_heads;
    s.step = (heads + 2 * kv_heads) * dim;
    s.deep = round_up(dim, PANEL);
    s.length = round_up(seq, BLOCK);
    s.scale = (float)(1.0 / sqrt((double)dim));
    return s;
}

/* Places of a thread's tensors in its scratch, one after another, each on a cache line of its own. */
#define PLACE(name, words) (w->name = (void *)(base + at), at += round_up((words) * 4, 64))

#include "attention_forward.c"
#include "attention_backward.c"
