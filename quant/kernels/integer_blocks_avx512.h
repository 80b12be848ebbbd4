// How integer kernels cut rows and panels into blocks whose sums lie in
// registers: some rows times one panel.
//
// One panel, not several side by side: panels lie one behind another, so that
// weights are one stream, which memory gives a third faster than four
// (bench/kernels_bench.cc). What several panels would share, the bytes of x,
// are operands out of L1 instead; what more rows share is the unpacking.
#ifndef OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_
#define OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// Rows of a block: kMostRows<kPlanes>, whose sums are half of the registers, or
// kSomeRows, or what is left, which is fewer.
constexpr int kSomeRows = 8;
template <int kPlanes>
constexpr int kMostRows = 16 / kPlanes;

// Sums of integers may be cut as one likes: enough of them that none waits for
// the one before.
template <int kRows, int kPlanes>
constexpr int kChains = kRows* kPlanes <= 2   ? 4
                        : kRows* kPlanes <= 4 ? 2
                                              : 1;

template <int kChains>
inline __m512i AddUp(const __m512i* chains) {
  __m512i sum = chains[0];
  OUNCE_UNROLL
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_epi32(sum, chains[i]);
  return sum;
}

// How far ahead of a tile to ask memory for tiles, in bytes.
constexpr int64_t kPrefetchBytes = 2048;

// Four bytes at `from`, sixteen times over.
inline __m512i SpreadFour(const void* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

// Block has kPlanes and template <int kRows> static void Run(job, panel, first
// row, scratch). Rows of a block are of one group (kRowGroup), since first_row
// is a multiple of it and only the last block is short.
template <class Block, class Job>
void RunBlocks(const Job& job, int64_t first_panel, int64_t end_panel,
               int64_t first_row, int64_t end_row, std::byte* scratch) {
  constexpr int kMost = kMostRows<Block::kPlanes>;
  using RunBlock = void(const Job&, int64_t, int64_t, std::byte*);
  static_assert(kRowGroup % kMost == 0 && kMost % kSomeRows == 0);
  constexpr auto kOfSome =
      []<size_t... kIndex>(std::index_sequence<kIndex...>) {
    return std::array<RunBlock*, kSomeRows>{
        Block::template Run<static_cast<int>(kIndex) + 1>...};
  }
  (std::make_index_sequence<kSomeRows>());
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    for (int64_t row = first_row; row < end_row;) {
      const int64_t left = end_row - row;
      if (left >= kMost) {
        Block::template Run<kMost>(job, panel, row, scratch);
        row += kMost;
        continue;
      }
      const int64_t rows = left < kSomeRows ? left : kSomeRows;
      kOfSome[rows - 1](job, panel, row, scratch);
      row += rows;
    }
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_
