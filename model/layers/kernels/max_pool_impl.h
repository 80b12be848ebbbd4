// Written once, compiled per instruction set.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_IMPL_H_
#define OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_IMPL_H_

#include <cstdint>

#include "model/layers/kernels/max_pool_kernels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::model::OUNCE_VEC {

template <class T>
inline T Larger(T a, T b) {
  return a > b ? a : b;
}

template <class T>
inline void PoolRow(const MaxPoolRow& row) {
  const int64_t channels = row.channels;
  for (int64_t x = 0; x < row.width; ++x) {
    const T* __restrict top = static_cast<const T*>(row.x) + 2 * x * channels;
    const T* __restrict middle = top + row.row_pitch;
    const T* __restrict bottom = middle + row.row_pitch;
    T* __restrict y = static_cast<T*>(row.y) + x * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const auto column = [&](int64_t at) {
        return Larger(top[at], Larger(middle[at], bottom[at]));
      };
      y[c] = Larger(column(c),
                    Larger(column(c + channels), column(c + 2 * channels)));
    }
  }
}

}  // namespace ounce::model::OUNCE_VEC

#endif  // OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_IMPL_H_
