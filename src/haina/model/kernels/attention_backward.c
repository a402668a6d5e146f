/* Backward: blocks of keys against blocks of queries, the weights computed again from lse. Part of attention.c. */

/* What a thread keeps: one key head and one of its query heads, packed for all five products, and a block at work.
 *   keys, values        [BLOCK][dim] words along dim            keys_turned     [deep][BLOCK] words along keys
 *   queries, grads      [panel][dim][PANEL] words along dim     *_down          [block][deep / PANEL][BLOCK][PANEL]
 *                                                                               words along queries
 *   weights, slopes     [BLOCK keys][BLOCK queries] words along queries (P', D')
 *   slopes_down         [PANELS][BLOCK keys][PANEL] words along keys (D')
 *   grad_keys, grad_values  floats [block, one for all where keys have one query head][deep / PANEL][BLOCK][PANEL]
 *   grad_queries        floats [panel][deep][PANEL] */
typedef struct {
    word *keys, *values, *keys_turned, *queries, *grads, *queries_down, *grads_down;
    word *weights, *slopes, *slopes_down, *turned;
    float *grad_keys, *grad_values, *grad_queries, *lse, *delta, *scores, *inner;
} backward_scratch;

static int64_t backward_places(const shape *s, const int pairs, char *base, backward_scratch *w) {
    const int64_t unit = pairs ? 2 : 1;
    int64_t at = 0;
    PLACE(keys, BLOCK * s->dim / unit);
    PLACE(values, BLOCK * s->dim / unit);
    PLACE(keys_turned, BLOCK * s->deep / unit);
    PLACE(queries, s->length * s->dim / unit);
    PLACE(grads, s->length * s->dim / unit);
    PLACE(queries_down, s->length * s->deep / unit);
    PLACE(grads_down, s->length * s->deep / unit);
    PLACE(weights, BLOCK * BLOCK / unit);
    PLACE(slopes, BLOCK * BLOCK / unit);
    PLACE(slopes_down, BLOCK * BLOCK / unit);
    PLACE(turned, BLOCK * s->deep);
    PLACE(grad_keys, (s->group > 1 ? s->length : BLOCK) * s->deep);
    PLACE(grad_values, (s->group > 1 ? s->length : BLOCK) * s->deep);
    PLACE(grad_queries, s->length * s->deep);
    PLACE(lse, s->length);
    PLACE(delta, s->length);
    PLACE(scores, ROWS * PANEL);
    PLACE(inner, ROWS * PANEL);
    return at;
}

/* sum of a[d] * b[d] */
INLINE float dot(rows_of a, rows_of b, int64_t row, int64_t dim) {
    float sum = 0.0f;
    if (a.bf16) {
        const uint16_t *x = row_of(a, row), *y = row_of(b, row);
        for (int64_t d = 0; d < dim; d++) sum += widen(x[d]) * widen(y[d]);
    } else {
        const float *x = row_of(a, row), *y = row_of(b, row);
        for (int64_t d = 0; d < dim; d++) sum += x[d] * y[d];
    }
    return sum;
}

/* Queries and gradients of one head from block `from` on. */
INLINE void pack_queries(const int pairs, const shape *s, rows_of queries, rows_of grads, rows_of out, const float *lse,
                         int64_t from, backward_scratch *w) {
    const int64_t unit = pairs ? 2 : 1, words = s->dim / unit;
    for (int64_t first = from * BLOCK; first < s->seq; first += BLOCK) {
        const int64_t have = least(BLOCK, s->seq - first);
        for (int i = 0; i < 2; i++) {
            const rows_of rows = i ? grads : queries;
            word *to = (i ? w->grads : w->queries) + first * words;
            word *down = (i ? w->grads_down : w->queries_down) + first / unit * s->deep;
            pack_rows(pairs, rows, first, have, BLOCK, s->dim, w->turned);
            for (int p = 0; p < PANELS; p++)
                turn(w->turned + p * PANEL * words, words, to + p * PANEL * words, PANEL, PANEL, words);
            pack_down(pairs, rows, first, have, BLOCK, s->dim, down, BLOCK / unit * PANEL);
        }
        for (int64_t q = first; q < first + BLOCK; q++) {
            if (q + AHEAD < s->seq) ask_for(out, q + AHEAD, s->dim);
            w->lse[q] = q < s->seq ? lse[q] * LOG2E : FLT_MAX;
            w->delta[q] = q < s->seq ? dot(grads, out, q, s->dim) : 0.0f;
        }
    }
}

/* Weights and slopes of a panel of queries (`across` in its block) for the keys from..to of their block. */
INLINE void recompute(const int pairs, const shape *s, backward_scratch *w, int64_t key_base, int64_t query_base,
                      int64_t across, int64_t from, int64_t to, int64_t all_from, const int32_t *own) {
    const int64_t unit = pairs ? 2 : 1, words = s->dim / unit, first = query_base + across;
    const float factor = s->scale * LOG2E;
    float low[PANEL], high[PANEL];
    panel_bounds(own, s->seq, first, key_base, low, high);
    word *down = w->slopes_down + across * (BLOCK / unit);
    for (int64_t r = from; r < to; r += ROWS) {
        const int masked = r < all_from || key_base + r + ROWS > first;
        scores_of(pairs, key_base + r, first, words, w->keys + r * words, w->queries + first * words, w->scores);
        scores_of(pairs, key_base + r, first, words, w->values + r * words, w->grads + first * words, w->inner);
        for (int64_t i = 0; i < ROWS; i += 2) {
            vec p[2][PANEL / LANES], d[2][PANEL / LANES];
            for (int j = 0; j < 2; j++)
                for (int n = 0; n < PANEL / LANES; n++) {
                    const int64_t at = (i + j) * PANEL + n * LANES;
                    vec x = load(w->scores + at) * factor - load(w->lse + first + n * LANES);
                    vec g = load(w->inner + at) - load(w->delta + first + n * LANES);
                    if (masked) {
                        const vec from_key = load(low + n * LANES), to_key = load(high + n * LANES);
                        x = between(x, (float)(r + i + j), from_key, to_key, HIDDEN_SCORE);
                        g = between(g, (float)(r + i + j), from_key, to_key, 0.0f);
                    }
                    p[j][n] = exp2_of(x);
                    d[j][n] = p[j][n] * g;
                }
#if PAIRS
            if (pairs) {
                for (int j = 0; j < 2; j++) {
                    const int64_t at = (r + i + j) * (BLOCK / 2) + across / 2;
                    _mm512_store_si512(w->weights + at, (__m512i)_mm512_cvtne2ps_pbh(p[j][1], p[j][0]));
                    _mm512_store_si512(w->slopes + at, (__m512i)_mm512_cvtne2ps_pbh(d[j][1], d[j][0]));
                }
                for (int n = 0; n < 2; n++)
                    _mm512_store_si512(down + (r + i) / 2 * PANEL + n * LANES, paired(d[0][n], d[1][n]));
                continue;
            }
#endif
            for (int j = 0; j < 2; j++)
                for (int n = 0; n < PANEL / LANES; n++) {
                    const int64_t row = r + i + j, at = row * BLOCK + across + n * LANES;
                    store((float *)w->weights + at, p[j][n]);
                    store((float *)w->slopes + at, d[j][n]);
                    store((float *)down + row * PANEL + n * LANES, d[j][n]);
                }
        }
    }
}

/* All five products of one block of keys with one block of queries. */
INLINE void backward_block(const int pairs, const shape *s, backward_scratch *w, int64_t key_base, int64_t query_base,
                           float *grad_keys, float *grad_values, const int32_t *own, const int32_t *seen) {
    const int64_t unit = pairs ? 2 : 1, panel_words = BLOCK / unit * PANEL;
    int64_t from[PANELS], to[PANELS];
    for (int p = 0; p < PANELS; p++) {
        const int64_t first = query_base + p * PANEL, last = least(first + PANEL, s->seq) - 1;
        from[p] = to[p] = 0;
        if (first >= s->seq) continue;
        from[p] = least(BLOCK, round_down(most(0, seen[first] - key_base), ROWS));
        to[p] = most(from[p], least(BLOCK, round_up(last + 1 - key_base, ROWS)));
        recompute(pairs, s, w, key_base, query_base, p * PANEL, from[p], to[p],
                  last_start(own, first, last + 1 - first) - key_base, own);
    }
    const float *grads_down = (float *)w->grads_down + query_base / unit * s->deep;
    const float *queries_down = (float *)w->queries_down + query_base / unit * s->deep;
    for (int i = 0; i < 2; i++)
        for (int64_t d = 0; d < s->deep; d += PANEL) {
            const word *b = (const word *)(i ? queries_down : grads_down) + d / PANEL * panel_words;
            const word *a = i ? w->slopes : w->weights;
            float *c = (i ? grad_keys : grad_values) + d * BLOCK;
            for (int64_t r = 0; r < BLOCK; r += ROWS) {
                int begin = 0, end = PANELS; /* the panels that look at these keys: `from` and `to` never fall */
                while (begin < PANELS && to[begin] <= r) begin++;
                while (end > begin && (from[end - 1] > r || to[end - 1] <= r)) end--;
                const int64_t query = most(begin * PANEL, key_base + r - query_base); /* none before it looks at them */
                if (begin < end)
                    tile(pairs, ADD, (end * PANEL - query) / unit, a + (r * BLOCK + query) / unit, BLOCK / unit,
                         b + query / unit * PANEL, c + r * PANEL, PANEL, c);
            }
        }
    for (int p = 0; p < PANELS; p++)
        for (int64_t d = 0; d < s->deep && from[p] < to[p]; d += ROWS)
            tile(pairs, ADD, (to[p] - from[p]) / unit, w->keys_turned + (d * BLOCK + from[p]) / unit, BLOCK / unit,
                 w->slopes_down + p * panel_words + from[p] / unit * PANEL,
                 w->grad_queries + (query_base + p * PANEL) * s->deep + d * PANEL, PANEL, w->grad_queries);
}

/* grad_queries of one head, panels from..to, out of `parts` sums that lie `part_step` apart, to their rows. The sums of
 * a part begin at its block first[]. */
static void write_queries(const shape *s, const float *sums, int64_t part_step, const int64_t *first, int64_t parts,
                          int64_t from, int64_t to, void *grad_qkv, int64_t offset, float *turned) {
    const int64_t size = PANEL * s->deep;
    float *total = turned + size;
    for (int64_t panel = from; panel < to; panel++) {
        const float *one = sums + panel * size;
        if (parts > 1) {
            memcpy(total, one, size * 4);
            for (int64_t part = 1; part < parts && first[part] <= panel / PANELS; part++)
                for (int64_t i = 0; i < size; i++) total[i] += one[part * part_step + i];
            one = total;
        }
        turn((const word *)one, PANEL, (word *)turned, s->deep, s->deep, PANEL);
        for (int64_t q = 0; q < least(PANEL, s->seq - panel * PANEL); q++)
            write_row(grad_qkv, offset + (panel * PANEL + q) * s->step, s->bf16, turned + q * s->deep, s->dim,
                      s->scale);
    }
}

/* One key head, keys of blocks from..to: their gradients, and what they add to those of the queries: added up over all
 * blocks into `partial` [group][length][deep], or written out if these are all the keys there are. */
INLINE void backward_keys(const int pairs, const shape *s, const void *grad_out, const void *qkv, const void *out,
                          const float *lse, const int32_t *own, const int32_t *seen, int64_t b, int64_t kv,
                          int64_t from, int64_t to, float *partial, void *grad_qkv, backward_scratch *w) {
    const int64_t row = b * s->seq * s->step;
    const int64_t key_at = row + (s->heads + kv) * s->dim, value_at = key_at + s->kv_heads * s->dim;
    const rows_of keys = head_of(qkv, key_at, s->step, s->bf16), values = head_of(qkv, value_at, s->step, s->bf16);
    const int64_t blocks = s->length / BLOCK, size = s->length * s->deep, block_size = BLOCK * s->deep;
    float *own_sums = w->grad_queries;
    for (int64_t g = 0; g < s->group; g++) {
        const int64_t h = kv * s->group + g, out_at = (b * s->seq * s->heads + h) * s->dim;
        if (partial) w->grad_queries = partial + g * size;
        pack_queries(pairs, s, head_of(qkv, row + h * s->dim, s->step, s->bf16),
                     head_of(grad_out, out_at, s->heads * s->dim, s->bf16),
                     head_of(out, out_at, s->heads * s->dim, s->bf16), lse + (b * s->heads + h) * s->seq, from, w);
        memset(w->grad_queries + from * block_size, 0, (blocks - from) * block_size * 4);
        for (int64_t key = from; key < to; key++) {
            const int64_t base = key * BLOCK, have = least(BLOCK, s->seq - base);
            const int64_t at = s->group > 1 ? key * block_size : 0;
            float *grad_keys = w->grad_keys + at, *grad_values = w->grad_values + at;
            if (g == 0) memset(grad_keys, 0, block_size * 4), memset(grad_values, 0, block_size * 4);
            pack_rows(pairs, values, base, have, BLOCK, s->dim, w->values);
            pack_rows(pairs, keys, base, have, BLOCK, s->dim, w->keys);
            pack_turned(pairs, keys, base, have, s->dim, w->turned, w->keys_turned);
            for (int64_t query = key; query < blocks && seen[b * s->seq + query * BLOCK] < base + BLOCK; query++)
                backward_block(pairs, s, w, base, query * BLOCK, grad_keys, grad_values, own + b * s->seq,
                               seen + b * s->seq);
            if (g + 1 < s->group) continue;
            for (int64_t k = 0; k < have; k++)
                for (int64_t d = 0; d < s->dim; d += PANEL) {
                    const int64_t sums_at = d * BLOCK + k * PANEL, width = least(PANEL, s->dim - d);
                    const int64_t to_at = (base + k) * s->step + d;
                    write_row(grad_qkv, key_at + to_at, s->bf16, grad_keys + sums_at, width, s->scale);
                    write_row(grad_qkv, value_at + to_at, s->bf16, grad_values + sums_at, width, 1.0f);
                }
        }
        if (!partial)
            write_queries(s, w->grad_queries, 0, 0, 1, 0, (s->seq + PANEL - 1) / PANEL, grad_qkv, row + h * s->dim,
                          (float *)w->turned);
    }
    w->grad_queries = own_sums;
}

/* Into how many parts to cut the keys of a head so that all threads have nearly the same to do. */
static int64_t parts_of(int64_t heads, int64_t blocks, int threads) {
    int64_t parts = 1;
    while (parts < least(blocks, 2 * threads)) {
        const int64_t tasks = heads * parts;
        if (10 * tasks >= 9 * threads * ((tasks + threads - 1) / threads)) break;
        parts++;
    }
    return parts;
}

/* 0, or 1 where there is no memory for the scratch. */
int attention_backward(const void *grad_out, const void *qkv, const void *out, const float *lse, const int32_t *starts,
                       void *grad_qkv, int64_t batch, int64_t seq, int64_t heads, int64_t kv_heads, int64_t dim,
                       int bf16, int threads) {
    const shape s = shape_of(batch, seq, heads, kv_heads, dim, bf16);
    const int pairs = PAIRS && bf16;
    const int64_t blocks = s.length / BLOCK, parts = parts_of(batch * kv_heads, blocks, threads);
    const int64_t tasks = batch * kv_heads * parts, size = s.length * s.deep, part_step = batch * heads * size;
    backward_scratch sizes;
    const int64_t bytes = backward_places(&s, pairs, 0, &sizes);
    int32_t *own = scratch(batch * seq * 8), *seen = own + batch * seq;
    int64_t *cost = scratch((tasks + parts + 1) * 8), *bound = cost + tasks;
    char *work = scratch(bytes * threads);
    float *partial = parts > 1 ? scratch(parts * part_step * 4) : 0;
    const int failed = !own || !cost || !work || (parts > 1 && !partial);
    if (!failed) {
        first_seen(starts, batch, seq, own, seen);
        /* Equal areas under the diagonal: block i is looked at by blocks - i of them. */
        for (int64_t i = 0, part = 0, area = 0; i <= blocks; i++) {
            while (part <= parts && area * parts * 2 >= part * blocks * (blocks + 1)) bound[part++] = i;
            area += blocks - i;
        }
        for (int64_t i = 0; i < tasks; i++) {
            const int64_t b = i / parts / kv_heads, part = i % parts;
            cost[i] = 1;
            for (int64_t q = 0; q < seq; q += PANEL) {
                const int64_t low = most(bound[part] * BLOCK, seen[b * seq + q]);
                cost[i] += most(0, least(bound[part + 1] * BLOCK, q + PANEL) - low);
            }
        }
#pragma omp parallel num_threads(threads)
        {
            const int thread = omp_get_thread_num(), all_threads = omp_get_num_threads();
            backward_scratch w;
            int64_t from, to;
            backward_places(&s, pairs, work + bytes * thread, &w);
            share(cost, tasks, thread, all_threads, &from, &to);
            for (int64_t i = from; i < to; i++) {
                const int64_t part = i % parts, b = i / parts / kv_heads, kv = i / parts % kv_heads;
                float *sums = partial ? partial + part * part_step + (b * heads + kv * s.group) * size : 0;
                if (pairs)
                    backward_keys(1, &s, grad_out, qkv, out, lse, own, seen, b, kv, bound[part], bound[part + 1], sums,
                                  grad_qkv, &w);
                else
                    backward_keys(0, &s, grad_out, qkv, out, lse, own, seen, b, kv, bound[part], bound[part + 1], sums,
                                  grad_qkv, &w);
            }
            if (parts > 1) {
#pragma omp barrier
                const int64_t panels = (seq + PANEL - 1) / PANEL, units = batch * heads * panels;
                for (int64_t i = units * thread / all_threads; i < units * (thread + 1) / all_threads; i++) {
                    const int64_t head = i / panels, b = head / heads;
                    write_queries(&s, partial + head * size, part_step, bound, parts, i % panels, i % panels + 1,
                                  grad_qkv, b * seq * s.step + head % heads * dim, (float *)w.turned);
                }
            }
        }
    }
    free(own), free(cost), free(work), free(partial);
    return failed;
}
