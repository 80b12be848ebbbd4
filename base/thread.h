// Threads that may not be had.
#ifndef OUNCE_BASE_THREAD_H_
#define OUNCE_BASE_THREAD_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"

namespace ounce {

// Runs `work` on a new thread, which tools show as `name`: at most 15 bytes.
// The caller joins it.
// Errors: kResourceExhausted when the system gives none, naming the thread and
//   the limits that it may have met.
absl::StatusOr<std::thread> StartThread(const std::string& name,
                                        std::function<void()> work);

// Whether `count` threads could be started now, all at once: starts them and
// lets them end. For the threads of libraries that abort without one.
// Errors: as StartThread, saying how many were had.
absl::Status CheckThreads(int count);

}  // namespace ounce

#endif  // OUNCE_BASE_THREAD_H_
