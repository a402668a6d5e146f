/* Forward: panels of queries against all keys that they see, the softmax kept up to date. Part of attention.c. */

/* What a thread keeps: keys and values of one key head, packed as far as they are needed, and one panel at work. */
typedef struct {
    word *keys, *values, *queries, *weights, *turned;
    float *scores, *mixed;
} forward_scratch;

/* Bytes for one thread; with `base`, the places too. */
static int64_t forward_places(const shape *s, const int pairs, char *base, forward_scratch *w) {
    const int64_t unit = pairs ? 2 : 1;
    int64_t at = 0;
    PLACE(keys, s->length * s->dim / unit);
    PLACE(values, s->length * s->deep / unit);
    PLACE(queries, s->dim / unit * PANEL);
    PLACE(weights, BLOCK / unit * PANEL);
    PLACE(turned, BLOCK * s->deep);
    PLACE(scores, BLOCK * PANEL);
    PLACE(mixed, s->deep * PANEL);
    return at;
}

/* Keys and values from block `from` to before block `to`, into their places. */
INLINE void pack_keys(const int pairs, const shape *s, rows_of keys, rows_of values, int64_t from, int64_t to,
                      forward_scratch *w) {
    const int64_t unit = pairs ? 2 : 1, words = s->dim / unit;
    for (int64_t first = from * BLOCK; first < to * BLOCK; first += BLOCK) {
        const int64_t have = most(0, least(BLOCK, s->seq - first));
        pack_rows(pairs, keys, first, have, BLOCK, s->dim, w->keys + first * words);
        pack_turned(pairs, values, first, have, s->dim, w->turned, w->values + first / unit * s->deep);
    }
}

/* The weights of one panel of queries for `count` keys: scores, softmax so far, weights as words. */
INLINE void weigh(const int pairs, forward_scratch *w, int64_t count, int64_t words, const word *keys, float factor,
                  const float *low, const float *high, int64_t all_from, int64_t all_to, float *top, float *sum,
                  float *fade) {
    vec largest[PANEL / LANES], total[PANEL / LANES];
    for (int n = 0; n < PANEL / LANES; n++) largest[n] = all(LOWEST);
    for (int64_t r = 0; r < count; r += ROWS) {
        float *scores = w->scores + r * PANEL;
        scores_of(pairs, r, all_to, words, keys + r * words, w->queries, scores);
        const int masked = r < all_from || r + ROWS > all_to;
        for (int64_t i = 0; i < ROWS; i++)
            for (int n = 0; n < PANEL / LANES; n++) {
                vec x = load(scores + i * PANEL + n * LANES);
                if (masked) {
                    x = between(x, (float)(r + i), load(low + n * LANES), load(high + n * LANES), HIDDEN_SCORE);
                    store(scores + i * PANEL + n * LANES, x);
                }
                largest[n] = larger(largest[n], x);
            }
    }
    for (int n = 0; n < PANEL / LANES; n++) {
        const vec old = load(top + n * LANES), now = larger(old, largest[n] * factor);
        store(top + n * LANES, now);
        store(fade + n * LANES, exp2_of(old - now));
        largest[n] = now;
        total[n] = all(0.0f);
    }
    for (int64_t r = 0; r < count; r += 2) {
        vec x[2][PANEL / LANES];
        for (int i = 0; i < 2; i++)
            for (int n = 0; n < PANEL / LANES; n++) {
                x[i][n] = exp2_of(load(w->scores + (r + i) * PANEL + n * LANES) * factor - largest[n]);
                total[n] += x[i][n];
            }
#if PAIRS
        if (pairs) {
            for (int n = 0; n < PANEL / LANES; n++)
                _mm512_store_si512(w->weights + r / 2 * PANEL + n * LANES, paired(x[0][n], x[1][n]));
            continue;
        }
#endif
        for (int i = 0; i < 2; i++)
            for (int n = 0; n < PANEL / LANES; n++) store((float *)w->weights + (r + i) * PANEL + n * LANES, x[i][n]);
    }
    for (int n = 0; n < PANEL / LANES; n++)
        store(sum + n * LANES, load(sum + n * LANES) * load(fade + n * LANES) + total[n]);
}

/* One panel of queries of one head against all keys that it may look at, `from_key` the first. */
INLINE void forward_panel(const int pairs, const shape *s, forward_scratch *w, rows_of queries, int64_t first,
                          int64_t from_key, const int32_t *own, void *out, int64_t out_offset, float *lse) {
    const int64_t unit = pairs ? 2 : 1, words = s->dim / unit, have = least(PANEL, s->seq - first);
    const float factor = s->scale * LOG2E;
    float top[PANEL], sum[PANEL], fade[PANEL], low[PANEL], high[PANEL];
    pack_rows(pairs, queries, first, have, PANEL, s->dim, w->turned);
    turn(w->turned, words, w->queries, PANEL, PANEL, words);
    for (int i = 0; i < PANEL; i++) top[i] = LOWEST, sum[i] = 0.0f;

    const int64_t after = first + PANEL, all_from = last_start(own, first, have);
    for (int64_t base = round_down(from_key, BLOCK); base < after; base += BLOCK) {
        const int64_t skip = round_down(most(0, from_key - base), ROWS), key = base + skip;
        const int64_t count = least(base + BLOCK, after) - key;
        panel_bounds(own, s->seq, first, key, low, high);
        weigh(pairs, w, count, words, w->keys + key * words, factor, low, high, all_from - key, first - key, top, sum,
              fade);
        const word *values = w->values + base / unit * s->deep + skip / unit;
        const int fresh = base <= from_key;
        for (int64_t d = 0; d < s->deep; d += ROWS) {
            const word *a = values + d * (BLOCK / unit);
            float *mixed = w->mixed + d * PANEL;
            if (fresh)
                tile(pairs, SET, count / unit, a, BLOCK / unit, w->weights, mixed, PANEL, fade);
            else
                tile(pairs, SCALE_ADD, count / unit, a, BLOCK / unit, w->weights, mixed, PANEL, fade);
        }
    }
    for (int i = 0; i < PANEL; i++) fade[i] = 1.0f / sum[i];
    for (int64_t i = 0; i < have; i++) lse[first + i] = (top[i] + log2f(sum[i])) * LN2;
    turn((const word *)w->mixed, PANEL, w->turned, s->deep, s->deep, PANEL);
    for (int64_t i = 0; i < have; i++)
        write_row(out, out_offset + (first + i) * s->heads * s->dim, s->bf16, (float *)w->turned + i * s->deep, s->dim,
                  fade[i]);
}

/* Panels from..to of the list: of each batch row each key head, of that all panels, of these its query heads. */
INLINE void forward_share(const int pairs, const shape *s, const void *qkv, const int32_t *own, const int32_t *seen,
                          void *out, float *lse, int64_t from, int64_t to, forward_scratch *w) {
    const int64_t panels = (s->seq + PANEL - 1) / PANEL;
    /* Blocks before `packed_to` that this or a later panel needs are packed: `seen` never falls. */
    int64_t packed_to = 0, packed_head = -1;
    for (int64_t task = from; task < to; task++) {
        const int64_t panel = task % panels, head = task / panels, b = head / s->kv_heads, kv = head % s->kv_heads;
        const int64_t row = b * s->seq * s->step, first = panel * PANEL;
        const int64_t from_key = seen[b * s->seq + first], from_block = from_key / BLOCK;
        const int64_t to_block = (first + PANEL + BLOCK - 1) / BLOCK;
        const rows_of keys = head_of(qkv, row + (s->heads + kv) * s->dim, s->step, s->bf16);
        const rows_of values = head_of(qkv, row + (s->heads + s->kv_heads + kv) * s->dim, s->step, s->bf16);
        if (head != packed_head || from_block >= packed_to) packed_head = head, packed_to = from_block;
        if (to_block > packed_to) {
            pack_keys(pairs, s, keys, values, packed_to, to_block, w);
            packed_to = to_block;
        }
        for (int64_t h = kv * s->group; h < (kv + 1) * s->group; h++)
            forward_panel(pairs, s, w, head_of(qkv, row + h * s->dim, s->step, s->bf16), first, from_key,
                          own + b * s->seq, out, (b * s->seq * s->heads + h) * s->dim,
                          lse + (b * s->heads + h) * s->seq);
    }
}

/* 0, or 1 where there is no memory for the scratch. */
int attention_forward(const void *qkv, const int32_t *starts, void *out, float *lse, int64_t batch, int64_t seq,
                      int64_t heads, int64_t kv_heads, int64_t dim, int bf16, int threads) {
    const shape s = shape_of(batch, seq, heads, kv_heads, dim, bf16);
    const int pairs = PAIRS && bf16;
    const int64_t panels = (seq + PANEL - 1) / PANEL, tasks = batch * kv_heads * panels;
    threads = (int)least(threads, tasks);
    forward_scratch sizes;
    const int64_t bytes = forward_places(&s, pairs, 0, &sizes);
    int32_t *own = scratch(batch * seq * 8), *seen = own + batch * seq;
    int64_t *cost = scratch(tasks * 8);
    char *work = scratch(bytes * threads);
    const int failed = !own || !cost || !work;
    if (!failed) {
        first_seen(starts, batch, seq, own, seen);
        for (int64_t i = 0; i < tasks; i++) {
            const int64_t first = i % panels * PANEL;
            cost[i] = first + 2 * PANEL - seen[i / panels / kv_heads * seq + first];
        }
#pragma omp parallel num_threads(threads)
        {
            forward_scratch w;
            int64_t from, to;
            forward_places(&s, pairs, work + bytes * omp_get_thread_num(), &w);
            share(cost, tasks, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
            if (pairs)
                forward_share(1, &s, qkv, own, seen, out, lse, from, to, &w);
            else
                forward_share(0, &s, qkv, own, seen, out, lse, from, to, &w);
        }
    }
    free(own), free(cost), free(work);
    return failed;
}
