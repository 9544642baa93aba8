// absl's B-trees behind a C interface: what our own are held against in learned_index.py, learned_index_texts.py
// and index_workloads.py.
//
// A map has each different key, of texts a view of it, with its first place; a look-up is lower_bound, and the place is
// read from what it finds. A multiset has keys that come and go; a look-up gives the first key that is not below. One
// after the other, as the containers are used: they have no call for several. What is put in is in a log first: the one
// of a session, whose function is handed in.
//
// Sources: https://abseil.io/docs/cpp/guides/container

#include <absl/container/btree_map.h>
#include <absl/container/btree_set.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string_view>

namespace {

int64_t taken = 0;  // bytes of the nodes of the tree that was built last

template <class T> struct Counting {
    typedef T value_type;
    Counting() = default;
    template <class U> Counting(const Counting<U>&) {}
    T* allocate(size_t count) {
        taken += int64_t(count * sizeof(T));
        return std::allocator<T>().allocate(count);
    }
    void deallocate(T* memory, size_t count) {
        taken -= int64_t(count * sizeof(T));
        std::allocator<T>().deallocate(memory, count);
    }
    template <class U> bool operator==(const Counting<U>&) const { return true; }
    template <class U> bool operator!=(const Counting<U>&) const { return false; }
};

template <class K> using Tree = absl::btree_map<K, int64_t, std::less<K>, Counting<std::pair<const K, int64_t>>>;

template <class K> Tree<K>& tree() {
    static Tree<K> only;
    return only;
}

template <class K> int64_t build(const K* keys, int64_t n) {
    tree<K>().clear();
    for (int64_t i = 0; i < n; ++i)
        if (i == 0 || keys[i - 1] < keys[i]) tree<K>().emplace_hint(tree<K>().end(), keys[i], i);
    return taken;
}

template <class K> void locate(int64_t n, const K* query, int64_t m, int64_t* answer) {
    for (int64_t i = 0; i < m; ++i) {
        const auto found = tree<K>().lower_bound(query[i]);
        answer[i] = found == tree<K>().end() ? n : found->second;
    }
}

int64_t build(const char* bytes, const int64_t* starts, int64_t n) {
    tree<std::string_view>().clear();
    std::string_view before;
    for (int64_t i = 0; i < n; ++i) {
        const std::string_view text(bytes + starts[i], size_t(starts[i + 1] - starts[i]));
        if (i == 0 || before < text) tree<std::string_view>().emplace_hint(tree<std::string_view>().end(), text, i);
        before = text;
    }
    return taken;
}

absl::btree_multiset<int64_t>& held(int64_t which) {
    static absl::btree_multiset<int64_t> all[2];
    return all[which];
}

}  // namespace

extern "C" {
void hold(int64_t which, const int64_t* keys, int64_t n) {
    held(which).clear();
    for (int64_t i = 0; i < n; ++i) held(which).insert(held(which).end(), keys[i]);
}
int64_t put(int64_t which, int64_t (*append)(void*, const int64_t*, int64_t), void* log, const int64_t* keys, int64_t n) {
    if (const int64_t error = append(log, keys, n)) return error;
    for (int64_t i = 0; i < n; ++i) held(which).insert(keys[i]);
    return 0;
}
void find(int64_t which, const int64_t* query, int64_t m, int64_t* answer) {
    for (int64_t i = 0; i < m; ++i) {
        const auto found = held(which).lower_bound(query[i]);
        answer[i] = found == held(which).end() ? std::numeric_limits<int64_t>::max() : *found;
    }
}
int64_t scan(int64_t which, int64_t low, int64_t high, int64_t* keys, int64_t room) {
    int64_t count = 0;
    for (auto at = held(which).lower_bound(low); at != held(which).end() && *at < high && count < room; ++at) keys[count++] = *at;
    return count;
}
int64_t build_texts(const char* bytes, const int64_t* starts, int64_t n) { return build(bytes, starts, n); }
void locate_texts(int64_t n, const char* bytes, const int64_t* starts, int64_t m, int64_t* answer) {
    for (int64_t i = 0; i < m; ++i) {
        const std::string_view text(bytes + starts[i], size_t(starts[i + 1] - starts[i]));
        const auto found = tree<std::string_view>().lower_bound(text);
        answer[i] = found == tree<std::string_view>().end() ? n : found->second;
    }
}
int64_t build_int64(const int64_t* keys, int64_t n) { return build(keys, n); }
int64_t build_uint64(const uint64_t* keys, int64_t n) { return build(keys, n); }
void locate_int64(int64_t n, const int64_t* query, int64_t m, int64_t* answer) { locate(n, query, m, answer); }
void locate_uint64(int64_t n, const uint64_t* query, int64_t m, int64_t* answer) { locate(n, query, m, answer); }
}
