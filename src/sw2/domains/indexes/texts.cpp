// Texts as keys: their heads, and the search over whole texts that ends a look-up.
//
//     a text's head       its first 8 bytes behind what all texts of the column begin with, as a number, the first byte
//                         leading and zeros behind the end: texts with a smaller head are smaller           (heads)
//     a model             finds the first head that is not below the query's: kernels.cpp, as of any numbers
//     a run of one head   is searched by halving, text by text                                             (search)
//
// Texts are compared byte by byte as memcmp does, a text before those that it begins: the order of code points in UTF-8.
// They lie as Arrow has them: all bytes one behind the other, and where each text begins.
//
// Notable
// - 32 queries go together, and each asks for the memory that it reads next, as in kernels.cpp.
// - A query of at most 8 bytes that does not end in a zero needs no text: whatever has its head begins with it.
//
// Sources: Arrow's layout, https://arrow.apache.org/docs/format/Columnar.html; comparing the first bytes of a key as a
// number before the key: Graefe & Larson 2001 (B-tree indexes and CPU caches, https://doi.org/10.1109/ICDE.2001.914847).
//
// What it does not do: checks of its arguments (Python does), locales, threads.
//
// Names: n texts · m queries · g queries of a group

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

typedef int64_t Place;
typedef uint8_t Byte;

constexpr Place GROUP = 32;  // queries that go together
constexpr Place HEAD = 8;    // bytes of a head
constexpr Place NEAR = 8;    // heads that are looked at one by one

inline void ask_for(const void* memory) { __builtin_prefetch(memory); }

struct Texts {
    const Byte* bytes;
    const Place* starts;

    Place length(Place i) const { return starts[i + 1] - starts[i]; }
    const Byte* text(Place i) const { return bytes + starts[i]; }
};

// Below 0, 0 or above 0 as a text is below, equal to or above another.
inline int compare(const Byte* a, Place a_length, const Byte* b, Place b_length) {
    const Place shared = std::min(a_length, b_length);
    const int order = shared > 0 ? std::memcmp(a, b, size_t(shared)) : 0;
    return order ? order : int(a_length > b_length) - int(a_length < b_length);
}

inline uint64_t head_of(const Byte* text, Place length) {
    uint64_t head = 0;
    for (Place i = 0; i < HEAD; ++i) head = head << 8 | (i < length ? text[i] : 0);
    return head;
}

// From windows to places: low[i] becomes the number of texts below query `from + i`, which lies in low … low + width.
// Both are known to begin with the same `skip` bytes, which are not compared.
void settle(const Texts& keys, const Texts& queries, Place from, Place g, Place skip, Place* low, Place* width) {
    for (bool open = true; open;) {
        open = false;
        for (Place i = 0; i < g; ++i)
            if (width[i]) ask_for(keys.starts + low[i] + width[i] / 2);
        for (Place i = 0; i < g; ++i)
            if (width[i]) ask_for(keys.text(low[i] + width[i] / 2) + skip);
        for (Place i = 0; i < g; ++i) {
            if (!width[i]) continue;
            const Place half = width[i] / 2, middle = low[i] + half, query = from + i;
            const bool under = compare(keys.text(middle) + skip, keys.length(middle) - skip, queries.text(query) + skip,
                                       queries.length(query) - skip) < 0;
            low[i] += under ? half + 1 : 0;
            width[i] = under ? width[i] - half - 1 : half;
            open |= width[i] > 0;
        }
    }
}

}  // namespace

extern "C" {

// The head of each text behind `skip` bytes that are those of `prefix`; and in `side` 0 where they are, else -1 or 1 as
// the text is below or above all that begin so.
void heads(const Byte* bytes, const Place* starts, Place n, const Byte* prefix, Place skip, uint64_t* head, int8_t* side) {
    const Texts texts{bytes, starts};
    for (Place i = 0; i < n; ++i) {
        const Byte* text = texts.text(i);
        const Place length = texts.length(i);
        const int order = compare(text, std::min(length, skip), prefix, skip);
        side[i] = int8_t((order > 0) - (order < 0));
        head[i] = order ? 0 : head_of(text + skip, length - skip);
    }
}

// The first text that is above the next one, or -1.
Place unordered(const Byte* bytes, const Place* starts, Place n) {
    const Texts texts{bytes, starts};
    for (Place i = 0; i + 1 < n; ++i)
        if (compare(texts.text(i), texts.length(i), texts.text(i + 1), texts.length(i + 1)) > 0) return i;
    return -1;
}

// How many texts are below each query. `place` comes as how many heads are below the query's.
void search(const Byte* bytes, const Place* starts, Place n, const uint64_t* head, const Byte* query_bytes,
            const Place* query_starts, const uint64_t* query_head, Place m, Place skip, Place* place) {
    const Texts keys{bytes, starts}, queries{query_bytes, query_starts};
    Place width[GROUP];
    for (Place from = 0; from < m; from += GROUP, place += GROUP) {
        const Place g = std::min(GROUP, m - from);
        for (Place i = 0; i < g; ++i) ask_for(head + std::min(place[i], n - 1));
        for (Place i = 0; i < g; ++i) {
            const Place query = from + i, length = queries.length(query) - skip, low = place[i];
            const uint64_t wanted = query_head[query];
            width[i] = 0;
            if (length <= HEAD && (length <= 0 || queries.text(query)[skip + length - 1])) continue;
            Place run = 0;
            while (run < NEAR && low + run < n && head[low + run] == wanted) ++run;
            if (run == NEAR)
                while (low + run < n && head[low + run] == wanted) run *= 2;
            width[i] = std::min(run, n - low);
        }
        settle(keys, queries, from, g, skip, place, width);
    }
}

// The same without heads: halving over all texts. The peer.
void halve(const Byte* bytes, const Place* starts, Place n, const Byte* query_bytes, const Place* query_starts, Place m,
           Place* place) {
    const Texts keys{bytes, starts}, queries{query_bytes, query_starts};
    Place width[GROUP];
    for (Place from = 0; from < m; from += GROUP, place += GROUP) {
        const Place g = std::min(GROUP, m - from);
        for (Place i = 0; i < g; ++i) place[i] = 0, width[i] = n;
        settle(keys, queries, from, g, 0, place, width);
    }
}
}
