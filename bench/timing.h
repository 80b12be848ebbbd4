// Clocks of the benchmarks, and what to make of their readings.
#ifndef OUNCE_BENCH_TIMING_H_
#define OUNCE_BENCH_TIMING_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace ounce::bench {

inline double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline double CpuSeconds(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// CPU time: what other processes do not change much.
inline double ThreadCpuSeconds() { return CpuSeconds(CLOCK_THREAD_CPUTIME_ID); }
inline double ProcessCpuSeconds() {  // of all threads
  return CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
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

}  // namespace ounce::bench

#endif  // OUNCE_BENCH_TIMING_H_
