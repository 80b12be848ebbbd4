// A linear layer of the network: y = x W^T + bias.
//
// W's rows are a list of parts. Most often there is one, a matrix of the
// checkpoint or several of them (query, key and value) joined. There are more
// where neighbours are stored by different methods, or read their inputs in
// different orders; they multiply the same prepared input.
//
// Exactness: a row of y depends on that row of x and on W alone, to the last
//   bit (quant/matmul.h); not on how W is cut into parts.
#ifndef OUNCE_MODEL_LAYERS_LINEAR_H_
#define OUNCE_MODEL_LAYERS_LINEAR_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "model/layers/run.h"
#include "quant/matmul.h"
#include "quant/packed_weight.h"

namespace ounce::model {

using SharedWeight = std::shared_ptr<const quant::PackedWeight>;

// Some of a layer's rows.
struct LinearPart {
  int64_t rows = 0;
  SharedWeight weight = nullptr;  // an outline where layers are only counted
  // The modules of the checkpoint whose first rows these hold, in order.
  std::vector<std::string> modules = {};
  // The column of x that column i of the weight is multiplied with; empty: i.
  // (Methods that sort columns by importance.)
  std::vector<int32_t> input_order = {};
};

class Linear {
 public:
  // No rows.
  Linear() = default;
  // `bias` [sum of the parts' rows], or empty.
  Linear(std::vector<LinearPart> parts, int64_t cols, std::vector<float> bias);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::vector<LinearPart>& parts() const { return parts_; }
  const std::vector<float>& bias() const { return bias_; }

  // Makes x ready for all of `layers`, which then read it without doing so
  // again, except parts that read it in another order or find outliers by
  // another threshold than the first part that does. Ownership and lifetime as
  // MatmulInput's.
  static quant::MatmulInput Prepare(const quant::ConstMatrix& x,
                                    std::initializer_list<const Linear*> layers,
                                    const Run& run);

  // y = combine(y, activation(x W^T + bias)).
  // Shapes: x [n, cols] prepared for this layer, y [n, rows]; y is not x.
  // Threads: any, with a pool that the caller leases. No allocation.
  void Apply(const quant::MatmulInput& x, quant::Activation activation,
             quant::Combine combine, const quant::Matrix& y,
             const Run& run) const;
  // The same, and prepares x itself.
  void Apply(const quant::ConstMatrix& x, quant::Activation activation,
             quant::Combine combine, const quant::Matrix& y,
             const Run& run) const;

 private:
  std::vector<LinearPart> parts_;
  std::vector<float> bias_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_LINEAR_H_
