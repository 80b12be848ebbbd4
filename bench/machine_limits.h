// What this machine gives at best, to hold measured speeds against.
#ifndef OUNCE_BENCH_MACHINE_LIMITS_H_
#define OUNCE_BENCH_MACHINE_LIMITS_H_

#include "base/cpu.h"
#include "base/thread_pool.h"

namespace ounce::bench {

// Reading 1 GiB from memory with all threads of the pool, in 10^9 bytes per
// second.
double ReadGigabytesPerSecond(ThreadPool& pool);

// Multiplying and adding in registers, in 10^12 operations (a multiplication
// and an addition are two) per second, of all threads; 0 where the instruction
// set multiplies no such numbers.
struct Peaks {
  double int8_tops = 0;
  double bfloat16_tflops = 0;
  double float32_tflops = 0;
};

// Of the widest instructions of this set, which is at most BestIsa().
Peaks MeasurePeaks(Isa isa, ThreadPool& pool);

}  // namespace ounce::bench

#endif  // OUNCE_BENCH_MACHINE_LIMITS_H_
