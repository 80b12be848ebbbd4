#include "model/layers/sine_position.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace ounce::model {
namespace {

// Of position `index` of `count`, in float32 like the model was trained.
void SineCode(int64_t index, int64_t count, int64_t size, float* code) {
  constexpr float kTwoPi = 6.283185307179586f;
  const float angle = static_cast<float>(index + 1) /
                      (static_cast<float>(count) + 1e-6f) * kTwoPi;
  for (int64_t i = 0; i < size; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(size);
    const float turned = angle / std::pow(10000.0f, exponent);
    code[i] = std::sin(turned);
    code[i + 1] = std::cos(turned);
  }
}

}  // namespace

void SinePositions(int64_t height, int64_t width, const quant::Matrix& out) {
  OUNCE_CHECK(out.rows == height * width && out.cols % 4 == 0,
              "position embedding of another shape");
  const int64_t size = out.cols / 2;
  for (int64_t y = 0; y < height; ++y) {
    float* first = out.row(y * width);
    SineCode(y, height, size, first);
    for (int64_t x = 0; x < width; ++x) {
      float* row = out.row(y * width + x);
      if (x > 0) std::copy_n(first, size, row);
      if (y > 0) {
        std::copy_n(out.row(x) + size, size, row + size);
      } else {
        SineCode(x, width, size, row + size);
      }
    }
  }
}

}  // namespace ounce::model
