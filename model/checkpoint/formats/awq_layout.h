// How AWQ's files have numbers in words, shared by what reads and what writes
// them.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_AWQ_LAYOUT_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_AWQ_LAYOUT_H_

#include <cstdint>

namespace ounce::model {

inline constexpr int kAwqBits = 4;
inline constexpr int64_t kAwqInWord = 32 / kAwqBits;
// Where in a word of gemm the number of an output is.
inline constexpr int kAwqPlaceOf[] = {0, 4, 1, 5, 2, 6, 3, 7};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_AWQ_LAYOUT_H_
