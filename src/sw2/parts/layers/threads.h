// Work shared among the threads of torch, for the kernels of this folder.
//
// GOMP_parallel is taken from the OpenMP that torch has loaded. Threads of our own would share the cores with torch's, which
// spin for a while after each of its loops; they are made only where there is no such OpenMP.
//
// What it does not do: cut the work. Who wants the same bits on any number of threads cuts it in one way.

#pragma once

#include <atomic>
#include <thread>
#include <vector>

extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags) __attribute__((weak));

namespace {

// Call task(which, worker) for which = 0 ... count - 1, each once, the first ones first.
template <class Task> void run(long count, long threads, const Task& task) {
    struct Work {
        const Task& task;
        const long count;
        std::atomic<long> next{0}, workers{0};
    } work{task, count};
    void (*serve)(void*) = [](void* what) {
        Work& mine = *static_cast<Work*>(what);
        const long worker = mine.workers.fetch_add(1);
        for (long which; (which = mine.next.fetch_add(1)) < mine.count;) mine.task(which, worker);
    };
    if (threads <= 1 || count <= 1) return serve(&work);
    if (GOMP_parallel) return GOMP_parallel(serve, &work, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> others;
    for (long each = 1; each < threads; each++) others.emplace_back(serve, &work);
    serve(&work);
    for (auto& other : others) other.join();
}

}  // namespace
