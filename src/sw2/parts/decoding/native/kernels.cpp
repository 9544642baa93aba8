// One step of a decoder, from GPT-2 to Qwen3, on a CPU: token ids in, logits out, in one call.
//
//     embedding, place, norm, recall
//         -> layers x (norm, qkv, norm of heads, rotate and store, attend, out, norm, up, activate, down)
//         -> norm -> head, mixture with what recall found
//
// Notable
// - The network is data: a part that it has not is a null pointer (a norm, a bias, the embedding of places, recall),
//   a norm with a bias is a LayerNorm, and where nothing is turned or no score falls with the distance the tables say
//   so (angles of 0, slopes of 0). Only the activation has a name.
// - Reading a weight costs more than using it. Matrices stay packed in memory (4 or 8 bits, bf16 or fp32) and each
//   weight that was read serves up to TILE tokens, so eight texts cost far less than eight steps and a prompt far less
//   than its tokens one by one. A packed matrix lies in panels of 16 rows, so that one register holds 16 rows:
//
//         panel = 16 rows x all columns = its groups of 32 columns, one after the other
//         group = | codes | scales: 16 x fp16 | 4 bits only, minima: 16 x fp16 |
//         codes = "quads": the codes of 4 neighbouring columns of row 0, of row 1, ... of row 15; 64 bytes
//           8 bits: 8 such blocks, columns 0-3, 4-7, ... 28-31
//           4 bits: 4 blocks; low nibbles hold columns 0-3, 4-7, 8-11, 12-15, high nibbles those + 16 (as in GGUF)
//         floats: column after column, 16 rows each
//
// - Inputs of packed matrices are rounded to 8 bits with one scale per group of 32, x = d q (llama.cpp's Q8_1); whole
//   numbers are multiplied and added up exactly, and the rest is fp32:
//
//         sum over the group of (s w + m) d q  =  s d (sum of w q) + m d (sum of q)
//
// - Vectors are the GNU vector types of g++ and clang++, LANES wide; only `dot4` and the conversions of fp16 are
//   written per instruction set. The file is compiled once per set; the flags choose the branch.
// - Work is handed to threads as numbered tasks. The caller takes tasks too and waits for finished tasks, not for
//   threads, so a thread that sleeps or lost its core to somebody else delays nothing.
// - Keys lie transposed in blocks of 16 places, [block][channel][16]: a dot product with 16 keys needs no sum across
//   a register. Values lie [place][channel]. Both are kept in fp16, or in 8 bits with a scale for each place.
//
// Sources: those of sw2/domains/language/decoder.py; formats Q4_1, Q8_0, Q8_1, https://github.com/ggml-org/ggml; exp:
// Cephes, https://www.netlib.org/cephes; erf: Abramowitz & Stegun 1964, 7.1.26; panels: Goto & van de Geijn 2008,
// https://doi.org/10.1145/1356052.1356053
//
// What it does not do: checks of its arguments (Python does), allocation of weights and caches (Python owns them). It
// relies on width, hidden and channels of a head being multiples of 32.
//
// Shapes: T tokens of a pass · D width · H heads · K key heads · G = H / K · E channels of a head · F hidden
//         V vocabulary · N orders of recall

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// ---------------------------------------------------------------------------------------------------- vectors

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
constexpr int LANES = 16, TILE = 12, FLOAT_TILE = 6, SUMS = 4;
constexpr int SHIFT = 128;  // what is added to 8-bit codes: the instruction wants one side without sign
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
constexpr int LANES = 8, TILE = 4, FLOAT_TILE = 3, SUMS = 4, SHIFT = 0;
#else
constexpr int LANES = 4, TILE = 4, FLOAT_TILE = 3, SUMS = 4, SHIFT = 0;
#endif
constexpr int ROWS = 16;   // of a panel
constexpr int GROUP = 32;  // columns that share a scale
constexpr int AHEAD = 4096;  // bytes that decoding asks for before it needs them

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef int8_t Codes __attribute__((vector_size(LANES)));
typedef uint8_t Quads __attribute__((vector_size(LANES * 4)));

template <class Vector> inline Vector load(const void* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}
template <class Vector> inline void store(void* to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }
inline Floats splat(float x) { return Floats{} + x; }
inline Ints bits_of(Floats x) { return load<Ints>(&x); }
inline Floats floats_of(Ints x) { return load<Floats>(&x); }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

inline float sum_of(Floats x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

inline float largest_of(Floats x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; lane++) most = std::max(most, x[lane]);
    return most;
}

// Adding 1.5 · 2^23 leaves the nearest whole number, ties to even, in the low bits of the mantissa.
constexpr float MAGIC = 12582912.0f;
inline Ints nearest(Floats x) { return bits_of(x + MAGIC) - bits_of(splat(MAGIC)); }

// e^x for x <= 88: x = n ln 2 + r, and a polynomial for e^r. Below -87 the result is about 1e-38, not 0.
inline Floats exponential(Floats x) {
    x = larger(x, splat(-87.0f));
    const Floats n = (x * 1.44269504f + MAGIC) - MAGIC;
    const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return floats_of(bits_of(p) + (__builtin_convertvector(n, Ints) << 23));
}

inline float single(uint16_t half) {  // fp16 to fp32 by its bits
    const uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest < 0x400u) return (sign ? -1.0f : 1.0f) * static_cast<float>(rest) * 5.9604644775390625e-8f;
    const uint32_t bits = sign | (rest >= 0x7c00u ? 0x7f800000u | (rest & 0x3ffu) << 13 : (rest << 13) + 0x38000000u);
    return load<float>(&bits);
}

// `Held` is what keys and values are kept as. dot4 adds w · x of 4 neighbouring columns to each row's sum.
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
typedef uint16_t Held;
inline Floats halves(const void* from) { return (Floats)_mm512_cvtph_ps(load<__m256i>(from)); }
inline void hold(Held* to, Floats x) { store(to, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT)); }
template <int BITS> inline Ints dot4(Ints sum, Quads w, const int8_t* x) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(load<int32_t>(x)));
}
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
typedef uint16_t Held;
inline Floats halves(const void* from) { return (Floats)_mm256_cvtph_ps(load<__m128i>(from)); }
inline void hold(Held* to, Floats x) { store(to, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT)); }
template <int BITS> inline Ints dot4(Ints sum, Quads w, const int8_t* x) {
    // Pairs are added in 16 bits, which 2 · 127 · 127 fits; with a sign on both sides it moves from w to x.
    __m256i codes = (__m256i)w, quad = _mm256_set1_epi32(load<int32_t>(x));
    if (BITS == 8) quad = _mm256_sign_epi8(quad, codes), codes = _mm256_abs_epi8(codes);
    const __m256i pairs = _mm256_maddubs_epi16(codes, quad);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
typedef float Held;
inline Floats halves(const void* from) {
    Floats wide;
    for (int lane = 0; lane < LANES; lane++) wide[lane] = single(load<uint16_t>(static_cast<const char*>(from) + 2 * lane));
    return wide;
}
inline void hold(Held* to, Floats x) { store(to, x); }
template <int BITS> inline Ints dot4(Ints sum, Quads w, const int8_t* x) {
    typedef int8_t Signed __attribute__((vector_size(LANES * 4)));
    const Signed codes = (Signed)w;  // 4-bit codes are below 16 and do not care
    for (int lane = 0; lane < LANES; lane++)
        for (int k = 0; k < 4; k++) sum[lane] += codes[4 * lane + k] * x[k];
    return sum;
}
#endif

inline Floats held(const uint16_t* from) { return halves(from); }
inline Floats held(const float* from) { return load<Floats>(from); }
inline Floats held(const int8_t* from) { return __builtin_convertvector(load<Codes>(from), Floats); }
inline void hold(int8_t* to, Floats x) { store(to, __builtin_convertvector(nearest(x), Codes)); }
inline Floats brain(const uint16_t* from) {  // bf16 is the upper half of fp32
    typedef uint16_t Words __attribute__((vector_size(LANES * 2)));
    return floats_of(__builtin_convertvector(load<Words>(from), Ints) << 16);
}

// ---------------------------------------------------------------------------------------------------- threads

class Pool {
  public:
    explicit Pool(int threads) {
        for (int each = 1; each < threads; each++) workers_.emplace_back([this] { serve(); });
    }
    ~Pool() {
        {
            std::lock_guard<std::mutex> guard(mutex_);
            ending_ = true;
        }
        bell_.notify_all();
        for (auto& worker : workers_) worker.join();
    }
    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // Call task(0) ... task(count - 1), each once, in any order, and return when all have returned. `size` is about how
    // many numbers go in; few are not worth telling anybody.
    template <class Task> void run(long count, long size, const Task& task) {
        if (count <= 1 || workers_.empty() || size < WORTH) {
            for (long each = 0; each < count; each++) task(each);
            return;
        }
        call_ = [](const void* what, long which) { (*static_cast<const Task*>(what))(which); };
        task_ = &task;
        done_.store(0, std::memory_order_relaxed);
        open_.store(++job_ << 32 | static_cast<uint64_t>(count));
        if (sleeping_.load() > 0) {
            std::lock_guard<std::mutex> guard(mutex_);
            bell_.notify_all();
        }
        work();
        while (done_.load(std::memory_order_acquire) != count) rest();
    }

  private:
    static void rest() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        std::this_thread::yield();
#endif
    }

    // `open_` holds the job's number and how many of its tasks are untaken; one exchange takes one task of that job.
    void work() {
        for (uint64_t seen = open_.load(std::memory_order_acquire); seen & UNTAKEN;) {
            if (!open_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) continue;
            call_(task_, static_cast<long>(seen & UNTAKEN) - 1);
            done_.fetch_add(1, std::memory_order_release);
            seen = open_.load(std::memory_order_acquire);
        }
    }

    void serve() {
        for (;;) {
            int turn = 0;
            while (turn < SPINS && !(open_.load(std::memory_order_relaxed) & UNTAKEN)) turn++, rest();
            if (turn < SPINS) {
                work();
                continue;
            }
            std::unique_lock<std::mutex> guard(mutex_);
            sleeping_++;
            bell_.wait(guard, [this] { return ending_ || open_.load() & UNTAKEN; });
            sleeping_--;
            if (ending_) return;
        }
    }

    static constexpr uint64_t UNTAKEN = 0xffffffff;
    static constexpr long WORTH = 1 << 17;  // about 10 microseconds
    static constexpr int SPINS = 20000;  // about 0.3 ms: longer than what lies between two steps, then sleep
    std::vector<std::thread> workers_;
    alignas(64) std::atomic<uint64_t> open_{0};
    alignas(64) std::atomic<long> done_{0};
    alignas(64) std::atomic<int> sleeping_{0};
    void (*call_)(const void*, long) = nullptr;
    const void* task_ = nullptr;
    uint64_t job_ = 0;
    bool ending_ = false;
    std::mutex mutex_;
    std::condition_variable bell_;
};

// --------------------------------------------------------------------------------------------------- matrices

enum Format : int32_t { FOUR_BITS = 4, EIGHT_BITS = 8, BRAIN = 16, SINGLE = 32 };

struct Matrix {  // mirrored in step.py
    uint8_t* panels;    // null: the network has no such part
    const float* bias;  // [stride()], or null
    int64_t rows, columns;
    int32_t format;

    bool packed() const { return format <= EIGHT_BITS; }
    long stride() const { return (rows + ROWS - 1) / ROWS * ROWS; }
};

constexpr long group_bytes(int format) { return 64 * format + ROWS * 2 * (format == FOUR_BITS ? 2 : 1); }

long panel_bytes(int format, long columns) {
    return format <= EIGHT_BITS ? columns / GROUP * group_bytes(format) : columns * ROWS * (format / 8);
}

// Bring 16 rows of a matrix in the order of `sw2.parts.layers.packed` (or plain rows of floats) into a panel; a row that
// does not exist stays 0.
template <class Number>
void pack_floats(long rows, long columns, const Number* weights, Number* panel) {
    for (long from = 0; from < columns; from += ROWS)
        for (long lane = 0; lane < rows; lane++)
            for (long column = from; column < std::min(columns, from + ROWS); column++)
                panel[column * ROWS + lane] = weights[lane * columns + column];
}

void pack_codes(int format, long rows, long columns, const uint8_t* codes, const uint16_t* scales,
                const uint16_t* minima, uint8_t* panel) {
    const long groups = columns / GROUP;
    const uint32_t shift = format == EIGHT_BITS ? SHIFT * 0x01010101u : 0;
    for (long lane = 0; lane < rows; lane++)
        for (long group = 0; group < groups; group++) {
            uint8_t* at = panel + group * group_bytes(format);
            for (long quad = 0; quad < format; quad++)
                store(at + quad * 64 + lane * 4, load<uint32_t>(codes + ((lane * groups + group) * format + quad) * 4) ^ shift);
            store(at + 64 * format + 2 * lane, scales[lane * groups + group]);
            if (format == FOUR_BITS) store(at + 64 * format + 2 * (ROWS + lane), minima[lane * groups + group]);
        }
}

void pack(Pool& pool, const Matrix& matrix, const uint8_t* codes, const uint16_t* scales, const uint16_t* minima) {
    const long columns = matrix.columns, bytes = panel_bytes(matrix.format, columns);
    const long line = columns * matrix.format / 8, groups = columns / GROUP;
    pool.run(matrix.stride() / ROWS, matrix.rows * columns, [&](long which) {
        uint8_t* panel = matrix.panels + which * bytes;
        const long row = which * ROWS, rows = std::min<long>(ROWS, matrix.rows - row);
        const uint8_t* from = codes + row * line;
        if (matrix.format == SINGLE)
            pack_floats(rows, columns, reinterpret_cast<const uint32_t*>(from), reinterpret_cast<uint32_t*>(panel));
        else if (matrix.format == BRAIN)
            pack_floats(rows, columns, reinterpret_cast<const uint16_t*>(from), reinterpret_cast<uint16_t*>(panel));
        else
            pack_codes(matrix.format, rows, columns, from, scales + row * groups,
                       matrix.format == FOUR_BITS ? minima + row * groups : nullptr, panel);
    });
}

// Row `row` in fp32: the embedding of a token.
void unpack_row(const Matrix& matrix, long row, float* out) {
    const uint8_t* panel = matrix.panels + row / ROWS * panel_bytes(matrix.format, matrix.columns);
    const long lane = row % ROWS;
    for (long column = 0; column < matrix.columns; column++) {
        const uint8_t* group = panel + column / GROUP * group_bytes(matrix.format);
        const uint8_t* after = group + 64 * matrix.format + 2 * lane;
        const long inside = column % GROUP, place = lane * 4 + inside % 4;
        if (matrix.format == SINGLE) {
            out[column] = load<float>(panel + (column * ROWS + lane) * 4);
        } else if (matrix.format == BRAIN) {
            const uint32_t bits = static_cast<uint32_t>(load<uint16_t>(panel + (column * ROWS + lane) * 2)) << 16;
            out[column] = load<float>(&bits);
        } else if (matrix.format == EIGHT_BITS) {
            const int8_t code = static_cast<int8_t>(group[inside / 4 * 64 + place] ^ SHIFT);
            out[column] = single(load<uint16_t>(after)) * code;
        } else {
            const int code = group[inside % 16 / 4 * 64 + place] >> (inside < 16 ? 0 : 4) & 15;
            out[column] = single(load<uint16_t>(after)) * code + single(load<uint16_t>(after + 2 * ROWS));
        }
    }
}

// The inputs of a matrix for T tokens: fp32, [T][columns], and where the matrix is packed also whole numbers. Those lie
// [group][T], so that the tokens of a tile are neighbours and one address finds them all.
struct Inputs {
    struct Group {
        float scale, sum;  // d, and d times the sum of q
        int32_t offset;    // takes away what SHIFT adds
    };
    long columns = 0, tokens = 0;
    std::vector<float> values;
    std::vector<int8_t> codes;
    std::vector<Group> groups;

    void resize(long count, long width) {
        columns = width, tokens = count;
        values.resize(tokens * width);
        codes.resize(tokens * width);
        groups.resize(tokens * (width / GROUP));
    }

    // Round groups `from` to `to` of a token.
    void round(long token, long from, long to) {
        for (long group = from; group < to; group++) {
            const float* x = &values[token * columns + group * GROUP];
            Floats most{};
            for (int at = 0; at < GROUP; at += LANES) most = larger(most, larger(load<Floats>(x + at), -load<Floats>(x + at)));
            const float scale = largest_of(most) / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
            Ints sums{};
            for (int at = 0; at < GROUP; at += LANES) {
                const Ints code = nearest(load<Floats>(x + at) * inverse);
                store(&codes[(group * tokens + token) * GROUP + at], __builtin_convertvector(code, Codes));
                sums += code;
            }
            int32_t sum = 0;
            for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
            groups[group * tokens + token] = {scale, scale * static_cast<float>(sum), -SHIFT * sum};
        }
    }
};

// out[token][row] for one panel and TOKENS tokens from `first` on. Floats are added up as SUMS sums of every SUMS-th
// column, so that no addition waits for the one before it; packed weights have enough to do between two additions.
template <int FORMAT, int TOKENS>
void multiply_panel(const uint8_t* panel, const float* bias, const Inputs& x, long first, float* out, long stride) {
    constexpr int CHAINS = FORMAT > EIGHT_BITS ? SUMS : 1;
    const long groups = x.columns / GROUP;
    for (int part = 0; part < ROWS; part += LANES) {
        Floats total[TOKENS][CHAINS] = {};
        if constexpr (FORMAT > EIGHT_BITS) {
            for (long from = 0; from < x.columns; from += SUMS) {
                const uint8_t* at = panel + (from * ROWS + part) * (FORMAT / 8);
#pragma GCC unroll 16
                for (int chain = 0; chain < SUMS; chain++, at += ROWS * (FORMAT / 8)) {
                    Floats w;
                    if constexpr (FORMAT == SINGLE) w = load<Floats>(at);
                    else w = brain(reinterpret_cast<const uint16_t*>(at));
#pragma GCC unroll 16
                    for (int token = 0; token < TOKENS; token++)
                        total[token][chain] += w * x.values[(first + token) * x.columns + from + chain];
                }
            }
        } else {
            for (long group = 0; group < groups; group++) {
                const uint8_t* at = panel + group * group_bytes(FORMAT);
                if (TOKENS == 1)
                    for (int line = 0; line < group_bytes(FORMAT); line += 64) __builtin_prefetch(at + AHEAD + line);
                Quads w[8];
                for (int quad = 0; quad < FORMAT; quad++) {
                    w[quad] = load<Quads>(at + quad * 64 + part * 4);
                    if (FORMAT == FOUR_BITS) w[quad + 4] = w[quad] >> 4, w[quad] &= 15;
                }
                const Floats scale = halves(at + 64 * FORMAT + 2 * part);
                const Floats minimum = FORMAT == FOUR_BITS ? halves(at + 64 * FORMAT + 2 * (ROWS + part)) : Floats{};
#pragma GCC unroll 16
                for (int token = 0; token < TOKENS; token++) {
                    const int8_t* codes = &x.codes[(group * x.tokens + first) * GROUP] + token * GROUP;
                    const Inputs::Group& input = (&x.groups[group * x.tokens + first])[token];
                    Ints dot = Ints{} + (FORMAT == EIGHT_BITS ? input.offset : 0);
#pragma GCC unroll 8
                    for (int quad = 0; quad < 8; quad++) dot = dot4<FORMAT>(dot, w[quad], codes + 4 * quad);
                    total[token][0] += __builtin_convertvector(dot, Floats) * (scale * input.scale);
                    if (FORMAT == FOUR_BITS) total[token][0] += minimum * input.sum;
                }
            }
        }
        for (int token = 0; token < TOKENS; token++) {
            Floats whole = bias ? load<Floats>(bias + part) : Floats{};
            for (const Floats& each : total[token]) whole += each;
            store(out + (first + token) * stride + part, whole);
        }
    }
}

// All tokens, a tile at a time and the rest in one smaller tile.
template <int FORMAT, int TOKENS = FORMAT <= EIGHT_BITS ? TILE : FLOAT_TILE>
void multiply_tokens(const uint8_t* panel, const float* bias, const Inputs& x, long first, long tokens, float* out,
                     long stride) {
    for (; tokens >= TOKENS; first += TOKENS, tokens -= TOKENS)
        multiply_panel<FORMAT, TOKENS>(panel, bias, x, first, out, stride);
    if constexpr (TOKENS > 1)
        if (tokens) multiply_tokens<FORMAT, TOKENS - 1>(panel, bias, x, first, tokens, out, stride);
}

// out[T][stride of the matrix] = x[T][columns] times the transpose of the matrix, plus its bias.
void multiply(Pool& pool, const Matrix& matrix, const Inputs& x, long tokens, float* out) {
    const long panels = matrix.stride() / ROWS, bytes = panel_bytes(matrix.format, matrix.columns);
    const long share = std::max(1L, panels / (pool.threads() * 4L));
    pool.run((panels + share - 1) / share, matrix.rows * matrix.columns * tokens, [&](long task) {
        for (long panel = task * share; panel < std::min(panels, (task + 1) * share); panel++) {
            const uint8_t* at = matrix.panels + panel * bytes;
            const float* bias = matrix.bias ? matrix.bias + panel * ROWS : nullptr;
            float* to = out + panel * ROWS;
            switch (matrix.format) {
                case FOUR_BITS: multiply_tokens<FOUR_BITS>(at, bias, x, 0, tokens, to, matrix.stride()); break;
                case EIGHT_BITS: multiply_tokens<EIGHT_BITS>(at, bias, x, 0, tokens, to, matrix.stride()); break;
                case BRAIN: multiply_tokens<BRAIN>(at, bias, x, 0, tokens, to, matrix.stride()); break;
                case SINGLE: multiply_tokens<SINGLE>(at, bias, x, 0, tokens, to, matrix.stride()); break;
            }
        }
    });
}

// -------------------------------------------------------------------------------------------------- attention

// The keys, or the values, of one key head in one slot: numbers of type Held or int8_t. Those of 8 bits have a scale for
// each place, others null.
template <class Kept> struct Line {
    Kept* numbers;
    float* scales;
};

// Divide x by the scale that brings it to -127 ... 127, and return the scale.
float to_codes(float* x, long channels) {
    Floats most{};
    for (long at = 0; at < channels; at += LANES) most = larger(most, larger(load<Floats>(x + at), -load<Floats>(x + at)));
    const float scale = largest_of(most) / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (long at = 0; at < channels; at += LANES) store(x + at, load<Floats>(x + at) * inverse);
    return scale;
}

// out[query][place] = q · k for QUERIES queries and all places of `blocks` blocks.
template <int QUERIES, class Kept>
void score(const float* const* queries, const Line<Kept>& keys, long channels, long blocks, float* out, long stride) {
    for (long block = 0; block < blocks; block++)
        for (int part = 0; part < ROWS; part += LANES) {
            Floats even[QUERIES] = {}, odd[QUERIES] = {};  // two sums, so that no addition waits for the one before it
            for (long channel = 0; channel < channels; channel += 2) {
                const Kept* at = keys.numbers + (block * channels + channel) * ROWS + part;
                const Floats key = held(at), next = held(at + ROWS);
                for (int query = 0; query < QUERIES; query++) {
                    even[query] += key * queries[query][channel];
                    odd[query] += next * queries[query][channel + 1];
                }
            }
            const Floats scale = keys.scales ? load<Floats>(keys.scales + block * ROWS + part) : splat(1.0f);
            for (int query = 0; query < QUERIES; query++)
                store(out + query * stride + block * ROWS + part, (even[query] + odd[query]) * scale);
        }
}

// Turn scores into weights e^(score - slope · distance - largest); beyond `seen` they become 0. Returns 1 / sum.
float soften(float* scores, float slope, long seen, long padded) {
    for (long place = seen; place < padded; place++) scores[place] = -INFINITY;
    Floats most = splat(-INFINITY), total{}, nearness;  // minus the distance, of one register's places
    for (int lane = 0; lane < LANES; lane++) nearness[lane] = static_cast<float>(lane - seen + 1);
    for (long at = 0; at < padded; at += LANES, nearness += static_cast<float>(LANES)) {
        const Floats lowered = load<Floats>(scores + at) + slope * nearness;
        store(scores + at, lowered);
        most = larger(most, lowered);
    }
    const Floats top = splat(largest_of(most));
    for (long at = 0; at < padded; at += LANES) {
        const Floats raw = load<Floats>(scores + at) - top;
        const Floats weight = raw > -87.0f ? exponential(raw) : Floats{};
        store(scores + at, weight);
        total += weight;
    }
    return 1.0f / sum_of(total);
}

// out[query] = sum over places of weight · value, `SPAN` registers of channels at a time.
template <int QUERIES, int SPAN, class Kept>
void mix(const float* weights, long stride, const Kept* values, long channels, long places, const float* factors,
         float* const* out) {
    for (long from = 0; from < channels; from += SPAN * LANES) {
        Floats total[QUERIES][SPAN] = {};
        for (long place = 0; place < places; place++)
            for (int span = 0; span < SPAN; span++) {
                const Floats value = held(values + place * channels + from + span * LANES);
                for (int query = 0; query < QUERIES; query++)
                    total[query][span] += value * weights[query * stride + place];
            }
        for (int query = 0; query < QUERIES; query++)
            for (int span = 0; span < SPAN; span++)
                store(out[query] + from + span * LANES, total[query][span] * factors[query]);
    }
}

// Up to 4 queries of one key head; query i sees the first seen[i] places and its answer goes to out[i].
template <int QUERIES, class Kept>
void attend(int queries, const float* const* q, const float* slopes, const long* seen, const Line<Kept>& keys,
            const Line<Kept>& values, long channels, std::vector<float>& scores, float* const* out) {
    if constexpr (QUERIES > 1)
        if (queries < QUERIES) return attend<QUERIES - 1>(queries, q, slopes, seen, keys, values, channels, scores, out);
    const long places = *std::max_element(seen, seen + QUERIES), blocks = (places + ROWS - 1) / ROWS;
    const long stride = blocks * ROWS;
    scores.resize(QUERIES * stride);
    score<QUERIES>(q, keys, channels, blocks, scores.data(), stride);
    float factors[QUERIES];
    for (int query = 0; query < QUERIES; query++) {
        float* weights = &scores[query * stride];
        factors[query] = soften(weights, slopes[query], seen[query], stride);
        if (values.scales)
            for (long at = 0; at < stride; at += LANES)
                store(weights + at, load<Floats>(weights + at) * load<Floats>(values.scales + at));
    }
    constexpr int WIDE = LANES == 16 ? 4 : 2;  // as many sums as there are registers for
    if (channels % (WIDE * LANES) == 0)
        mix<QUERIES, WIDE>(scores.data(), stride, values.numbers, channels, places, factors, out);
    else
        mix<QUERIES, 2>(scores.data(), stride, values.numbers, channels, places, factors, out);
}

// ---------------------------------------------------------------------------------------------------- network

enum Activation : int32_t { SWIGLU, GELU, GELU_TANH, RELU2 };

// The same names in step.py, in the same order.
struct Norm {  // RMSNorm; with a bias LayerNorm; without a weight none
    const float *weight, *bias;
};

struct Layer {
    Norm attention_norm, query_norm, key_norm, mlp_norm;
    Matrix qkv, out, up, down;
};

struct Network {
    int64_t width, heads, kv_heads, head_dim, hidden, depth, orders;
    int32_t activation;
    float norm_epsilon;
    const float *cosines, *sines;  // [capacity][head_dim / 2]
    const float* slopes;           // [heads]
    Matrix embedding, positions, recall, head, share;
    Norm embedding_norm, norm;
    const Layer* layers;
    int64_t slots, capacity;
    void *keys, *values;                // [depth][slots][kv_heads][places][head_dim], see the top; places from `places()`
    float *key_scales, *value_scales;  // [depth][slots][kv_heads][places] for 8 bits, else null

    long places() const { return (capacity + ROWS - 1) / ROWS * ROWS; }
    template <class Kept> Line<Kept> line(void* numbers, float* scales, long at, long slot, long head) const {
        const long first = ((at * slots + slot) * kv_heads + head) * places();
        return {static_cast<Kept*>(numbers) + first * head_dim, scales ? scales + first : nullptr};
    }
    template <class Kept> Line<Kept> key_line(long at, long slot, long head) const {
        return line<Kept>(keys, key_scales, at, slot, head);
    }
    template <class Kept> Line<Kept> value_line(long at, long slot, long head) const {
        return line<Kept>(values, value_scales, at, slot, head);
    }
};

// x / sqrt(mean(x²) + ε) · weight; for LayerNorm x - mean(x) in the place of x, and the bias in the end.
void normalise(const float* x, const Norm& norm, long width, float epsilon, float* out) {
    Floats total{}, squares{};
    if (norm.bias)
        for (long at = 0; at < width; at += LANES) total += load<Floats>(x + at);
    const float middle = sum_of(total) / static_cast<float>(width);
    for (long at = 0; at < width; at += LANES) {
        const Floats apart = load<Floats>(x + at) - middle;
        squares += apart * apart;
    }
    const float scale = 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(width) + epsilon);
    for (long at = 0; at < width; at += LANES) {
        const Floats normal = (load<Floats>(x + at) - middle) * scale * load<Floats>(norm.weight + at);
        store(out + at, norm.bias ? normal + load<Floats>(norm.bias + at) : normal);
    }
}

// x / (1 + e^-by): of the argument itself it is silu. e^80 is finite, and x / e^80 as good as 0.
inline Floats opened(Floats x, Floats by) { return x / (1.0f + exponential(-larger(splat(-80.0f), by))); }

// x · P(normal variable < x) = x (1 + erf(x / √2)) / 2, within 2e-7 |x|
inline Floats gelu(Floats x) {
    const Floats z = larger(x, -x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
    Floats p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const Floats beyond = 0.5f * p * t * exponential(-z * z);
    return x > 0.0f ? x - x * beyond : x * beyond;
}

inline Floats activated(int32_t activation, Floats x) {
    switch (activation) {
        case SWIGLU: return opened(x, x);
        case GELU: return gelu(x);
        case GELU_TANH: return opened(x, 1.59576912f * (x + 0.044715f * x * x * x));
        default: return larger(x, Floats{}) * larger(x, Floats{});
    }
}

class Stepper {
  public:
    Stepper(const Network& network, int threads)
        : n_(network), layers_(network.layers, network.layers + network.depth), pool_(threads),
          history_(network.orders ? network.slots * network.capacity : 0) {}

    Pool& pool() { return pool_; }

    // Read the tokens of each row, one row after the other, and write the logits [rows][stride of the head].
    void step(long rows, const int64_t* counts, const int64_t* tokens, const int64_t* slots, const int64_t* starts,
              float* logits) {
        places_.clear();
        for (long row = 0, at = 0; row < rows; row++)
            for (long each = 0; each < counts[row]; each++, at++)
                places_.push_back({tokens[at], slots[row], starts[row] + each, each + 1 == counts[row] ? row : -1});
        if (n_.orders)
            for (const Place& place : places_) history_[place.slot * n_.capacity + place.position] = place.token;
        last_.resize(rows * n_.width);
        last_found_.resize(rows * n_.orders);
        const long all = static_cast<long>(places_.size());
        for (long from = 0; from < all; from += PASS) pass(&places_[from], std::min(PASS, all - from));
        x_.swap(last_);
        normalise_all(rows, nullptr, 0, n_.norm, n_.head.packed() || (n_.orders && n_.share.packed()));
        multiply(pool_, n_.head, normed_, rows, logits);
        if (!n_.orders) return;
        shares_.resize(rows * n_.share.stride());
        multiply(pool_, n_.share, normed_, rows, shares_.data());
        pool_.run(rows, rows * n_.head.rows, [&](long row) {
            mix_found(&shares_[row * n_.share.stride()], &last_found_[row * n_.orders], logits + row * n_.head.stride());
        });
    }

    void copy(long source, long target, long tokens) {
        if (n_.orders) std::copy_n(&history_[source * n_.capacity], tokens, &history_[target * n_.capacity]);
        n_.key_scales ? copy_lines<int8_t>(source, target, tokens) : copy_lines<Held>(source, target, tokens);
    }

  private:
    struct Place {
        int64_t token, slot, position, row;  // row: the one that ends here, or -1
    };

    static constexpr long PASS = 256;   // tokens that go through the layers together: their inputs fit the L2 cache
    static constexpr long SPREAD = 16;  // tokens whose queries form one task

    template <class Kept> void copy_lines(long source, long target, long tokens) {
        const long places = (tokens + ROWS - 1) / ROWS * ROWS;
        const auto copy_line = [&](const Line<Kept>& from, const Line<Kept>& to) {
            std::copy_n(from.numbers, places * n_.head_dim, to.numbers);
            if (from.scales) std::copy_n(from.scales, places, to.scales);
        };
        for (long at = 0; at < n_.depth; at++)
            for (long head = 0; head < n_.kv_heads; head++) {
                copy_line(n_.key_line<Kept>(at, source, head), n_.key_line<Kept>(at, target, head));
                copy_line(n_.value_line<Kept>(at, source, head), n_.value_line<Kept>(at, target, head));
            }
    }

    // A few tokens through all layers.
    void pass(const Place* places, long tokens) {
        x_.resize(tokens * n_.width);
        pool_.run(tokens, tokens * n_.width, [&](long token) { embed(places[token], &x_[token * n_.width]); });
        const float* change = nullptr;
        long stride = 0;
        if (n_.orders) {
            recall(places, tokens);
            change = change_.data(), stride = n_.recall.stride();
        }
        find_tiles(places, tokens);
        long seen = 0;
        for (long token = 0; token < tokens; token++) seen += places[token].position + 1;
        for (long at = 0; at < n_.depth; at++) {
            const Layer& layer = layers_[at];
            normalise_all(tokens, change, stride, layer.attention_norm, layer.qkv.packed());
            qkv_.resize(tokens * layer.qkv.stride());
            multiply(pool_, layer.qkv, normed_, tokens, qkv_.data());
            pool_.run(tokens, tokens * layer.qkv.rows, [&](long token) { rotate_and_keep(at, places[token], &qkv_[token * layer.qkv.stride()]); });
            mixed_.resize(tokens, n_.heads * n_.head_dim);
            pool_.run(static_cast<long>(tiles_.size()) * n_.kv_heads, seen * n_.heads * n_.head_dim, [&](long task) {
                const auto tile = tiles_[task / n_.kv_heads];
                const long head = task % n_.kv_heads, across = layer.qkv.stride();
                n_.key_scales ? attend_tile<int8_t>(at, places, tile, head, across)
                              : attend_tile<Held>(at, places, tile, head, across);
            });
            round_all(mixed_, tokens, layer.out);
            change_.resize(tokens * std::max(layer.out.stride(), layer.down.stride()));
            multiply(pool_, layer.out, mixed_, tokens, change_.data());
            normalise_all(tokens, change_.data(), layer.out.stride(), layer.mlp_norm, layer.up.packed());
            up_.resize(tokens * layer.up.stride());
            multiply(pool_, layer.up, normed_, tokens, up_.data());
            activate(tokens, layer);
            multiply(pool_, layer.down, hidden_, tokens, change_.data());
            change = change_.data(), stride = layer.down.stride();
        }
        for (long token = 0; token < tokens; token++) {
            const long row = places[token].row;
            if (row < 0) continue;
            for (long channel = 0; channel < n_.width; channel++)
                last_[row * n_.width + channel] = x_[token * n_.width + channel] + change[token * stride + channel];
            if (n_.orders) std::copy_n(&found_[token * n_.orders], n_.orders, &last_found_[row * n_.orders]);
        }
    }

    void embed(const Place& place, float* x) const {
        unpack_row(n_.embedding, place.token, x);
        if (n_.positions.panels) {
            thread_local std::vector<float> where;
            where.resize(n_.width);
            unpack_row(n_.positions, place.position, where.data());
            for (long at = 0; at < n_.width; at += LANES) store(x + at, load<Floats>(x + at) + load<Floats>(&where[at]));
        }
        if (n_.embedding_norm.weight) normalise(x, n_.embedding_norm, n_.width, n_.norm_epsilon, x);
    }

    // change = recall matrix · embeddings of the tokens found, 0 where none was
    void recall(const Place* places, long tokens) {
        const long N = n_.orders, D = n_.width;
        found_.resize(tokens * N);
        recalled_.resize(tokens, N * D);
        pool_.run(tokens, tokens * (N * D + n_.capacity), [&](long token) {
            int64_t* found = &found_[token * N];
            look_back(places[token], found);
            for (long order = 0; order < N; order++) {
                float* to = &recalled_.values[(token * N + order) * D];
                if (found[order] < 0) std::fill(to, to + D, 0.0f);
                else unpack_row(n_.embedding, found[order], to);
            }
            if (n_.recall.packed()) recalled_.round(token, 0, N * D / GROUP);
        });
        change_.resize(tokens * n_.recall.stride());
        multiply(pool_, n_.recall, recalled_, tokens, change_.data());
    }

    // found[n - 1]: the token that followed when the last n tokens stood in the text before, most recently; or -1
    void look_back(const Place& place, int64_t* found) const {
        const int64_t* text = &history_[place.slot * n_.capacity];
        std::fill(found, found + n_.orders, -1);
        long known = 0;
        for (long at = place.position - 1; at >= 0 && known < n_.orders; at--) {
            long same = 0;
            while (same < n_.orders && same <= at && text[at - same] == text[place.position - same]) same++;
            for (; known < same; known++) found[known] = text[at + 1];
        }
    }

    // logits = ln(g₀ softmax(logits) + Σ gₙ [token n]), g the softmax of the shares of what was found
    void mix_found(const float* shares, const int64_t* found, float* logits) const {
        const auto together = [](float a, float b) {  // ln(e^a + e^b)
            return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
        };
        float whole = shares[0];
        for (long order = 0; order < n_.orders; order++)
            if (found[order] >= 0) whole = together(whole, shares[order + 1]);
        const long padded = n_.head.stride();
        std::fill(logits + n_.head.rows, logits + padded, -INFINITY);
        Floats most = splat(-INFINITY), total{};
        for (long at = 0; at < padded; at += LANES) most = larger(most, load<Floats>(logits + at));
        const float top = largest_of(most);
        for (long at = 0; at < padded; at += LANES) total += exponential(load<Floats>(logits + at) - top);
        const float shift = shares[0] - whole - top - std::log(sum_of(total));
        for (long at = 0; at < padded; at += LANES) store(logits + at, load<Floats>(logits + at) + shift);
        for (long order = 0; order < n_.orders; order++)
            if (found[order] >= 0) logits[found[order]] = together(logits[found[order]], shares[order + 1] - whole);
    }

    // x += change; normed = norm(x), also as whole numbers where a packed matrix reads it.
    void normalise_all(long tokens, const float* change, long stride, const Norm& norm, bool packed) {
        normed_.resize(tokens, n_.width);
        pool_.run(tokens, tokens * n_.width, [&](long token) {
            float* x = &x_[token * n_.width];
            if (change)
                for (long at = 0; at < n_.width; at += LANES)
                    store(x + at, load<Floats>(x + at) + load<Floats>(change + token * stride + at));
            normalise(x, norm, n_.width, n_.norm_epsilon, &normed_.values[token * n_.width]);
            if (packed) normed_.round(token, 0, n_.width / GROUP);
        });
    }

    // Work on every group of 32 channels of every token, in tasks of at most CHUNK groups.
    template <class Task> void each_group(long tokens, long width, const Task& task) {
        constexpr long CHUNK = 16;
        const long groups = (width + GROUP - 1) / GROUP, chunks = (groups + CHUNK - 1) / CHUNK;
        pool_.run(tokens * chunks, tokens * width, [&](long which) {
            const long from = which % chunks * CHUNK;
            task(which / chunks, from, std::min(groups, from + CHUNK));
        });
    }

    void round_all(Inputs& inputs, long tokens, const Matrix& reader) {
        if (!reader.packed()) return;
        each_group(tokens, inputs.columns, [&](long token, long from, long to) { inputs.round(token, from, to); });
    }

    // hidden = activation of the first F rows of up; for SwiGLU, times the other F
    void activate(long tokens, const Layer& layer) {
        hidden_.resize(tokens, n_.hidden);
        each_group(tokens, n_.hidden, [&](long token, long from, long to) {
            const float* up = &up_[token * layer.up.stride()];
            float* out = &hidden_.values[token * n_.hidden];
            for (long at = from * GROUP; at < std::min(to * GROUP, n_.hidden); at += LANES) {
                const Floats active = activated(n_.activation, load<Floats>(up + at));
                store(out + at, n_.activation == SWIGLU ? active * load<Floats>(up + n_.hidden + at) : active);
            }
            if (layer.down.packed()) hidden_.round(token, from, to);
        });
    }

    // Head norms and rotation of one token; its keys and values go to the cache, its queries stay.
    void rotate_and_keep(long at, const Place& place, float* qkv) {
        const Layer& layer = layers_[at];
        const long E = n_.head_dim, pairs = E / 2, turned = n_.heads + n_.kv_heads;
        const float *cosine = n_.cosines + place.position * pairs, *sine = n_.sines + place.position * pairs;
        for (long head = 0; head < turned; head++) {
            const bool query = head < n_.heads;
            float* x = qkv + head * E;
            if (const Norm& norm = query ? layer.query_norm : layer.key_norm; norm.weight)
                normalise(x, norm, E, n_.norm_epsilon, x);
            const float scale = query ? 1.0f / std::sqrt(static_cast<float>(E)) : 1.0f;  // of the scores
            for (long pair = 0; pair < pairs; pair += LANES) {
                const Floats first = load<Floats>(x + pair), second = load<Floats>(x + pairs + pair);
                const Floats c = load<Floats>(cosine + pair) * scale, s = load<Floats>(sine + pair) * scale;
                store(x + pair, first * c - second * s);
                store(x + pairs + pair, second * c + first * s);
            }
        }
        for (long head = 0; head < n_.kv_heads; head++) {
            float *key = qkv + (n_.heads + head) * E, *value = qkv + (turned + head) * E;
            n_.key_scales ? keep<int8_t>(at, place, head, key, value) : keep<Held>(at, place, head, key, value);
        }
    }

    template <class Kept> void keep(long at, const Place& place, long head, float* key, float* value) {
        const long E = n_.head_dim;
        const Line<Kept> keys = n_.key_line<Kept>(at, place.slot, head), values = n_.value_line<Kept>(at, place.slot, head);
        if (keys.scales) {
            keys.scales[place.position] = to_codes(key, E);
            values.scales[place.position] = to_codes(value, E);
        }
        Kept* across = keys.numbers + place.position / ROWS * ROWS * E + place.position % ROWS;
        Kept line[ROWS];
        for (long from = 0; from < E; from += LANES) {
            hold(line, load<Floats>(key + from));
            for (int lane = 0; lane < LANES; lane++) across[(from + lane) * ROWS] = line[lane];
            hold(values.numbers + place.position * E + from, load<Floats>(value + from));
        }
    }

    // Neighbouring tokens of one slot, at most SPREAD, as [first, beyond).
    void find_tiles(const Place* places, long tokens) {
        tiles_.clear();
        for (long token = 0; token < tokens; token++) {
            const bool joins = !tiles_.empty() && places[tiles_.back().first].slot == places[token].slot &&
                               token - tiles_.back().first < SPREAD;
            if (joins) tiles_.back().second++;
            else tiles_.push_back({token, token + 1});
        }
    }

    template <class Kept>
    void attend_tile(long at, const Place* places, std::pair<long, long> tile, long head, long stride) {
        thread_local std::vector<float> scores;
        const long E = n_.head_dim, share = n_.heads / n_.kv_heads, tokens = tile.second - tile.first;
        const Line<Kept> keys = n_.key_line<Kept>(at, places[tile.first].slot, head);
        const Line<Kept> values = n_.value_line<Kept>(at, places[tile.first].slot, head);
        constexpr int MOST = 4;
        const float* queries[MOST];
        float *out[MOST], slopes[MOST];
        long seen[MOST];
        int ready = 0;
        for (long each = 0; each < share * tokens; each++) {
            const long token = tile.first + each / share, channel = (head * share + each % share) * E;
            queries[ready] = &qkv_[token * stride + channel];
            out[ready] = &mixed_.values[token * n_.heads * E + channel];
            slopes[ready] = n_.slopes[head * share + each % share];
            seen[ready++] = places[token].position + 1;
            if (ready == MOST || each + 1 == share * tokens) {
                attend<MOST>(ready, queries, slopes, seen, keys, values, E, scores, out);
                ready = 0;
            }
        }
    }

    const Network n_;
    const std::vector<Layer> layers_;
    Pool pool_;
    std::vector<Place> places_;
    std::vector<std::pair<long, long>> tiles_;
    std::vector<int64_t> history_, found_, last_found_;  // [slots][capacity] tokens, [T][N] and [rows][N] of recall
    std::vector<float> x_, last_, qkv_, up_, change_, shares_;
    Inputs normed_, mixed_, hidden_, recalled_;
};

}  // namespace

extern "C" {

int64_t sw2_matrix_bytes(int32_t format, int64_t rows, int64_t columns) {
    return (rows + ROWS - 1) / ROWS * panel_bytes(format, columns);
}

void sw2_pack(void* stepper, const Matrix* matrix, const void* codes, const void* scales, const void* minima) {
    pack(static_cast<Stepper*>(stepper)->pool(), *matrix, static_cast<const uint8_t*>(codes),
         static_cast<const uint16_t*>(scales), static_cast<const uint16_t*>(minima));
}

int64_t sw2_held_bytes() { return sizeof(Held); }

void* sw2_new(const Network* network, int32_t threads) { return new Stepper(*network, threads); }
void sw2_delete(void* stepper) { delete static_cast<Stepper*>(stepper); }

void sw2_step(void* stepper, int64_t rows, const int64_t* counts, const int64_t* tokens, const int64_t* slots,
              const int64_t* starts, float* logits) {
    static_cast<Stepper*>(stepper)->step(rows, counts, tokens, slots, starts, logits);
}

void sw2_copy(void* stepper, int64_t source, int64_t target, int64_t tokens) {
    static_cast<Stepper*>(stepper)->copy(source, target, tokens);
}
}
