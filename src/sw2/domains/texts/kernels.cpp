// Texts as the rows of a dictionary, and the descent over them.
//
// Cutting follows fastText (`parts/formats/fasttext.py` tells the rules, and is the reference): a text is cut at white
// space of ASCII; each token gives the row of its word and those of its n-grams of characters; behind them all stand
// the rows of the n-grams of words. N-grams are hashes modulo `buckets`, of which only those in `kept` have a row.
//
// The descent (Joulin et al. 2016, arXiv 1607.01759): with h the mean of a text's M rows e,
//
//     softmax                loss -log p_k of the right label k      p = softmax(O h)
//     hierarchical softmax   loss -sum over the nodes n above the right label of log sigmoid(+-o_n . h)
//     then                   o += rate * error * h      each e += rate / M * sum of error * o (as o was before)
//
// text by text. A row that stands in a text twice is read and changed twice. Threads take shares of a step's texts and
// change the same matrices without locks ("Hogwild", Recht et al. 2011): of two that change one row at once, one may
// lose its change. One thread gives the same bits every time.
//
// Notable
// - Rows of a text lie anywhere in a matrix that no cache holds: they are asked for some texts' lengths ahead.
// - The hash of a token is fastText's, and serves our own tables too, so that each byte is read once.
// - A dictionary is never changed after it was made: several threads may cut by it at once.
//
// `native.py` holds the same structs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Token = std::string_view;

constexpr Token END_OF_LINE = "</s>", LABEL = "__label__";

// ---------------------------------------------------------------------------------------------------------- cutting

// Texts in UTF-8, one after the other; text i is bytes[begins[i] .. begins[i + 1]).
struct Texts {
    const char* bytes;
    const int64_t* begins;
    int64_t count;
    const uint8_t* raw;      // [count]: 1 where a text is ASCII that is still to be made plain by the tables
    const uint8_t* lowered;  // [128]: each character in lower case
    const uint8_t* alone;    // [128]: 1 for those that are tokens by themselves
};

inline bool separates(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0'; }

// FNV-1a with 32 bits over bytes as signed numbers.
inline uint32_t hashed(Token token) {
    uint32_t hash = 2166136261u;
    for (const char c : token) hash = (hash ^ static_cast<uint32_t>(static_cast<int8_t>(c))) * 16777619u;
    return hash;
}

inline bool is_label(Token token) { return token.substr(0, LABEL.size()) == LABEL; }

// Calls `each` with every token of text i, and with the end of the line.
template <class Each>
void cut(const Texts& texts, int64_t i, std::string& scratch, const Each& each) {
    Token text(texts.bytes + texts.begins[i], static_cast<size_t>(texts.begins[i + 1] - texts.begins[i]));
    if (texts.raw[i]) {
        scratch.resize(3 * text.size());
        char* to = scratch.data();
        for (const char c : text) {
            const bool alone = texts.alone[static_cast<uint8_t>(c)];
            if (alone) *to++ = ' ';
            *to++ = static_cast<char>(texts.lowered[static_cast<uint8_t>(c)]);
            if (alone) *to++ = ' ';
        }
        text = Token(scratch.data(), static_cast<size_t>(to - scratch.data()));
    }
    for (size_t at = 0; at < text.size();) {
        while (at < text.size() && separates(text[at])) at++;
        const size_t begin = at;
        while (at < text.size() && !separates(text[at])) at++;
        if (at > begin) each(text.substr(begin, at - begin));
    }
    each(END_OF_LINE);
}

// Distinct words by number, found by hash and bytes; open addressing, at most half full.
class Words {
  public:
    int32_t find(Token word, uint32_t hash) const {
        if (entries_.empty()) return -1;
        for (size_t slot = hash & mask(); slots_[slot] >= 0; slot = (slot + 1) & mask()) {
            const Entry& entry = entries_[slots_[slot]];
            if (entry.hash == hash && bytes_of(entry) == word) return slots_[slot];
        }
        return -1;
    }

    // The number of a word that is not there yet.
    int32_t add(Token word, uint32_t hash) {
        const int32_t number = static_cast<int32_t>(entries_.size());
        entries_.push_back({hash, static_cast<uint32_t>(word.size()), bytes_.size()});
        bytes_.append(word);
        if (2 * entries_.size() > slots_.size()) {
            size_t room = 1024;
            while (room < 4 * entries_.size()) room *= 2;
            slots_.assign(room, -1);
            for (size_t each = 0; each < entries_.size(); each++) place(static_cast<int32_t>(each));
        } else {
            place(number);
        }
        return number;
    }

    int32_t size() const { return static_cast<int32_t>(entries_.size()); }
    Token operator[](int32_t number) const { return bytes_of(entries_[number]); }

  private:
    struct Entry {
        uint32_t hash, length;
        size_t begin;
    };
    std::vector<Entry> entries_;
    std::vector<int32_t> slots_;  // numbers of words, -1 where free; a power of two
    std::string bytes_;

    size_t mask() const { return slots_.size() - 1; }
    Token bytes_of(const Entry& entry) const { return Token(bytes_).substr(entry.begin, entry.length); }
    void place(int32_t number) {
        size_t slot = entries_[number].hash & mask();
        while (slots_[slot] >= 0) slot = (slot + 1) & mask();
        slots_[slot] = number;
    }
};

// How often each word occurs.
struct Counter {
    Words words;
    std::vector<int64_t> counts;
    std::vector<int32_t> order;  // of those that occur often enough: most frequent first, equals by their bytes
};

// Which row a bucket of n-grams has.
class Kept {
  public:
    // The row of buckets[i] is i; the order says nothing.
    Kept(const int64_t* buckets, int64_t count) {
        size_t room = 1024;
        while (room < static_cast<size_t>(2 * count)) room *= 2;
        slots_.assign(room, {0, -1});
        for (int64_t row = 0; row < count; row++) {
            size_t slot = first(static_cast<uint32_t>(buckets[row]));
            while (slots_[slot].row >= 0) slot = (slot + 1) & (slots_.size() - 1);
            slots_[slot] = {static_cast<uint32_t>(buckets[row]), static_cast<int32_t>(row)};
        }
    }

    int64_t row(uint32_t bucket) const {
        for (size_t slot = first(bucket); slots_[slot].row >= 0; slot = (slot + 1) & (slots_.size() - 1))
            if (slots_[slot].bucket == bucket) return slots_[slot].row;
        return -1;
    }

  private:
    struct Slot {
        uint32_t bucket;
        int32_t row;
    };
    std::vector<Slot> slots_;

    // Buckets that are left may stand in runs: they are spread (Fibonacci hashing, Knuth volume 3, section 6.4).
    size_t first(uint32_t bucket) const { return (bucket * 0x9e3779b97f4a7c15ull >> 24) & (slots_.size() - 1); }
};

// What a dictionary is made of.
struct Told {
    const char* bytes;      // the words in UTF-8, one after the other
    const int64_t* begins;  // [words + 1]
    int64_t words;
    const int64_t* kept;    // [kept_count]: the bucket of each row behind the words
    int64_t kept_count;     // -1: every bucket has its row
    int64_t buckets, shortest, longest, word_ngrams;
};

class Dictionary {
  public:
    explicit Dictionary(const Told& told) : told_(told), kept_(told.kept, std::max<int64_t>(0, told.kept_count)) {
        for (int64_t i = 0; i < told.words; i++) {
            const Token word(told.bytes + told.begins[i], static_cast<size_t>(told.begins[i + 1] - told.begins[i]));
            words_.add(word, hashed(word));
        }
        borders_.push_back(0);
        for (int32_t i = 0; i < words_.size(); i++) {
            characters(words_[i], parts_);
            borders_.push_back(parts_.size());
        }
    }

    uint32_t words() const { return static_cast<uint32_t>(told_.words); }

    // The rows of text i, behind those that are there.
    void rows(const Texts& texts, int64_t i, std::string& scratch, std::vector<int32_t>& hashes,
              std::vector<uint32_t>& found) const {
        hashes.clear();
        cut(texts, i, scratch, [&](Token token) {
            const uint32_t hash = hashed(token);
            const int32_t number = words_.find(token, hash);
            if (number >= 0) {
                found.push_back(static_cast<uint32_t>(number));
                found.insert(found.end(), parts_.begin() + borders_[number], parts_.begin() + borders_[number + 1]);
            } else {
                if (is_label(token)) return;
                characters(token, found);
            }
            hashes.push_back(static_cast<int32_t>(hash));
        });
        if (told_.buckets == 0) return;
        for (size_t first = 0; first < hashes.size(); first++) {
            uint64_t hash = static_cast<uint64_t>(static_cast<int64_t>(hashes[first]));
            const size_t last = std::min(hashes.size(), first + static_cast<size_t>(told_.word_ngrams));
            for (size_t next = first + 1; next < last; next++) {
                hash = hash * 116049371u + static_cast<uint64_t>(static_cast<int64_t>(hashes[next]));
                add_bucket(hash, found);
            }
        }
    }

  private:
    const Told told_;  // its pointers serve the constructor only
    Words words_;
    const Kept kept_;
    std::vector<uint32_t> parts_;  // the rows of each word's n-grams of characters
    std::vector<size_t> borders_;

    void add_bucket(uint64_t hash, std::vector<uint32_t>& found) const {
        const uint32_t bucket = static_cast<uint32_t>(hash % static_cast<uint64_t>(told_.buckets));
        const int64_t row = told_.kept_count < 0 ? bucket : kept_.row(bucket);
        if (row >= 0) found.push_back(static_cast<uint32_t>(told_.words + row));
    }

    // The rows of the n-grams of "<token>"; the brackets alone are none, and the end of a line has none.
    void characters(Token token, std::vector<uint32_t>& found) const {
        if (told_.longest <= 0 || told_.buckets == 0 || token == END_OF_LINE) return;
        const size_t length = token.size() + 2;
        const auto byte = [&](size_t at) { return at == 0 ? '<' : at + 1 == length ? '>' : token[at - 1]; };
        const auto inside = [&](size_t at) { return (byte(at) & 0xc0) == 0x80; };  // of a character
        for (size_t begin = 0; begin < length; begin++) {
            if (inside(begin)) continue;
            uint32_t hash = 2166136261u;
            size_t end = begin;
            for (int64_t characters = 1; end < length && characters <= told_.longest; characters++) {
                do {
                    hash = (hash ^ static_cast<uint32_t>(static_cast<int8_t>(byte(end)))) * 16777619u;
                    end++;
                } while (end < length && inside(end));
                if (characters >= told_.shortest && !(characters == 1 && (begin == 0 || end == length)))
                    add_bucket(hash, found);
            }
        }
    }
};

// ---------------------------------------------------------------------------------------------------------- descent

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t LANES = 16;
constexpr int64_t AHEAD = 24;  // rows that are asked for before they are needed

struct Lesson {
    const uint32_t* rows;       // of all texts
    const int64_t* starts;      // [texts + 1]: where those of a text begin
    const int64_t* targets;     // [texts]: the right labels
    const int64_t* chosen;      // [count]: the texts of this step, in their order
    int64_t count;
    float* input;               // [rows, dimensions]
    float* output;              // [labels, dimensions]
    int64_t dimensions, labels;
    const int64_t* way_starts;  // [labels + 1]: where the nodes above a label begin; null for softmax
    const int64_t* nodes;
    const float* turns;         // 1 where the way goes to the right
    double rate_begin, rate_end;
    int64_t threads;
    double* losses;             // [threads], out: sums; not a number where learning stopped
};

inline float sum(Lanes all) {
    float part[16];
    std::memcpy(part, &all, sizeof part);
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

inline float dot(const float* a, const float* b, int64_t n) {
    Lanes all = {};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        all += *reinterpret_cast<const Lanes*>(a + i) * *reinterpret_cast<const Lanes*>(b + i);
    float found = sum(all);
    for (; i < n; i++) found += a[i] * b[i];
    return found;
}

// to += scale * from
inline void add(float* to, const float* from, float scale, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        *reinterpret_cast<Lanes*>(to + i) += scale * *reinterpret_cast<const Lanes*>(from + i);
    for (; i < n; i++) to[i] += scale * from[i];
}

class Thread {
  public:
    explicit Thread(const Lesson& lesson)
        : lesson_(lesson), hidden_(lesson.dimensions), change_(lesson.dimensions), errors_(lesson.labels) {}

    // Learn chosen[begin:end]; the sum of their losses, each before its text was learned. A text whose loss is no
    // finite number changes nothing and ends it.
    double run(int64_t begin, int64_t end) {
        double loss = 0;
        for (int64_t number = begin; number < end && std::isfinite(loss); number++) {
            const double done = static_cast<double>(number) / static_cast<double>(lesson_.count);
            const double rate = lesson_.rate_begin + (lesson_.rate_end - lesson_.rate_begin) * done;
            loss += learn(lesson_.chosen[number], static_cast<float>(rate));
        }
        return loss;
    }

  private:
    const Lesson lesson_;
    std::vector<float> hidden_, change_, errors_;

    float* row(int64_t place) const { return lesson_.input + lesson_.rows[place] * lesson_.dimensions; }

    void ask(int64_t place, int64_t end) const {
        if (place >= end) return;
        const char* at = reinterpret_cast<const char*>(row(place));
        const char* last = at + lesson_.dimensions * sizeof(float) - 1;
        for (; at <= last; at += 64) __builtin_prefetch(at, 1);
        __builtin_prefetch(last, 1);
    }

    double learn(int64_t text, float rate) {
        const int64_t begin = lesson_.starts[text], end = lesson_.starts[text + 1], n = lesson_.dimensions;
        if (begin == end) return 0;
        const float share = 1.0f / static_cast<float>(end - begin);
        std::fill(change_.begin(), change_.end(), 0.0f);
        float* sums = change_.data();
        for (int64_t place = begin; place < begin + AHEAD; place++) ask(place, end);
        for (int64_t place = begin; place < end; place++) {
            ask(place + AHEAD, end);
            add(sums, row(place), 1.0f, n);
        }
        for (int64_t i = 0; i < n; i++) hidden_[i] = sums[i] * share;
        const bool tree = lesson_.way_starts != nullptr;
        const double loss = tree ? turned(lesson_.targets[text]) : guessed(lesson_.targets[text]);
        if (!std::isfinite(loss + dot(hidden_.data(), hidden_.data(), n)))
            return std::numeric_limits<double>::quiet_NaN();
        std::fill(change_.begin(), change_.end(), 0.0f);
        const int64_t first = tree ? lesson_.way_starts[lesson_.targets[text]] : 0;
        const int64_t outputs = tree ? lesson_.way_starts[lesson_.targets[text] + 1] - first : lesson_.labels;
        for (int64_t k = 0; k < outputs; k++) {
            float* out = lesson_.output + (tree ? lesson_.nodes[first + k] : k) * n;
            add(change_.data(), out, rate * errors_[k], n);
            add(out, hidden_.data(), rate * errors_[k], n);
        }
        for (int64_t place = begin; place < begin + AHEAD; place++) ask(place, end);
        for (int64_t place = begin; place < end; place++) {
            ask(place + AHEAD, end);
            add(row(place), change_.data(), share, n);
        }
        return loss;
    }

    // The loss of softmax; into `errors_` what each label lacks.
    double guessed(int64_t target) {
        const int64_t labels = lesson_.labels;
        float most = -std::numeric_limits<float>::infinity(), all = 0;
        for (int64_t k = 0; k < labels; k++) {
            errors_[k] = dot(lesson_.output + k * lesson_.dimensions, hidden_.data(), lesson_.dimensions);
            most = std::max(most, errors_[k]);
        }
        for (int64_t k = 0; k < labels; k++) all += errors_[k] = std::exp(errors_[k] - most);
        const double right = errors_[target] / all;
        for (int64_t k = 0; k < labels; k++) errors_[k] *= -1 / all;
        errors_[target] += 1;
        return -std::log(std::max(right, 1e-12));
    }

    // The loss of the way to a label; into `errors_` what each of its nodes lacks.
    double turned(int64_t target) {
        double loss = 0;
        const int64_t first = lesson_.way_starts[target], last = lesson_.way_starts[target + 1];
        for (int64_t place = first; place < last; place++) {
            const float* out = lesson_.output + lesson_.nodes[place] * lesson_.dimensions;
            const float turn = 1 / (1 + std::exp(-dot(out, hidden_.data(), lesson_.dimensions)));
            errors_[place - first] = lesson_.turns[place] - turn;
            loss -= std::log(std::max(1 - std::abs(errors_[place - first]), 1e-12f));
        }
        return loss;
    }
};

}  // namespace

extern "C" {

Counter* sw2_texts_counter() { return new Counter; }

// Counts the tokens of some texts, labels left out.
void sw2_texts_count(Counter* counter, const Texts* texts) {
    std::string scratch;
    for (int64_t i = 0; i < texts->count; i++)
        cut(*texts, i, scratch, [&](Token token) {
            if (is_label(token)) return;
            const uint32_t hash = hashed(token);
            const int32_t number = counter->words.find(token, hash);
            if (number >= 0) {
                counter->counts[number]++;
            } else {
                counter->words.add(token, hash);
                counter->counts.push_back(1);
            }
        });
}

// Orders the words that occur `least` times. told, out: how many these are, their bytes with an end for each, how many
// distinct words were seen, how often the most frequent, and all of them.
void sw2_texts_order(Counter* counter, int64_t least, int64_t* told) {
    std::fill(told, told + 5, 0);
    for (int32_t i = 0; i < counter->words.size(); i++) {
        told[3] = std::max(told[3], counter->counts[i]);
        told[4] += counter->counts[i];
        if (counter->counts[i] < least) continue;
        counter->order.push_back(i);
        told[1] += static_cast<int64_t>(counter->words[i].size()) + 1;
    }
    std::sort(counter->order.begin(), counter->order.end(), [&](int32_t a, int32_t b) {
        if (counter->counts[a] != counter->counts[b]) return counter->counts[a] > counter->counts[b];
        return counter->words[a] < counter->words[b];  // bytes as unsigned numbers
    });
    told[0] = static_cast<int64_t>(counter->order.size());
    told[2] = counter->words.size();
}

// Writes the ordered words, a newline behind each, and their counts; the counter is gone then.
void sw2_texts_counted(Counter* counter, char* bytes, int64_t* counts) {
    for (const int32_t number : counter->order) {
        const Token word = counter->words[number];
        std::memcpy(bytes, word.data(), word.size());
        bytes[word.size()] = '\n';
        bytes += word.size() + 1;
        *counts++ = counter->counts[number];
    }
    delete counter;
}

Dictionary* sw2_texts_open(const Told* told) { return new Dictionary(*told); }

void sw2_texts_close(Dictionary* dictionary) { delete dictionary; }

// The rows of some texts. starts: [count + 1], out. Returns them; `sw2_texts_take` hands them out.
std::vector<uint32_t>* sw2_texts_rows(const Dictionary* dictionary, const Texts* texts, int64_t* starts) {
    auto* found = new std::vector<uint32_t>;
    std::string scratch;
    std::vector<int32_t> hashes;
    starts[0] = 0;
    for (int64_t i = 0; i < texts->count; i++) {
        dictionary->rows(*texts, i, scratch, hashes, *found);
        starts[i + 1] = static_cast<int64_t>(found->size());
    }
    return found;
}

// Marks the buckets whose n-grams occur in some texts. The dictionary has a row for every bucket.
// seen: a bit for each bucket, the lowest of a byte first; marks that are there stay.
void sw2_texts_seen(const Dictionary* dictionary, const Texts* texts, uint8_t* seen) {
    std::string scratch;
    std::vector<int32_t> hashes;
    std::vector<uint32_t> found;
    for (int64_t i = 0; i < texts->count; i++) {
        found.clear();
        dictionary->rows(*texts, i, scratch, hashes, found);
        for (const uint32_t row : found) {
            if (row < dictionary->words()) continue;
            const uint32_t bucket = row - dictionary->words();
            seen[bucket >> 3] |= static_cast<uint8_t>(1u << (bucket & 7));
        }
    }
}

// Writes the rows, which are gone then.
void sw2_texts_take(std::vector<uint32_t>* found, uint32_t* rows) {
    std::copy(found->begin(), found->end(), rows);
    delete found;
}

// Learn a step's texts.
void sw2_texts_learn(const Lesson* lesson) {
    std::vector<std::thread> running;
    for (int64_t i = 0; i < lesson->threads; i++) {
        const int64_t begin = lesson->count * i / lesson->threads, end = lesson->count * (i + 1) / lesson->threads;
        auto work = [lesson, begin, end, i] { lesson->losses[i] = Thread(*lesson).run(begin, end); };
        if (i + 1 < lesson->threads) running.emplace_back(work);
        else work();
    }
    for (auto& each : running) each.join();
}

}  // extern "C"
