// GloVe: counting which words stand near each other, and a step of fitting vectors to the logarithms of the counts.
//
// Counting: a table with open addressing of as many cells as memory is to hold. Each pair of words within a window adds
// UNIT / distance to its cell, a whole number for each distance up to 20, so that sums are exact whatever their order.
// When the table is full, its cells are sorted and written by the caller, who merges what was written.
//
// Fitting (Pennington, Socher and Manning 2014, https://aclanthology.org/D14-1162, eq. 8 and 9), over all pairs (i, j):
//
//     sum of f(x_ij) (first_i . second_j + b_i + c_j - log x_ij)^2,    f(x) = min(1, (x / x_max)^alpha)
//
// by AdaGrad (Duchi, Hazan and Singer 2011) as the authors' code has it: a number w with the gradient g (of half the
// sum) changes by -s / sqrt(1 + the sum of all s^2 before), s = rate * g.
//
// The counts are those of both sides of a word, so that x_ij = x_ji: a pair is kept once, and learned from both ways,
// which touch no number in common. Threads read and write the same matrices without locks ("Hogwild", Recht et al.
// 2011); one thread gives the same bits every time.
//
// Layout: rows of `stride` floats, a multiple of 16, at addresses that are multiples of 64. Behind the D dimensions of
// `first` stand b and 1, of `second` 1 and c, so that a product of rows holds the biases; the squares of these ones are
// infinite, so that they stay. `native.py` beside holds the same structs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

typedef float Lanes __attribute__((vector_size(64), may_alias));
constexpr int LANES = 16;
constexpr uint64_t UNIT = 232792560;  // the smallest number that 1 to 20 divide
constexpr int64_t AHEAD = 4;          // pairs whose rows are on their way

struct Cell {
    uint64_t key;  // 0 is free; else 1 + (smaller number * words + larger number)
    uint64_t sum;  // of UNIT / distance
};

struct Pair {
    int32_t smaller, larger;
    float count;
};

struct Fit {
    const Pair* pairs;
    int64_t begin, end;
    float *first, *second;                  // [words, stride]
    float *first_squares, *second_squares;  // [words, stride]: 1 and the sum of squares so far
    int64_t stride, threads;
    double rate, x_max, alpha;
    double* loss;  // [threads]
};

inline uint64_t mixed(uint64_t x) {  // SplitMix64 (Steele et al. 2014)
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

inline Lanes* lanes(float* row) { return reinterpret_cast<Lanes*>(row); }

inline float sum(Lanes all) {
    float a[16], b[8], c[4];
    std::memcpy(a, &all, sizeof a);
    for (int i = 0; i < 8; i++) b[i] = a[i] + a[i + 8];
    for (int i = 0; i < 4; i++) c[i] = b[i] + b[i + 4];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

inline Lanes root(Lanes all) {
    float each[LANES];
    std::memcpy(each, &all, sizeof each);
    for (int i = 0; i < LANES; i++) each[i] = std::sqrt(each[i]);
    std::memcpy(&all, each, sizeof each);
    return all;
}

// first_i and second_j beside log x: the loss of the pair one way.
double learn(const Fit& fit, int64_t i, int64_t j, float logarithm, float weight) {
    Lanes *x = lanes(fit.first + i * fit.stride), *xs = lanes(fit.first_squares + i * fit.stride);
    Lanes *y = lanes(fit.second + j * fit.stride), *ys = lanes(fit.second_squares + j * fit.stride);
    const int chunks = static_cast<int>(fit.stride / LANES);
    Lanes dot = {};
    for (int c = 0; c < chunks; c++) dot += x[c] * y[c];
    const float off = sum(dot) - logarithm;
    const float scale = weight * off * static_cast<float>(fit.rate);
    for (int c = 0; c < chunks; c++) {
        const Lanes of_x = scale * y[c], of_y = scale * x[c];
        x[c] -= of_x / root(xs[c]);
        y[c] -= of_y / root(ys[c]);
        xs[c] += of_x * of_x;
        ys[c] += of_y * of_y;
    }
    return static_cast<double>(weight) * off * off;
}

void prefetch(const Fit& fit, int64_t row) {
    for (float* table : {fit.first, fit.second, fit.first_squares, fit.second_squares})
        for (int64_t c = 0; c < fit.stride; c += LANES) __builtin_prefetch(table + row * fit.stride + c, 1);
}

double run(const Fit& fit, int64_t begin, int64_t end) {
    const float most = static_cast<float>(std::log(fit.x_max)), alpha = static_cast<float>(fit.alpha);
    double loss = 0;
    for (int64_t place = begin; place < end; place++) {
        if (place + AHEAD < end) {
            prefetch(fit, fit.pairs[place + AHEAD].smaller);
            prefetch(fit, fit.pairs[place + AHEAD].larger);
        }
        const Pair pair = fit.pairs[place];
        const float logarithm = std::log(pair.count);
        const float weight = std::exp(alpha * std::min(0.0f, logarithm - most));
        loss += learn(fit, pair.smaller, pair.larger, logarithm, weight);
        if (pair.smaller != pair.larger) loss += learn(fit, pair.larger, pair.smaller, logarithm, weight);
    }
    return loss;
}

}  // namespace

extern "C" {

// Count the pairs whose first word stands in tokens[begin .. end), until `most` cells are used, which leaves some free.
//
// tokens: numbers of words, -1 between lines; a window may go on behind `end`, up to `length`.
// used: how many cells are, in and out. Returns where to go on from.
int64_t sw2_glove_count(const int32_t* tokens, int64_t begin, int64_t end, int64_t length, int64_t words,
                        int64_t window, Cell* table, int64_t cells, int64_t most, int64_t* used) {
    const uint64_t mask = static_cast<uint64_t>(cells) - 1;  // a power of two
    for (int64_t place = begin; place < end; place++) {
        if (*used + window > most) return place;
        const int64_t first = tokens[place], last = std::min(length - 1, place + window);
        if (first < 0) continue;
        for (int64_t other = place + 1; other <= last && tokens[other] >= 0; other++) {
            const int64_t second = tokens[other];
            const uint64_t key = 1 + static_cast<uint64_t>(std::min(first, second) * words + std::max(first, second));
            uint64_t at = mixed(key) & mask;
            while (table[at].key != key && table[at].key != 0) at = (at + 1) & mask;
            *used += table[at].key == 0;
            table[at].key = key;
            table[at].sum += UNIT / static_cast<uint64_t>(other - place);
        }
    }
    return end;
}

// Bring the used cells to the front, sorted by key. Returns how many there are.
int64_t sw2_glove_sort(Cell* table, int64_t cells) {
    Cell* end = std::remove_if(table, table + cells, [](const Cell& cell) { return cell.key == 0; });
    std::sort(table, end, [](const Cell& one, const Cell& other) { return one.key < other.key; });
    return end - table;
}

// Learn from pairs[begin .. end).
void sw2_glove_fit(const Fit* fit) {
    const int64_t length = fit->end - fit->begin;
    std::vector<std::thread> running;
    for (int64_t i = 0; i < fit->threads; i++) {
        const int64_t begin = fit->begin + length * i / fit->threads;
        const int64_t end = fit->begin + length * (i + 1) / fit->threads;
        auto work = [fit, i, begin, end] { fit->loss[i] = run(*fit, begin, end); };
        if (i + 1 < fit->threads) running.emplace_back(work);
        else work();
    }
    for (auto& each : running) each.join();
}

}  // extern "C"
