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

// The team at work that has the fewest helpers, or null.
Team* neediest(std::vector<Team>& teams) {
    Team* found = nullptr;
    for (Team& team : teams)
        if (team.open() && (!found || team.helpers() < found->helpers())) found = &team;
    return found;
}

// Calls work(index, workspace, team) for every index below count from `threads` threads; work returns false to stop its thread.
// A thread for which no index is left helps others with theirs.
template <class Work>
bool spread(const Network& network, int count, int height, int width, int threads, const Work& work,
            std::atomic<bool>& cancel, const std::function<bool(int)>& poll) {
    threads = std::max(1, std::min(threads, count * std::max(1, height / kPartRows)));
    std::vector<Team> teams(threads);  // one a thread: of itself and those that help it
    std::vector<std::unique_ptr<Workspace>> spaces;
    for (int t = 0; t < threads; t++) spaces.push_back(network.take_workspace(height, width));
    std::atomic<int> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable changed;
    int running = threads;
    const auto loop = [&](int t) {
        for (int i; !cancel.load(std::memory_order_relaxed) && (i = next.fetch_add(1)) < count;) {
            if (!work(i, *spaces[t], teams[t])) break;
            done.fetch_add(1);
        }
        teams[t].leave();
        while (Team* team = neediest(teams)) team->help(*spaces[t]);
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
        for (size_t t = workers.size(); t < teams.size(); t++) teams[t].leave();
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
    const auto work = [&](int i, Workspace& w, Team& team) { return network.run(jobs[i], height, width, w, team, cancel); };
    return spread(network, static_cast<int>(jobs.size()), height, width, threads, work, cancel, poll);
}

}  // namespace gdq
