#include "pj_decode.h"

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
#define PJ_MOST_BYTES ((uint32_t)PJ_MOST_LANES * PJ_BYTES_PER_LANE)
#define PJ_UNITS_AT_ONCE 64
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
    uint32_t item;           /* bytes of an element */
    uint32_t elements, made; /* stored, and not stored because everyone can make them */
    uint32_t rows, columns;  /* of codes */
    uint32_t unit_rows, units, height, width; /* of units, how many in a row, and their size; no rows without units */
    uint32_t window, run;                     /* in units */
    int delta;
    uint64_t at; /* place in the output */
};

struct pj_pack {
    struct pj_reader tensors, models; /* where the records begin, and the models, which the stream follows */
    uint32_t n_tensors, n_models, lanes, sequences;
};

/* What is decoded, and how far. */
struct pj_stream {
    uint64_t *state;
    const uint8_t *at, *end;
    uint32_t lanes, lane;
    int bad;
    const struct pj_model *models;
    const uint8_t *number; /* of the model of each sequence, the tensor's first at hand */
    uint8_t *out;
    uint16_t choices[PJ_LONGEST_WINDOW + 1][PJ_LONGEST_WINDOW + 1]; /* how many masks of m places have n taken */
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

/* One record, its place behind `*used` bytes of output. */
static void pj_next(struct pj_reader *r, struct pj_tensor *t, uint32_t align, uint64_t *used) {
    static const uint8_t item[6] = {0, 1, 1, 2, 4, 4};
    const uint32_t kind = pj_byte(r), dims = kind >> 4;
    uint32_t flags, units, big, wide, generated, slice = 1, first = 1, last = 1, i;
    uint64_t bytes;
    if ((kind & 15) > 5 || dims > 8) r->bad = 1;
    if (r->bad) return;
    bytes = t->item = item[kind & 15];
    for (i = 0; i < dims && bytes <= PJ_MOST_BYTES; i++) {
        last = pj_varint(r);
        if (i == 0) first = last;
        else slice *= last;
        bytes *= last;
    }
    flags = pj_byte(r);
    units = flags >> 2 & 3;
    big = units >> 1;
    t->delta = flags >> 1 & 1;
    t->window = units ? pj_byte(r) : 0;
    generated = flags & 32 ? pj_varint(r) : 0;
    if (bytes < 1 || bytes > PJ_MOST_BYTES || flags >> 6 || units > 2) r->bad = 1;
    if ((units && !t->window) || t->window > PJ_LONGEST_WINDOW) r->bad = 1;
    if ((flags & 32 && !generated) || generated > (dims ? first : 0)) r->bad = 1;
    first -= generated; /* what is stored of it */
    if (dims < 2) last = first;
    t->made = generated * slice;
    t->elements = first * slice;
    t->rows = flags & 1 ? first : t->item;
    t->columns = flags & 1 && first ? slice : t->elements;
    t->run = flags & 16 ? last : t->columns;
    t->height = 1 + 15 * big;
    t->width = 1 + 3 * big;
    wide = t->item > 1;
    if (units ? wide | (uint32_t)t->delta | (t->rows & 15 * big) | ((t->columns | t->run) & 3 * big)
              : (flags & 16) | (wide & flags)) r->bad = 1;
    t->unit_rows = units ? t->rows >> 4 * big : 0;
    t->units = t->columns >> 2 * big;
    t->run >>= 2 * big;
    t->at = (*used + align - 1) & ~(uint64_t)(align - 1);
    *used = t->at + bytes;
}

/* Where the knots of a model lie, ascending: symbols, or magnitudes where it is symmetric. Their number. */
static int pj_positions(struct pj_reader *r, int lo, int hi, uint32_t flags, int16_t *position) {
    const int symmetric = flags & 1, listed = flags == 4, inner = listed ? (int)pj_byte(r) : 0;
    const int first = symmetric ? 0 : lo, last = symmetric && -lo > hi ? -lo : hi;
    uint32_t bits = 0;
    int n = 0, v;
    if (lo == hi && !listed) return 0;
    for (v = first; v <= last; v++) {
        int knot = v == last || (v == first && !symmetric);
        if (!knot && inner > PJ_MOST_LISTED) {
            bits = (v - lo - 1) % 8 ? bits >> 1 : pj_byte(r);
            knot = bits & 1;
        } else if (!knot && listed) {
            knot = n <= inner && r->at < r->end && *r->at == v + 128;
            r->at += knot;
        } else if (!knot && (v || !(flags & 2))) {
            const int magnitude = v < 0 ? -v : v, power = magnitude & -magnitude;
            knot = magnitude == power || magnitude == 3 * power;
        }
        if (knot) position[n++] = (int16_t)v;
    }
    if (listed && (inner < 1 || bits > 1 || n != inner + 2)) r->bad = 1;
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
    n = pj_positions(r, lo, hi, flags, position);
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
    for (v = k = 0, given = 0; v < 256; v++) {
        const uint32_t frequency = m->start[v];
        m->start[v] = given;
        given += frequency;
        for (; (uint32_t)k << (16 - PJ_DECODE_BUCKET_BITS) < given; k++) m->bucket[k] = (uint8_t)v;
    }
    m->start[256] = given;
}

/* Where everything lies in the pack. */
static int pj_open(const uint8_t *data, size_t bytes, uint32_t align, struct pj_pack *pack, uint64_t *out_bytes) {
    static const uint8_t magic[4] = {'P', 'J', 'P', '1'};
    struct pj_reader r;
    struct pj_tensor t;
    uint32_t i, names, total = 0;
    r.at = data;
    r.end = data + bytes;
    r.bad = 0;
    for (i = 0; i < 4; i++) r.bad |= pj_byte(&r) != magic[i];
    pack->lanes = pj_byte(&r);
    pack->lanes |= pj_byte(&r) << 8;
    pack->n_models = pj_byte(&r);
    pack->n_tensors = pj_varint(&r);
    pack->tensors = r;
    pack->sequences = 0;
    *out_bytes = 0;
    for (i = 0; i < pack->n_tensors && !r.bad; i++) {
        pj_next(&r, &t, align, out_bytes);
        if (r.bad) break;
        pack->sequences += t.rows + t.unit_rows;
        total += (t.elements + t.made) * t.item;
        if (total > PJ_BYTES_PER_LANE * pack->lanes) r.bad = 1;
    }
    names = pj_varint(&r);
    /* a state for each lane, or a few bytes could ask for memory without end */
    if (r.bad || names + UINT64_C(6) * pack->lanes > (uint64_t)(r.end - r.at)) return PJ_PACK_CORRUPT;
    r.at += names;
    pack->models = r;
    if (pack->lanes < 1 || pack->lanes > PJ_MOST_LANES || pack->n_models > 128) return PJ_PACK_CORRUPT;
    return (pack->n_models > 0) != (pack->n_tensors > 0) ? PJ_PACK_CORRUPT : PJ_PACK_OK;
}

static uint64_t pj_scratch_bytes(const struct pj_pack *pack) {
    return sizeof(uint64_t) * pack->lanes + sizeof(struct pj_model) * pack->n_models + pack->sequences;
}

/* --- the stream --- */

/* `n` symbols of one model, `stride` bytes apart, as many at once as the stream has words: each takes one at most. */
static void pj_symbols(struct pj_stream *s, const struct pj_model *m, uint8_t *to, uint32_t n, uint32_t stride) {
    while (n > 0 && !s->bad) {
        static const uint8_t none[2] = {0, 0};
        const size_t words = (size_t)(s->end - s->at) / 2;
        const uint8_t *at = words ? s->at : none;
        uint64_t *state = s->state + s->lane;
        uint32_t part = s->lanes - s->lane, i;
        if (part > n) part = n;
        if (part > words) part = words ? (uint32_t)words : 1;
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
        if (words) s->at = at;
        else if (at != none) s->bad = 1;
        s->lane += part;
        if (s->lane == s->lanes) s->lane = 0;
        n -= part;
    }
}

/* A number below `choices`, 2 to 65536. */
static uint32_t pj_uniform(struct pj_stream *s, uint32_t choices) {
    uint64_t *state = s->state + s->lane, x = *state;
    const uint32_t slot = (uint32_t)x & 65535, number = slot * choices >> 16;
    const uint32_t from = (number * 65536 + choices - 1) / choices;
    const uint32_t to = (number * 65536 + 65536 + choices - 1) / choices;
    x = (uint64_t)(to - from) * (x >> 16) + slot - from;
    if (x < PJ_LOW) {
        if (s->at == s->end) {
            s->bad = 1;
        } else {
            x = x << 16 | (uint32_t)(s->at[0] | s->at[1] << 8);
            s->at += 2;
        }
    }
    *state = x;
    if (++s->lane == s->lanes) s->lane = 0;
    return number;
}

/* --- the passes: a run of the stream each, over all tensors --- */

/* The flag of a unit, in the last row that it covers: where the row's codes will overwrite it last. */
static uint8_t *pj_flags(const struct pj_stream *s, const struct pj_tensor *t, uint32_t unit_row) {
    return s->out + t->at + (unit_row * t->height + t->height - 1) * t->columns;
}

/* The units of the window that begins when `*left` units are left of its run; a new run begins after the last. */
static uint32_t pj_window(const struct pj_tensor *t, uint32_t *left) {
    const uint32_t window = *left < t->window ? *left : t->window;
    *left -= window;
    if (*left == 0) *left = t->run;
    return window;
}

/* How many units of each window are taken, kept at the window's first unit. */
static void pj_count_pass(struct pj_stream *s, const struct pj_tensor *t) {
    uint32_t row, unit;
    for (row = 0; row < t->unit_rows; row++) {
        uint8_t *flags = pj_flags(s, t, row);
        uint32_t left = t->run;
        for (unit = 0; unit < t->units && !s->bad;) {
            const uint32_t window = pj_window(t, &left);
            uint8_t *count = &flags[unit * t->width];
            pj_symbols(s, &s->models[s->number[row]], count, 1, 1);
            if (*count > window) s->bad = 1;
            unit += window;
        }
    }
}

/* Which units those are: counts become flags. From the highest unit on, one is taken where the rank is not below the number
 * of masks without it. */
static void pj_rank_pass(struct pj_stream *s, const struct pj_tensor *t) {
    uint32_t row, unit;
    for (row = 0; row < t->unit_rows; row++) {
        uint8_t *flags = pj_flags(s, t, row);
        uint32_t left = t->run;
        for (unit = 0; unit < t->units && !s->bad;) {
            const uint32_t window = pj_window(t, &left);
            uint8_t *last = &flags[(unit + window) * t->width];
            uint32_t taken = flags[unit * t->width], i = window;
            uint32_t rank = s->choices[i][taken] > 1 ? pj_uniform(s, s->choices[i][taken]) : 0;
            while (i-- > 0) {
                const uint32_t choices = s->choices[i][taken], hit = rank >= choices;
                rank -= choices & (0 - hit);
                taken -= hit;
                last -= t->width;
                *last = (uint8_t)hit;
            }
            unit += window;
        }
    }
}

/* Codes of the taken units, some units at a time: first as they come, then each where it belongs. */
static void pj_sparse_row(struct pj_stream *s, const struct pj_tensor *t, const struct pj_model *m, uint32_t row) {
    uint8_t codes[4 * PJ_UNITS_AT_ONCE + 4];
    const uint8_t *flags = pj_flags(s, t, row / t->height);
    uint8_t *to = s->out + t->at + row * t->columns;
    const uint32_t width = t->width;
    uint32_t first, unit;
    for (first = 0; first < t->units && !s->bad; first += PJ_UNITS_AT_ONCE) {
        const uint32_t end = t->units - first < PJ_UNITS_AT_ONCE ? t->units : first + PJ_UNITS_AT_ONCE;
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

static void pj_code_pass(struct pj_stream *s, const struct pj_tensor *t) {
    const uint32_t step = t->item == 1 ? t->columns : 1; /* from row to row: rows of digits lie side by side */
    uint32_t row;
    for (row = 0; row < t->rows && !s->bad; row++) {
        const struct pj_model *m = &s->models[s->number[row]];
        if (t->window) pj_sparse_row(s, t, m, row);
        else pj_symbols(s, m, s->out + t->at + row * step, t->columns, t->item);
    }
}

/* Digits to elements, differences to values, and what everyone can make. */
static void pj_finish(const struct pj_tensor *t, uint8_t *out) {
    uint8_t *to = out + t->at;
    uint32_t value = 0, d, i;
    for (i = 0; (t->item > 1 || t->delta) && i < t->elements; i++, to += t->item) {
        uint32_t digits = 0;
        for (d = t->item; d-- > 0;) digits = digits * 256 + to[d] - (to[d] & 128 ? 256u : 0u);
        value = t->delta ? value + digits : digits;
        for (d = 0; d < t->item; d++) to[d] = (uint8_t)(value >> 8 * d);
    }
    to = out + t->at + t->elements * t->item;
    for (i = 0; i < t->made * t->item; i++) {
        uint32_t x = i * UINT32_C(0x9E3779B9);
        x = (x ^ x >> 16) * UINT32_C(0x7FEB352D);
        x = (x ^ x >> 15) * UINT32_C(0x846CA68B);
        to[i] = (uint8_t)((x ^ x >> 16) >> 24);
    }
}

/* The stream that begins where the models end. */
static void pj_open_stream(struct pj_stream *s, const struct pj_reader *models, uint32_t lanes, uint64_t *state) {
    uint32_t i, k;
    s->state = state;
    s->lanes = lanes;
    s->at = models->at;
    s->end = models->end;
    s->lane = 0;
    s->bad = (s->end - s->at) % 2 || (size_t)(s->end - s->at) < (size_t)6 * lanes;
    for (i = 0; i < lanes && !s->bad; i++) {
        uint64_t x = 0;
        for (k = 0; k < 48; k += 8) x |= (uint64_t)*s->at++ << k;
        if (x < PJ_LOW) s->bad = 1;
        state[i] = x;
    }
    for (i = 0; i <= PJ_LONGEST_WINDOW; i++) {
        for (k = 0; k <= PJ_LONGEST_WINDOW; k++) {
            s->choices[i][k] = (uint16_t)(!k ? 1 : !i ? 0 : s->choices[i - 1][k - 1] + s->choices[i - 1][k]);
        }
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
    uint64_t needed, used;
    uint32_t i, pass;
    const int status = pj_open(pack, bytes, align, &found, &needed);
    if (status != PJ_PACK_OK) return status;
    if (needed > out_bytes || pj_scratch_bytes(&found) > scratch_bytes) return PJ_PACK_SMALL_MEMORY;
    models = (struct pj_model *)(void *)((uint64_t *)scratch + found.lanes);
    number = (uint8_t *)(models + found.n_models);
    r = found.models;
    for (i = 0; i < found.n_models; i++) pj_read_model(&r, &models[i]);
    if (r.bad) return PJ_PACK_CORRUPT;
    s.models = models;
    s.out = out;
    pj_open_stream(&s, &r, found.lanes, (uint64_t *)scratch);
    if (found.n_models > 0) pj_symbols(&s, models, number, found.sequences, 1);
    for (i = 0; i < found.sequences && !s.bad; i++) {
        if (++number[i] >= found.n_models) s.bad = 1;
    }
    for (pass = 0; pass < 3; pass++) {
        r = found.tensors;
        s.lane = 0;
        s.number = number;
        for (i = 0, used = 0; i < found.n_tensors && !s.bad; i++) {
            pj_next(&r, &t, align, &used);
            if (pass == 0) pj_count_pass(&s, &t);
            if (pass == 1) pj_rank_pass(&s, &t);
            s.number += t.unit_rows;
            if (pass == 2) pj_code_pass(&s, &t);
            s.number += t.rows;
            if (pass == 2) pj_finish(&t, out);
        }
    }
    for (i = 0; i < found.lanes && !s.bad; i++) s.bad = s.state[i] != PJ_LOW;
    return s.bad || s.at != s.end ? PJ_PACK_CORRUPT : PJ_PACK_OK;
}
