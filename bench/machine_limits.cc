#include "bench/machine_limits.h"

#include <immintrin.h>

#include <cstdlib>

#include "base/cpu.h"
#include "base/mapped_memory.h"
#include "bench/timing.h"

namespace ounce::bench {
namespace {

constexpr int64_t kRounds = 20000;

// Four independent products of 16x64 by 64x16 per round.
__attribute__((target("amx-tile,amx-int8"))) void AmxRounds() {
  struct alignas(64) Config {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  // g++ 12 takes only eight bytes of the operand for read.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
  for (int64_t i = 0; i < kRounds; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 5, 6);
    _tile_dpbusd(2, 4, 7);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
}
constexpr double kAmxOperations = 4.0 * 2 * 16 * 16 * 64;

// Eight independent products of 16 lanes by 4 bytes per round.
__attribute__((target("avx512f,avx512vnni"))) void VnniRounds() {
  __m512i sums[8] = {};
  const __m512i ones = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
}
constexpr double kVnniOperations = 8.0 * 2 * 16 * 4;

}  // namespace

double ReadGigabytesPerSecond(ThreadPool& pool) {
  constexpr int64_t kBytes = 1 << 30, kCall = 4 << 20, kTask = 128 << 10;
  auto memory = MappedMemory::Create(kBytes);
  if (!memory.ok()) std::exit(1);
  const auto* words = reinterpret_cast<uint64_t*>(memory->data());
  std::fill_n(reinterpret_cast<uint64_t*>(memory->data()), kBytes / 8, 1);
  std::vector<uint64_t> sums(pool.num_threads() * 8);
  const double seconds = FastSeconds(2 * kBytes / kCall, [&](int64_t call) {
    const uint64_t* start = words + call % (kBytes / kCall) * (kCall / 8);
    pool.ParallelFor(kCall / kTask, [&](int64_t task, int worker) {
      typedef uint64_t Wide __attribute__((vector_size(64)));
      Wide sum[4] = {};
      const auto* from =
          reinterpret_cast<const Wide*>(start + task * (kTask / 8));
      for (int64_t i = 0; i < kTask / 64; i += 4) {
        for (int j = 0; j < 4; ++j) sum[j] ^= from[i + j];
      }
      sums[worker * 8] += (sum[0] ^ sum[1] ^ sum[2] ^ sum[3])[0];
    });
  });
  return kCall / seconds / 1e9;
}

double PeakInt8Tops(ThreadPool& pool) {
  if (BestIsa() < Isa::kAvx512) return 0;
  const bool amx = BestIsa() == Isa::kAmx;
  constexpr int64_t kTasksPerThread = 4;
  const int64_t tasks = kTasksPerThread * pool.num_threads();
  const double seconds = FastSeconds(20, [&](int64_t) {
    pool.ParallelFor(tasks,
                     [&](int64_t, int) { amx ? AmxRounds() : VnniRounds(); });
  });
  return (amx ? kAmxOperations : kVnniOperations) * kRounds * tasks / seconds /
         1e12;
}

}  // namespace ounce::bench
