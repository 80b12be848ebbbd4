// CodeGen's config.json, checked.
#ifndef OUNCE_MODEL_ARCH_CODEGEN_CONFIG_H_
#define OUNCE_MODEL_ARCH_CODEGEN_CONFIG_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct CodeGenConfig {
  // Groups of heads in the rows of qkv_proj, each queries, values, keys.
  static constexpr int64_t kQkvBlocks = 4;

  int64_t vocab_size = 0;
  int64_t positions = 0;
  int64_t width = 0;  // n_embd
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t rotary_dim = 0;
  int64_t inner = 0;
  float epsilon = 0;  // of the layer norms
  bool tied = false;

  int64_t head_dim() const { return width / heads; }
};

// Absent keys have the defaults of transformers' CodeGenConfig.
//
// Errors: kInvalidArgument and kUnimplemented with the key, what it must be and
//   what it is, but not the file.
absl::StatusOr<CodeGenConfig> ReadCodeGenConfig(const nlohmann::json& config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_CODEGEN_CONFIG_H_
