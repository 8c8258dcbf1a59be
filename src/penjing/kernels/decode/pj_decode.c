#include "pj_decode.h"

#include <string.h>

/* Slots of 2^16 that one step of a search begins with: fewer bits, less scratch memory. */
#ifndef PJ_DECODE_BUCKET_BITS
#define PJ_DECODE_BUCKET_BITS 10
#endif

#define PJ_BUCKETS (1 << PJ_DECODE_BUCKET_BITS)
#define PJ_LONGEST_WINDOW 16
#define PJ_SYMBOLS 256
#define PJ_MOST_LISTED 30
#define PJ_MOST_LANES 16384
#define PJ_BYTES_PER_LANE 16384
#define PJ_UNITS_AT_ONCE 64
#define PJ_WINDOWS_AT_ONCE 8
#define PJ_LOW (UINT64_C(1) << 32)

/* The first slot of each symbol, -128 first, and the symbol that the first slot of each bucket belongs to. */
struct pj_model {
    uint32_t start[257];
    uint8_t bucket[PJ_BUCKETS];
};

/* What is read byte by byte; `bad` where the end was passed. */
struct pj_reader {
    const uint8_t *at, *end;
    int bad;
};

struct pj_tensor {
    uint64_t elements, slice; /* stored, and in one slice along the first axis */
    uint32_t generated;       /* slices that are not stored */
    uint32_t item;            /* bytes of an element */
    uint64_t rows, columns, run;
    uint32_t height, width, window; /* of units; window is 0 without them */
    int delta;
    uint64_t at; /* place in the output */
};

struct pj_pack {
    struct pj_reader tensors; /* the records */
    uint32_t n_tensors, n_models, lanes;
    uint64_t sequences;
    const uint8_t *models, *stream, *end;
};

struct pj_stream {
    uint64_t *state;
    const uint8_t *at, *end;
    uint32_t lanes, lane;
    int bad;
};

/* --- the head --- */

static uint32_t pj_byte(struct pj_reader *r) {
    if (r->at == r->end) {
        r->bad = 1;
        return 0;
    }
    return *r->at++;
}

static uint32_t pj_varint(struct pj_reader *r) {
    uint64_t value = 0;
    int i;
    for (i = 0; i < 5; i++) {
        const uint32_t byte = pj_byte(r);
        value |= (uint64_t)(byte & 127) << 7 * i;
        if (byte < 128) {
            if (value >> 32 || (i && !byte)) r->bad = 1;
            return (uint32_t)value;
        }
    }
    r->bad = 1;
    return 0;
}

/* One record; sizes stay below 2^62, so that no product of two of them and a byte count wraps. */
static void pj_tensor_record(struct pj_reader *r, struct pj_tensor *t) {
    static const uint8_t item[6] = {0, 1, 1, 2, 4, 4};
    const uint32_t kind = pj_byte(r), dims = kind >> 4;
    uint32_t flags, first = 0, last = 1, i;
    uint64_t units;
    t->slice = 1;
    if ((kind & 15) < 1 || (kind & 15) > 5 || dims > 8) r->bad = 1;
    for (i = 0; i < dims && !r->bad; i++) {
        last = pj_varint(r);
        if (i == 0) first = last;
        else t->slice *= last;
        if (!last || t->slice >> 32) r->bad = 1;
    }
    flags = pj_byte(r);
    t->delta = (flags & 2) != 0;
    units = flags >> 2 & 3;
    t->window = units ? pj_byte(r) : 0;
    t->generated = flags & 32 ? pj_varint(r) : 0;
    if (flags >> 6 || units > 2 || (units && (t->window < 1 || t->window > PJ_LONGEST_WINDOW))) r->bad = 1;
    if ((flags & 32 && !t->generated) || t->generated > first) r->bad = 1;
    if (r->bad) return;
    t->item = item[kind & 15];
    t->elements = (dims ? (uint64_t)(first - t->generated) : 1) * t->slice;
    t->rows = t->item > 1 ? t->item : flags & 1 && dims ? first - t->generated : 1;
    t->columns = t->rows ? t->elements * t->item / t->rows : 0;
    t->run = !(flags & 16) || !dims ? t->columns : dims > 1 ? last : first - t->generated;
    t->height = units == 2 ? 16 : 1;
    t->width = units == 2 ? 4 : 1;
    if (!units) {
        if (flags & 16 || (t->item > 1 && flags & 1)) r->bad = 1;
    } else if (t->item > 1 || t->delta || t->rows % t->height || t->columns % t->width || t->run % t->width) {
        r->bad = 1;
    }
}

static uint64_t pj_unit_rows(const struct pj_tensor *t) { return t->window ? t->rows / t->height : 0; }

/* The next tensor and its place behind `*used` bytes of output. */
static void pj_next(struct pj_reader *r, struct pj_tensor *t, uint32_t align, uint64_t *used) {
    pj_tensor_record(r, t);
    if (r->bad) return;
    t->at = (*used + align - 1) / align * align;
    *used = t->at + (t->elements + t->generated * t->slice) * t->item;
    if (*used >> 62) r->bad = 1;
}

/* Where the knots of a model lie, ascending: symbols, or magnitudes where it is symmetric. Their number. */
static int pj_positions(int lo, int hi, uint32_t flags, int16_t *position) {
    static const uint8_t grid[15] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};
    const int no_zero = (flags & 2) != 0;
    int i, n = 0;
    if (lo == hi) return 0;
    if (flags & 1) {
        const int top = -lo > hi ? (lo > 0 ? hi : -lo) : (hi < 0 ? -lo : hi);
        for (i = no_zero; i < 15 && grid[i] < top; i++) position[n++] = grid[i];
        position[n++] = (int16_t)top;
        return n;
    }
    position[n++] = (int16_t)lo;
    for (i = -14; i < 15; i++) {
        const int p = i < 0 ? -grid[-i] : grid[i];
        if (p > lo && p < hi && !(no_zero && p == 0)) position[n++] = (int16_t)p;
    }
    position[n++] = (int16_t)hi;
    return n;
}

/* The symbols that a model lists, its ends included; their number. */
static int pj_listed(struct pj_reader *r, int lo, int hi, int16_t *position) {
    const int inner = (int)pj_byte(r);
    int n = 1, i;
    if (inner < 1 || lo >= hi) r->bad = 1;
    position[0] = (int16_t)lo;
    for (i = 0; inner <= PJ_MOST_LISTED && i < inner && !r->bad; i++) {
        position[n++] = (int16_t)((int)pj_byte(r) - 128);
        if (position[n - 1] <= position[n - 2]) r->bad = 1;
    }
    for (i = lo + 1; inner > PJ_MOST_LISTED && i < hi && !r->bad; i += 8) {
        uint32_t bits = pj_byte(r);
        int v;
        for (v = i; bits; v++, bits >>= 1) {
            if (!(bits & 1)) continue;
            if (v < hi) position[n++] = (int16_t)v;
            else r->bad = 1;
        }
    }
    if (n != inner + 1 || hi <= position[n - 1]) r->bad = 1;
    if (r->bad) return 0;
    position[n++] = (int16_t)hi;
    return n;
}

static void pj_read_model(struct pj_reader *r, struct pj_model *m) {
    /* rint(2^(30 - i/16)) */
    static const uint32_t fraction[16] = {1073741824, 1028218693, 984625594, 942880699, 902905651, 864625413,
                                      827968132,  792865000,  759250125, 727060411, 696235434, 666717336,
                                      638450708,  611382493,  585461881, 560640218};
    const int lo = (int)pj_byte(r) - 128, hi = (int)pj_byte(r) - 128;
    const uint32_t flags = pj_byte(r);
    int16_t position[PJ_SYMBOLS];
    uint8_t knot[PJ_SYMBOLS];
    int n, v, k = 0, best = 0;
    uint32_t symbols = 0, given = 0;
    uint64_t total = 0;
    if (flags > 4 || lo > hi || (flags & 2 && lo == 0 && hi == 0)) r->bad = 1;
    if (r->bad) return;
    n = flags == 4 ? pj_listed(r, lo, hi, position) : pj_positions(lo, hi, flags, position);
    for (v = 0; v < n && v < PJ_SYMBOLS; v++) knot[v] = (uint8_t)pj_byte(r);
    if (r->bad) return;
    for (v = 0; v < 256; v++) {
        const int symbol = v - 128, at = flags & 1 && symbol < 0 ? -symbol : symbol;
        m->start[v] = 0;
        if (symbol < lo || symbol > hi || (flags & 2 && symbol == 0)) continue;
        if (flags & 1) k = 0; /* elsewhere `at` ascends */
        while (k < n - 2 && position[k + 1] <= at) k++;
        if (flags == 4 && at != position[k] && at != position[n - 1]) continue;
        symbols++;
        if (n < 2) {
            m->start[v] = 1;
        } else {
            int a, b;
            uint32_t e;
            a = at - position[k];
            b = position[k + 1] - at;
            e = (uint32_t)(2 * (knot[k] * b + knot[k + 1] * a) / (a + b));
            m->start[v] = fraction[e & 15] >> (e >> 4 < 29 ? e >> 4 : 29);
        }
        total += m->start[v];
    }
    for (v = 0; v < 256; v++) {
        if (!m->start[v]) continue;
        m->start[v] = 1 + (uint32_t)((uint64_t)m->start[v] * (65536 - symbols) / total);
        given += m->start[v];
        if (m->start[v] > m->start[best]) best = v;
    }
    m->start[best] += 65536 - given;
    for (v = 0, given = 0; v <= 256; v++) {
        const uint32_t frequency = v < 256 ? m->start[v] : 0;
        m->start[v] = given;
        given += frequency;
    }
    for (v = 0, k = 0; k < PJ_BUCKETS; k++) {
        while (m->start[v + 1] <= (uint32_t)k << (16 - PJ_DECODE_BUCKET_BITS)) v++;
        m->bucket[k] = (uint8_t)v;
    }
}

/* Where everything lies in the pack. */
static int pj_open(const uint8_t *data, size_t bytes, uint32_t align, struct pj_pack *pack, uint64_t *out_bytes) {
    struct pj_reader r;
    struct pj_tensor t;
    uint32_t i, names;
    uint64_t used = 0, total = 0;
    if (bytes < 7 || memcmp(data, "PJP1", 4) != 0) return PJ_PACK_CORRUPT;
    pack->lanes = data[4] + 256u * data[5];
    pack->n_models = data[6];
    r.at = data + 7;
    r.end = pack->end = data + bytes;
    r.bad = 0;
    pack->n_tensors = pj_varint(&r);
    pack->tensors = r;
    pack->sequences = 0;
    for (i = 0; i < pack->n_tensors && !r.bad; i++) {
        pj_next(&r, &t, align, &used);
        if (r.bad) continue;
        pack->sequences += t.rows + pj_unit_rows(&t);
        total += used - t.at;
        if (total > (uint64_t)PJ_BYTES_PER_LANE * pack->lanes) r.bad = 1;
    }
    names = pj_varint(&r);
    if (r.bad || names > (size_t)(r.end - r.at)) return PJ_PACK_CORRUPT;
    pack->models = r.at += names;
    for (i = 0; i < pack->n_models && !r.bad; i++) {
        const int lo = (int)pj_byte(&r) - 128, hi = (int)pj_byte(&r) - 128;
        const uint32_t flags = pj_byte(&r);
        int16_t position[PJ_SYMBOLS];
        int n = flags == 4 ? pj_listed(&r, lo, hi, position) : pj_positions(lo, hi, flags, position);
        for (; n > 0 && !r.bad; n--) pj_byte(&r);
    }
    pack->stream = r.at;
    *out_bytes = used;
    if (r.bad || pack->lanes < 1 || pack->lanes > PJ_MOST_LANES || pack->n_models > 128) return PJ_PACK_CORRUPT;
    if ((pack->n_models > 0) != (pack->n_tensors > 0) || (size_t)(r.end - r.at) % 2) return PJ_PACK_CORRUPT;
    return (size_t)(r.end - r.at) < (size_t)6 * pack->lanes ? PJ_PACK_CORRUPT : PJ_PACK_OK;
}

static uint64_t pj_scratch_bytes(const struct pj_pack *pack) {
    return sizeof(uint64_t) * pack->lanes + sizeof(struct pj_model) * pack->n_models + pack->sequences;
}

/* --- the stream --- */

/* The state after a symbol, with the next word where it needs one. */
static uint64_t pj_refilled(struct pj_stream *s, uint64_t x) {
    if (x >= PJ_LOW) return x;
    if (s->at == s->end) {
        s->bad = 1;
        return PJ_LOW;
    }
    s->at += 2;
    return x << 16 | (uint32_t)(s->at[-2] | s->at[-1] << 8);
}

static uint32_t pj_next_lane(const struct pj_stream *s) { return s->lane + 1 == s->lanes ? 0 : s->lane + 1; }

/* `n` symbols of one model, `stride` bytes apart. While the stream has a word for each, none is checked. */
static void pj_symbols(struct pj_stream *s, const struct pj_model *m, uint8_t *to, uint64_t n, uint32_t stride) {
    while (n > 0 && !s->bad) {
        const uint64_t words = (uint64_t)(s->end - s->at) / 2, lanes = s->lanes - s->lane;
        const uint64_t part = n < lanes ? n : lanes;
        uint64_t *state = s->state + s->lane;
        const uint8_t *at = s->at;
        uint64_t i;
        if (words < part) break;
        for (i = 0; i < part; i++, to += stride) {
            const uint64_t x = state[i];
            const uint32_t slot = (uint32_t)x & 65535, word = (uint32_t)(at[0] | at[1] << 8);
            uint32_t v = m->bucket[slot >> (16 - PJ_DECODE_BUCKET_BITS)];
            uint64_t next, low; /* all ones where a word is needed: a branch would be guessed wrong half of the time */
            while (m->start[v + 1] <= slot) v++;
            next = (uint64_t)(m->start[v + 1] - m->start[v]) * (x >> 16) + slot - m->start[v];
            low = 0 - (uint64_t)(next < PJ_LOW);
            at += 2 & low;
            state[i] = next << (16 & low) | (word & low);
            *to = (uint8_t)(v + 128);
        }
        s->at = at;
        s->lane = part == lanes ? 0 : s->lane + (uint32_t)part;
        n -= part;
    }
    for (; n > 0 && !s->bad; n--, to += stride) {
        const uint64_t x = s->state[s->lane];
        const uint32_t slot = (uint32_t)x & 65535;
        uint32_t v = m->bucket[slot >> (16 - PJ_DECODE_BUCKET_BITS)];
        while (m->start[v + 1] <= slot) v++;
        s->state[s->lane] =
            pj_refilled(s, (uint64_t)(m->start[v + 1] - m->start[v]) * (x >> 16) + slot - m->start[v]);
        s->lane = pj_next_lane(s);
        *to = (uint8_t)(v + 128);
    }
}

/* A number below `choices`, 2 to 65536. */
static uint32_t pj_uniform(struct pj_stream *s, uint32_t choices) {
    const uint64_t x = s->state[s->lane];
    const uint32_t slot = (uint32_t)x & 65535, number = slot * choices >> 16;
    const uint32_t from = (number * 65536 + choices - 1) / choices;
    const uint32_t to = (number * 65536 + 65536 + choices - 1) / choices;
    s->state[s->lane] = pj_refilled(s, (uint64_t)(to - from) * (x >> 16) + slot - from);
    s->lane = pj_next_lane(s);
    return number;
}

/* Binomial coefficients: how many masks of m places have n taken. */
static const uint16_t pj_choices[17][17] = {
    {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 3, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 4, 6, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 5, 10, 10, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 6, 15, 20, 15, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 7, 21, 35, 35, 21, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 8, 28, 56, 70, 56, 28, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, 9, 36, 84, 126, 126, 84, 36, 9, 1, 0, 0, 0, 0, 0, 0, 0},
    {1, 10, 45, 120, 210, 252, 210, 120, 45, 10, 1, 0, 0, 0, 0, 0, 0},
    {1, 11, 55, 165, 330, 462, 462, 330, 165, 55, 11, 1, 0, 0, 0, 0, 0},
    {1, 12, 66, 220, 495, 792, 924, 792, 495, 220, 66, 12, 1, 0, 0, 0, 0},
    {1, 13, 78, 286, 715, 1287, 1716, 1716, 1287, 715, 286, 78, 13, 1, 0, 0, 0},
    {1, 14, 91, 364, 1001, 2002, 3003, 3432, 3003, 2002, 1001, 364, 91, 14, 1, 0, 0},
    {1, 15, 105, 455, 1365, 3003, 5005, 6435, 6435, 5005, 3003, 1365, 455, 105, 15, 1, 0},
    {1, 16, 120, 560, 1820, 4368, 8008, 11440, 12870, 11440, 8008, 4368, 1820, 560, 120, 16, 1}};

/* --- the passes: a run of the stream each, over all tensors --- */

/* The flag of a unit, in the last row that it covers: where the row's codes will overwrite it last. */
static uint8_t *pj_flags(const struct pj_tensor *t, uint8_t *out, uint64_t unit_row) {
    return out + t->at + (unit_row * t->height + t->height - 1) * t->columns;
}

/* The units of the window that begins when `*left` units are left of its run; a new run begins after the last. */
static uint32_t pj_window(const struct pj_tensor *t, uint64_t *left) {
    const uint64_t window = *left < t->window ? *left : t->window;
    *left -= window;
    if (*left == 0) *left = t->run / t->width;
    return (uint32_t)window;
}

/* How many units of each window are taken, kept at the window's first unit. */
static void pj_count_pass(struct pj_stream *s, const struct pj_tensor *t, const struct pj_model *models,
                          const uint8_t *number, uint8_t *out) {
    const uint64_t rows = pj_unit_rows(t), units = t->window ? t->columns / t->width : 0;
    uint64_t row, unit;
    for (row = 0; row < rows; row++) {
        uint8_t *flags = pj_flags(t, out, row);
        uint64_t left = t->run / t->width;
        for (unit = 0; unit < units && !s->bad;) {
            const uint32_t window = pj_window(t, &left);
            uint8_t *count = &flags[unit * t->width];
            pj_symbols(s, &models[number[row]], count, 1, 1);
            if (*count > window) s->bad = 1;
            unit += window;
        }
    }
}

/* The masks of several windows, side by side: where none are left to take, no rank reaches the one choice of that, and
 * above its window no rank reaches the choices either. */
static void pj_masks(uint32_t *taken, uint32_t *rank, uint32_t *mask) {
    uint32_t i, k;
    for (k = 0; k < PJ_WINDOWS_AT_ONCE; k++) mask[k] = 0;
    for (i = PJ_LONGEST_WINDOW; i-- > 0;) {
        for (k = 0; k < PJ_WINDOWS_AT_ONCE; k++) {
            const uint32_t choices = pj_choices[i][taken[k]], hit = rank[k] >= choices;
            rank[k] -= choices & (0 - hit);
            taken[k] -= hit;
            mask[k] |= hit << i;
        }
    }
}

/* Which units those are: counts become flags. */
static void pj_rank_pass(struct pj_stream *s, const struct pj_tensor *t, uint8_t *out) {
    const uint64_t rows = pj_unit_rows(t), units = t->window ? t->columns / t->width : 0;
    const uint32_t width = t->width;
    uint64_t row, unit;
    for (row = 0; row < rows; row++) {
        uint8_t *flags = pj_flags(t, out, row);
        uint64_t left = t->run / width;
        for (unit = 0; unit < units && !s->bad;) {
            uint32_t taken[PJ_WINDOWS_AT_ONCE] = {0}, rank[PJ_WINDOWS_AT_ONCE] = {0}, mask[PJ_WINDOWS_AT_ONCE];
            uint32_t window[PJ_WINDOWS_AT_ONCE], n, k, i;
            uint64_t next = unit;
            for (n = 0; n < PJ_WINDOWS_AT_ONCE && next < units; n++) {
                window[n] = pj_window(t, &left);
                taken[n] = flags[next * width];
                if (pj_choices[window[n]][taken[n]] > 1) rank[n] = pj_uniform(s, pj_choices[window[n]][taken[n]]);
                next += window[n];
            }
            pj_masks(taken, rank, mask);
            for (k = 0; k < n; unit += window[k++]) {
                for (i = 0; i < window[k]; i++) flags[(unit + i) * width] = mask[k] >> i & 1;
            }
        }
    }
}

/* Codes of the taken units, some units at a time: first as they come, then each where it belongs. */
static void pj_sparse_row(struct pj_stream *s, const struct pj_tensor *t, const struct pj_model *m, uint64_t row,
                          uint8_t *out) {
    uint8_t codes[4 * PJ_UNITS_AT_ONCE + 4];
    const uint8_t *flags = pj_flags(t, out, row / t->height);
    uint8_t *to = out + t->at + row * t->columns;
    const uint64_t units = t->columns / t->width;
    const uint32_t width = t->width;
    uint64_t first, unit;
    for (first = 0; first < units && !s->bad; first += PJ_UNITS_AT_ONCE) {
        const uint64_t end = units - first < PJ_UNITS_AT_ONCE ? units : first + PJ_UNITS_AT_ONCE;
        uint32_t taken = 0, i;
        for (unit = first; unit < end; unit++) taken += flags[unit * width];
        pj_symbols(s, m, codes, taken * width, 1);
        for (unit = first, taken = 0; unit < end; unit++) {
            const uint32_t flag = flags[unit * width];
            for (i = 0; i < width; i++) to[unit * width + i] = (uint8_t)(codes[taken + i] & (0 - flag));
            taken += flag * width;
        }
    }
}

static void pj_code_pass(struct pj_stream *s, const struct pj_tensor *t, const struct pj_model *models,
                         const uint8_t *number, uint8_t *out) {
    uint64_t row;
    for (row = 0; row < t->rows && !s->bad; row++) {
        const struct pj_model *m = &models[number[row]];
        if (t->window) {
            pj_sparse_row(s, t, m, row, out);
        } else if (t->item == 1) {
            pj_symbols(s, m, out + t->at + row * t->columns, t->columns, 1);
        } else { /* a row of digits */
            pj_symbols(s, m, out + t->at + row, t->columns, t->item);
        }
    }
}

/* Digits to elements, differences to values, and what everyone can make. */
static void pj_finish(const struct pj_tensor *t, uint8_t *out) {
    uint8_t *to = out + t->at;
    const uint64_t stored = t->elements * t->item, made = t->generated * t->slice * t->item;
    uint32_t value = 0, d;
    uint64_t i;
    for (i = 0; (t->item > 1 || t->delta) && i < t->elements; i++, to += t->item) {
        uint32_t digits = 0;
        for (d = t->item; d-- > 0;) digits = digits * 256 + to[d] - (to[d] & 128 ? 256u : 0u);
        value = t->delta ? value + digits : digits;
        for (d = 0; d < t->item; d++) to[d] = (uint8_t)(value >> 8 * d);
    }
    to = out + t->at + stored;
    for (i = 0; i < made; i++) {
        uint32_t x = (uint32_t)i * UINT32_C(0x9E3779B9);
        x = (x ^ x >> 16) * UINT32_C(0x7FEB352D);
        x = (x ^ x >> 15) * UINT32_C(0x846CA68B);
        to[i] = (uint8_t)((x ^ x >> 16) >> 24);
    }
}

static void pj_open_stream(struct pj_stream *s, const struct pj_pack *pack, uint64_t *state) {
    uint32_t i, k;
    s->state = state;
    s->lanes = pack->lanes;
    s->at = pack->stream;
    s->end = pack->end;
    s->bad = 0;
    for (i = 0; i < pack->lanes; i++) {
        uint64_t x = 0;
        for (k = 0; k < 6; k++) x |= (uint64_t)*s->at++ << 8 * k;
        if (x < PJ_LOW) s->bad = 1;
        state[i] = x;
    }
}

int pj_pack_sizes(const uint8_t *pack, size_t bytes, uint32_t align, struct pj_pack_sizes *sizes) {
    struct pj_pack found;
    const int status = pj_open(pack, bytes, align, &found, &sizes->out_bytes);
    if (status != PJ_PACK_OK) return status;
    sizes->scratch_bytes = pj_scratch_bytes(&found);
    sizes->tensors = found.n_tensors;
    return PJ_PACK_OK;
}

int pj_pack_decode(const uint8_t *pack, size_t bytes, uint32_t align, uint8_t *out, size_t out_bytes, void *scratch,
                   size_t scratch_bytes) {
    struct pj_pack found;
    struct pj_stream s;
    struct pj_reader r;
    struct pj_tensor t;
    struct pj_model *models;
    uint8_t *number;
    uint64_t needed, i, sequence, used;
    uint32_t lane, k, pass;
    const int status = pj_open(pack, bytes, align, &found, &needed);
    if (status != PJ_PACK_OK) return status;
    if (needed > out_bytes || pj_scratch_bytes(&found) > scratch_bytes) return PJ_PACK_SMALL_MEMORY;
    pj_open_stream(&s, &found, (uint64_t *)scratch);
    models = (struct pj_model *)(void *)((uint64_t *)scratch + found.lanes);
    number = (uint8_t *)(models + found.n_models);
    r.at = found.models;
    r.end = found.end;
    r.bad = 0;
    for (k = 0; k < found.n_models && !r.bad; k++) pj_read_model(&r, &models[k]);
    if (r.bad) return PJ_PACK_CORRUPT;
    s.lane = 0;
    if (found.n_models > 0) pj_symbols(&s, &models[0], number, found.sequences, 1);
    for (i = 0; i < found.sequences && !s.bad; i++) {
        if (++number[i] >= found.n_models) s.bad = 1;
    }
    for (pass = 0; pass < 3; pass++) {
        r = found.tensors;
        s.lane = 0;
        for (k = 0, used = sequence = 0; k < found.n_tensors && !s.bad; k++) {
            pj_next(&r, &t, align, &used);
            if (pass == 0) pj_count_pass(&s, &t, models, number + sequence, out);
            sequence += pj_unit_rows(&t);
            if (pass == 1) pj_rank_pass(&s, &t, out);
            if (pass == 2) pj_code_pass(&s, &t, models, number + sequence, out);
            sequence += t.rows;
            if (pass == 2) pj_finish(&t, out);
        }
    }
    for (lane = 0; lane < found.lanes; lane++) s.bad |= s.state[lane] != PJ_LOW;
    return s.bad || s.at != s.end ? PJ_PACK_CORRUPT : PJ_PACK_OK;
}
