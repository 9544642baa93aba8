// Keys that came and keys that went beside a sorted array: their log, their trees, and look-ups over both.
//
//     a change is     a record at the end of a file, written and synced; then it is in memory    (Log, Session::change)
//     in memory       two trees, one of keys that came and one of keys that went                 (Tree)
//     a place is      the array's answer, plus how many that came are below, less those that went
//
// Notable
// - The array is asked by a function of kernels.cpp, whose address and arguments are handed in once: a call from Python
//   is one call, however many keys it has.
// - A tree counts: beside each child stands how many keys lie in the children before it. A rank is one way down, and so
//   is an insert, which splits full nodes on its way (Guibas & Sedgewick 1978, https://doi.org/10.1109/SFCS.1978.3) and
//   adds one to what stands behind it. Gapped arrays under lines (ALEX, Ding et al. 2020,
//   https://arxiv.org/abs/1905.08898) find a key sooner, but not its rank, and a fold soon makes what is here small again.
// - Keys of every type become whole numbers in the same order here, NaN the last of them, so that there is one tree.
// - Several threads may read while one waits for the disk: a lock is held for the log, another one, for moments, for the
//   trees. Each call sees all of a record or nothing.
// - Whether the array's file has been touched is looked at once a millisecond at most: a file's time is no finer than a
//   tick of the system, and asking costs more than finding a key.
// - Keys are looked for in groups, level by level, as in kernels.cpp: memory is waited for once a group.
// - A record that could not be written is taken away again. Where that fails too, no more are taken.
// - Records that are synced are written into room: zeros that belong to the file already, so that a sync has not its
//   length to write as well, a third of the time on ext4. What is left of it is given back when a session closes.
// - What is not whole was never acknowledged if it is the last that was written; where something was written behind it, it
//   is damaged.
// - Memory that runs out ends the process, as a kill does: what was acknowledged is in the log.
//
// What it does not do: open files, tell errors (Python does), take keys out of a tree.
//
// Names: n keys of the array · m keys of a call · c a child of a node

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <numeric>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian, and written as they lie in memory");

namespace {

typedef int64_t Place;
typedef int64_t Key;  // in order, whatever the type was

constexpr Key LAST = std::numeric_limits<Key>::max();
constexpr Key FIRST = std::numeric_limits<Key>::min();
constexpr Place SELDOM = 1000000;  // nanoseconds
constexpr Place CHANGED = -1000;  // the file of the array is another one; below all errors of the system

// ----------------------------------------------------------------------------------------------------- keys in order

enum Type : int64_t { INT64, UINT64, FLOAT64 };

Key in_order(uint64_t bits, Type type) {
    if (type == INT64) return Key(bits);
    if (type == UINT64) return Key(bits ^ uint64_t(FIRST));
    double value;
    std::memcpy(&value, &bits, 8);
    if (value != value) return LAST;
    value += 0.0;  // -0.0 is 0.0
    Key key;
    std::memcpy(&key, &value, 8);
    return key < 0 ? key ^ LAST : key;
}

uint64_t as_it_was(Key key, Type type) {
    if (type == UINT64) return uint64_t(key) ^ uint64_t(FIRST);
    return uint64_t(type == FLOAT64 && key < 0 ? key ^ LAST : key);
}

// ------------------------------------------------------------------------------------------------------------ the log

// CRC-32 as zlib has it (RFC 1952), eight bytes a step: table[k][b] is what byte b does with k bytes of zeros behind.
const std::array<std::array<uint32_t, 256>, 8>& crc_tables() {
    static const auto tables = [] {
        std::array<std::array<uint32_t, 256>, 8> made{};
        for (uint32_t byte = 0; byte < 256; ++byte) {
            uint32_t rest = byte;
            for (int bit = 0; bit < 8; ++bit) rest = rest & 1 ? rest >> 1 ^ 0xEDB88320u : rest >> 1;
            made[0][byte] = rest;
        }
        for (int k = 1; k < 8; ++k)
            for (int byte = 0; byte < 256; ++byte)
                made[k][byte] = made[k - 1][byte] >> 8 ^ made[0][made[k - 1][byte] & 255];
        return made;
    }();
    return tables;
}

uint32_t crc32_of_words(uint32_t crc, const unsigned char* bytes, size_t words) {
    const auto& table = crc_tables();
    crc = ~crc;
    for (; words; --words, bytes += 8) {
        uint64_t word;
        std::memcpy(&word, bytes, 8);
        word ^= crc;
        crc = 0;
        for (int k = 0; k < 8; ++k) crc ^= table[7 - k][word >> 8 * k & 255];
    }
    return ~crc;
}

constexpr char CAME[] = "came", WENT[] = "went";
constexpr size_t HEAD = 12;  // kind, how many keys, CRC-32 of these and the keys
constexpr Place ROOM = 1 << 18;

// How many bytes the record has that begins here; 0 where none does that is whole.
Place whole_record(const unsigned char* head, Place length) {
    if (length < Place(HEAD) || (std::memcmp(head, CAME, 4) && std::memcmp(head, WENT, 4))) return 0;
    uint32_t count, crc;
    std::memcpy(&count, head + 4, 4);
    std::memcpy(&crc, head + 8, 4);
    const Place size = Place(HEAD) + 8 * Place(count);
    return size <= length && crc32_of_words(crc32_of_words(0, head, 1), head + HEAD, count) == crc ? size : 0;
}

// Whether something was written behind the record that begins here and is not whole: a whole one, or anything but room
// behind where it ends by its own count.
bool followed(const unsigned char* bytes, Place length) {
    for (Place behind = 4; behind < length; behind += 4)
        if (whole_record(bytes + behind, length - behind)) return true;
    if (length < Place(HEAD) || (std::memcmp(bytes, CAME, 4) && std::memcmp(bytes, WENT, 4))) return false;
    uint32_t count;
    std::memcpy(&count, bytes + 4, 4);
    const Place size = std::min(length, Place(HEAD) + 8 * Place(count));
    return std::any_of(bytes + size, bytes + length, [](unsigned char byte) { return byte != 0; });
}

struct Log {
    int file;
    Place end;  // of the last record that is whole
    bool sync;
    bool roomy;      // takes room
    Place room = 0;  // ends here
    bool broken = false;
    std::vector<unsigned char> record;

    // 0, or the number of the error with a minus; then nothing was written.
    Place append(const char* kind, const uint64_t* keys, Place m) {
        if (broken) return -EIO;
        const uint32_t count = uint32_t(m);
        record.resize(HEAD + 8 * size_t(m));
        std::memcpy(record.data(), kind, 4);
        std::memcpy(record.data() + 4, &count, 4);
        std::memcpy(record.data() + HEAD, keys, 8 * size_t(m));
        const uint32_t crc = crc32_of_words(crc32_of_words(0, record.data(), 1), record.data() + HEAD, size_t(m));
        std::memcpy(record.data() + 8, &crc, 4);
        if (roomy && end + Place(record.size()) > room) take_room(end + Place(record.size()) + ROOM);
        if (!written() || (sync && !synced())) {
            const int error = errno;
            broken = !cut();
            return -error;
        }
        end += Place(record.size());
        return 0;
    }

    void close() {
        if (room > end) cut();
    }

    // Where there is none, a record may have its place all the same.
    void take_room(Place to) {
#ifdef __linux__
        roomy = posix_fallocate(file, end, to - end) == 0;
#else
        roomy = false;
#endif
        if (roomy) room = to;
        else cut();
    }

    bool cut() {
        room = 0;
        return ftruncate(file, end) == 0;
    }

    bool written() {
        for (size_t done = 0; done < record.size();) {
            const ssize_t some = pwrite(file, record.data() + done, record.size() - done, end + Place(done));
            if (some > 0) done += size_t(some);
            else if (some == 0 || errno != EINTR) return false;
        }
        return true;
    }

    // With the data go what is needed to find it again, the file's length among that (POSIX, fdatasync).
    bool synced() {
#ifdef __APPLE__
        return fcntl(file, F_FULLFSYNC) != -1;
#else
        return fdatasync(file) == 0;
#endif
    }
};

// ---------------------------------------------------------------------------------------------------------- the trees

constexpr int CHILDREN = 32, KEYS = 64, LINE = 8;  // children of a node, keys of a leaf and of a line of memory
constexpr Place GROUP = 32;                        // keys that are looked for together

template <int N> int below_of(const Key (&keys)[N], Key query) {  // all of a node at once; what is empty is LAST
    int count = 0;
    for (int i = 0; i < N; ++i) count += keys[i] < query;
    return count;
}

template <class T> void make_room(T* from, T* to) { std::move_backward(from, to, to + 1); }

struct Node {};

struct alignas(64) Leaf : Node {
    Key key[KEYS];
    Place count = 0;
    Leaf* next = nullptr;
    Leaf() { std::fill_n(key, KEYS, LAST); }
};

// Keys of child c are at most separator[c], and those of the next one at least that.
struct alignas(64) Inner : Node {
    Key separator[CHILDREN];
    Place before[CHILDREN];  // how many keys the children before have
    Node* child[CHILDREN];
    int children = 0;
    Inner() { std::fill_n(separator, CHILDREN, LAST); }
};

class Tree {
  public:
    Tree() : root(new_leaf()) {}

    Place size() const { return keys; }

    // How many keys are below.
    Place rank(Key query) const {
        Place found = 0;
        const Node* node = root;
        for (int level = height; level; --level) {
            const Inner& inner = *static_cast<const Inner*>(node);
            const int c = below_of(inner.separator, query);
            found += inner.before[c];
            node = inner.child[c];
        }
        return found + below_of(static_cast<const Leaf*>(node)->key, query);
    }

    // The same of up to GROUP keys, each added to what stands there times a sign.
    void add_ranks(const Key* query, Place g, Place sign, Place* found) const {
        const Node* node[GROUP];
        std::fill_n(node, g, root);
        for (int level = height; level; --level) {
            for (Place i = 0; i < g; ++i) {
                const Inner& inner = *static_cast<const Inner*>(node[i]);
                const int c = below_of(inner.separator, query[i]);
                found[i] += sign * inner.before[c];
                node[i] = inner.child[c];
                const Key* keys = level > 1 ? static_cast<const Inner*>(node[i])->separator
                                            : static_cast<const Leaf*>(node[i])->key;
                for (int at = 0; at < (level > 1 ? CHILDREN : KEYS); at += LINE) __builtin_prefetch(keys + at);
            }
        }
        for (Place i = 0; i < g; ++i) found[i] += sign * below_of(static_cast<const Leaf*>(node[i])->key, query[i]);
    }

    Place equal(Key key) const { return (key == LAST ? keys : rank(key + 1)) - rank(key); }

    void add(Key key) {
        if (full(root, height)) {
            Inner* above = new_inner();
            above->child[0] = root;
            above->before[0] = 0;
            above->children = 1;
            root = above;
            ++height;
            split(*above, 0, height - 1);
        }
        Node* node = root;
        for (int level = height; level; --level) {
            Inner& inner = *static_cast<Inner*>(node);
            int c = below_of(inner.separator, key);
            if (full(inner.child[c], level - 1)) {
                split(inner, c, level - 1);
                c += inner.separator[c] < key;
            }
            for (int behind = c + 1; behind < CHILDREN; ++behind) ++inner.before[behind];
            node = inner.child[c];
        }
        Leaf& leaf = *static_cast<Leaf*>(node);
        const int at = below_of(leaf.key, key);
        make_room(leaf.key + at, leaf.key + leaf.count);
        leaf.key[at] = key;
        ++leaf.count;
        ++keys;
    }

    // All keys that are not below, one after the other.
    class Cursor {
      public:
        Cursor(const Leaf* leaf, Place at) : leaf(leaf), at(at) { settle(); }
        bool there() const { return leaf; }
        Key key() const { return leaf->key[at]; }
        void advance() {
            ++at;
            settle();
        }

      private:
        const Leaf* leaf;
        Place at;
        void settle() {
            while (leaf && at == leaf->count) leaf = leaf->next, at = 0;
        }
    };

    Cursor from(Key query) const {
        const Node* node = root;
        for (int level = height; level; --level) {
            const Inner& inner = *static_cast<const Inner*>(node);
            node = inner.child[below_of(inner.separator, query)];
        }
        const Leaf* leaf = static_cast<const Leaf*>(node);
        return Cursor(leaf, below_of(leaf->key, query));
    }

  private:
    std::deque<Leaf> leaves;  // nothing moves when it grows
    std::deque<Inner> inners;
    Node* root;
    int height = 0;  // levels over the leaves
    Place keys = 0;

    Leaf* new_leaf() { return &leaves.emplace_back(); }
    Inner* new_inner() {
        Inner* made = &inners.emplace_back();
        std::fill_n(made->before, CHILDREN, 0);
        return made;
    }

    static bool full(const Node* node, int level) {
        return level ? static_cast<const Inner*>(node)->children == CHILDREN
                     : static_cast<const Leaf*>(node)->count == KEYS;
    }

    // The upper half of a full child goes to a new one behind it.
    void split(Inner& parent, int c, int level) {
        Key middle;
        Place left;
        Node* behind;
        if (level) {
            Inner& full = *static_cast<Inner*>(parent.child[c]);
            Inner& half = *new_inner();
            constexpr int kept = CHILDREN / 2;
            left = full.before[kept];
            middle = full.separator[kept - 1];
            half.children = CHILDREN - kept;
            for (int i = kept; i < CHILDREN; ++i) {
                half.child[i - kept] = full.child[i];
                half.before[i - kept] = full.before[i] - left;
            }
            std::copy(full.separator + kept, full.separator + CHILDREN, half.separator);
            std::fill(full.separator + kept - 1, full.separator + CHILDREN, LAST);
            full.children = kept;
            behind = &half;
        } else {
            Leaf& full = *static_cast<Leaf*>(parent.child[c]);
            Leaf& half = *new_leaf();
            left = KEYS / 2;
            std::copy(full.key + left, full.key + KEYS, half.key);
            std::fill(full.key + left, full.key + KEYS, LAST);
            full.count = left;
            half.count = KEYS - left;
            half.next = full.next;
            full.next = &half;
            middle = half.key[0];
            behind = &half;
        }
        make_room(parent.separator + c, parent.separator + parent.children - 1);
        make_room(parent.before + c + 1, parent.before + parent.children);
        make_room(parent.child + c + 1, parent.child + parent.children);
        parent.separator[c] = middle;
        parent.before[c + 1] = parent.before[c] + left;
        parent.child[c + 1] = behind;
        ++parent.children;
    }
};

// ---------------------------------------------------------------------------------------------------------- the array

// A function of kernels.cpp takes addresses and whole numbers, 64 bits each: the array, n, queries, m, answers, and what
// its model has. They are handed in as numbers, as ctypes does.
typedef int64_t Word;
constexpr size_t ARGUMENTS = 16;

template <size_t> using A = Word;
template <size_t... I> void with(const void* function, const Word* first, const Word* own, std::index_sequence<I...>) {
    reinterpret_cast<void (*)(Word, Word, Word, Word, Word, A<I>...)>(const_cast<void*>(function))(
        first[0], first[1], first[2], first[3], first[4], own[I]...);
}

template <size_t N = 0> void called(const void* function, const Word* first, const Word* own, size_t count) {
    if constexpr (N <= ARGUMENTS) {
        if (count == N) with(function, first, own, std::make_index_sequence<N>());
        else called<N + 1>(function, first, own, count);
    }
}

struct Array {
    const void* function = nullptr;
    const void* searched = nullptr;  // what the function takes as its array: the keys, or a copy in another order
    const uint64_t* keys = nullptr;  // sorted, NaN last
    Place numbers = 0, n = 0;        // without the NaN, and with them
    std::vector<Word> arguments;
    std::string path;
    Place size = 0, time = 0, node = 0;

    void locate(const uint64_t* query, Place m, Place* answer) const {
        const Word first[] = {Word(searched), numbers, Word(query), m, Word(answer)};
        called(function, first, arguments.data(), arguments.size());
    }

    // The file that the keys were read from has been touched, as far as is looked.
    bool changed(std::atomic<Place>& looked) const {
        const Place now = std::chrono::steady_clock::now().time_since_epoch().count();
        if (function && now - looked.load(std::memory_order_relaxed) < SELDOM) return false;
        struct stat found;
        if (!function || stat(path.c_str(), &found)) return true;
#ifdef __APPLE__
        const auto& modified = found.st_mtimespec;
#else
        const auto& modified = found.st_mtim;
#endif
        if (found.st_size != size || Place(found.st_ino) != node ||
            Place(modified.tv_sec) * 1000000000 + modified.tv_nsec != time)
            return true;  // and looked at again by the next call
        looked.store(now, std::memory_order_relaxed);
        return false;
    }
};

// -------------------------------------------------------------------------------------------------------- the session

struct Session {
    Type type;
    Log log;
    Array array;
    Tree came, went;
    std::mutex writing;
    std::shared_mutex trees;  // and the array
    std::atomic<Place> looked{0};  // at the array's file, by the clock

    Place change(const char* kind, const uint64_t* keys, Place m) {
        if (const Place error = log.append(kind, keys, m)) return error;
        const std::unique_lock<std::shared_mutex> alone(trees);
        take_in(kind, keys, m);
        return 0;
    }

    void take_in(const char* kind, const uint64_t* keys, Place m) {
        Tree& tree = kind[0] == CAME[0] ? came : went;
        Key key[GROUP];
        Place unused[GROUP] = {};
        for (Place from = 0; from < m; from += GROUP) {
            const Place g = std::min(GROUP, m - from);
            for (Place i = 0; i < g; ++i) key[i] = in_order(keys[from + i], type);
            if (g > 1) tree.add_ranks(key, g, 0, unused);  // a look ahead: their nodes are then in the cache
            for (Place i = 0; i < g; ++i) tree.add(key[i]);
        }
    }

    // How many keys equal the one that stands first at a place of the array.
    Place equal_in_array(Place at, Key key) const {
        const auto above = [&](const uint64_t& bits) { return in_order(bits, type) > key; };
        Place step = 1;  // runs are short mostly
        while (at + step < array.n && !above(array.keys[at + step])) step *= 2;
        const uint64_t* from = array.keys + at;
        const uint64_t* to = array.keys + std::min(at + step, array.n);
        return std::partition_point(from, to, [&](const uint64_t& bits) { return !above(bits); }) - from;
    }

    void places(const uint64_t* keys, Place m, Place* answer) const {
        array.locate(keys, m, answer);
        Key key[GROUP];
        for (Place from = 0; from < m; from += GROUP) {
            const Place g = std::min(GROUP, m - from);
            for (Place i = 0; i < g; ++i) key[i] = in_order(keys[from + i], type);
            if (came.size()) came.add_ranks(key, g, 1, answer + from);
            if (went.size()) went.add_ranks(key, g, -1, answer + from);
        }
    }
};

}  // namespace

// ------------------------------------------------------------------------------------------------ what Python calls

extern "C" {
// A log by itself, for whoever is to be as durable as a session.
void* open_log(int64_t file, int64_t end, int64_t sync, int64_t roomy) {
    return new Log{int(file), end, sync != 0, roomy != 0};
}

void close_log(Log* log) {
    log->close();
    delete log;
}

Place append_came(Log* log, const uint64_t* keys, Place m) { return log->append(CAME, keys, m); }

void* open_session(int64_t type, int64_t file, int64_t sync) {
    return new Session{Type(type), Log{int(file), 0, sync != 0, sync != 0}};
}

void close_session(Session* session) {
    session->log.close();
    delete session;
}

// The array, the function that finds places in it, and how its file looks: size, time, number.
void bind_array(Session* session, const void* function, const void* searched, const uint64_t* keys, Place numbers,
                Place n, const Word* arguments, int64_t count, const char* path, const Place* file) {
    const std::unique_lock<std::shared_mutex> alone(session->trees);
    session->array = {function, searched, keys, numbers, n, std::vector<Word>(arguments, arguments + count), path,
                      file[0], file[1], file[2]};
}

// Take in the records of a log from byte `at` on, and write on where they end. That place; or -place - 1 of a record that
// is damaged, with others behind it.
Place replay(Session* session, const unsigned char* bytes, Place length, Place at) {
    const std::lock_guard<std::mutex> only(session->writing);
    const std::unique_lock<std::shared_mutex> alone(session->trees);
    std::vector<uint64_t> keys;
    while (const Place size = whole_record(bytes + at, length - at)) {
        keys.resize(size_t(size) / 8 - 1);
        if (!keys.empty()) std::memcpy(keys.data(), bytes + at + HEAD, 8 * keys.size());
        session->take_in(reinterpret_cast<const char*>(bytes + at), keys.data(), Place(keys.size()));
        at += size;
    }
    if (followed(bytes + at, length - at)) return -at - 1;
    session->log.end = at;
    return at;
}

// 0, or an error's number with a minus; then nothing was added.
Place insert_keys(Session* session, const uint64_t* keys, Place m) {
    const std::lock_guard<std::mutex> only(session->writing);
    return session->change(CAME, keys, m);
}

// 0; an error's number with a minus; CHANGED; or 1, and which key is missing, how often it is named and how often it is
// there. Unless it is 0 nothing was taken away.
Place delete_keys(Session* session, const uint64_t* keys, Place m, Place* missing) {
    const std::lock_guard<std::mutex> only(session->writing);
    {
        const std::shared_lock<std::shared_mutex> reading(session->trees);
        if (session->array.changed(session->looked)) return CHANGED;
        std::vector<Place> at(static_cast<size_t>(m)), which(static_cast<size_t>(m));
        std::vector<Key> key(static_cast<size_t>(m));
        session->array.locate(keys, m, at.data());
        for (Place i = 0; i < m; ++i) key[size_t(i)] = in_order(keys[i], session->type);
        std::iota(which.begin(), which.end(), 0);
        std::sort(which.begin(), which.end(), [&](Place a, Place b) { return key[size_t(a)] < key[size_t(b)]; });
        for (size_t i = 0, behind; i < which.size(); i = behind) {
            const Key named = key[size_t(which[i])];
            for (behind = i; behind < which.size() && key[size_t(which[behind])] == named;) ++behind;
            const Place place = at[size_t(which[i])];
            const bool there = place < session->array.n && in_order(session->array.keys[place], session->type) == named;
            const Place found = (there ? session->equal_in_array(place, named) : 0) + session->came.equal(named) -
                                session->went.equal(named);
            if (found < Place(behind - i)) {
                missing[0] = which[i], missing[1] = Place(behind - i), missing[2] = found;
                return 1;
            }
        }
    }
    return session->change(WENT, keys, m);
}

void count_keys(Session* session, Place* counts) {
    const std::shared_lock<std::shared_mutex> reading(session->trees);
    counts[0] = session->came.size(), counts[1] = session->went.size();
}

// How many keys are below each; 0, or CHANGED.
Place find_places(Session* session, const uint64_t* keys, Place m, Place* answer) {
    const std::shared_lock<std::shared_mutex> reading(session->trees);
    if (session->array.changed(session->looked)) return CHANGED;
    session->places(keys, m, answer);
    return 0;
}

// The keys from `low` on and below `high`; a flag that is 0 leaves an end open. How many there are, and in `room` if it
// takes them; or CHANGED. They are counted by copying them: only where the room ends before they do are ranks asked for.
Place keys_between(Session* session, uint64_t low_bits, uint64_t high_bits, int64_t from, int64_t to, uint64_t* room,
                   Place most) {
    const std::shared_lock<std::shared_mutex> reading(session->trees);
    const Array& array = session->array;
    const Type type = session->type;
    if (array.changed(session->looked)) return CHANGED;
    const Key low = from ? in_order(low_bits, type) : FIRST, high = to ? in_order(high_bits, type) : LAST;
    if (from && to && high <= low) return 0;
    const uint64_t ends[] = {low_bits, high_bits};
    Place at[] = {0, array.n};
    if (from && to) array.locate(ends, 2, at);  // both ways down at once
    else if (from) array.locate(ends, 1, at);
    else if (to) array.locate(ends + 1, 1, at + 1);
    const Place start = at[0];
    const auto all = [&] {
        const auto inside = [&](const Tree& tree) { return (to ? tree.rank(high) : tree.size()) - tree.rank(low); };
        return at[1] - start + inside(session->came) - inside(session->went);
    };
    if (at[1] - start - session->went.size() > most) return all();
    auto came = session->came.from(low), went = session->went.from(low);
    const auto there = [&](const Tree::Cursor& cursor) { return cursor.there() && (!to || cursor.key() < high); };
    Place count = 0;
    for (;;) {
        // Up to the next change the array is copied as it is; of equal keys the array's come first.
        const bool comes = there(came), goes = there(went);
        if (!comes && !goes) {
            if (at[1] - at[0] > most - count) return all();
            std::copy(array.keys + at[0], array.keys + at[1], room + count);
            return count + at[1] - at[0];
        }
        const Key next = std::min(comes ? came.key() : LAST, goes ? went.key() : LAST);
        for (; at[0] < at[1] && in_order(array.keys[at[0]], type) < next; ++at[0]) {
            if (count == most) return all();
            room[count++] = array.keys[at[0]];
        }
        const bool own = at[0] < at[1] && in_order(array.keys[at[0]], type) == next;
        if (goes && went.key() == next) {
            went.advance();
        } else {
            if (count == most) return all();
            room[count++] = own ? array.keys[at[0]] : as_it_was(next, type);
        }
        if (own) ++at[0];
        else if (comes) came.advance();
    }
}
}
