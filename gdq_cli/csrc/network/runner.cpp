#include "runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <thread>

namespace gdq {
namespace {

// The team at work that has the fewest helpers, or null.
Team* neediest(std::vector<Team>& teams) {
    Team* found = nullptr;
    for (Team& team : teams)
        if (team.open() && (!found || team.helpers() < found->helpers())) found = &team;
    return found;
}

}  // namespace

void run_jobs(const Network& network, std::vector<Job> jobs, int threads, const std::function<bool(int)>& poll) {
    std::stable_sort(jobs.begin(), jobs.end(), [&](const Job& a, const Job& b) { return network.effort(a) > network.effort(b); });
    const int count = static_cast<int>(jobs.size());
    Room room;
    int64_t parts = 0, work = 0, patches = 0;
    for (const Job& job : jobs) {
        room.hold(job.height, job.width);
        parts += std::max(1, job.height / kPartRows);
        work += network.work(job);
        patches += job.patches;
    }
    threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, parts)));
    std::vector<Team> teams(threads);  // one a thread: of itself and those that help it
    std::vector<std::unique_ptr<Workspace>> spaces;
    for (int t = 0; t < threads; t++) spaces.push_back(network.take_workspace(room));
    std::atomic<int> next{0};
    Run all;
    const auto tell = [&] { return poll(static_cast<int>(patches * all.work.load() / std::max<int64_t>(work, 1))); };
    std::mutex mutex;
    std::condition_variable changed;
    int running = threads;
    std::atomic<bool> no_memory{false};
    const auto loop = [&](int t) {  // a thread for which no job is left helps others with theirs
        try {
            for (int i; !all.cancel.load(std::memory_order_relaxed) && (i = next.fetch_add(1)) < count;)
                if (!network.run(jobs[i], *spaces[t], teams[t], all)) break;
        } catch (const std::bad_alloc&) {
            no_memory.store(true);
            all.cancel.store(true);
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
            if (!all.cancel.load() && !tell()) all.cancel.store(true);
            lock.lock();
        }
    }
    for (std::thread& w : workers) w.join();
    if (no_memory.load()) throw std::bad_alloc();
    for (auto& s : spaces) network.return_workspace(std::move(s));
    tell();
}

}  // namespace gdq
