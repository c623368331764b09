// How threads share work: in parts, of which each takes its own and then what others have left.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include <omp.h>

namespace {

// Where another program takes one of the cores, its thread is late, and the others do most of its parts.
// Who computes a part must change no bit: each has results, and sums, of its own. A thread's own parts
// are the same in every pass, so that one finds in its cache what the last has left there.
class Shares {
    struct alignas(64) Next {  // a cache line each
        std::atomic<int64_t> part{0};
    };
    std::vector<Next> taken;
    int64_t begin(int64_t thread) const { return parts * thread / (int64_t)taken.size(); }

  public:
    const int64_t parts;
    explicit Shares(int64_t parts) : taken(omp_get_max_threads()), parts(parts) {}

    // Run every part once, a thread's own in order or BACKWARD; to be called by all threads.
    template <bool BACKWARD = false, class Run>
    void each(Run run) {
        const int64_t threads = taken.size(), me = omp_get_thread_num();
        for (int64_t i = 0; i < threads; ++i) {
            const int64_t of = (me + i) % threads, first = begin(of), count = begin(of + 1) - first;
            for (int64_t n; (n = taken[of].part.fetch_add(1, std::memory_order_relaxed)) < count;)
                run(first + (BACKWARD ? count - 1 - n : n));
        }
    }
};

}  // namespace
