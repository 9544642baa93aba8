// Where a key stands in a sorted array, asked many times at once: learned models, their peers, and how models are fitted.
//
//     a model says        the answer is one of the places low … low + width            (predict)
//     the window shrinks  halves, then a count over one block of 16 keys               (settle)
//     and the answer      is proven: keys[r - 1] < query <= keys[r]; else r is moved   (proven)
//
// The answer is the lower bound: the number of keys below the query, whether the query is there or not, and the first of
// equal keys. A model can therefore be wrong, damaged or made for other keys: the answer is right as long as the keys are
// sorted, only later.
//
// Notable
// - Memory is waited for once a group, not once a query: 32 queries take each step together, and whoever knows which
//   line of memory it reads next asks for that line and lets the others go on (Jonathan et al. 2018,
//   https://doi.org/10.14778/3236187.3236216, call it interleaving). Peers get the same treatment as models.
// - No branch depends on a key, save the one that finds an answer unproven.
// - A line is drawn over steps: how many numbers of the type lie between a key and the segment's first. For integers
//   that is their difference, exact in 64 bits, which doubles alone are not. For doubles it is the difference of their
//   ordered bits: infinities and the smallest numbers are then points like others, and a line can pass anywhere. In
//   the value a step grows with each power of two, which costs a segment for each of those.
// - A prediction is floor(slope * steps + intercept), compiled without fused multiplication, so that this file and the
//   reference in numpy predict the same bits.
// - A fitted segment is held to the very arithmetic that look-ups use, over every key of it, and cut where that misses;
//   so epsilon is a promise about answers and not about real numbers.
// - Steps: of k equal keys the lower bound is the first, and jumps by k just behind them. The point behind (the next
//   number of the type, if it is no key) is fitted too, so that the bound holds for keys that are not there.
// - NaN sorts last and equals NaN, as in numpy. The caller counts the NaNs at the end of the keys and leaves them out;
//   a NaN among the queries then belongs behind the rest. -0.0 equals 0.0.
//
// Sources
// - PGM: Ferragina & Vinciguerra 2020, https://doi.org/10.14778/3389133.3389135; the fewest lines within epsilon:
//   O'Rourke 1981, https://doi.org/10.1145/358746.358758
// - RadixSpline: Kipf et al. 2020, https://arxiv.org/abs/2004.14541; its corridor: Neumann & Michel 2008,
//   https://doi.org/10.1007/978-3-540-70504-8_8
// - The quantised spline, put together in this way here: keys cut short and compared many at once, Kim et al. 2010,
//   https://doi.org/10.1145/1807167.1807206; lines inside nodes, Graefe 2006 (B-tree indexes, interpolation search, and
//   skew)
// - RMI: Kraska et al. 2018, https://arxiv.org/abs/1712.01208; its roots: roots.py
// - Eytzinger order and the B+tree without pointers: Khuong & Morin 2017, https://arxiv.org/abs/1509.05053
// - How they are measured: Marcus et al. 2020, https://arxiv.org/abs/2006.12804
//
// What it does not do: checks of its arguments (Python does), inserts, keys that are text, threads.
//
// Names: n keys · m queries · g queries of a group · r an answer, 0 … n

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace {

typedef int64_t Place;

constexpr Place GROUP = 32;  // queries that go together
constexpr Place LINE = 8;    // keys in a line of memory
constexpr Place BLOCK = 16;  // keys that are counted at once: two lines of memory
constexpr Place MARKS = 32;  // marks of a group: one line of memory

// ------------------------------------------------------------------------------------------------- keys of a type

// The next number of the type; `key` itself where there is none.
template <class K> K next(K key) { return key == std::numeric_limits<K>::max() ? key : key + 1; }
template <> double next(double key) { return std::nextafter(key, std::numeric_limits<double>::infinity()); }

// Unsigned numbers in the order of the keys, for what goes by the leading bits.
inline uint64_t ordered(uint64_t key) { return key; }
inline uint64_t ordered(int64_t key) { return uint64_t(key) ^ (uint64_t(1) << 63); }
inline uint64_t ordered(double key) {
    key += 0.0;  // -0.0 becomes 0.0
    uint64_t bits;
    std::memcpy(&bits, &key, 8);
    return bits >> 63 ? ~bits : bits | (uint64_t(1) << 63);
}

// How many numbers of the type lie from `first` to `key`, rounded once. Below `first` it wraps: no model asks for that.
template <class K> inline double steps(K key, K first) { return double(ordered(key) - ordered(first)); }

// How far `key` lies behind `first` in value, for what is better a line in that. Of doubles the difference may have no
// number (infinities, too far); the largest stands for it.
template <class K> inline double behind(K key, K first) { return steps(key, first); }
template <> inline double behind(double key, double first) {
    const double difference = key - first, farthest = std::numeric_limits<double>::max();
    return difference < farthest ? difference : farthest;
}

inline bool is_nan(double key) { return key != key; }
template <class K> inline bool is_nan(K) { return false; }

// A predicted place as a whole number in 0 … most; nan, which comes of infinities, is 0.
inline Place whole(double place, Place most) {
    if (!(place > 0)) return 0;
    return place < double(most) ? Place(place) : most;
}

inline void ask_for(const void* memory) { __builtin_prefetch(memory); }

// ------------------------------------------------------------------------------------------ from a window to a place

// How many of the `BLOCK` numbers from `block` on are below `query`.
template <class K> inline Place below(const K* block, K query) {
    Place count = 0;
    for (Place i = 0; i < BLOCK; ++i) count += block[i] < query;
    return count;
}

#ifdef __AVX512BW__
// The same by masks: two comparisons and a count of bits, where compilers add up eight lanes.
inline Place ones(__mmask8 first, __mmask8 second) { return __builtin_popcount(unsigned(first) | unsigned(second) << 8); }
inline Place below(const int64_t* block, int64_t query) {
    const __m512i all = _mm512_set1_epi64(query);
    return ones(_mm512_cmplt_epi64_mask(_mm512_loadu_si512(block), all),
                _mm512_cmplt_epi64_mask(_mm512_loadu_si512(block + 8), all));
}
inline Place below(const uint64_t* block, uint64_t query) {
    const __m512i all = _mm512_set1_epi64(int64_t(query));
    return ones(_mm512_cmplt_epu64_mask(_mm512_loadu_si512(block), all),
                _mm512_cmplt_epu64_mask(_mm512_loadu_si512(block + 8), all));
}
inline Place below(const double* block, double query) {
    const __m512d all = _mm512_set1_pd(query);
    return ones(_mm512_cmp_pd_mask(_mm512_loadu_pd(block), all, _CMP_LT_OQ),
                _mm512_cmp_pd_mask(_mm512_loadu_pd(block + 8), all, _CMP_LT_OQ));
}
#endif

// How many of the marks of a group are below `step`, and how many are not above it.
inline void beside(const uint16_t* mark, uint16_t step, Place& under, Place& upto) {
#ifdef __AVX512BW__
    const __m512i marks = _mm512_loadu_si512(mark), all = _mm512_set1_epi16(int16_t(step));
    under = __builtin_popcount(_mm512_cmplt_epu16_mask(marks, all));
    upto = __builtin_popcount(_mm512_cmple_epu16_mask(marks, all));
#else
    uint16_t less = 0, equal = 0;
    for (Place i = 0; i < MARKS; ++i) less += mark[i] < step, equal += mark[i] == step;
    under = less;
    upto = less + equal;
#endif
}

// How many of a few numbers are below `query`.
template <class K> inline Place below(const K* block, Place length, K query) {
    if (length == BLOCK) return below(block, query);
    Place count = 0;
    for (Place i = 0; i < length; ++i) count += block[i] < query;
    return count;
}

// Whether of the BLOCK keys that were counted one is below and one is not: the answer lies between those two.
inline bool within(Place count) { return uint64_t(count - 1) < uint64_t(BLOCK - 1); }

// From windows [low, low + width] of places to places: low[i] becomes the number of keys below query[i], if that number
// lies in the window. 0 <= low, low + width <= n. width[i] becomes 1 where the keys that were counted last prove it.
template <class K> void settle(const K* keys, Place n, const K* query, Place g, Place* low, Place* width) {
    Place widest = 0;
    for (Place i = 0; i < g; ++i) widest = std::max(widest, width[i]);
    for (; widest > BLOCK; widest -= widest / 2)
        for (Place i = 0; i < g; ++i) {
            const Place half = width[i] > BLOCK ? width[i] / 2 : 0;
            const K* middle = keys + std::min(low[i] + std::max(half, Place(1)), n) - 1;
            low[i] += *middle < query[i] ? half : 0;
            width[i] -= half;
            ask_for(keys + low[i] + width[i] / 2);
        }
    if (n < BLOCK) {
        for (Place i = 0; i < g; ++i) low[i] = below(keys, n, query[i]), width[i] = 0;
        return;
    }
    for (Place i = 0; i < g; ++i) {
        low[i] = std::min(low[i], n - BLOCK);
        ask_for(keys + low[i]);
        ask_for(keys + low[i] + BLOCK - 1);
    }
    for (Place i = 0; i < g; ++i) {
        const Place count = below(keys + low[i], query[i]);
        low[i] += count;
        width[i] = within(count);
    }
}

// The lower bound, begun at the guess r: as it is where it proves right, else found in windows that double.
template <class K> inline Place proven(const K* keys, Place n, K query, Place r) {
    if (is_nan(query)) return n;
    if (r < n && keys[r] < query) {
        Place step = 1;
        while (r + step < n && keys[r + step] < query) step *= 2;
        return std::lower_bound(keys + r + 1, keys + std::min(r + step, n), query) - keys;
    }
    if (r > 0 && !(keys[r - 1] < query)) {
        Place step = 1;
        while (r - step > 0 && !(keys[r - step - 1] < query)) step *= 2;
        return std::lower_bound(keys + std::max(r - step - 1, Place(0)), keys + r, query) - keys;
    }
    return r;
}

// All look-ups by all models: `model.predict(query, g, low, width)` fills the windows of a group.
template <class K, class M> void locate(const K* keys, Place n, const K* query, Place m, Place* answer, const M& model) {
    Place low[GROUP], width[GROUP];
    for (Place from = 0; from < m; from += GROUP, query += GROUP, answer += GROUP) {
        const Place g = std::min(GROUP, m - from);
        model.predict(query, g, low, width);
        settle(keys, n, query, g, low, width);
        for (Place i = 0; i < g; ++i) answer[i] = width[i] ? low[i] : proven(keys, n, query[i], low[i]);
    }
}

// The window of places within `under` below and `over` above a predicted one.
inline void around(Place place, Place under, Place over, Place n, Place& low, Place& width) {
    low = std::max(place - under, Place(0));
    width = std::max(std::min(place + over, n) - low, Place(0));
}

// ------------------------------------------------------------------------------------------------------- the models

// Levels of segments, the last level (`levels - 1`) over the keys and each level above over the first keys of the one
// below; the levels lie one behind the other, from the top. The top is no wider than a window.
template <class K> struct Pgm {
    const K* keys;
    Place n;
    const Place* sizes;
    Place levels;
    const K* first;
    const double *slope, *intercept;
    Place epsilon, inner;

    // A segment's line at the query, but never beyond where the next segment begins.
    Place line(Place level_at, Place size, Place segment, K query, Place most) const {
        const Place at = level_at + segment;
        double place = slope[at] * steps(query, first[at]) + intercept[at];
        if (segment + 1 < size) place = std::min(place, intercept[at + 1]);
        return query < first[at] ? 0 : whole(place, most);
    }

    void predict(const K* query, Place g, Place* low, Place* width) const {
        Place segment[GROUP];
        const Place window = 2 * inner + 2;
        for (Place i = 0; i < g; ++i) segment[i] = 0;
        for (Place level = 0, at = 0, above = 0; level < levels; above = at, at += sizes[level++]) {
            const Place size = sizes[level];
            const K* begins = first + at;
            for (Place i = 0; i < g; ++i) {  // where to look among the segments
                low[i] = 0;
                if (level == 0) continue;
                low[i] = line(above, sizes[level - 1], segment[i], query[i], size) - inner - 1;
                low[i] = std::max(std::min(low[i], size - window), Place(0));
                ask_for(begins + low[i]);
                ask_for(begins + low[i] + window - 1);
            }
            const Place length = std::min(window, size);
            for (Place i = 0; i < g; ++i) {  // the last that begins at or before the query
                Place count = 0;
                for (Place j = 0; j < length; ++j) count += begins[low[i] + j] <= query[i];
                segment[i] = std::max(low[i] + count - 1, Place(0));
                ask_for(slope + at + segment[i]);
                ask_for(intercept + at + segment[i]);
            }
            if (level + 1 < levels) continue;
            for (Place i = 0; i < g; ++i) {
                around(line(at, size, segment[i], query[i], n), epsilon, epsilon + 1, n, low[i], width[i]);
                ask_for(keys + low[i] + width[i] / 2);
            }
        }
    }
};

// Knots of a polyline, and for each prefix of the ordered bits the first knot with that prefix or a later one.
template <class K> struct RadixSpline {
    const K* keys;
    Place n;
    const K* knot;
    const double* place;
    Place knots;
    const uint32_t* table;  // 2^bits + 1 entries, the last being `knots`
    Place bits, shift, error;

    void predict(const K* query, Place g, Place* low, Place* width) const {
        const uint64_t base = ordered(keys[0]), last = (uint64_t(1) << bits) - 1;
        for (Place i = 0; i < g; ++i) {
            const uint64_t number = ordered(query[i]);
            const uint64_t prefix = number < base ? 0 : std::min((number - base) >> shift, last);
            low[i] = Place(prefix);
            ask_for(table + prefix);
        }
        for (Place i = 0; i < g; ++i) {
            const Place prefix = low[i];
            low[i] = table[prefix];
            width[i] = Place(table[prefix + 1]) - low[i];
            ask_for(knot + low[i] + width[i] / 2);
        }
        settle(knot, knots, query, g, low, width);
        for (Place i = 0; i < g; ++i) {  // the query lies at or before knot j, behind knot j - 1
            const Place j = std::max(std::min(low[i], knots - 1), Place(1));
            const double part = steps(query[i], knot[j - 1]) / steps(knot[j], knot[j - 1]);
            const double found = place[j - 1] + std::min(std::max(part, 0.0), 1.0) * (place[j] - place[j - 1]);
            const Place guess = query[i] <= knot[0] ? 0 : whole(found, n);
            around(guess, error, error + 1, n, low[i], width[i]);
            ask_for(keys + low[i] + width[i] / 2);
        }
    }
};

// What grows like the logarithm of a distance of at least 0: the bits of the double as a number.
inline double logarithm(double distance) {
    distance += 0.0;  // -0.0 becomes 0.0
    uint64_t bits;
    std::memcpy(&bits, &distance, 8);
    return double(bits);
}

// A root chooses a line. In three stages that is one of the middle, which chooses among leaves of its own; a leaf is a
// line that gives the place, and knows how far it is off at most. What roots there are: roots.py.
template <class K> struct Rmi {
    const K* keys;
    Place n;
    const double* root;  // since, scale, four coefficients
    Place logarithmic;
    const double* hidden;  // kink and weight of each unit
    Place units, middles;  // no middles: two stages
    const double *middle_slope, *middle_intercept;
    const int32_t* begin;  // middles + 1: the first leaf of each
    Place leaves;
    const double *slope, *intercept;
    const int32_t *under, *over;

    // The distances of a group, and the lines that the root chooses.
    void top(const K* query, Place g, double* distance, Place* line) const {
        double u[GROUP], found[GROUP];
        for (Place i = 0; i < g; ++i) distance[i] = query[i] < keys[0] ? 0 : behind(query[i], keys[0]);
        for (Place i = 0; i < g; ++i) {
            const double value = ((logarithmic ? logarithm(distance[i]) : distance[i]) - root[0]) * root[1];
            u[i] = value > 0 ? (value < 1 ? value : 1) : 0;
        }
        for (Place i = 0; i < g; ++i) found[i] = ((root[5] * u[i] + root[4]) * u[i] + root[3]) * u[i] + root[2];
        for (Place unit = 0; unit < units; ++unit)
            for (Place i = 0; i < g; ++i) {
                const double active = u[i] - hidden[2 * unit];
                found[i] += hidden[2 * unit + 1] * (active > 0 ? active : 0);
            }
        for (Place i = 0; i < g; ++i) line[i] = whole(found[i], (middles ? middles : leaves) - 1);
    }

    // The distances of a group, and its leaves.
    void choose(const K* query, Place g, double* distance, Place* leaf) const {
        top(query, g, distance, leaf);
        if (!middles) return;
        for (Place i = 0; i < g; ++i) {
            ask_for(middle_slope + leaf[i]);
            ask_for(middle_intercept + leaf[i]);
            ask_for(begin + leaf[i]);
        }
        for (Place i = 0; i < g; ++i) {
            const Place line = leaf[i], first = begin[line], last = std::max(Place(begin[line + 1]) - 1, first);
            const Place chosen = whole(middle_slope[line] * distance[i] + middle_intercept[line], leaves - 1);
            leaf[i] = std::min(std::max(std::min(std::max(chosen, first), last), Place(0)), leaves - 1);
        }
    }

    void predict(const K* query, Place g, Place* low, Place* width) const {
        double distance[GROUP];
        choose(query, g, distance, low);
        for (Place i = 0; i < g; ++i) {
            ask_for(slope + low[i]);
            ask_for(intercept + low[i]);
            ask_for(under + low[i]);
            ask_for(over + low[i]);
        }
        for (Place i = 0; i < g; ++i) {
            const Place leaf = low[i], guess = whole(slope[leaf] * distance[i] + intercept[leaf], n);
            around(guess, under[leaf], Place(over[leaf]) + 1, n, low[i], width[i]);
            ask_for(keys + low[i] + width[i] / 2);
        }
    }
};

// A group is MARKS blocks of keys, its first key is `base`, and a mark says where a block ends: the distance from `base`
// to the first key of the next block, without its last `dropped` bits and at most 2^16 - 1, as is the query's distance,
// the step. A mark below the step is of a key below the query, and a key below the query has no mark above the step;
// what has the same mark is not told apart, and the window holds all of those blocks.
template <class K> struct QuantisedSpline {
    const K* keys;
    Place n;
    const K* base;
    const uint16_t* mark;
    const uint8_t* dropped;
    Place groups, block;
    const uint32_t* table;  // entries + 1, the last being `groups`
    Place entries, logarithmic, shift, since;

    // The entry of the table for a query: leading bits of its distance from the first key, or of that as a double.
    Place entry(K query) const {
        if (!(keys[0] < query)) return 0;
        uint64_t value = ordered(query) - ordered(keys[0]);
        if (logarithmic) {
            const double distance = double(value);
            std::memcpy(&value, &distance, 8);
        }
        const uint64_t prefix = std::max(value >> shift, uint64_t(since)) - uint64_t(since);
        return Place(std::min(prefix, uint64_t(entries - 1)));
    }

    // Windows, and where in them the line has the query.
    void predict(const K* query, Place g, Place* low, Place* width, Place* guess) const {
        for (Place i = 0; i < g; ++i) {
            low[i] = entry(query[i]);
            ask_for(table + low[i]);
        }
        for (Place i = 0; i < g; ++i) {
            const Place at = low[i];
            low[i] = table[at];
            width[i] = Place(table[at + 1]) - low[i];
            ask_for(base + low[i] + width[i] / 2);
        }
        settle(base, groups, query, g, low, width);
        for (Place i = 0; i < g; ++i) {  // the last group that begins below the query
            low[i] = std::max(low[i] - 1, Place(0));
            ask_for(mark + low[i] * MARKS);
            ask_for(dropped + low[i]);
        }
        for (Place i = 0; i < g; ++i) {
            const Place group = low[i];
            const uint64_t distance = (ordered(query[i]) - ordered(base[group])) >> (dropped[group] & 63);
            const uint64_t step = base[group] < query[i] ? std::min(distance, uint64_t(0xFFFF)) : 0;
            const uint16_t* marks = mark + group * MARKS;
            Place start, stop;
            beside(marks, uint16_t(step), start, stop);
            start = std::min(start, MARKS - 1);
            stop = std::min(stop + 1, MARKS);
            const double from = start > 0 ? marks[start - 1] : 0, to = marks[stop - 1];
            low[i] = std::min((group * MARKS + start) * block, n);
            width[i] = std::min((group * MARKS + stop) * block, n) - low[i];
            guess[i] = low[i] + whole(double(width[i]) * ((double(step) - from) / (to - from)), width[i]);
        }
    }
};

// Queries whose answers lie elsewhere in their windows, until there are enough of them to wait for memory together.
template <class K> struct Waiting {
    const K* keys;
    Place n;
    const K* query;
    Place* answer;
    Place count = 0;
    Place which[2 * GROUP + 1], low[2 * GROUP + 1], width[2 * GROUP + 1];

    void search() {
        K asked[GROUP];
        const Place g = std::min(count, GROUP);
        for (Place i = 0; i < g; ++i) {
            asked[i] = query[which[i]];
            ask_for(keys + low[i] + width[i] / 2);
        }
        settle(keys, n, asked, g, low, width);
        for (Place i = 0; i < g; ++i) answer[which[i]] = width[i] ? low[i] : proven(keys, n, asked[i], low[i]);
        count -= g;
        for (Place i = 0; i < count; ++i) which[i] = which[g + i], low[i] = low[g + i], width[i] = width[g + i];
    }
};

// The keys beside the guess are counted first: two lines of memory, with the guess not at their edge.
template <class K>
void locate_quantised(const K* keys, Place n, const K* query, Place m, Place* answer, const QuantisedSpline<K>& model) {
    if (n < BLOCK) {
        for (Place i = 0; i < m; ++i) answer[i] = proven(keys, n, query[i], below(keys, n, query[i]));
        return;
    }
    Place low[GROUP], width[GROUP], guess[GROUP];
    Waiting<K> waiting{keys, n, query, answer};
    const Place skew = Place(reinterpret_cast<uintptr_t>(keys) / sizeof(K)) % LINE;  // of keys[0] in its line
    for (Place from = 0; from < m; from += GROUP) {
        const Place g = std::min(GROUP, m - from);
        model.predict(query + from, g, low, width, guess);
        for (Place i = 0; i < g; ++i) {
            const Place line = ((guess[i] - LINE / 2 + skew) & -LINE) - skew;
            guess[i] = std::min(std::max(line, Place(0)), n - BLOCK);
            ask_for(keys + guess[i]);
            ask_for(keys + guess[i] + BLOCK - 1);
        }
        Place few = waiting.count;
        for (Place i = 0; i < g; ++i) {
            const Place count = below(keys + guess[i], query[from + i]), end = low[i] + width[i];
            const Place begin = count ? guess[i] + BLOCK : low[i], stop = count ? end : guess[i];
            answer[from + i] = guess[i] + count;
            waiting.which[few] = from + i;
            waiting.low[few] = std::min(begin, n);
            waiting.width[few] = std::max(stop - begin, Place(0));
            few += !within(count);
        }
        waiting.count = few;
        if (few >= GROUP) waiting.search();
    }
    if (waiting.count) waiting.search();
}

// -------------------------------------------------------------------------------------------------------- the peers

struct Everything {
    Place n;
    template <class K> void predict(const K*, Place g, Place* low, Place* width) const {
        for (Place i = 0; i < g; ++i) low[i] = 0, width[i] = n;
    }
};

// Nodes of BLOCK numbers and no pointers: level l holds the last key of each node of the level below it, and the lowest
// level that of each block of the keys. Levels lie one behind the other, from the top.
template <class K> struct Tree {
    Place n;
    const Place* sizes;
    Place levels;
    const K* last;

    void predict(const K* query, Place g, Place* low, Place* width) const {
        for (Place i = 0; i < g; ++i) low[i] = 0;
        for (Place level = 0, at = 0; level < levels; at += sizes[level++])
            for (Place i = 0; i < g; ++i) {
                const Place length = std::min(BLOCK, sizes[level] - low[i]);
                const Place child = low[i] + below(last + at + low[i], length, query[i]);
                low[i] = std::min(child, sizes[level] - 1) * BLOCK;
                if (level + 1 < levels) {
                    ask_for(last + at + sizes[level] + low[i]);
                    ask_for(last + at + sizes[level] + low[i] + BLOCK - 1);
                }
            }
        for (Place i = 0; i < g; ++i) width[i] = std::min(BLOCK, n - low[i]);
    }
};

// Probes where a straight line between the ends of the window has the query; after six probes the window is halved.
template <class K> struct Interpolation {
    const K* keys;
    Place n;

    void predict(const K* query, Place g, Place* low, Place* width) const {
        K left[GROUP], right[GROUP];
        Place probe[GROUP];
        for (Place i = 0; i < g; ++i) low[i] = 0, width[i] = n, left[i] = keys[0], right[i] = keys[n - 1];
        for (int round = 0; round < 6; ++round) {
            for (Place i = 0; i < g; ++i) {
                const double part = query[i] < left[i] ? 0 : behind(query[i], left[i]) / behind(right[i], left[i]);
                probe[i] = std::min(low[i] + whole(part * double(width[i]), width[i]), n - 1);
                ask_for(keys + probe[i]);
            }
            for (Place i = 0; i < g; ++i) {
                if (width[i] <= BLOCK) continue;
                const K key = keys[probe[i]];
                if (key < query[i]) {
                    width[i] -= std::min(probe[i] + 1 - low[i], width[i]);
                    low[i] = probe[i] + 1;
                    left[i] = key;
                } else {
                    width[i] = probe[i] - low[i];
                    right[i] = key;
                }
            }
        }
        for (Place i = 0; i < g; ++i) ask_for(keys + low[i] + width[i] / 2);
    }
};

// The keys in the order in which a binary search meets them, node k before its children 2k and 2k + 1; node 0 is not
// used. Of n nodes in levels, each but the last full, the place of a node among the sorted is arithmetic.
inline Place place_of_node(Place node, Place n) {
    const int height = 63 - __builtin_clzll(uint64_t(n)), depth = 63 - __builtin_clzll(uint64_t(node));
    const Place in_full = ((2 * (node - (Place(1) << depth)) + 1) << (height - depth)) - 1;
    const Place last_level = n - (Place(1) << height) + 1;
    return in_full - std::max(Place(0), (in_full + 1) / 2 - last_level);
}

template <class K> void locate_eytzinger(const K* node, Place n, const K* query, Place m, Place* answer) {
    const int height = 64 - __builtin_clzll(uint64_t(n));
    for (Place from = 0; from < m; from += GROUP, query += GROUP, answer += GROUP) {
        const Place g = std::min(GROUP, m - from);
        Place at[GROUP];
        for (Place i = 0; i < g; ++i) at[i] = 1;
        for (int level = 0; level < height; ++level)
            for (Place i = 0; i < g; ++i) {
                const bool inside = at[i] <= n;
                at[i] = inside ? 2 * at[i] + (node[inside ? at[i] : 0] < query[i]) : at[i];
                ask_for(node + std::min(at[i] * 8, n));  // three levels down, eight neighbours in a line
            }
        for (Place i = 0; i < g; ++i) {
            // Undo the steps to the right at the end, and the step to the left before them.
            const Place k = at[i] >> __builtin_ffsll(~at[i]);
            answer[i] = k == 0 || is_nan(query[i]) ? n : place_of_node(k, n);
        }
    }
}

// -------------------------------------------------------------------------------------------------------- to be fitted

// The points that a model of the keys goes through: each different key with its first place, and behind equal keys the
// next number with the place after them.
template <class K> struct Points {
    const K* keys;
    Place n, at = 0;
    bool step = false;

    Points(const K* keys_, Place n_) : keys(keys_), n(n_) {}
    bool ended() const { return at >= n && !step; }
    K key() const { return step ? next(keys[at - 1]) : keys[at]; }
    Place place() const { return at; }
    bool same(const Points& other) const { return at == other.at && step == other.step; }
    void advance() {
        if (step) {
            step = false;
            return;
        }
        const Place from = at++;
        while (at < n && !(keys[from] < keys[at])) ++at;
        const K after = next(keys[from]);
        step = at - from > 1 && keys[from] < after && (at == n || after < keys[at]);
    }
};

// All lines that pass within epsilon of the points so far, as the steepest and the flattest of them (O'Rourke 1981).
// A point becomes a gate from `place - epsilon` to `place + epsilon`. The steepest line goes through the foot of an
// earlier gate and the top of a later one; only feet on their hull from above, and tops on their hull from below, can
// be touched by a line that comes later.
template <class K> struct Corridor {
    typedef __int128 Number;  // products of 64 bits by 40
    struct Corner { Number x, y; };

    K first;
    Place epsilon;
    Place points = 0;
    Corner steep_from, steep_to, flat_from, flat_to;
    std::vector<Corner> tops, feet;
    size_t tops_from = 0, feet_from = 0;

    Corridor(Place epsilon_) : epsilon(epsilon_) {}

    void begin(K key) {
        first = key;
        points = 0;
        tops.clear();
        feet.clear();
        tops_from = feet_from = 0;
    }

    // > 0 where c lies to the left of the way from a to b, that is above their line.
    static Number side(const Corner& a, const Corner& b, const Corner& c) {
        return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
    }

    // Whether a line through all the gates remains with this one; the corridor narrows if so.
    bool admits(K key, Place place) {
        const Number x = ordered(key) - ordered(first);
        const Corner top{x, Number(place + epsilon)}, foot{x, Number(place - epsilon)};
        if (points == 0) {
            steep_from = foot;
            flat_from = top;
        } else if (points == 1) {
            steep_to = top;
            flat_to = foot;
        } else {
            if (side(flat_from, flat_to, top) < 0 || side(steep_from, steep_to, foot) > 0) return false;
            if (side(steep_from, steep_to, top) < 0) {
                while (feet_from + 1 < feet.size() && side(feet[feet_from], top, feet[feet_from + 1]) >= 0) ++feet_from;
                steep_from = feet[feet_from];
                steep_to = top;
                while (tops.size() >= tops_from + 2 && side(tops[tops.size() - 2], tops.back(), top) <= 0) tops.pop_back();
                tops.push_back(top);
            }
            if (side(flat_from, flat_to, foot) > 0) {
                while (tops_from + 1 < tops.size() && side(tops[tops_from], foot, tops[tops_from + 1]) <= 0) ++tops_from;
                flat_from = tops[tops_from];
                flat_to = foot;
                while (feet.size() >= feet_from + 2 && side(feet[feet.size() - 2], feet.back(), foot) >= 0) feet.pop_back();
                feet.push_back(foot);
            }
            ++points;
            return true;
        }
        tops.push_back(top);
        feet.push_back(foot);
        ++points;
        return true;
    }

    // A line in the middle of the corridor: between the steepest and the flattest, through the point where they cross.
    void line(double& slope, double& intercept) const {
        if (points == 1) {
            slope = 0;
            intercept = double(steep_from.y + Number(epsilon));
            return;
        }
        const long double most = ratio(steep_from, steep_to), least = ratio(flat_from, flat_to);
        const long double x1 = (long double)flat_from.x, y1 = (long double)flat_from.y;
        const long double x2 = (long double)steep_from.x, y2 = (long double)steep_from.y;
        const long double x = most > least ? (y1 - y2 + most * x2 - least * x1) / (most - least) : x1;
        slope = double((most + least) / 2);
        intercept = double(y1 + least * (x - x1) - (long double)slope * x);
    }

    static long double ratio(const Corner& a, const Corner& b) {
        return (long double)(b.y - a.y) / (long double)(b.x - a.x);
    }
};

// The fewest lines within epsilon of all points; each is held to what look-ups compute and cut where that misses.
// Returns how many, or -1 when there is no room for them.
template <class K, class P>
Place segments(P at, Place epsilon, K* first, double* slope, double* intercept, Place room) {
    Corridor<K> corridor(epsilon);
    Place count = 0;
    while (!at.ended()) {
        if (count == room) return -1;
        P check = at;
        const double begins = double(at.place());
        corridor.begin(at.key());
        while (!at.ended() && corridor.admits(at.key(), at.place())) at.advance();
        double tilt, height;
        corridor.line(tilt, height);
        tilt = std::max(tilt, 0.0);
        height = std::min(std::max(height, begins - double(epsilon)), begins + double(epsilon));
        first[count] = check.key();
        slope[count] = tilt;
        intercept[count] = height;
        for (check.advance(); !check.same(at); check.advance()) {
            const double found = tilt * steps(check.key(), first[count]) + height;
            if (!(std::abs(found - double(check.place())) <= double(epsilon))) break;
        }
        at = check;
        ++count;
    }
    return count;
}

// The first keys of a level, each with its number: they are all different.
template <class K> struct Numbered {
    const K* keys;
    Place n, at = 0;

    Numbered(const K* keys_, Place n_) : keys(keys_), n(n_) {}
    bool ended() const { return at >= n; }
    K key() const { return keys[at]; }
    Place place() const { return at; }
    bool same(const Numbered& other) const { return at == other.at; }
    void advance() { ++at; }
};

// Knots of a polyline that passes within about epsilon of the points, in one pass; the true error is measured later.
template <class K> Place spline(Points<K> at, Place n, Place epsilon, K* knot, double* place, Place room) {
    if (room < 2) return -1;
    Place count = 1, last = at.place();
    K before = knot[0] = at.key();
    place[0] = double(last);
    bool open = true;  // whether any slope will do
    double most = 0, least = 0;
    const auto emit = [&](K key, Place where) {
        knot[count] = key;
        place[count++] = double(where);
        open = true;
    };
    for (at.advance(); !at.ended(); at.advance()) {
        if (count + 2 > room) return -1;
        for (;;) {
            const double x = steps(at.key(), knot[count - 1]), y = double(at.place()) - place[count - 1];
            const double slope = y / x, high = (y + double(epsilon)) / x, low = (y - double(epsilon)) / x;
            if (!open && (slope > most || slope < least)) {
                emit(before, last);
                continue;
            }
            most = open ? high : std::min(most, high);
            least = open ? low : std::max(least, low);
            open = false;
            break;
        }
        before = at.key();
        last = at.place();
    }
    if (knot[count - 1] < before) emit(before, last);
    if (count == 1) emit(before, n);  // one key: whatever lies behind it belongs at the end
    return count;
}

template <class K> Place spline_error(const RadixSpline<K>& model, Points<K> at) {
    Place worst = 0;
    for (Place j = 1; !at.ended(); at.advance()) {
        const K key = at.key();
        while (j + 1 < model.knots && model.knot[j] < key) ++j;
        Place guess = 0;
        if (model.knot[0] < key) {
            const double part = steps(key, model.knot[j - 1]) / steps(model.knot[j], model.knot[j - 1]);
            const double rise = model.place[j] - model.place[j - 1];
            guess = whole(model.place[j - 1] + std::min(std::max(part, 0.0), 1.0) * rise, model.n);
        }
        worst = std::max(worst, std::abs(guess - at.place()));
    }
    return worst;
}

template <class K> void radix_table(const K* knot, Place knots, uint64_t base, Place bits, Place shift, uint32_t* table) {
    const Place entries = Place(1) << bits;
    Place filled = 0;
    for (Place j = 0; j < knots; ++j) {
        const uint64_t prefix = std::min((ordered(knot[j]) - base) >> shift, uint64_t(entries - 1));
        while (filled <= Place(prefix)) table[filled++] = uint32_t(j);
    }
    while (filled <= entries) table[filled++] = uint32_t(knots);
}

// A least-squares line through points with x = key - origin; sums about the first point keep what small numbers need.
template <class K> struct Fit {
    K origin;
    double x0 = 0, y0 = 0;
    long double n = 0, x = 0, y = 0, xx = 0, xy = 0;

    Fit(K origin_) : origin(origin_) {}
    void add(K key, Place place) {
        const double at = behind(key, origin);
        if (at > 1e300) return;  // too far for squares
        if (n == 0) x0 = at, y0 = double(place);
        const long double dx = at - x0, dy = double(place) - y0;
        n += 1, x += dx, y += dy, xx += dx * dx, xy += dx * dy;
    }
    void line(double otherwise, double& slope, double& intercept) const {
        const long double spread = n > 0 ? xx - x * x / n : 0;
        slope = n > 1 && spread > 0 ? double(std::max((xy - x * y / n) / spread, 0.0L)) : 0;
        intercept = n > 0 ? double(y0 + y / n - (long double)slope * (x0 + x / n)) : otherwise;
    }
};

// The points of all keys by groups: `use(key, place, g)`.
template <class K, class F> void by_groups(const K* keys, Place n, const F& use) {
    K key[GROUP];
    Place place[GROUP];
    for (Points<K> at(keys, n); !at.ended();) {
        Place g = 0;
        for (; g < GROUP && !at.ended(); at.advance(), ++g) key[g] = at.key(), place[g] = at.place();
        use(key, place, g);
    }
}

// The lines of a stage, where `choose(key, g, distance, line)` says which of them a point goes to. Below a root that
// rises the points of a line are neighbours; where it falls, a line goes through the longest row of neighbours that it
// has. What no point goes to lies flat at the first place beyond. `reached(line, place)`: that place of each.
template <class K, class C, class F>
void draw(const K* keys, Place n, Place lines, const C& choose, double* slope, double* intercept, const F& reached) {
    std::vector<uint32_t> longest(lines);
    Place seen = 0, open = 0, first = 0;  // lines below `seen` have been reached
    uint32_t length = 0;
    Fit<K> fit(keys[0]);
    const auto flat = [&](Place until, Place place) {
        for (; seen < until; ++seen) slope[seen] = 0, intercept[seen] = double(place), reached(seen, place);
    };
    const auto close = [&] {
        if (length <= longest[open]) return;
        longest[open] = length;
        fit.line(double(first), slope[open], intercept[open]);
    };
    by_groups(keys, n, [&](const K* key, const Place* place, Place g) {
        double distance[GROUP];
        Place line[GROUP];
        choose(key, g, distance, line);
        for (Place i = 0; i < g; ++i) {
            if (line[i] != open || !length) {
                close();
                flat(line[i] + 1, place[i]);
                open = line[i], first = place[i], length = 0;
                fit = Fit<K>(keys[0]);
            }
            fit.add(key[i], place[i]);
            ++length;
        }
    });
    close();
    flat(lines, n);
}

// Fills the tables that `model` looks at: the lines of each stage, and how far leaves are off.
template <class K>
void fit_rmi(const Rmi<K>& model, double* middle_slope, double* middle_intercept, int32_t* begin, double* slope,
             double* intercept, int32_t* under, int32_t* over) {
    const K* keys = model.keys;
    const Place n = model.n, leaves = model.leaves, middles = model.middles;
    if (middles) {
        const auto root = [&](const K* key, Place g, double* distance, Place* line) { model.top(key, g, distance, line); };
        // As many leaves as keys lie before it are before a middle line's own.
        const double share = double(leaves) / double(n);
        draw(keys, n, middles, root, middle_slope, middle_intercept, [&](Place line, Place place) {
            begin[line] = int32_t(whole(double(place) * share, leaves - 1));
        });
        begin[middles] = int32_t(leaves);
        for (Place line = 0; line < middles; ++line) middle_slope[line] *= share, middle_intercept[line] *= share;
    }
    const auto choose = [&](const K* key, Place g, double* distance, Place* leaf) { model.choose(key, g, distance, leaf); };
    draw(keys, n, leaves, choose, slope, intercept, [](Place, Place) {});
    std::fill(under, under + leaves, 0);
    std::fill(over, over + leaves, 0);
    by_groups(keys, n, [&](const K* key, const Place* place, Place g) {
        double distance[GROUP];
        Place leaf[GROUP];
        choose(key, g, distance, leaf);
        for (Place i = 0; i < g; ++i) {
            const Place at = leaf[i], off = whole(slope[at] * distance[i] + intercept[at], n) - place[i];
            under[at] = int32_t(std::max(Place(under[at]), std::min(off, Place(INT32_MAX))));
            over[at] = int32_t(std::max(Place(over[at]), std::min(-off, Place(INT32_MAX))));
        }
    });
}

}  // namespace

// ------------------------------------------------------------------------------------------------ what Python calls

// Each function once for each type of key; the argument lists stand in native.py in the same order.
#define FOR_KEYS_OF(K, NAME)                                                                                             \
    void locate_pgm_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer, const Place* sizes,           \
                           Place levels, const K* first, const double* slope, const double* intercept, Place epsilon,    \
                           Place inner) {                                                                                \
        locate(keys, n, query, m, answer, Pgm<K>{keys, n, sizes, levels, first, slope, intercept, epsilon, inner});      \
    }                                                                                                                    \
    void locate_spline_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer, const K* knot,             \
                              const double* place, Place knots, const uint32_t* table, Place bits, Place shift,          \
                              Place error) {                                                                             \
        locate(keys, n, query, m, answer, RadixSpline<K>{keys, n, knot, place, knots, table, bits, shift, error});       \
    }                                                                                                                    \
    void locate_rmi_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer, const double* root,           \
                           Place logarithmic, const double* hidden, Place units, Place middles,                          \
                           const double* middle_slope, const double* middle_intercept, const int32_t* begin,             \
                           Place leaves, const double* slope, const double* intercept, const int32_t* under,             \
                           const int32_t* over) {                                                                        \
        locate(keys, n, query, m, answer,                                                                                \
               Rmi<K>{keys, n, root, logarithmic, hidden, units, middles, middle_slope, middle_intercept, begin, leaves, \
                      slope, intercept, under, over});                                                                   \
    }                                                                                                                    \
    void locate_quantised_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer, const K* base,          \
                                 const uint16_t* mark, const uint8_t* dropped, Place groups, Place block,                \
                                 const uint32_t* table, Place entries, Place logarithmic, Place shift, Place since) {    \
        locate_quantised(keys, n, query, m, answer,                                                                      \
                         QuantisedSpline<K>{keys, n, base, mark, dropped, groups, block, table, entries, logarithmic,    \
                                            shift, since});                                                              \
    }                                                                                                                    \
    void locate_binary_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer) {                          \
        locate(keys, n, query, m, answer, Everything{n});                                                                \
    }                                                                                                                    \
    void locate_tree_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer, const Place* sizes,          \
                            Place levels, const K* last) {                                                               \
        locate(keys, n, query, m, answer, Tree<K>{n, sizes, levels, last});                                              \
    }                                                                                                                    \
    void locate_interpolation_##NAME(const K* keys, Place n, const K* query, Place m, Place* answer) {                   \
        locate(keys, n, query, m, answer, Interpolation<K>{keys, n});                                                    \
    }                                                                                                                    \
    void locate_eytzinger_##NAME(const K* node, Place n, const K* query, Place m, Place* answer) {                       \
        locate_eytzinger(node, n, query, m, answer);                                                                     \
    }                                                                                                                    \
    void order_eytzinger_##NAME(const K* keys, Place n, K* node) {                                                       \
        node[0] = keys[0];                                                                                               \
        for (Place k = 1; k <= n; ++k) node[k] = keys[place_of_node(k, n)];                                              \
    }                                                                                                                    \
    Place fit_segments_##NAME(const K* keys, Place n, Place epsilon, Place steps, K* first, double* slope,               \
                              double* intercept, Place room) {                                                           \
        return steps ? segments(Points<K>(keys, n), epsilon, first, slope, intercept, room)                              \
                     : segments(Numbered<K>(keys, n), epsilon, first, slope, intercept, room);                           \
    }                                                                                                                    \
    Place fit_spline_##NAME(const K* keys, Place n, Place epsilon, K* knot, double* place, Place room) {                 \
        return spline(Points<K>(keys, n), n, epsilon, knot, place, room);                                                   \
    }                                                                                                                    \
    Place finish_spline_##NAME(const K* keys, Place n, const K* knot, const double* place, Place knots,                  \
                               uint32_t* table, Place bits, Place shift) {                                               \
        radix_table(knot, knots, ordered(keys[0]), bits, shift, table);                                                  \
        return spline_error(RadixSpline<K>{keys, n, knot, place, knots, table, bits, shift, 0}, Points<K>(keys, n));     \
    }                                                                                                                    \
    void fit_rmi_##NAME(const K* keys, Place n, const double* root, Place logarithmic, const double* hidden,             \
                        Place units, Place middles, double* middle_slope, double* middle_intercept, int32_t* begin,      \
                        Place leaves, double* slope, double* intercept, int32_t* under, int32_t* over) {                 \
        fit_rmi(Rmi<K>{keys, n, root, logarithmic, hidden, units, middles, middle_slope, middle_intercept, begin,        \
                       leaves, slope, intercept, under, over},                                                           \
                middle_slope, middle_intercept, begin, slope, intercept, under, over);                                   \
    }

extern "C" {
FOR_KEYS_OF(int64_t, int64)
FOR_KEYS_OF(uint64_t, uint64)
FOR_KEYS_OF(double, float64)
}
