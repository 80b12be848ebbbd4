// Matrices that live in scratch, and how they are handed on.
#ifndef OUNCE_QUANT_MATRICES_H_
#define OUNCE_QUANT_MATRICES_H_

#include <cstdint>

#include "quant/matmul.h"
#include "quant/scratch.h"

namespace ounce::quant {

// Rows side by side without a gap, not initialized.
inline Matrix TakeMatrix(int64_t rows, int64_t cols, Scratch& scratch) {
  return {scratch.Take<float>(rows * cols), rows, cols, cols};
}

// The same numbers, to be read.
inline ConstMatrix AsConst(const Matrix& matrix) {
  return {matrix.data, matrix.rows, matrix.cols, matrix.stride};
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_MATRICES_H_
