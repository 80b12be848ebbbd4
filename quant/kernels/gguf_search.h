// How llama.cpp's block types find the scales of groups of weights, where no
// formula gives them: several are tried, and the one with the least error is
// kept. Sums are added up in ggml's order and nothing is contracted, so results
// are those of ggml's own code to the bit, on all instruction sets; several
// groups are searched at once instead.
#ifndef OUNCE_QUANT_KERNELS_GGUF_SEARCH_H_
#define OUNCE_QUANT_KERNELS_GGUF_SEARCH_H_

#include <cstdint>

namespace ounce::quant {

// ggml takes groups in which nothing is larger for zeros.
inline constexpr float kGgufZero = 1e-15f;

// What IQ4_NL's and IQ4_XS's codes stand for.
inline constexpr int kGgufLevels = 16;
inline constexpr int8_t kGgufTable[kGgufLevels] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// x ~ scale * code - minimum, minimum >= 0, codes from 0 to `most`: trial i
// begins at the best minimum so far and with the scale that takes max from
// there to the code first + i / 10 + most.
struct AffineTrials {
  int most;
  float first;
  int count;
};

// x [groups * columns]: groups of 16 or 32 columns, as the name says, one
// behind another; scales and minima [groups]; codes as x. Values are finite;
// where they are so large that the scale is no float16, it is larger than these
// or NaN, and the rest is any.
struct GgufSearches {
  // Least squares, weighted by |x| + the root of the group's mean square.
  void (*affine_32)(const AffineTrials& trials, const float* x, int64_t groups,
                    float* scales, float* minima, uint8_t* codes);
  // Least absolute error, weighted by |x|.
  void (*affine_16)(const AffineTrials& trials, const float* x, int64_t groups,
                    float* scales, float* minima, uint8_t* codes);
  // x ~ scale * (code - 32), codes from 0 to 63; weighted by x^2.
  void (*symmetric_16)(const float* x, int64_t groups, float* scales,
                       uint8_t* codes);
  // x ~ scale * (code - 4), codes from 0 to 7; weighted by x^2. Codes are
  // changed one after another, up to five times each.
  void (*descent_16)(const float* x, int64_t groups, float* scales,
                     uint8_t* codes);
  // x ~ scale * kGgufTable[code]; weighted by x^2.
  void (*table_32)(const float* x, int64_t groups, float* scales);
};

const GgufSearches& GgufSearchesPortable();
const GgufSearches& GgufSearchesAvx2();
const GgufSearches& GgufSearchesAvx512();

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_GGUF_SEARCH_H_
