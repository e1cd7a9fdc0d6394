// Threads over patches.
#pragma once
#include <functional>
#include <vector>

#include "network.h"

namespace gdq {

// Runs all jobs on `threads` threads, the ones that take longest first. The calling thread waits and calls poll at least every
// 20 ms and at the end, with the share of the work begun so far, in patches; if it returns false, the rest is cancelled within a
// layer. Throws std::bad_alloc.
void run_jobs(const Network& network, std::vector<Job> jobs, int threads, const std::function<bool(int done)>& poll);

}  // namespace gdq
