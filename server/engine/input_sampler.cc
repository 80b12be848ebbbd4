#include "server/engine/input_sampler.h"

#include <algorithm>

namespace ounce::server {

void InputSampler::OnInput(absl::Span<const std::string> modules,
                           const quant::ConstMatrix& x) {
  const bool is_new = std::any_of(
      modules.begin(), modules.end(),
      [&](const std::string& one) { return !inputs_->contains(one); });
  if (!is_new) return;
  const auto input = std::make_shared<quant::LayerInput>();
  input->rows = std::min(kRows, x.rows);
  input->cols = x.cols;
  input->columns.resize(input->rows * x.cols);
  for (int64_t i = 0; i < input->rows; ++i) {
    const float* row = x.row(i * x.rows / input->rows);
    for (int64_t col = 0; col < x.cols; ++col) {
      input->columns[col * input->rows + i] = row[col];
    }
  }
  for (const std::string& module : modules) {
    inputs_->try_emplace(module, input);
  }
}

int64_t InputSampler::MostBytes(const model::LoadReport& report) {
  int64_t floats = 0;
  for (const model::TensorReport& tensor : report.tensors) {
    if (tensor.is_vector || tensor.method.empty() || tensor.shape.size() != 2 ||
        (tensor.role != model::WeightRole::kLinear &&
         tensor.role != model::WeightRole::kHead)) {
      continue;
    }
    // Some checkpoints store them transposed.
    floats += kRows * std::max(tensor.shape[0], tensor.shape[1]);
  }
  return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace ounce::server
