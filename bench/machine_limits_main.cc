// Prints the machine's limits as one JSON object, for scripts.
//
//   machine_limits [threads]
#include <cstdio>
#include <cstdlib>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"

int main(int argc, char** argv) {
  ounce::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : ounce::NumCpus());
  std::printf("{\"dram_gb_per_s\": %.1f, \"int8_tops\": %.2f}\n",
              ounce::bench::ReadGigabytesPerSecond(pool),
              ounce::bench::PeakInt8Tops(pool));
  return 0;
}
