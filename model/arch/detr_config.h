// DETR's config.json, checked.
#ifndef OUNCE_MODEL_ARCH_DETR_CONFIG_H_
#define OUNCE_MODEL_ARCH_DETR_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/arch/resnet.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct DetrConfig {
  int64_t width = 0;  // d_model
  int64_t encoder_layers = 0;
  int64_t decoder_layers = 0;
  int64_t encoder_heads = 0;
  int64_t decoder_heads = 0;
  int64_t encoder_inner = 0;  // ..._ffn_dim
  int64_t decoder_inner = 0;
  int64_t num_queries = 0;
  // auxiliary_loss: in transformers it makes the decoder's last norm follow
  // each of its layers, so that it changes more than the training.
  bool norm_after_each_layer = false;
  std::vector<std::string> labels;  // by id
  ResNetShape backbone;
};

// Absent keys have the defaults of transformers' DetrConfig, ResNetConfig and
// TimmBackboneConfig. The backbone's shape comes from `backbone_config` (a
// ResNet of transformers, or timm's as transformers 5 writes it), else from
// `backbone` (a name of timm's); which of their naming schemes the tensors
// follow is the checkpoint's matter.
//
// Errors: kInvalidArgument and kUnimplemented with the key, what it must be and
//   what it is, but not the file.
absl::StatusOr<DetrConfig> ReadDetrConfig(const nlohmann::json& config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_DETR_CONFIG_H_
