// Threads that have run out of patches help others with theirs, a part of each layer at a time.
#pragma once
#include <atomic>
#include <functional>
#include <new>
#include <thread>

namespace gdq {

class Workspace;

// One owner, any number of helpers. Steps are short and helpers idle otherwise, so both wait by yielding.
class Team {
  public:
    // Does part `part` of `parts` of a step, with the workspace of the thread that runs it. Throws for want of memory only.
    using Work = std::function<void(int part, int parts, Workspace& own)>;

    // Owner: does a step in at most `most` parts, together with the helpers that are there.
    void share(int most, Workspace& own, const Work& work) {
        const int there = helpers_.load(std::memory_order_acquire);
        const int parts = there + 1 < most ? there + 1 : most < 1 ? 1 : most;
        if (parts > 1) {
            work_ = &work;
            left_.store(parts - 1, std::memory_order_relaxed);
            // The number of parts is published with the step: who joins later has a higher place and stays out of it.
            step_.store((step_.load(std::memory_order_relaxed) / kParts + 1) * kParts + parts, std::memory_order_release);
        }
        bool failed = false;
        try {
            work(0, parts, own);
        } catch (const std::bad_alloc&) {
            failed = true;  // helpers still read `work`
        }
        while (parts > 1 && left_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
        if (failed || failed_.load(std::memory_order_relaxed)) throw std::bad_alloc();
    }

    // Owner: there will be no further steps.
    void leave() { open_.store(false, std::memory_order_release); }

    int helpers() const { return helpers_.load(std::memory_order_relaxed); }
    bool open() const { return open_.load(std::memory_order_acquire); }

    // Helper: takes part until the owner leaves.
    void help(Workspace& own) {
        unsigned long long seen = step_.load(std::memory_order_acquire);
        const int place = helpers_.fetch_add(1, std::memory_order_acq_rel) + 1;
        while (open()) {
            const unsigned long long step = step_.load(std::memory_order_acquire);
            const int parts = static_cast<int>(step % kParts);
            if (step != seen && place < parts) {
                try {
                    (*work_)(place, parts, own);
                } catch (const std::bad_alloc&) {
                    failed_.store(true, std::memory_order_relaxed);
                }
                left_.fetch_sub(1, std::memory_order_acq_rel);
            } else {
                std::this_thread::yield();
            }
            seen = step;
        }
    }

  private:
    static constexpr unsigned long long kParts = 4096;  // more than there are threads

    std::atomic<int> helpers_{0}, left_{0};
    std::atomic<unsigned long long> step_{0};  // number of the step times kParts, plus its parts
    std::atomic<bool> open_{true}, failed_{false};
    const Work* work_ = nullptr;
};

}  // namespace gdq
