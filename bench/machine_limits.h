// What this machine gives at best, to hold measured speeds against.
#ifndef OUNCE_BENCH_MACHINE_LIMITS_H_
#define OUNCE_BENCH_MACHINE_LIMITS_H_

#include "base/thread_pool.h"

namespace ounce::bench {

// Reading 1 GiB from memory with all threads of the pool, in 10^9 bytes per
// second.
double ReadGigabytesPerSecond(ThreadPool& pool);

// Multiplying int8 in registers with all threads, in 10^12 operations (a
// multiplication and an addition are two) per second; 0 without AVX-512 VNNI.
double PeakInt8Tops(ThreadPool& pool);

}  // namespace ounce::bench

#endif  // OUNCE_BENCH_MACHINE_LIMITS_H_
