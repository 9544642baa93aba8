// Is this key in a set: hashes of keys, Bloom filters over them, and a classifier that knows what keys look like.
//
//     hash      64 bits of a number or a text
//     add, ask  k bits of a field for each hash; a field that has all of them set says "probably", else "no"
//     learn     logistic regression over hashed features of the keys: weights in floating point
//     score     the sum of a key's weights in whole numbers of 8 bits
//
// Notable
// - Whatever decides an answer is whole-number arithmetic, the same here and in the reference in numpy: a filter that
//   was built by one and is asked by the other misses no key.
// - A gram of a text is a number: up to 5 bytes, and how many they are in the top byte. One multiplication mixes it,
//   and the leading bits of the product name its weight (multiply-shift). Features of a number are its leading bits and
//   its last.
// - Bits of 32 hashes are asked for ahead, then looked at: memory is waited for once a group.
// - Bits of a hash h are those at h + i * g, g being another hash (double hashing): the high half of the sum, scaled.
// - Learning goes by batches, whose scores are taken before its changes are made: the reference does them at once.
//
// Sources
// - Bloom 1970, https://doi.org/10.1145/362686.362692; double hashing: Kirsch & Mitzenmacher 2008,
//   https://doi.org/10.1002/rsa.20208
// - Mixing: the end of MurmurHash3 (Appleby), multipliers 0xff51afd7ed558ccd and 0xc4ceb9fe1a85ec53
// - Multiply-shift: Dietzfelbinger et al. 1997, https://doi.org/10.1006/jagm.1997.0873; hashed features: Weinberger et
//   al. 2009, https://arxiv.org/abs/0902.2206; learning: AdaGrad, Duchi et al. 2011
//
// What it does not do: checks of its arguments (Python does), threads.
//
// Names: n keys · k bits of a key · a text is bytes[starts[i]] … bytes[starts[i + 1]]

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr uint64_t ODD = 0x9E3779B97F4A7C15u;  // 2^64 divided by the golden ratio
constexpr int64_t GROUP = 32;
constexpr int SHORTEST = 2, LONGEST = 5;  // bytes of a gram; the same as in `reference.py`
constexpr uint64_t BEGIN = 2, END = 3;    // what stands before and behind a text

inline uint64_t mixed(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdu;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53u;
    return value ^ value >> 33;
}

struct Numbers {
    const uint64_t* values;

    uint64_t hash(int64_t i) const { return mixed(values[i] + ODD); }

    template <class Use> void features(int64_t i, int shift, Use use) const {
        const uint64_t value = values[i];
        use(mixed(0) >> shift);
        for (uint64_t bits = 4; bits < 64; bits += 4) use(mixed((value >> (64 - bits)) + bits * ODD) >> shift);
        for (uint64_t bits : {1, 2, 3, 4, 6, 8, 12, 16})
            use(mixed((value & ((uint64_t(1) << bits) - 1)) + (64 + bits) * ODD) >> shift);
    }
};

struct Texts {
    const uint8_t* bytes;
    const int64_t* starts;

    uint64_t hash(int64_t i) const {
        const uint8_t* text = bytes + starts[i];
        const int64_t length = starts[i + 1] - starts[i];
        uint64_t found = uint64_t(length + 1) * ODD;
        for (int64_t at = 0; at < length; at += 8) {
            uint64_t word = 0;
            for (int64_t j = 0; j < 8 && at + j < length; ++j) word |= uint64_t(text[at + j]) << 8 * j;
            found = mixed(found ^ word);
        }
        return found;
    }

    template <class Use> void features(int64_t i, int shift, Use use) const {
        const uint8_t* text = bytes + starts[i];
        const int64_t length = starts[i + 1] - starts[i];
        use(0);
        for (int64_t from = -1; from <= length; ++from) {
            uint64_t gram = 0;
            for (int64_t size = 1; size <= LONGEST && from + size <= length + 1; ++size) {
                const int64_t at = from + size - 1;
                gram |= (at < 0 ? BEGIN : at == length ? END : uint64_t(text[at])) << 8 * (size - 1);
                if (size >= SHORTEST) use(((gram | uint64_t(size) << 56) * ODD) >> shift);
            }
        }
    }
};

template <class Keys> void hash_all(const Keys& keys, int64_t n, uint64_t* hashes) {
    for (int64_t i = 0; i < n; ++i) hashes[i] = keys.hash(i);
}

template <class Keys>
void score_all(const Keys& keys, int64_t n, const int8_t* weights, int64_t power, int32_t* scores) {
    const int shift = int(64 - power);
    for (int64_t i = 0; i < n; ++i) {
        int32_t sum = 0;
        keys.features(i, shift, [&](uint64_t at) { sum += weights[at]; });
        scores[i] = sum;
    }
}

// One pass over `order`, which holds the numbers of n examples; `member` is 1 for keys.
template <class Keys>
void learn_all(const Keys& keys, const int64_t* order, int64_t n, const uint8_t* member, int64_t power, int64_t batch,
               const float* rate, float* weights, float* squares) {
    const int shift = int(64 - power);
    std::vector<uint64_t> features;
    std::vector<float> missing;
    for (int64_t from = 0; from < n; from += batch) {
        features.clear();
        missing.clear();
        for (int64_t e = from; e < std::min(from + batch, n); ++e) {
            const size_t first = features.size();
            double sum = 0;
            keys.features(order[e], shift, [&](uint64_t at) {
                sum += weights[at];
                features.push_back(at);
            });
            const float gap = float(double(member[order[e]]) - 1 / (1 + std::exp(-sum)));
            missing.resize(features.size(), gap);
            for (size_t f = first; f < features.size(); ++f) squares[features[f]] += gap * gap;
        }
        for (size_t f = 0; f < features.size(); ++f)
            weights[features[f]] += *rate * missing[f] / std::sqrt(squares[features[f]]);
    }
}

inline void bits_of(uint64_t hash, uint64_t bits, int64_t k, uint64_t* at) {
    const uint64_t step = mixed(hash + ODD) | 1;
    for (int64_t i = 0; i < k; ++i) at[i] = ((hash + uint64_t(i) * step) >> 32) * bits >> 32;
}

// The bits of each hash, a group at a time, after their lines of memory were asked for.
template <class Use>
void by_groups(const uint64_t* field, uint64_t bits, int64_t k, const uint64_t* hashes, int64_t n, Use use) {
    std::vector<uint64_t> at(size_t(GROUP * k));
    for (int64_t from = 0; from < n; from += GROUP) {
        const int64_t count = std::min(GROUP, n - from);
        for (int64_t i = 0; i < count; ++i) {
            bits_of(hashes[from + i], bits, k, &at[size_t(i * k)]);
            for (int64_t j = 0; j < k; ++j) __builtin_prefetch(field + (at[size_t(i * k + j)] >> 6));
        }
        for (int64_t i = 0; i < count; ++i) use(from + i, &at[size_t(i * k)]);
    }
}

}  // namespace

extern "C" {

void hash_numbers(const uint64_t* values, int64_t n, uint64_t* hashes) { hash_all(Numbers{values}, n, hashes); }
void hash_texts(const uint8_t* bytes, const int64_t* starts, int64_t n, uint64_t* hashes) {
    hash_all(Texts{bytes, starts}, n, hashes);
}

void score_numbers(const uint64_t* values, int64_t n, const int8_t* weights, int64_t power, int32_t* scores) {
    score_all(Numbers{values}, n, weights, power, scores);
}
void score_texts(const uint8_t* bytes, const int64_t* starts, int64_t n, const int8_t* weights, int64_t power,
                 int32_t* scores) {
    score_all(Texts{bytes, starts}, n, weights, power, scores);
}

void learn_numbers(const uint64_t* values, const int64_t* order, int64_t n, const uint8_t* member, int64_t power,
                   int64_t batch, const float* rate, float* weights, float* squares) {
    learn_all(Numbers{values}, order, n, member, power, batch, rate, weights, squares);
}
void learn_texts(const uint8_t* bytes, const int64_t* starts, const int64_t* order, int64_t n, const uint8_t* member,
                 int64_t power, int64_t batch, const float* rate, float* weights, float* squares) {
    learn_all(Texts{bytes, starts}, order, n, member, power, batch, rate, weights, squares);
}

void add(uint64_t* field, uint64_t bits, int64_t k, const uint64_t* hashes, int64_t n) {
    by_groups(field, bits, k, hashes, n, [&](int64_t, const uint64_t* at) {
        for (int64_t j = 0; j < k; ++j) field[at[j] >> 6] |= uint64_t(1) << (at[j] & 63);
    });
}

void ask(const uint64_t* field, uint64_t bits, int64_t k, const uint64_t* hashes, int64_t n, uint8_t* found) {
    by_groups(field, bits, k, hashes, n, [&](int64_t i, const uint64_t* at) {
        uint64_t all = 1;
        for (int64_t j = 0; j < k; ++j) all &= field[at[j] >> 6] >> (at[j] & 63);
        found[i] = uint8_t(all);
    });
}

}  // extern "C"
