#include "runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <thread>

namespace gdq {
namespace {

// A job of 8 bits takes the direct kernel, twice as long as one of fewer bits.
long long effort(const Job& j) {
    const long long core = static_cast<long long>(j.core.y1 - j.core.y0) * (j.core.x1 - j.core.x0);
    return (j.bit_width > 6 ? 1LL << 40 : 0) + core;
}

// Calls work(index, workspace) for every index below count from `threads` threads; work returns false to stop its thread.
template <class Work>
bool spread(const Network& network, int count, int height, int width, int threads, const Work& work,
            std::atomic<bool>& cancel, const std::function<bool(int)>& poll) {
    threads = std::max(1, std::min(threads, count));
    std::vector<std::unique_ptr<Workspace>> spaces;
    for (int t = 0; t < threads; t++) spaces.push_back(network.take_workspace(height, width));
    std::atomic<int> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable changed;
    int running = threads;
    const auto loop = [&](int t) {
        for (int i; !cancel.load(std::memory_order_relaxed) && (i = next.fetch_add(1)) < count;) {
            if (!work(i, *spaces[t])) break;
            done.fetch_add(1);
        }
        std::lock_guard<std::mutex> lock(mutex);
        running--;
        changed.notify_one();
    };
    std::vector<std::thread> workers;
    try {
        for (int t = 0; t < threads; t++) workers.emplace_back(loop, t);
    } catch (...) {  // no more threads to be had: go on with those that started, if any
        std::lock_guard<std::mutex> lock(mutex);
        running -= threads - static_cast<int>(workers.size());
        if (workers.empty()) throw;
    }
    {
        std::unique_lock<std::mutex> lock(mutex);
        while (running > 0) {
            changed.wait_for(lock, std::chrono::milliseconds(20));
            if (running == 0) break;
            lock.unlock();
            if (!cancel.load() && !poll(done.load())) cancel.store(true);
            lock.lock();
        }
    }
    for (std::thread& w : workers) w.join();
    for (auto& s : spaces) network.return_workspace(std::move(s));
    if (!poll(done.load())) cancel.store(true);
    return done.load() == count;
}

}  // namespace

bool run_jobs(const Network& network, std::vector<Job> jobs, int height, int width, int threads,
              const std::function<bool(int)>& poll) {
    std::stable_sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return effort(a) > effort(b); });
    std::atomic<bool> cancel{false};
    const auto work = [&](int i, Workspace& w) { return network.run(jobs[i], height, width, w, cancel); };
    return spread(network, static_cast<int>(jobs.size()), height, width, threads, work, cancel, poll);
}

void run_heads(const Network& network, const std::vector<Job>& jobs, int height, int width, int threads, float* out) {
    std::atomic<bool> cancel{false};
    const size_t size = static_cast<size_t>(height) * width * network.features();
    const auto work = [&](int i, Workspace& w) {
        network.run_head(jobs[i], height, width, out + i * size, w);
        return true;
    };
    spread(network, static_cast<int>(jobs.size()), height, width, threads, work, cancel, [](int) { return true; });
}

}  // namespace gdq
