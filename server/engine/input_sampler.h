// Some rows of what each linear layer of a network reads, for reports to say
// what a method costs at a layer's output.
#ifndef OUNCE_SERVER_ENGINE_INPUT_SAMPLER_H_
#define OUNCE_SERVER_ENGINE_INPUT_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "model/layers/run.h"
#include "model/loader/loader.h"
#include "quant/matmul.h"

namespace ounce::server {

// Of the first x that each module reads, evenly spaced rows.
//
// Threads: one at a time.
class InputSampler final : public model::LinearObserver {
 public:
  static constexpr int64_t kRows = 32;  // of each, at most

  void OnInput(absl::Span<const std::string> modules,
               const quant::ConstMatrix& x) override;

  // All that was seen; nothing is seen after.
  std::shared_ptr<const model::LayerInputs> Take() {
    return std::move(inputs_);
  }

  // What they take of memory for the layers of a model, at most.
  static int64_t MostBytes(const model::LoadReport& report);

 private:
  std::shared_ptr<model::LayerInputs> inputs_ =
      std::make_shared<model::LayerInputs>();
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_INPUT_SAMPLER_H_
