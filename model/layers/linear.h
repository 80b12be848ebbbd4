// A linear layer: y = x * W^T + bias, where W's rows may lie in several packed
// matrices, each with its own method.
#ifndef OUNCE_MODEL_LAYERS_LINEAR_H_
#define OUNCE_MODEL_LAYERS_LINEAR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "quant/packed_weight.h"

namespace ounce::model {

using SharedWeight = std::shared_ptr<const quant::PackedWeight>;

// Rows of a layer that are packed as one matrix.
struct LinearPart {
  int64_t rows = 0;
  SharedWeight weight;  // null in a plan's outline
  // The checkpoint's modules that the rows are of, in order.
  std::vector<std::string> modules;
};

// Shapes: W [rows, cols], the parts' rows one after another.
// Threads: const after it was made, so any thread may read.
class Linear {
 public:
  // A layer of nothing, to be replaced.
  Linear() = default;
  // `bias` [rows], or empty for none.
  Linear(std::vector<LinearPart> parts, int64_t cols, std::vector<float> bias)
      : parts_(std::move(parts)), cols_(cols), bias_(std::move(bias)) {
    for (const LinearPart& part : parts_) rows_ += part.rows;
    OUNCE_CHECK(bias_.empty() || static_cast<int64_t>(bias_.size()) == rows_,
                "a bias for each row");
  }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::vector<LinearPart>& parts() const { return parts_; }
  const std::vector<float>& bias() const { return bias_; }

 private:
  std::vector<LinearPart> parts_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  std::vector<float> bias_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_LINEAR_H_
