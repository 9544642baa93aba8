// One step of learning word vectors: a piece of the corpus, on several threads without locks.
//
// What is minimised (Mikolov et al. 2013, arXiv 1310.4546, eq. 4), for a word i seen beside a word o, and words n drawn
// at random:
//
//     -log sigmoid(in_i . out_o) - sum over n of log sigmoid(-in_i . out_n)
//
//     skip-gram   i: each word of the window, o: the word in its middle; n: drawn once for the window and shared by its
//                 words, so that the window is one small matrix product (Ji et al. 2016, arXiv 1604.04661)
//     CBOW        i: the mean of the window, o: the word in its middle
//     subwords    i: the mean of the middle word's vector and those of its character n-grams, o: each word of the
//                 window, one after the other, each with words drawn for it (Bojanowski et al. 2017, arXiv 1607.04606).
//                 What changes all parts changes their mean by as much, so that parts are read and written once a window
//
// Or, with hierarchical softmax (Morin and Bengio 2005; Mikolov et al. 2013, section 2.1), for the nodes on the way to o
// down a tree of all words, turn 1 where the way goes to the right and -1 where it goes to the left:
//
//     - sum over the nodes of log sigmoid(turn in_i . out_node)
//
// with each pair of a window one after the other, as in word2vec.
//
// With skip-gram and CBOW all gradients of a window are of the vectors before it. Whatever is drawn (which words of the
// text stay, the width of a window, the words n) is a function of the seed and the place in the corpus, not of threads.
//
// Threads read and write the same matrices without locks ("Hogwild", Recht et al. 2011): of two that change one row at
// once, one may lose its change. One thread gives the same bits every time.
//
// Layout: rows of `stride` floats, a multiple of 16, at addresses that are multiples of 64; what is behind the
// dimensions is zero and stays so. `native.py` holds the same struct.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

typedef float Lanes __attribute__((vector_size(64), may_alias));
constexpr int LANES = 16;
constexpr int MOST_BESIDE = 40;     // words of a window without the middle one
constexpr int MOST_NEGATIVES = 20;  // drawn for a word
constexpr int MOST_NODES = 64;      // on the way to a word: a deeper tree takes a corpus of 10^13 words
constexpr int MOST_CHUNKS = 64;     // 1,024 dimensions
constexpr int LONGEST = 1000;       // words of a line that stay; longer lines are cut
constexpr int TOLD_EVERY = 16;      // the loss is computed for one window in so many

enum Way : int64_t { SKIP_GRAM, CBOW, SUBWORDS };

struct Lesson {
    const int32_t* tokens;     // numbers of words; -1 between lines
    int64_t begin, end;        // the piece of this step
    const float* keep;         // [words]: with which chance an occurrence stays
    const float* threshold;    // [words]: the alias method (Walker 1977) for words drawn at random
    const int32_t* alias;      // [words]
    int64_t words;
    float* input;              // [rows, stride]: one row for each word, then those of n-grams
    float* output;             // [words, stride]: of words, or of the nodes of the tree
    int64_t stride;
    const int64_t* borders;    // [words + 1]: where the rows of a word begin in `parts`; null without subwords
    const int32_t* parts;
    const int64_t* ways;       // [words + 1]: where the way to a word begins in `nodes`; null without a tree
    const int32_t* nodes;
    const float* turns;        // 1 where the way goes to the right from this node, else 0
    int64_t way, window, negatives, threads;
    uint64_t seed;             // of this pass over the corpus
    double rate_begin, rate_end;
    double* told;              // [threads, 3]: the sum of the losses computed, of how many pairs, and words that stayed
};

// ---------------------------------------------------------------------------------------------------------- drawing

inline uint64_t mixed(uint64_t x) {  // SplitMix64 (Steele et al. 2014)
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

inline float share(uint64_t drawn) { return static_cast<float>(drawn & 0xffffff) * (1.0f / 16777216.0f); }

inline int64_t below(uint64_t drawn, int64_t bound) {
    return static_cast<int64_t>(((drawn >> 32) * static_cast<uint64_t>(bound)) >> 32);
}

inline int32_t drawn_word(const Lesson& lesson, uint64_t drawn) {
    const int64_t place = below(drawn, lesson.words);
    return share(drawn) < lesson.threshold[place] ? static_cast<int32_t>(place) : lesson.alias[place];
}

// ------------------------------------------------------------------------------------------------------- arithmetic

inline Lanes* lanes(float* row) { return reinterpret_cast<Lanes*>(row); }
inline const Lanes* lanes(const float* row) { return reinterpret_cast<const Lanes*>(row); }

inline float sum(Lanes all) {
    float a[16], b[8], c[4];
    std::memcpy(a, &all, sizeof a);
    for (int i = 0; i < 8; i++) b[i] = a[i] + a[i + 8];
    for (int i = 0; i < 4; i++) c[i] = b[i] + b[i + 4];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

// 1 / (1 + exp(-x)) for n numbers: exp as 2^k times a polynomial of degree 6, off by a few units in the last place.
inline void sigmoids(float* x, int n) {
    for (int i = 0; i < n; i++) {
        float t = std::min(30.0f, std::max(-30.0f, -x[i])) * 1.44269504f;
        const float whole = static_cast<float>(static_cast<int32_t>(t + (t < 0 ? -0.5f : 0.5f)));
        const float f = (t - whole) * 0.693147181f;
        float e = 1.0f / 720;
        e = e * f + 1.0f / 120;
        e = e * f + 1.0f / 24;
        e = e * f + 1.0f / 6;
        e = e * f + 0.5f;
        e = e * f + 1.0f;
        e = e * f + 1.0f;
        const int32_t bits = (static_cast<int32_t>(whole) + 127) << 23;
        float power;
        std::memcpy(&power, &bits, 4);
        x[i] = 1.0f / (1.0f + e * power);
    }
}

inline double loss_of(float right) { return -std::log(std::max(right, 1e-30f)); }

// What a thread tells of.
struct Told {
    double loss = 0, pairs = 0, stayed = 0;
};

// K words of a window, each beside S words: the middle one, then those drawn; `used` is 0 for those that do not count.
template <int S>
void learn_matrix(float* const* in, int k, float* const* out, const float* used, int chunks, float rate, Told* told) {
    float error[MOST_BESIDE * S];
    for (int i = 0; i < k; i++) {
        Lanes dots[S] = {};
        for (int c = 0; c < chunks; c++) {
            const Lanes x = lanes(in[i])[c];
            for (int s = 0; s < S; s++) dots[s] += x * lanes(out[s])[c];
        }
        for (int s = 0; s < S; s++) error[i * S + s] = sum(dots[s]);
    }
    sigmoids(error, k * S);
    if (told != nullptr) {
        for (int i = 0; i < k; i++) {
            told->loss += loss_of(error[i * S]);
            for (int s = 1; s < S; s++) told->loss += used[s] * loss_of(1 - error[i * S + s]);
        }
        told->pairs += k;
    }
    for (int i = 0; i < k; i++) {
        error[i * S] = (1 - error[i * S]) * rate;
        for (int s = 1; s < S; s++) error[i * S + s] *= -rate * used[s];
    }
    Lanes change[MOST_BESIDE];
    for (int c = 0; c < chunks; c++) {
        Lanes o[S], d[S] = {};
        for (int s = 0; s < S; s++) o[s] = lanes(out[s])[c];
        for (int i = 0; i < k; i++) {
            const Lanes x = lanes(in[i])[c];
            Lanes g = {};
            for (int s = 0; s < S; s++) {
                g += error[i * S + s] * o[s];
                d[s] += error[i * S + s] * x;
            }
            change[i] = g;
        }
        for (int i = 0; i < k; i++) lanes(in[i])[c] += change[i];  // one after the other: a word may stand there twice
        for (int s = 0; s < S; s++) lanes(out[s])[c] += d[s];
    }
}

// What one vector meets: the right word and those drawn, or the nodes on the way to the right word.
struct Met {
    int count;
    float* rows[MOST_NODES];
    float wanted[MOST_NODES];  // what the sigmoid should be
    float used[MOST_NODES];    // 0 for those that do not count
};

// One vector h beside what it meets; `gradient` is what h should change by.
void learn_vector(const float* h, float* gradient, const Met& met, int chunks, float rate, Told* told) {
    const int n = met.count;
    float* const* out = met.rows;
    float error[MOST_NODES];
    for (int s = 0; s < n; s++) {
        Lanes dot = {};
        for (int c = 0; c < chunks; c++) dot += lanes(h)[c] * lanes(out[s])[c];
        error[s] = sum(dot);
    }
    sigmoids(error, n);
    if (told != nullptr) {
        for (int s = 0; s < n; s++) told->loss += met.used[s] * loss_of(met.wanted[s] > 0 ? error[s] : 1 - error[s]);
        told->pairs += 1;
    }
    for (int s = 0; s < n; s++) error[s] = (met.wanted[s] - error[s]) * rate * met.used[s];
    for (int c = 0; c < chunks; c++) {
        const Lanes x = lanes(h)[c];
        Lanes g = {};
        for (int s = 0; s < n; s++) g += error[s] * lanes(out[s])[c];
        for (int s = 0; s < n; s++) lanes(out[s])[c] += error[s] * x;
        lanes(gradient)[c] = g;
    }
}

// --------------------------------------------------------------------------------------------------------- windows

struct Window {
    int32_t middle;
    int beside;                                   // how many words of the window without the middle one
    int32_t words[MOST_BESIDE];
    int32_t drawn[MOST_BESIDE * MOST_NEGATIVES];  // for the middle word, or with subwords for each of the others
};

class Thread {
  public:
    Thread(const Lesson& lesson, int64_t begin, int64_t end)
        : lesson_(lesson), begin_(begin), end_(end), chunks_(static_cast<int>(lesson.stride / LANES)) {}

    void run() {
        words_.reserve(LONGEST);
        places_.reserve(LONGEST);
        for (int64_t place = begin_; place < end_; place++) {
            const int32_t word = lesson_.tokens[place];
            if (word >= 0 && share(mixed(mixed(lesson_.seed + place))) < lesson_.keep[word]) {
                words_.push_back(word);
                places_.push_back(place);
            }
            if (word < 0 || words_.size() == LONGEST) line();
        }
        line();
        double* told = lesson_.told;
        told[0] = told_.loss, told[1] = told_.pairs, told[2] = told_.stayed;
    }

  private:
    const Lesson lesson_;
    const int64_t begin_, end_;
    const int chunks_;
    std::vector<int32_t> words_;
    std::vector<int64_t> places_;
    Window windows_[2];
    Told told_;
    alignas(64) float mean_[MOST_CHUNKS * LANES];
    alignas(64) float gradient_[MOST_CHUNKS * LANES];
    alignas(64) float change_[MOST_CHUNKS * LANES];

    float* in(int64_t row) const { return lesson_.input + row * lesson_.stride; }
    float* out(int64_t row) const { return lesson_.output + row * lesson_.stride; }

    // The words that stayed of a line. A window is drawn before the one ahead of it is learned from: its rows are on
    // their way meanwhile.
    void line() {
        const int n = static_cast<int>(words_.size());
        if (n > 1) {
            draw(0);
            for (int t = 0; t < n; t++) {
                if (t + 1 < n) draw(t + 1);
                learn(windows_[t & 1], places_[t]);
            }
        }
        told_.stayed += n;
        words_.clear();
        places_.clear();
    }

    void draw(int t) {
        Window& window = windows_[t & 1];
        const int n = static_cast<int>(words_.size());
        const uint64_t base = mixed(lesson_.seed + places_[t]);
        const int width = 1 + static_cast<int>(below(mixed(base + 1), lesson_.window));
        window.middle = words_[t];
        window.beside = 0;
        for (int i = std::max(0, t - width); i < std::min(n, t + width + 1); i++)
            if (i != t) window.words[window.beside++] = words_[i];
        const int drawn = static_cast<int>(lesson_.negatives) * (lesson_.way == SUBWORDS ? window.beside : 1);
        for (int j = 0; j < drawn; j++) {
            window.drawn[j] = drawn_word(lesson_, mixed(base + 2 + j));
            const char* row = reinterpret_cast<const char*>(out(window.drawn[j]));
            for (int c = 0; c < chunks_; c++) __builtin_prefetch(row + 64 * c, 1);
        }
        if (lesson_.ways != nullptr) {
            if (lesson_.way != SUBWORDS) prefetch_way(window.middle);
            else
                for (int i = 0; i < window.beside; i++) prefetch_way(window.words[i]);
        }
        if (lesson_.way == SUBWORDS)
            for (int64_t p = lesson_.borders[window.middle]; p < lesson_.borders[window.middle + 1]; p++)
                for (int c = 0; c < chunks_; c++) __builtin_prefetch(in(lesson_.parts[p]) + LANES * c, 1);
    }

    void prefetch_way(int32_t word) const {
        for (int64_t p = lesson_.ways[word]; p < lesson_.ways[word + 1]; p++)
            for (int c = 0; c < chunks_; c++) __builtin_prefetch(out(lesson_.nodes[p]) + LANES * c, 1);
    }

    void learn(const Window& window, int64_t place) {
        const float done = static_cast<float>(place - lesson_.begin) / static_cast<float>(lesson_.end - lesson_.begin);
        const float rate =
            static_cast<float>(lesson_.rate_begin) + static_cast<float>(lesson_.rate_end - lesson_.rate_begin) * done;
        Told* told = place % TOLD_EVERY == 0 ? &told_ : nullptr;
        if (lesson_.way == SKIP_GRAM)
            return lesson_.ways == nullptr ? skip_gram(window, rate, told) : down_the_tree(window, rate, told);
        const int32_t* parts = window.words;
        int64_t count = window.beside;
        if (lesson_.way == SUBWORDS) {
            parts = lesson_.parts + lesson_.borders[window.middle];
            count = lesson_.borders[window.middle + 1] - lesson_.borders[window.middle];
        }
        const float part = 1.0f / static_cast<float>(count);
        for (int c = 0; c < chunks_; c++) {
            Lanes all = {};
            for (int64_t p = 0; p < count; p++) all += lanes(in(parts[p]))[c];
            lanes(mean_)[c] = all * part;
            lanes(change_)[c] = Lanes{};
        }
        if (lesson_.way == CBOW) pair(window.middle, window.drawn, rate, told);
        else
            for (int i = 0; i < window.beside; i++)
                pair(window.words[i], window.drawn + i * lesson_.negatives, rate, told);
        for (int64_t p = 0; p < count; p++) {
            float* row = in(parts[p]);
            for (int c = 0; c < chunks_; c++) lanes(row)[c] += lanes(change_)[c];
        }
    }

    Met met(int32_t right, const int32_t* drawn) const {
        Met met;
        met.count = 0;
        auto add = [&](int32_t row, float wanted, float used) {
            met.rows[met.count] = out(row), met.wanted[met.count] = wanted, met.used[met.count] = used;
            met.count++;
        };
        if (lesson_.ways == nullptr) {
            add(right, 1, 1);
            for (int64_t s = 0; s < lesson_.negatives; s++) add(drawn[s], 0, drawn[s] != right);
        } else {
            for (int64_t p = lesson_.ways[right]; p < lesson_.ways[right + 1]; p++)
                add(lesson_.nodes[p], lesson_.turns[p], 1);
        }
        return met;
    }

    // The mean beside a right word: it changes, and `change_` by as much.
    void pair(int32_t right, const int32_t* drawn, float rate, Told* told) {
        learn_vector(mean_, gradient_, met(right, drawn), chunks_, rate, told);
        for (int c = 0; c < chunks_; c++) {
            lanes(mean_)[c] += lanes(gradient_)[c];
            lanes(change_)[c] += lanes(gradient_)[c];
        }
    }

    // Skip-gram with the tree: each word of the window beside the way to the middle one.
    void down_the_tree(const Window& window, float rate, Told* told) {
        const Met way = met(window.middle, nullptr);
        for (int i = 0; i < window.beside; i++) {
            float* row = in(window.words[i]);
            learn_vector(row, gradient_, way, chunks_, rate, told);
            for (int c = 0; c < chunks_; c++) lanes(row)[c] += lanes(gradient_)[c];
        }
    }

    void skip_gram(const Window& window, float rate, Told* told) {
        float* beside[MOST_BESIDE];
        for (int i = 0; i < window.beside; i++) beside[i] = in(window.words[i]);
        // Compiled for 5, 10 and 20 words drawn; others take the next of these, with words that do not count.
        const int n = 1 + static_cast<int>(lesson_.negatives), room = n <= 6 ? 6 : n <= 11 ? 11 : 21;
        float* samples[21] = {out(window.middle)};
        float used[21] = {1};
        for (int s = 1; s < room; s++) {
            const int32_t word = s < n ? window.drawn[s - 1] : window.middle;
            samples[s] = out(word), used[s] = word != window.middle;
        }
        if (room == 6) learn_matrix<6>(beside, window.beside, samples, used, chunks_, rate, told);
        else if (room == 11) learn_matrix<11>(beside, window.beside, samples, used, chunks_, rate, told);
        else learn_matrix<21>(beside, window.beside, samples, used, chunks_, rate, told);
    }
};

}  // namespace

extern "C" {

// Learn from a piece of the corpus; `rate_begin` to `rate_end` from its begin to its end.
void sw2_words_step(const Lesson* lesson) {
    const int64_t length = lesson->end - lesson->begin;
    std::vector<std::thread> running;
    for (int64_t i = 0; i < lesson->threads; i++) {
        Lesson own = *lesson;
        own.told = lesson->told + 3 * i;
        const int64_t begin = lesson->begin + length * i / lesson->threads;
        const int64_t end = lesson->begin + length * (i + 1) / lesson->threads;
        auto work = [own, begin, end] { Thread(own, begin, end).run(); };
        if (i + 1 < lesson->threads) running.emplace_back(work);
        else work();
    }
    for (auto& each : running) each.join();
}

// The rows of each word's n-grams, as fastText finds them: FNV-1a over the bytes of "<word>", bytes as signed numbers.
//
// text: the words in UTF-8 between "<" and ">", one after the other; word i is text[begins[i] .. begins[i + 1]).
// own: whether each word's own row comes first. words: the row of the first bucket.
// borders: [n + 1], out. parts: out, or null to count only. Returns how many there are.
int64_t sw2_words_ngrams(const char* text, const int64_t* begins, int64_t n, int64_t shortest, int64_t longest,
                         int64_t own, int64_t words, int64_t buckets, int64_t* borders, int32_t* parts) {
    int64_t count = 0;
    for (int64_t word = 0; word < n; word++) {
        borders[word] = count;
        const int64_t begin = begins[word], end = begins[word + 1];
        if (own) {
            if (parts != nullptr) parts[count] = static_cast<int32_t>(word);
            count++;
        }
        for (int64_t i = begin; i < end; i++) {
            if ((text[i] & 0xc0) == 0x80) continue;
            uint32_t hash = 2166136261u;
            int64_t j = i;
            for (int64_t characters = 1; j < end && characters <= longest; characters++) {
                do {
                    hash = (hash ^ static_cast<uint32_t>(static_cast<int8_t>(text[j]))) * 16777619u;
                    j++;
                } while (j < end && (text[j] & 0xc0) == 0x80);
                if (characters >= shortest && !(characters == 1 && (i == begin || j == end))) {
                    if (parts != nullptr) parts[count] = static_cast<int32_t>(words + hash % buckets);
                    count++;
                }
            }
        }
    }
    borders[n] = count;
    return count;
}

}  // extern "C"
