// How integer kernels cut rows and panels into blocks whose sums lie in
// registers: up to four rows times up to four panels.
#ifndef OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_
#define OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

constexpr int kMaxBlockRows = 4;

constexpr int kPrefetchTiles = 2;

// Four bytes at `from`, sixteen times over.
inline __m512i SpreadFour(const void* from) {
  int32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

template <class Block, int kPanels, class Job>
void RunBlock(int64_t rows, const Job& job, int64_t panel, int64_t row,
              std::byte* scratch) {
  constexpr int kFew = kPanels < 2 ? kPanels : 2;
  switch (rows) {
    case 1:
      return Block::template Run<1, kPanels>(job, panel, row, scratch);
    case 2:
      return Block::template Run<2, kPanels>(job, panel, row, scratch);
    case 3:
      return Block::template Run<3, kFew>(job, panel, row, scratch);
    default:
      return Block::template Run<4, kFew>(job, panel, row, scratch);
  }
}

// Block has template <int kRows, int kPanels> static void Run(job, first panel,
// first row, scratch). Rows of a block are of one group: first_row and
// kRowGroup are multiples of kMaxBlockRows.
template <class Block, class Job>
void RunBlocks(const Job& job, int64_t first_panel, int64_t end_panel,
               int64_t first_row, int64_t end_row, std::byte* scratch) {
  const int64_t panels_per_block = end_row - first_row <= 2 ? 4 : 2;
  for (int64_t panel = first_panel; panel < end_panel;) {
    int64_t count = panels_per_block;
    while (count > end_panel - panel) count /= 2;
    for (int64_t row = first_row; row < end_row; row += kMaxBlockRows) {
      const int64_t rows =
          end_row - row < kMaxBlockRows ? end_row - row : kMaxBlockRows;
      const auto run = count == 4   ? RunBlock<Block, 4, Job>
                       : count == 2 ? RunBlock<Block, 2, Job>
                                    : RunBlock<Block, 1, Job>;
      run(rows, job, panel, row, scratch);
    }
    panel += count;
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_INTEGER_BLOCKS_AVX512_H_
