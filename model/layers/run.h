// What every layer of a step runs on.
#ifndef OUNCE_MODEL_LAYERS_RUN_H_
#define OUNCE_MODEL_LAYERS_RUN_H_

#include <string>

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "quant/compute.h"
#include "quant/matmul.h"
#include "quant/scratch.h"

namespace ounce::model {

// Sees what linear layers read: calibration's way to a layer's input.
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  // Before the product, on the step's thread, once a step for every module of
  // the checkpoint that is a linear layer: `modules` are those that are about
  // to be multiplied with `x` [rows, cols], its columns in the checkpoint's
  // order. Both only during the call.
  virtual void OnInput(absl::Span<const std::string> modules,
                       const quant::ConstMatrix& x) = 0;
};

// Ownership: all must outlive the step.
struct Run {
  ThreadPool& pool;  // leased by whoever runs the step
  quant::Scratch& scratch;
  // What products of float weights are computed in; Model::RunOn knows.
  quant::Compute compute = quant::Compute::kFloat32;
  LinearObserver* observer = nullptr;  // null when serving

  // The step only counts what it would take (quant/scratch.h).
  bool counting() const { return scratch.counting(); }
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_RUN_H_
