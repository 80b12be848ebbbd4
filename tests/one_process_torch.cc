#include "tests/one_process_torch.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <torch/headeronly/version.h>

namespace ounce {

std::vector<float> TorchMatmul(std::vector<float> a, std::vector<float> b,
                               int rows, int inner, int columns) {
  at::set_num_threads(2);
  const at::Tensor product =
      at::matmul(at::from_blob(a.data(), {rows, inner}),
                 at::from_blob(b.data(), {inner, columns}));
  const float* data = product.const_data_ptr<float>();
  return std::vector<float>(data, data + product.numel());
}

std::string TorchHeaderVersion() { return TORCH_VERSION; }

std::string TorchConfig() { return at::show_config(); }

}  // namespace ounce
