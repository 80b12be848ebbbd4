// What this machine gives at best, to hold measured speeds against.
#ifndef OUNCE_BENCH_MACHINE_LIMITS_H_
#define OUNCE_BENCH_MACHINE_LIMITS_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace ounce::bench {

inline double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Of the calling thread alone: what others do with the machine does not count,
// but for the caches and the memory that they use.
inline double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * now.tv_nsec;
}

// How long fn(i) takes when it is not interrupted: the fastest tenth of calls.
// Others use the machine too, and only ever make it slower.
template <class Fn>
double FastSeconds(int64_t calls, Fn&& fn, double (*now)() = Seconds) {
  std::vector<double> seconds(calls);
  for (int64_t i = 0; i < calls; ++i) {
    const double start = now();
    fn(i);
    seconds[i] = now() - start;
  }
  const auto tenth = seconds.begin() + calls / 10;
  std::nth_element(seconds.begin(), tenth, seconds.end());
  return *tenth;
}

// Reading 1 GiB from memory with all threads of the pool, in 10^9 bytes per
// second.
double ReadGigabytesPerSecond(ThreadPool& pool);

// Multiplying int8 in registers with all threads, in 10^12 operations (a
// multiplication and an addition are two) per second; 0 without AVX-512 VNNI.
double PeakInt8Tops(ThreadPool& pool);

}  // namespace ounce::bench

#endif  // OUNCE_BENCH_MACHINE_LIMITS_H_
