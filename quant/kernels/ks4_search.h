// The search for the codes of ks4 (methods/ks4.cc says what they are).
//
// Exactness: all instruction sets find the same codes.
#ifndef OUNCE_QUANT_KERNELS_KS4_SEARCH_H_
#define OUNCE_QUANT_KERNELS_KS4_SEARCH_H_

#include <cstdint>

namespace ounce::quant {

inline constexpr int kKs4Block = 32;
inline constexpr int kKs4Levels = 16;
inline constexpr int kKs4Tables = 2;

// Ascending, of table 0 and of table 1.
inline constexpr float kKs4Table[kKs4Tables * kKs4Levels] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    -123, -100, -79, -61, -45, -31, -18, -6,  5, 17, 29, 42, 57, 73, 93, 117};

constexpr int64_t Ks4Blocks(int64_t cols) {
  return (cols + kKs4Block - 1) / kKs4Block;
}

// Floats that a search keeps meanwhile: of each block, of which sixteen are
// searched side by side, its weights and seven numbers.
constexpr int64_t Ks4Room(int64_t cols) {
  return (Ks4Blocks(cols) + 15) / 16 * 16 * (kKs4Block + 7);
}

// Finds the codes [cols] and the scales [Ks4Blocks(cols)] of a row, and returns
// d. Requires finite x.
using Ks4Search = float (*)(const float* x, int64_t cols, float* room,
                            uint8_t* scales, uint8_t* codes);
float Ks4SearchPortable(const float* x, int64_t cols, float* room,
                        uint8_t* scales, uint8_t* codes);
float Ks4SearchAvx2(const float* x, int64_t cols, float* room, uint8_t* scales,
                    uint8_t* codes);
float Ks4SearchAvx512(const float* x, int64_t cols, float* room,
                      uint8_t* scales, uint8_t* codes);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_KS4_SEARCH_H_
