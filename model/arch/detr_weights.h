// DETR's weights, read from a checkpoint by their names.
#ifndef OUNCE_MODEL_ARCH_DETR_WEIGHTS_H_
#define OUNCE_MODEL_ARCH_DETR_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/arch/detr_config.h"
#include "model/arch/resnet.h"
#include "model/layers/linear.h"
#include "model/layers/norm.h"
#include "model/weights.h"
#include "quant/convolution.h"

namespace ounce::model {

struct AttentionLayer {
  Linear query, key, value, out;
  int64_t heads = 0;
  NormWeights norm;
};

struct InnerLayer {  // the two products around a ReLU
  Linear first, second;
  NormWeights norm;
};

struct EncoderLayer {
  AttentionLayer self;
  InnerLayer inner;
};

struct DecoderLayer {
  AttentionLayer self, cross;
  InnerLayer inner;
};

struct DetrWeights {
  ResNet backbone;
  quant::ConvolutionShape projection_shape;
  ConvolutionWeight projection;
  SharedWeight queries;  // [num_queries, width]
  std::vector<EncoderLayer> encoder;
  std::vector<DecoderLayer> decoder;
  NormWeights last_norm;
  Linear classifier;
  Linear boxes[3];
};

// Names are those of transformers 4, or where newer releases have others,
// those: o_proj for out_proj, mlp.fc1 and mlp.fc2 for fc1 and fc2, backbone for
// backbone.conv_encoder.
//
// Errors: what `reader` returns.
absl::StatusOr<DetrWeights> ReadDetrWeights(const DetrConfig& config,
                                            WeightReader& reader);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_DETR_WEIGHTS_H_
