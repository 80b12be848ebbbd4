// Prints the machine's limits as one JSON object, for scripts: peaks of each
// instruction set that there is, the best one's without its name too.
//
//   machine_limits [threads]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"

namespace ounce::bench {
namespace {

void PrintPeaks(const std::string& prefix, const Peaks& peaks) {
  std::printf(", \"%sint8_tops\": %.3f", prefix.c_str(), peaks.int8_tops);
  std::printf(", \"%sbfloat16_tflops\": %.3f", prefix.c_str(),
              peaks.bfloat16_tflops);
  std::printf(", \"%sfloat32_tflops\": %.3f", prefix.c_str(),
              peaks.float32_tflops);
}

void Run(int threads) {
  ThreadPool pool(threads);
  std::printf("{\"dram_gb_per_s\": %.1f", ReadGigabytesPerSecond(pool));
  for (int i = static_cast<int>(Isa::kAvx2); i <= static_cast<int>(BestIsa());
       ++i) {
    const Isa isa = static_cast<Isa>(i);
    const Peaks peaks = MeasurePeaks(isa, pool);
    PrintPeaks(std::string(IsaName(isa)) + "_", peaks);
    if (isa == BestIsa()) PrintPeaks("", peaks);
  }
  std::printf("}\n");
}

}  // namespace
}  // namespace ounce::bench

int main(int argc, char** argv) {
  ounce::bench::Run(argc > 1 ? std::atoi(argv[1]) : ounce::NumCpus());
  return 0;
}
