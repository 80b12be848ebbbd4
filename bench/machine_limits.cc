#include "bench/machine_limits.h"

#include <immintrin.h>

#include <cstdlib>

#include "base/cpu.h"
#include "base/mapped_memory.h"
#include "bench/timing.h"

namespace ounce::bench {
namespace {

constexpr int64_t kRounds = 20000;
// Sums that don't wait for one another, as many as the units need to be busy
// and AVX2 has registers for.
constexpr int kSums = 12;

// Tiles of 16 rows of 64 bytes, while it lives.
class Tiles {
 public:
  __attribute__((target("amx-tile"))) Tiles() {
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
  }
  __attribute__((target("amx-tile"))) ~Tiles() { _tile_release(); }
};

// Four independent products per round, of 16x64 int8 by 64x16, or of 16x32
// bfloat16 by 32x16.
constexpr double kTileOperations = 4.0 * 2 * 16 * 16;

__attribute__((target("amx-tile,amx-int8"))) void AmxInt8Rounds() {
  const Tiles tiles;
  for (int64_t i = 0; i < kRounds; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 5, 6);
    _tile_dpbusd(2, 4, 7);
    _tile_dpbusd(3, 5, 7);
  }
}

__attribute__((target("amx-tile,amx-bf16"))) void AmxBfloat16Rounds() {
  const Tiles tiles;
  for (int64_t i = 0; i < kRounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
}

__attribute__((target("avx512f,avx512vnni"))) void VnniRounds() {
  __m512i sums[kSums] = {};
  const __m512i ones = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
}

__attribute__((target("avx512f,avx512bf16"))) void Avx512Bfloat16Rounds() {
  __m512 sums[kSums] = {};
  const __m512bh zeros = {};
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, zeros, zeros);
      asm volatile("" : "+v"(sum));
    }
  }
}

__attribute__((target("avx512f"))) void Avx512FmaRounds() {
  __m512 sums[kSums] = {};
  const __m512 ones = _mm512_set1_ps(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
}

// AVX2 has no dot product of int8: pairs to 16 bits, those to 32, a sum.
__attribute__((target("avx2"))) void Avx2Int8Rounds() {
  __m256i sums[kSums] = {};
  const __m256i ones = _mm256_set1_epi8(1), wide_ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m256i& sum : sums) {
      __m256i pairs = _mm256_maddubs_epi16(ones, ones);
      asm volatile("" : "+x"(pairs));  // each time anew
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, wide_ones));
      asm volatile("" : "+x"(sum));
    }
  }
}

__attribute__((target("avx2,fma"))) void Avx2FmaRounds() {
  __m256 sums[kSums] = {};
  const __m256 ones = _mm256_set1_ps(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, ones, ones);
      asm volatile("" : "+x"(sum));
    }
  }
}

// With all threads of the pool, of `rounds` that are so many operations each.
double TeraPerSecond(void (*rounds)(), double operations, ThreadPool& pool) {
  constexpr int64_t kTasksPerThread = 4;
  const int64_t tasks = kTasksPerThread * pool.num_threads();
  const double seconds = FastSeconds(20, [&](int64_t) {
    pool.ParallelFor(tasks, [&](int64_t, int) { rounds(); });
  });
  return operations * kRounds * tasks / seconds / 1e12;
}

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

Peaks MeasurePeaks(Isa isa, ThreadPool& pool) {
  Peaks peaks;
  if (isa == Isa::kAmx) {
    peaks.int8_tops = TeraPerSecond(AmxInt8Rounds, kTileOperations * 64, pool);
    peaks.bfloat16_tflops =
        TeraPerSecond(AmxBfloat16Rounds, kTileOperations * 32, pool);
  }
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Bf16) {
    peaks.int8_tops = TeraPerSecond(VnniRounds, kSums * 2.0 * 64, pool);
  }
  if (isa == Isa::kAvx512Bf16) {
    peaks.bfloat16_tflops =
        TeraPerSecond(Avx512Bfloat16Rounds, kSums * 2.0 * 32, pool);
  }
  if (isa >= Isa::kAvx512) {
    peaks.float32_tflops =
        TeraPerSecond(Avx512FmaRounds, kSums * 2.0 * 16, pool);
  }
  if (isa == Isa::kAvx2) {
    peaks.int8_tops = TeraPerSecond(Avx2Int8Rounds, kSums * 2.0 * 32, pool);
    peaks.float32_tflops = TeraPerSecond(Avx2FmaRounds, kSums * 2.0 * 8, pool);
  }
  return peaks;
}

}  // namespace ounce::bench
