/* Small matrix products out of registers, and the packing of tensors into the words they take. Part of attention.c.
 *
 * A word is 32 bits: two bf16 that are neighbours along the summed axis (`pairs`), or one float. */

#if !defined(PLAIN) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define WIDE 1
#include <immintrin.h>
#else
#define WIDE 0
#endif
#if WIDE && defined(__AVX512BF16__)
#define PAIRS 1
#else
#define PAIRS 0
#endif

#if WIDE
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

/* Rows and vectors of the tile that stays in registers: 16 sums of 32 registers, 8 of 16. */
#if WIDE || defined(__aarch64__)
#define ROWS 8
#else
#define ROWS 4
#endif
#define ACROSS 2

#define AHEAD 8       /* rows that packing asks the caches for ahead of their turn: one head's rows lie far apart */
#define PANEL 32      /* columns of a B that is packed together */
#define BLOCK 128     /* keys, and in the backward pass queries, that are worked on together */
#define PANELS (BLOCK / PANEL)
#define HIDDEN_SCORE (-3e38f) /* below LOWEST: exp gives 0 even where a query has seen nothing yet */
#define LOWEST (-1e30f)
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

#define INLINE static inline __attribute__((always_inline))
typedef uint32_t word;
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
INLINE int64_t round_down(int64_t n, int64_t unit) { return n / unit * unit; }

/* ---- vectors ---------------------------------------------------------------------------------------------- */

INLINE vec load(const float *from) {
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}
INLINE void store(float *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE vec all(float x) { return x - (vec){0}; }

#if WIDE
INLINE vec larger(vec a, vec b) { return _mm512_max_ps(a, b); } /* b where one is NaN */
INLINE vec between(vec x, float row, vec low, vec high, float other) {
    __mmask16 in = _mm512_cmp_ps_mask(low, all(row), _CMP_LE_OQ) & _mm512_cmp_ps_mask(high, all(row), _CMP_GE_OQ);
    return _mm512_mask_blend_ps(in, all(other), x);
}
#else
INLINE vec pick(ivec chosen, vec a, vec b) { return (vec)(((ivec)a & chosen) | ((ivec)b & ~chosen)); }
INLINE vec larger(vec a, vec b) { return pick(a > b, a, b); }
INLINE vec between(vec x, float row, vec low, vec high, float other) {
    return pick((low <= all(row)) & (high >= all(row)), x, all(other));
}
#endif

/* 2^t, relative error below 2e-7 for t <= 0.5 or a little more; 0 far below, NaN for NaN. */
INLINE vec exp2_of(vec t) {
#if WIDE
    vec whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    ivec tiny = t < -126.0f; /* false for NaN */
    t = pick(tiny, all(-126.0f), t);
    ivec integer = __builtin_convertvector(t - 0.5f, ivec); /* towards zero, and t - 0.5 <= 0 but for rounding */
    vec whole = __builtin_convertvector(integer, vec);
#endif
    vec x = t - whole;
    vec y = x * 0.001326472731307149f + 0.009671512991189957f;
    y = y * x + 0.05550733581185341f;
    y = y * x + 0.24022242426872253f;
    y = y * x + 0.6931470036506653f;
    y = y * x + 1.0f;
#if WIDE
    return _mm512_scalef_ps(y, whole);
#else
    return (vec)((ivec)(y * (vec)((integer + 127) << 23)) & ~tiny);
#endif
}

#if PAIRS
/* Words of two bf16, one of `first` and one of `second`. */
INLINE __m512i paired(vec first, vec second) {
    const __m512i order = (__m512i)(__v32hi){0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                             8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}
#endif

/* ---- elements in memory ----------------------------------------------------------------------------------- */

INLINE float widen(uint16_t b) {
    word bits = (word)b << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

INLINE uint16_t narrow(float x) {
    word bits;
    memcpy(&bits, &x, 4);
    return x != x ? (uint16_t)(bits >> 16 | 0x40) : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A tensor [rows of one head][dim] inside a larger one: `step` elements from row to row. */
typedef struct {
    const void *data;
    int64_t step;
    int bf16;
} rows_of;

INLINE const void *row_of(rows_of view, int64_t row) {
    return (const char *)view.data + row * view.step * (view.bf16 ? 2 : 4);
}

INLINE void ask_for(rows_of view, int64_t row, int64_t dim) {
    for (int64_t i = 0; i < dim * (view.bf16 ? 2 : 4); i += 64) __builtin_prefetch((const char *)row_of(view, row) + i);
}

INLINE rows_of head_of(const void *data, int64_t offset, int64_t step, int bf16) {
    rows_of view = {(const char *)data + offset * (bf16 ? 2 : 4), step, bf16};
    return view;
}

static void write_row(void *data, int64_t offset, int bf16, const float *from, int64_t dim, float scale) {
    if (bf16) {
        uint16_t *to = (uint16_t *)data + offset;
        for (int64_t d = 0; d < dim; d++) to[d] = narrow(from[d] * scale);
    } else {
        float *to = (float *)data + offset;
        for (int64_t d = 0; d < dim; d++) to[d] = from[d] * scale;
    }
}

/* ---- packing into words: `pairs` says whether a word is two bf16 or one float ------------------------------- */

#if WIDE
INLINE void turn_tile(const word *from, int64_t from_step, word *to, int64_t to_step) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * from_step);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    /* a[4 i + c], 128-bit part p: rows 4 i .. 4 i + 3 of column 4 p + c */
    for (int c = 0; c < 4; c++) {
        const __m512i even_low = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
        const __m512i even_high = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
        const __m512i odd_low = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
        const __m512i odd_high = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        _mm512_storeu_si512(to + c * to_step, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
        _mm512_storeu_si512(to + (c + 8) * to_step, _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
        _mm512_storeu_si512(to + (c + 4) * to_step, _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
        _mm512_storeu_si512(to + (c + 12) * to_step, _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
    }
}
#endif

/* to[columns][rows] = from[rows][columns] */
static void turn(const word *from, int64_t from_step, word *to, int64_t to_step, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i += 16)
        for (int64_t j = 0; j < columns; j += 16) {
#if WIDE
            if (i + 16 <= rows && j + 16 <= columns) {
                turn_tile(from + i * from_step + j, from_step, to + j * to_step + i, to_step);
                continue;
            }
#endif
            for (int64_t c = j; c < least(j + 16, columns); c++)
                for (int64_t r = i; r < least(i + 16, rows); r++) to[c * to_step + r] = from[r * from_step + c];
        }
}

/* to[rows][dim words]: neighbours along dim share a word. Rows from `have` on are zero. */
INLINE void pack_rows(const int pairs, rows_of from, int64_t first, int64_t have, int64_t rows, int64_t dim, word *to) {
    const int64_t width = pairs ? dim / 2 : dim;
    for (int64_t r = 0; r < rows; r++, to += width) {
        if (r + AHEAD < have) ask_for(from, first + r + AHEAD, dim);
        if (r >= have) {
            memset(to, 0, width * 4);
        } else if (from.bf16 && !pairs) {
            const uint16_t *row = row_of(from, first + r);
            for (int64_t d = 0; d < dim; d++) to[d] = (word)row[d] << 16;
        } else {
            memcpy(to, row_of(from, first + r), width * 4);
        }
    }
}

/* to[rows words][panel of dim]: neighbours along rows share a word; word (i, d) stands at
 * to[(d / PANEL) * panel_step + i * PANEL + d % PANEL]. */
INLINE void pack_down(const int pairs, rows_of from, int64_t first, int64_t have, int64_t rows, int64_t dim, word *to,
                      int64_t panel_step) {
    for (int64_t p = 0; p * PANEL < dim; p++, to += panel_step) {
        const int64_t width = least(PANEL, dim - p * PANEL);
        if (width < PANEL || have < rows) memset(to, 0, (pairs ? rows / 2 : rows) * PANEL * 4);
        for (int64_t r = 0; r < least(have, rows); r++) {
            const uint16_t *halves = (const uint16_t *)row_of(from, first + r) + p * PANEL;
            if (pairs) {
                word *out = to + r / 2 * PANEL;
                if (r + 1 < least(have, rows)) {
                    for (int64_t d = 0; d < width; d++) out[d] = halves[d] | (word)halves[from.step + d] << 16;
                    r++;
                } else {
                    for (int64_t d = 0; d < width; d++) out[d] = halves[d];
                }
            } else if (from.bf16) {
                for (int64_t d = 0; d < width; d++) to[r * PANEL + d] = (word)halves[d] << 16;
            } else {
                memcpy(to + r * PANEL, (const word *)row_of(from, first + r) + p * PANEL, width * 4);
            }
        }
    }
}

/* to[deep][BLOCK] words along rows, `deep` columns in whole panels; rows first .. first + have - 1, the others zero.
 * `turned` holds as much again. */
INLINE void pack_turned(const int pairs, rows_of from, int64_t first, int64_t have, int64_t dim, word *turned,
                        word *to) {
    const int64_t words = pairs ? BLOCK / 2 : BLOCK, panel = words * PANEL;
    pack_down(pairs, from, first, have, BLOCK, dim, turned, panel);
    for (int64_t p = 0; p * PANEL < dim; p++) turn(turned + p * panel, PANEL, to + p * panel, words, words, PANEL);
}

/* ---- the product ------------------------------------------------------------------------------------------- */

enum { SET, ADD, SCALE_ADD }; /* C = AB, C += AB, C = C * scale + AB with one factor a column */

/* ROWS x `across` vectors of sums, all in registers. A: words [ROWS][k], `a_step` from row to row; B: words [k][PANEL];
 * C: floats, `c_step` from row to row. */
INLINE void strip(const int pairs, const int how, const int across, int64_t k, const word *a, int64_t a_step,
                  const word *b, float *c, int64_t c_step, const float *scale) {
    vec sum[ROWS][ACROSS];
    (void)pairs; /* without PAIRS a word is always a float */
    for (int n = 0; n < across; n++)
        for (int r = 0; r < ROWS; r++) {
            sum[r][n] = how == SET ? all(0.0f) : load(c + r * c_step + n * LANES);
            if (how == SCALE_ADD) sum[r][n] *= load(scale + n * LANES);
        }
    for (int64_t i = 0; i < k; i++) {
        vec right[ACROSS];
        for (int n = 0; n < across; n++) right[n] = load((const float *)b + i * PANEL + n * LANES);
        for (int r = 0; r < ROWS; r++) {
#if PAIRS
            if (pairs) {
                const __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[r * a_step + i]);
                for (int n = 0; n < across; n++) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], left, (__m512bh)right[n]);
                continue;
            }
#endif
            const vec left = all(((const float *)a)[r * a_step + i]);
            for (int n = 0; n < across; n++) sum[r][n] += left * right[n];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < across; n++) store(c + r * c_step + n * LANES, sum[r][n]);
}

/* ROWS x PANEL sums. */
INLINE void tile(const int pairs, const int how, int64_t k, const word *a, int64_t a_step, const word *b, float *c,
                 int64_t c_step, const float *scale) {
    for (int n = 0; n < PANEL; n += ACROSS * LANES)
        strip(pairs, how, ACROSS, k, a, a_step, b + n, c + n, c_step, scale + n);
}

/* Scores of ROWS keys, `key` the first of them, with the PANEL queries from `query` on, as far as any may be looked at:
 * the left half of a panel stays what it is where all its queries stand before the keys. */
INLINE void scores_of(const int pairs, int64_t key, int64_t query, int64_t words, const word *keys, const word *queries,
                      float *scores) {
    const int across = LANES * ACROSS > PANEL / 2 ? PANEL / 2 / LANES : ACROSS;
    if (key < query + PANEL / 2)
        tile(pairs, SET, words, keys, words, queries, scores, PANEL, scores);
    else
        for (int n = PANEL / 2; n < PANEL; n += across * LANES)
            strip(pairs, SET, across, words, keys, words, queries + n, scores + n, PANEL, scores);
}
