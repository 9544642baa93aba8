// Attention of packed rows, forward and backward, on a CPU that multiplies bf16 by itself (AVX-512 with bf16).
//
//     forward    a tile of queries beside a tile of keys: scores, softmax as it goes along, times values
//     backward   the weights anew from the sums; dV = Pᵀ dO, dK = dSᵀ Q, dQ = dS K, all three in one pass
//
// Notable
// - Nothing of size queries x keys is kept: a tile's numbers live in registers and in a core's own cache, and the
//   forward pass leaves one number a query, ln Σ exp(scores) (Dao et al. 2022, https://arxiv.org/abs/2205.14135).
// - All seven products are one loop: R rows of pairs of bf16, each pair spread over a register, times C registers of
//   pairs, into R x C sums of fp32. A pair is two neighbours along what is summed over, so one side lies as it is and
//   the other in "pairs", [n / 2][columns][2].
// - Forward, a register holds 16 keys of a query (or 16 channels). Backward, it holds 16 queries of a key: the weights
//   then lie as dV and dK want them, the sums of queries are registers too, and for dQ it is Kᵀ whose pairs are spread.
//   Nothing of size queries x keys is transposed.
// - Rows are cut into stretches, the tokens of one document or branch. Each lies packed by itself and begins a tile, so
//   a tile never holds two, and only what is visible is computed, in steps of 6 x 16 (forward) or 4 x 48 (backward).
// - Work is cut in one way, whatever the number of threads. Backward, a task is one key head and some queries of a
//   stretch, adds up dK and dV in memory of its own, and those are summed in the order of the tasks. So the same call
//   gives the same bits, on any number of threads.
// - The threads are those of torch (threads.h).
//
// Sources: the paper above, appendix B.2, for the gradient; tiles of registers: Goto & van de Geijn 2008,
// https://doi.org/10.1145/1356052.1356053
//
// What it does not do: checks of its arguments (Python does), other dtypes, masks that are not made of stretches.
//
// Shapes: B rows · T tokens of a row · H heads of queries · K heads of keys · G = H / K · E channels, a multiple of 32

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "threads.h"

namespace {

typedef uint16_t Half;   // bf16
typedef uint32_t Pair;   // two of them, the first in the lower bits
constexpr long LANES = 16;

// The same names in attention_kernel.py, in the same order.
struct Numbers {  // bf16 [B, heads, T, E]; how far it is to the next of each, channels being neighbours
    Half* first;
    int64_t row, head, token;

    Half* at(long row_, long head_, long token_) const { return first + row_ * row + head_ * head + token_ * token; }
};

struct Call {
    int64_t rows, tokens, heads, key_heads, channels, threads;
    int64_t kinds;              // 1: documents [B, 1, T]; 2: documents and branches [B, 2, T]
    const int64_t* documents;
    float* sums;                // [B, H, T]
    Numbers queries, keys, values, mixed;
    Numbers d_mixed, d_queries, d_keys, d_values;  // backward only

    long group() const { return heads / key_heads; }
    float& sum(long row, long head, long token) const { return sums[(row * heads + head) * tokens + token]; }
};

// ---------------------------------------------------------------------------------------------------- vectors

template <class Vector> inline Vector load(const void* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}
inline __m512 floats(const float* from) { return _mm512_loadu_ps(from); }
inline __m512 wide(const Half* from) {  // bf16 is the upper half of fp32
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load<__m256i>(from)), 16));
}
inline void narrow(Half* to, __m512 x) { _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(x)); }
inline __m512i both(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }
inline __mmask16 below(long lanes) { return lanes <= 0 ? 0 : lanes >= LANES ? 0xffff : (1u << lanes) - 1; }

constexpr float LOG2_E = 1.44269504088896f, LN_2 = 0.693147180559945f;

// 2^x for x <= 127; 0 below -149, and what is not a number stays none. The polynomial for 2^r, |r| <= 1/2, has the least
// relative error of its degree that is exact at 0: 1.5e-5, where bf16 rounds by up to 3.9e-3.
inline __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-160.0f), x);
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(0.01044637f), _mm512_set1_ps(0.05615642f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24005587f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69307214f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f)), n);
}

// sums[r][c] += Σ over pairs of row r · column c. Rows are `stride` numbers apart; of the columns, pairs lie `next` and
// registers `across` apart.
template <int R, int C>
inline __attribute__((always_inline)) void multiply(__m512 (&sums)[R][C], const Half* rows, long stride,
                                                    const Pair* columns, long next, long across, long pairs) {
    for (long pair = 0; pair < pairs; pair++, rows += 2, columns += next) {
        __m512bh column[C];
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) column[c] = (__m512bh)_mm512_loadu_si512(columns + c * across);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const __m512bh row = (__m512bh)_mm512_set1_epi32(load<int32_t>(rows + r * stride));
#pragma GCC unroll 8
            for (int c = 0; c < C; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], row, column[c]);
        }
    }
}

template <int R, int C> inline __attribute__((always_inline)) void fetch(__m512 (&sums)[R][C], const float* from, long stride) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) sums[r][c] = floats(from + r * stride + c * LANES);
}

template <int R, int C> inline __attribute__((always_inline)) void store(float* to, long stride, const __m512 (&sums)[R][C]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) _mm512_storeu_ps(to + r * stride + c * LANES, sums[r][c]);
}

// ----------------------------------------------------------------------------------------------------- memory

// Memory that is kept from call to call, and to the end: a call needs as much as the last, and new memory is slow. One call at a
// time has it.
class Room {
  public:
    std::mutex mutex;

    char* of(size_t bytes) {
        if (bytes > size_) {
            std::free(memory_);
            size_ = 0;
            memory_ = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
            if (!memory_) throw std::bad_alloc();
            size_ = bytes;
        }
        return static_cast<char*>(memory_);
    }

  private:
    void* memory_ = nullptr;
    size_t size_ = 0;
};

Room room;

// Where things lie in the room: first all are counted, then they are somewhere.
class Layout {
  public:
    template <class Number> size_t add(size_t count) {
        const size_t at = size_;
        size_ += (count * sizeof(Number) + 63) / 64 * 64;
        return at;
    }
    size_t bytes() const { return size_; }

  private:
    size_t size_ = 0;
};

// -------------------------------------------------------------------------------------------------- stretches

struct Stretch {
    long row, begin, end;
    long place;   // of its first key among all keys of a head, where each stretch begins a tile
    long before;  // the stretch that its queries see wholly beside their own, or -1

    long size() const { return end - begin; }
};

inline long tiled(long count, long tile) { return (count + tile - 1) / tile * tile; }

// As `_pieces` in attention.py has it. Returns how many places there are.
long find_stretches(const Call& call, long tile, std::vector<Stretch>& stretches) {
    long place = 0;
    for (long row = 0; row < call.rows; row++) {
        const int64_t* documents = call.documents + row * call.kinds * call.tokens;
        const int64_t* branches = call.kinds == 2 ? documents + call.tokens : nullptr;
        long common = -1;
        for (long begin = 0, end; begin < call.tokens; begin = end) {
            const int64_t document = documents[begin], branch = branches ? branches[begin] : 0;
            for (end = begin + 1; end < call.tokens; end++)
                if (documents[end] != document || (branches && branches[end] != branch)) break;
            if (branch == 0) common = static_cast<long>(stretches.size());
            const bool sees = branch > 0 && common >= 0 && documents[stretches[common].begin] == document;
            stretches.push_back({row, begin, end, place, sees ? common : -1});
            place += tiled(end - begin, tile);
        }
    }
    return place;
}

// Keys that a tile of queries looks at: those of another stretch, all of them, or those of its own up to itself.
struct Seen {
    const Stretch* stretch;
    bool own;
};

inline int seen_by(const std::vector<Stretch>& stretches, const Stretch& stretch, Seen (&seen)[2]) {
    int count = 0;
    if (stretch.before >= 0) seen[count++] = {&stretches[stretch.before], false};
    seen[count++] = {&stretch, true};
    return count;
}

// Have rows brought near: they lie apart, and nobody foresees the next one.
inline void ask_for(const Half* rows, long stride, long count, long channels) {
    for (long row = 0; row < count; row++)
        for (long channel = 0; channel < channels; channel += 32) __builtin_prefetch(rows + row * stride + channel);
}

// Rows of 16-bit numbers as pairs along the channels, [E / 2][columns]: `count` rows, then zeros up to `columns`.
void pair_channels(const Half* from, long stride, long count, long channels, Pair* to, long columns) {
    for (long column = 0; column < columns; column++)
        for (long pair = 0; pair < channels / 2; pair++)
            to[pair * columns + column] = column < count ? load<Pair>(from + column * stride + 2 * pair) : 0;
}

// The same rows as pairs of rows, [rows / 2][E].
void pair_rows(const Half* from, long stride, long count, long channels, Pair* to, long rows) {
    for (long row = 0; row < rows; row += 2, to += channels) {
        const Half *one = from + row * stride, *other = one + stride;
        if (row + 1 < count)
            for (long channel = 0; channel < channels; channel++)
                to[channel] = one[channel] | static_cast<Pair>(other[channel]) << 16;
        else
            for (long channel = 0; channel < channels; channel++) to[channel] = row < count ? one[channel] : 0;
    }
}

struct Tile {
    long stretch, first;  // of its queries or keys, counted from the beginning of the stretch
};

std::vector<Tile> tiles_of(const std::vector<Stretch>& stretches, long size) {
    std::vector<Tile> tiles;
    for (long each = 0; each < static_cast<long>(stretches.size()); each++)
        for (long first = 0; first < stretches[each].size(); first += size) tiles.push_back({each, first});
    return tiles;
}

// --------------------------------------------------------------------------------------------------- forward

namespace forward {

constexpr long QUERIES = 48, ROWS = 6;  // of a tile, and of them at once
constexpr long KEYS = 128;              // of a tile
constexpr long BLOCK = 16;              // keys that lie together, [E / 2][16] pairs

// What one thread works with; N = G · QUERIES.
struct Desk {
    Half* queries;  // [N][E]
    float* mixed;   // [N][E]
    float* totals;  // [N][16]
    float* tops;    // [N]
};

// q · k of 6 queries and C blocks of keys; the largest of each query goes on in `most`.
template <int C>
void score(const Half* queries, const Pair* keys, long channels, const long* visible, long column, float* out,
           __m512 (&most)[ROWS]) {
    __m512 sums[ROWS][C] = {};
    multiply<ROWS, C>(sums, queries, channels, keys + column * channels / 2, BLOCK, BLOCK * channels / 2, channels / 2);
    const bool all = visible[0] >= column + C * BLOCK;  // later queries see no less
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            __m512 x = sums[r][c];
            if (!all) {
                const __mmask16 mask = below(visible[r] - column - c * BLOCK);
                x = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), mask, x);
            }
            most[r] = _mm512_max_ps(most[r], x);
            _mm512_storeu_ps(out + r * KEYS + column + c * BLOCK, x);
        }
}

template <int C>
void mix(const Half* weights, const Pair* values, long channels, long pairs, float* mixed) {
    __m512 sums[ROWS][C];
    fetch<ROWS, C>(sums, mixed, channels);
    multiply<ROWS, C>(sums, weights, KEYS, values, channels, LANES, pairs);
    store<ROWS, C>(mixed, channels, sums);
}

// 6 queries of the desk from `at` on, beside the keys of a tile; query r sees the first visible[r] of them.
void attend(const Desk& desk, long at, const Pair* keys, const Pair* values, long channels, float scale, const long* visible) {
    alignas(64) float scores[ROWS * KEYS];
    alignas(64) Half weights[ROWS * KEYS];
    const long seen = visible[ROWS - 1], columns = tiled(seen, BLOCK);
    const Half* queries = desk.queries + at * channels;
    __m512 most[ROWS];
    for (__m512& each : most) each = _mm512_set1_ps(-INFINITY);
    for (long column = 0; column < columns; column += 4 * BLOCK) switch ((columns - column) / BLOCK) {
            case 1: score<1>(queries, keys, channels, visible, column, scores, most); break;
            case 2: score<2>(queries, keys, channels, visible, column, scores, most); break;
            case 3: score<3>(queries, keys, channels, visible, column, scores, most); break;
            default: score<4>(queries, keys, channels, visible, column, scores, most); break;
        }
    for (long r = 0; r < ROWS; r++) {
        float *top = desk.tops + at + r, *mixed = desk.mixed + (at + r) * channels, *totals = desk.totals + (at + r) * LANES;
        __m512 total = floats(totals);
        if (_mm512_cmp_ps_mask(most[r], _mm512_set1_ps(*top), _CMP_GT_OQ)) {
            const float higher = _mm512_reduce_max_ps(most[r]);
            const __m512 less = power_of_two(_mm512_set1_ps(scale * (*top - higher)));
            for (long channel = 0; channel < channels; channel += LANES)
                _mm512_storeu_ps(mixed + channel, _mm512_mul_ps(floats(mixed + channel), less));
            total = _mm512_mul_ps(total, less);
            *top = higher;
        }
        const __m512 factor = _mm512_set1_ps(scale), reference = _mm512_set1_ps(scale * *top);
        for (long column = 0; column < columns; column += LANES) {
            const __m512 weight = power_of_two(_mm512_fmsub_ps(floats(scores + r * KEYS + column), factor, reference));
            total = _mm512_add_ps(total, weight);
            narrow(weights + r * KEYS + column, weight);
        }
        _mm512_storeu_ps(totals, total);
    }
    const long pairs = (seen + 1) / 2;
    long channel = 0;
    for (; channel + 4 * LANES <= channels; channel += 4 * LANES)
        mix<4>(weights, values + channel, channels, pairs, desk.mixed + at * channels + channel);
    if (channel < channels) mix<2>(weights, values + channel, channels, pairs, desk.mixed + at * channels + channel);
}

void whole(const Call& call) {
    const long E = call.channels, G = call.group(), N = G * QUERIES;
    std::vector<Stretch> stretches;
    const long places = find_stretches(call, BLOCK, stretches);

    const std::lock_guard<std::mutex> guard(room.mutex);
    Layout layout;
    const size_t keys_at = layout.add<Half>(call.key_heads * places * E), values_at = layout.add<Half>(call.key_heads * places * E);
    std::vector<size_t> desks_at;
    for (long each = 0; each < call.threads; each++) desks_at.push_back(layout.add<float>(N * (E / 2 + E + LANES + 1)));
    char* memory = room.of(layout.bytes());
    Pair *keys = reinterpret_cast<Pair*>(memory + keys_at), *values = reinterpret_cast<Pair*>(memory + values_at);
    const auto pairs_at = [&](long head, long place) { return (head * places + place) * E / 2; };

    const std::vector<Tile> packs = tiles_of(stretches, 8 * BLOCK);
    run(packs.size() * call.key_heads, call.threads, [&](long which, long) {
        const Tile& tile = packs[which / call.key_heads];
        const Stretch& stretch = stretches[tile.stretch];
        const long head = which % call.key_heads;
        for (long first = tile.first; first < std::min(tile.first + 8 * BLOCK, stretch.size()); first += BLOCK) {
            const long token = stretch.begin + first, count = std::min(BLOCK, stretch.size() - first);
            const size_t to = pairs_at(head, stretch.place + first);
            ask_for(call.keys.at(stretch.row, head, token), call.keys.token, count, E);
            ask_for(call.values.at(stretch.row, head, token), call.values.token, count, E);
            pair_channels(call.keys.at(stretch.row, head, token), call.keys.token, count, E, keys + to, BLOCK);
            pair_rows(call.values.at(stretch.row, head, token), call.values.token, count, E, values + to, BLOCK);
        }
    });

    // The longest first, so that threads end at about the same time.
    std::vector<Tile> tiles = tiles_of(stretches, QUERIES);
    const auto cost = [&](const Tile& tile) {
        const long before = stretches[tile.stretch].before;
        return tile.first + (before < 0 ? 0 : stretches[before].size());
    };
    std::stable_sort(tiles.begin(), tiles.end(), [&](const Tile& a, const Tile& b) { return cost(a) > cost(b); });
    const float scale = LOG2_E / std::sqrt(static_cast<float>(E));
    run(tiles.size() * call.key_heads, call.threads, [&](long which, long worker) {
        const Tile& tile = tiles[which / call.key_heads];
        const Stretch& stretch = stretches[tile.stretch];
        const long head = which % call.key_heads, count = std::min(QUERIES, stretch.size() - tile.first);
        float* at = reinterpret_cast<float*>(memory + desks_at[worker]);
        const Desk desk{reinterpret_cast<Half*>(at), at + N * E / 2, at + N * (E / 2 + E), at + N * (E / 2 + E + LANES)};
        for (long g = 0; g < G; g++)
            ask_for(call.queries.at(stretch.row, head * G + g, stretch.begin + tile.first), call.queries.token, count, E);
        for (long g = 0; g < G; g++)
            for (long query = 0; query < QUERIES; query++) {
                Half* to = desk.queries + (g * QUERIES + query) * E;
                if (query >= count) std::memset(to, 0, E * sizeof(Half));
                else std::memcpy(to, call.queries.at(stretch.row, head * G + g, stretch.begin + tile.first + query), E * sizeof(Half));
            }
        std::memset(desk.mixed, 0, N * (E + LANES) * sizeof(float));
        std::fill(desk.tops, desk.tops + N, -INFINITY);

        Seen seen[2];
        for (int part = 0, parts = seen_by(stretches, stretch, seen); part < parts; part++) {
            const long size = seen[part].stretch->size(), end = seen[part].own ? tile.first + count : size;
            for (long from = 0; from < end; from += KEYS) {
                const size_t where = pairs_at(head, seen[part].stretch->place + from);
                for (long query = 0; query < count; query += ROWS) {
                    long visible[ROWS];
                    for (long r = 0; r < ROWS; r++) {
                        const long until = seen[part].own ? std::min(end, tile.first + query + r + 1) : size;
                        visible[r] = std::min(until - from, KEYS);
                    }
                    if (visible[ROWS - 1] <= 0) continue;
                    for (long g = 0; g < G; g++)
                        attend(desk, g * QUERIES + query, keys + where, values + where, E, scale, visible);
                }
            }
        }

        for (long g = 0; g < G; g++)
            for (long query = 0; query < count; query++) {
                const long row = g * QUERIES + query, token = stretch.begin + tile.first + query;
                const float total = _mm512_reduce_add_ps(floats(desk.totals + row * LANES));
                const __m512 inverse = _mm512_set1_ps(1.0f / total);
                Half* to = call.mixed.at(stretch.row, head * G + g, token);
                for (long channel = 0; channel < E; channel += LANES)
                    narrow(to + channel, _mm512_mul_ps(floats(desk.mixed + row * E + channel), inverse));
                call.sum(stretch.row, head * G + g, token) = LN_2 * (scale * desk.tops[row] + std::log2(total));
            }
    });
}

}  // namespace forward

// -------------------------------------------------------------------------------------------------- backward

namespace backward {

constexpr long BLOCK = 48;   // queries that lie together: of one head, 3 registers
constexpr long KEYS = 48;    // of a tile
constexpr long ROWS = 4;     // keys at once where weights are made
constexpr long SUMMED = 6;   // keys at once where dV and dK are added up
constexpr long TURNED = 8;   // channels at once where dQ is
constexpr long MOST = 3l << 19;  // pairs of a query and a key in a task: some 5 ms

// Queries of one head, and what else is known of them.
struct Queries {
    Pair *channels, *d_channels;  // Q and dO in pairs along the channels, [E / 2][48]
    Pair *rows, *d_rows;          // in pairs of queries, [24][E]
    float *d_queries;             // [E][48], the gradient turned
    float *sums, *shared;         // [48], log2 Σ 2^scores; Σ P ∘ P'

    static size_t size(long channels) { return BLOCK * (3 * channels + 2); }
    Queries(float* at, long channels) {
        const long half = BLOCK * channels / 2;
        Pair* pairs = reinterpret_cast<Pair*>(at);
        this->channels = pairs, d_channels = pairs + half, rows = pairs + 2 * half, d_rows = pairs + 3 * half;
        d_queries = at + 4 * half, sums = at + 6 * half, shared = sums + BLOCK;
    }
};

// Some queries of a stretch and a head of keys. What it finds for dK and dV lies by itself: of the keys of the stretch
// before (if there is one), then of its own, all dK before all dV.
struct Task {
    long stretch, first, end, head, cost;
    long before, own;  // places of keys of each
    size_t gradients;  // where they begin

    long places() const { return before + own; }
};

struct Pairs {  // of a tile of keys and all queries of a task's tile
    Half *weights, *d_scores;  // [48][queries]
    Pair* d_pairs;             // [blocks of queries][24][48], pairs of keys
    long stride;
};

// 4 keys and the 48 queries of a block: P and dS. Lane `hidden[r]` is the first query that sees key r.
void differentiate(const Half* keys, const Half* values, const Queries& queries, long channels, float scale, const long* hidden,
                   Half* weights, Half* d_scores, long stride, Pair* d_pairs) {
    __m512 s[ROWS][3] = {}, d[ROWS][3] = {};
    const Pair *q = queries.channels, *g = queries.d_channels;
    for (long pair = 0; pair < channels / 2; pair++, q += BLOCK, g += BLOCK) {
        __m512bh query[3], gradient[3];
#pragma GCC unroll 3
        for (int c = 0; c < 3; c++) {
            query[c] = (__m512bh)_mm512_loadu_si512(q + c * LANES);
            gradient[c] = (__m512bh)_mm512_loadu_si512(g + c * LANES);
        }
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const __m512bh key = (__m512bh)_mm512_set1_epi32(load<int32_t>(keys + r * channels + 2 * pair));
#pragma GCC unroll 3
            for (int c = 0; c < 3; c++) s[r][c] = _mm512_dpbf16_ps(s[r][c], key, query[c]);
            const __m512bh value = (__m512bh)_mm512_set1_epi32(load<int32_t>(values + r * channels + 2 * pair));
#pragma GCC unroll 3
            for (int c = 0; c < 3; c++) d[r][c] = _mm512_dpbf16_ps(d[r][c], value, gradient[c]);
        }
    }
    alignas(64) static const uint16_t INTERLEAVE[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i interleave = _mm512_load_si512(INTERLEAVE);
    const bool all = *std::max_element(hidden, hidden + ROWS) <= 0;
#pragma GCC unroll 3
    for (int c = 0; c < 3; c++) {
        const __m512 sums = floats(queries.sums + c * LANES), shared = floats(queries.shared + c * LANES);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            s[r][c] = power_of_two(_mm512_fmsub_ps(s[r][c], _mm512_set1_ps(scale), sums));
            d[r][c] = _mm512_mul_ps(s[r][c], _mm512_sub_ps(d[r][c], shared));
            if (!all) {
                const __mmask16 seen = ~below(hidden[r] - c * LANES);
                s[r][c] = _mm512_maskz_mov_ps(seen, s[r][c]);
                d[r][c] = _mm512_maskz_mov_ps(seen, d[r][c]);
            }
        }
#pragma GCC unroll 2
        for (int r = 0; r < ROWS; r += 2) {
            const __m512i p = both(s[r][c], s[r + 1][c]), e = both(d[r][c], d[r + 1][c]);
            _mm256_storeu_si256((__m256i*)(weights + r * stride + c * LANES), _mm512_castsi512_si256(p));
            _mm256_storeu_si256((__m256i*)(weights + (r + 1) * stride + c * LANES), _mm512_extracti64x4_epi64(p, 1));
            _mm256_storeu_si256((__m256i*)(d_scores + r * stride + c * LANES), _mm512_castsi512_si256(e));
            _mm256_storeu_si256((__m256i*)(d_scores + (r + 1) * stride + c * LANES), _mm512_extracti64x4_epi64(e, 1));
            _mm512_storeu_si512(d_pairs + r / 2 * BLOCK + c * LANES, _mm512_permutexvar_epi16(interleave, e));
        }
    }
}

// to[6 keys][C registers of channels] += weightsᵀ · rows of queries, over all blocks; queries before starts[block] do not see
// these keys.
template <int C>
void add_to_keys(const Half* weights, long stride, const std::vector<Queries>& blocks, Pair* Queries::*rows, const long* starts,
                 long channels, long channel, float* to) {
    __m512 sums[SUMMED][C];
    fetch<SUMMED, C>(sums, to + channel, channels);
    for (size_t block = 0; block < blocks.size(); block++) {
        const long pair = starts[block] / 2;
        multiply<SUMMED, C>(sums, weights + block * BLOCK + 2 * pair, stride, blocks[block].*rows + pair * channels + channel,
                            channels, LANES, BLOCK / 2 - pair);
    }
    store<SUMMED, C>(to + channel, channels, sums);
}

void add_to_queries(const Half* turned_keys, const Pair* d_pairs, long pairs, long channels, float* to) {
    for (long channel = 0; channel < channels; channel += TURNED) {
        __m512 sums[TURNED][3];
        fetch<TURNED, 3>(sums, to + channel * BLOCK, BLOCK);
        multiply<TURNED, 3>(sums, turned_keys + channel * KEYS, KEYS, d_pairs, BLOCK, LANES, pairs);
        store<TURNED, 3>(to + channel * BLOCK, BLOCK, sums);
    }
}

// Bring `count` queries of a head to where they are worked with.
void begin(const Call& call, long row, long head, long token, long count, const Queries& to) {
    const long E = call.channels;
    count = std::clamp(count, 0l, BLOCK);
    const Half *queries = call.queries.at(row, head, token), *gradients = call.d_mixed.at(row, head, token);
    ask_for(queries, call.queries.token, count, E);
    ask_for(gradients, call.d_mixed.token, count, E);
    ask_for(call.mixed.at(row, head, token), call.mixed.token, count, E);
    pair_channels(queries, call.queries.token, count, E, to.channels, BLOCK);
    pair_channels(gradients, call.d_mixed.token, count, E, to.d_channels, BLOCK);
    pair_rows(queries, call.queries.token, count, E, to.rows, BLOCK);
    pair_rows(gradients, call.d_mixed.token, count, E, to.d_rows, BLOCK);
    std::memset(to.d_queries, 0, E * BLOCK * sizeof(float));
    for (long query = 0; query < BLOCK; query++) {
        // A query that is none weighs every key with 2^-infinity.
        to.sums[query] = query < count ? LOG2_E * call.sum(row, head, token + query) : INFINITY;
        __m512 shared = _mm512_setzero_ps();
        if (query < count)
            for (long channel = 0; channel < E; channel += LANES)
                shared = _mm512_fmadd_ps(wide(gradients + query * call.d_mixed.token + channel),
                                         wide(call.mixed.at(row, head, token + query) + channel), shared);
        to.shared[query] = _mm512_reduce_add_ps(shared);
    }
}

void end(const Call& call, long row, long head, long token, long count, float scale, const Queries& from) {
    alignas(64) float turned[LANES][LANES];
    count = std::min(count, BLOCK);
    for (long channel = 0; channel < call.channels; channel += LANES)
        for (long first = 0; first < count; first += LANES) {
            for (long c = 0; c < LANES; c++)
                for (long query = 0; query < LANES; query++)
                    turned[query][c] = from.d_queries[(channel + c) * BLOCK + first + query];
            for (long query = 0; query < std::min(LANES, count - first); query++)
                narrow(call.d_queries.at(row, head, token + first + query) + channel,
                       _mm512_mul_ps(floats(turned[query]), _mm512_set1_ps(scale)));
        }
}

// Cut what there is to do, the longest first. Returns the numbers that the gradients of keys take in all.
size_t find_tasks(const Call& call, const std::vector<Stretch>& stretches, long tile, std::vector<Task>& tasks) {
    for (long each = 0; each < static_cast<long>(stretches.size()); each++) {
        const Stretch& stretch = stretches[each];
        const long before = stretch.before < 0 ? 0 : stretches[stretch.before].size();
        const auto pairs = [&](long queries) { return call.group() * queries * (before + (queries + 1) / 2); };
        const long all = pairs(stretch.size()), parts = (all + MOST - 1) / MOST;
        for (long first = 0, part = 0; first < stretch.size(); part++) {
            long last = first + tile;
            while (last < stretch.size() && pairs(last) * parts < all * (part + 1)) last += tile;
            last = std::min(last, stretch.size());
            for (long head = 0; head < call.key_heads; head++)
                tasks.push_back({each, first, last, head, pairs(last) - pairs(first), tiled(before, KEYS), tiled(last, KEYS), 0});
            first = last;
        }
    }
    std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
    size_t total = 0;
    for (Task& task : tasks) {
        task.gradients = total;
        total += 2 * task.places() * call.channels;
    }
    return total;
}

// Where some of the gradients of a stretch's keys are.
struct Share {
    size_t keys, values;
    long count;
};

void whole(const Call& call) {
    const long E = call.channels, G = call.group();
    const long TILE = G < 4 ? 2 * BLOCK : BLOCK, N = G * TILE;  // queries of a tile; the same of all heads
    std::vector<Stretch> stretches;
    std::vector<Task> tasks;
    const long places = find_stretches(call, KEYS, stretches);
    const size_t gradients_size = find_tasks(call, stretches, TILE, tasks);

    const std::lock_guard<std::mutex> guard(room.mutex);
    Layout layout;
    const size_t keys_at = layout.add<Half>(call.key_heads * places * E), values_at = layout.add<Half>(call.key_heads * places * E);
    const size_t turned_at = layout.add<Half>(call.key_heads * places * E), gradients_at = layout.add<float>(gradients_size);
    std::vector<size_t> desks_at;
    for (long each = 0; each < call.threads; each++)
        desks_at.push_back(layout.add<float>(N / BLOCK * Queries::size(E) + N * KEYS * 3 / 2));
    char* memory = room.of(layout.bytes());
    Half *keys = reinterpret_cast<Half*>(memory + keys_at), *values = reinterpret_cast<Half*>(memory + values_at);
    Half* turned = reinterpret_cast<Half*>(memory + turned_at);
    float* gradients = reinterpret_cast<float*>(memory + gradients_at);
    const auto number_at = [&](long head, long place) { return (head * places + place) * E; };

    const std::vector<Tile> packs = tiles_of(stretches, KEYS);
    run(packs.size() * call.key_heads, call.threads, [&](long which, long) {
        const Tile& tile = packs[which / call.key_heads];
        const Stretch& stretch = stretches[tile.stretch];
        const long head = which % call.key_heads, count = std::min(KEYS, stretch.size() - tile.first);
        const size_t to = number_at(head, stretch.place + tile.first);
        ask_for(call.keys.at(stretch.row, head, stretch.begin + tile.first), call.keys.token, count, E);
        ask_for(call.values.at(stretch.row, head, stretch.begin + tile.first), call.values.token, count, E);
        for (long key = 0; key < KEYS; key++) {
            Half *one = keys + to + key * E, *other = values + to + key * E;
            const long token = stretch.begin + tile.first + key;
            if (key < count) {
                std::memcpy(one, call.keys.at(stretch.row, head, token), E * sizeof(Half));
                std::memcpy(other, call.values.at(stretch.row, head, token), E * sizeof(Half));
            } else {
                std::memset(one, 0, E * sizeof(Half));
                std::memset(other, 0, E * sizeof(Half));
            }
            for (long channel = 0; channel < E; channel++) turned[to + channel * KEYS + key] = one[channel];
        }
    });

    const float root = 1.0f / std::sqrt(static_cast<float>(E)), scale = LOG2_E * root;
    run(tasks.size(), call.threads, [&](long which, long worker) {
        const Task& task = tasks[which];
        const Stretch& stretch = stretches[task.stretch];
        float* desk = reinterpret_cast<float*>(memory + desks_at[worker]);
        float *d_keys = gradients + task.gradients, *d_values = d_keys + task.places() * E;
        std::memset(d_keys, 0, 2 * task.places() * E * sizeof(float));
        std::vector<Queries> blocks;
        std::vector<long> firsts, starts(N / BLOCK);
        Pair* d_pairs = reinterpret_cast<Pair*>(desk + N / BLOCK * Queries::size(E));
        const Pairs of{reinterpret_cast<Half*>(d_pairs + N * KEYS / 2), reinterpret_cast<Half*>(d_pairs + N * KEYS), d_pairs, N};

        for (long first = task.first; first < task.end; first += TILE) {
            const long count = std::min(TILE, task.end - first);
            const long used = (count + BLOCK - 1) / BLOCK * G;  // blocks: those of all heads for the first 48 queries, ...
            blocks.clear();
            firsts.clear();
            for (long block = 0; block < used; block++) {
                blocks.emplace_back(desk + block * Queries::size(E), E);
                firsts.push_back(first + block / G * BLOCK);
                begin(call, stretch.row, task.head * G + block % G, stretch.begin + firsts[block], task.end - firsts[block], blocks[block]);
            }
            Seen seen[2];
            for (int part = 0, parts = seen_by(stretches, stretch, seen); part < parts; part++) {
                const bool own = seen[part].own;
                const long end = own ? first + count : seen[part].stretch->size();
                for (long from = 0; from < end; from += KEYS) {
                    const size_t where = number_at(task.head, seen[part].stretch->place + from);
                    const long known = std::min(KEYS, end - from);
                    // Weights and their gradients.
                    for (long block = 0; block < used; block++)
                        for (long key = 0; key < tiled(known, SUMMED * 2); key += ROWS) {
                            Half *weights = of.weights + key * N + block * BLOCK, *d_scores = of.d_scores + key * N + block * BLOCK;
                            Pair* pairs = of.d_pairs + (block * KEYS + key) * BLOCK / 2;
                            if (key >= known || (own && from + key >= firsts[block] + BLOCK)) {
                                for (long r = 0; r < ROWS; r++) {
                                    std::memset(weights + r * N, 0, BLOCK * sizeof(Half));
                                    std::memset(d_scores + r * N, 0, BLOCK * sizeof(Half));
                                }
                                std::memset(pairs, 0, ROWS * BLOCK * sizeof(Half));
                                continue;
                            }
                            long hidden[ROWS];
                            for (long r = 0; r < ROWS; r++)
                                hidden[r] = key + r >= known ? BLOCK : own ? from + key + r - firsts[block] : 0;
                            differentiate(keys + where + key * E, values + where + key * E, blocks[block], E, scale, hidden, weights,
                                          d_scores, N, pairs);
                        }
                    // What keys and values get from all these queries.
                    const long place = (own ? task.before : 0) + from;
                    for (long key = 0; key < known; key += SUMMED) {
                        for (long block = 0; block < used; block++)
                            starts[block] = own ? std::clamp(from + key - firsts[block], 0l, BLOCK) : 0;
                        float *d_key = d_keys + (place + key) * E, *d_value = d_values + (place + key) * E;
                        const Half *weights = of.weights + key * N, *d_scores = of.d_scores + key * N;
                        long channel = 0;
                        for (; channel + 4 * LANES <= E; channel += 4 * LANES) {
                            add_to_keys<4>(weights, N, blocks, &Queries::d_rows, starts.data(), E, channel, d_value);
                            add_to_keys<4>(d_scores, N, blocks, &Queries::rows, starts.data(), E, channel, d_key);
                        }
                        if (channel < E) {
                            add_to_keys<2>(weights, N, blocks, &Queries::d_rows, starts.data(), E, channel, d_value);
                            add_to_keys<2>(d_scores, N, blocks, &Queries::rows, starts.data(), E, channel, d_key);
                        }
                    }
                    // What queries get from these keys.
                    for (long block = 0; block < used; block++) {
                        const long visible = own ? std::min(known, firsts[block] + BLOCK - from) : known;
                        if (visible > 0)
                            add_to_queries(turned + where, of.d_pairs + block * KEYS * BLOCK / 2, (visible + 1) / 2, E, blocks[block].d_queries);
                    }
                }
            }
            for (long block = 0; block < used; block++)
                end(call, stretch.row, task.head * G + block % G, stretch.begin + firsts[block], task.end - firsts[block], root, blocks[block]);
        }
    });

    // Sum what the tasks found, in their order.
    std::vector<std::vector<Share>> shares(stretches.size() * call.key_heads);
    for (const Task& task : tasks) {
        const size_t d_values = task.gradients + task.places() * E, own = task.before * E;
        const long before = stretches[task.stretch].before;
        if (before >= 0) shares[before * call.key_heads + task.head].push_back({task.gradients, d_values, stretches[before].size()});
        shares[task.stretch * call.key_heads + task.head].push_back({task.gradients + own, d_values + own, task.end});
    }
    run(packs.size() * call.key_heads, call.threads, [&](long which, long) {
        const Tile& tile = packs[which / call.key_heads];
        const Stretch& stretch = stretches[tile.stretch];
        const long head = which % call.key_heads;
        for (long key = tile.first; key < std::min(tile.first + KEYS, stretch.size()); key++)
            for (long channel = 0; channel < E; channel += LANES) {
                __m512 d_key = _mm512_setzero_ps(), d_value = _mm512_setzero_ps();
                for (const Share& share : shares[tile.stretch * call.key_heads + head])
                    if (key < share.count) {
                        d_key = _mm512_add_ps(d_key, floats(gradients + share.keys + key * E + channel));
                        d_value = _mm512_add_ps(d_value, floats(gradients + share.values + key * E + channel));
                    }
                const long token = stretch.begin + key;
                narrow(call.d_keys.at(stretch.row, head, token) + channel, _mm512_mul_ps(d_key, _mm512_set1_ps(root)));
                narrow(call.d_values.at(stretch.row, head, token) + channel, d_value);
            }
    });
}

}  // namespace backward

template <class Work> int32_t told(const Work& work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" {

// Both return 0, or 1 where there is not enough memory.
int32_t sw2_attend(const Call* call) {
    return told([&] { forward::whole(*call); });
}

int32_t sw2_attend_backward(const Call* call) {
    return told([&] { backward::whole(*call); });
}
}
