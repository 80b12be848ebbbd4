#include "model/arch/detr_weights.h"

#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/read_layers.h"

namespace ounce::model {
namespace {

// Boxes are no logits: among a head's biases, theirs must be finite.
absl::StatusOr<Linear> ReadBoxLayer(const std::string& name, int64_t rows,
                                    int64_t cols, WeightReader& reader) {
  ASSIGN_OR_RETURN(const Linear layer,
                   reader.ReadLinear({{.module = name, .rows = rows}}, cols,
                                     WeightRole::kHead));
  ASSIGN_OR_RETURN(std::vector<float> bias,
                   reader.Vector(name + ".bias", rows));
  return Linear(layer.parts(), cols, std::move(bias));
}

absl::StatusOr<AttentionLayer> ReadAttention(const std::string& name,
                                             int64_t width, int64_t heads,
                                             WeightReader& reader) {
  const std::string out =
      reader.Has(name + ".o_proj.weight") ? ".o_proj" : ".out_proj";
  AttentionLayer layer;
  layer.heads = heads;
  const auto read = [&](const std::string& part) {
    return ReadLinear(reader, name + part, width, width, /*bias=*/true);
  };
  ASSIGN_OR_RETURN(layer.query, read(".q_proj"));
  ASSIGN_OR_RETURN(layer.key, read(".k_proj"));
  ASSIGN_OR_RETURN(layer.value, read(".v_proj"));
  ASSIGN_OR_RETURN(layer.out, read(out));
  ASSIGN_OR_RETURN(layer.norm,
                   ReadNorm(reader, name + "_layer_norm", width, {}));
  return layer;
}

absl::StatusOr<InnerLayer> ReadInner(const std::string& name, int64_t width,
                                     int64_t inner, WeightReader& reader) {
  const std::string part = reader.Has(name + ".mlp.fc1.weight") ? ".mlp" : "";
  InnerLayer layer;
  ASSIGN_OR_RETURN(layer.first, ReadLinear(reader, name + part + ".fc1", inner,
                                           width, /*bias=*/true));
  ASSIGN_OR_RETURN(layer.second, ReadLinear(reader, name + part + ".fc2", width,
                                            inner, /*bias=*/true));
  ASSIGN_OR_RETURN(layer.norm,
                   ReadNorm(reader, name + ".final_layer_norm", width, {}));
  return layer;
}

// transformers 5 has one module less around the backbone; either may have
// timm's network inside a TimmBackbone.
std::string BackboneRoot(const WeightReader& reader) {
  std::string usual = "model.backbone.conv_encoder.model.";
  for (const std::string& outer :
       {usual, std::string("model.backbone.model.")}) {
    for (const char* inner : {"", "_backbone."}) {
      std::string root = outer + inner;
      if (reader.Has(root + "conv1.weight") ||
          reader.Has(root + "embedder.embedder.convolution.weight")) {
        return root;
      }
    }
  }
  return usual;
}

}  // namespace

absl::StatusOr<DetrWeights> ReadDetrWeights(const DetrConfig& config,
                                            WeightReader& reader) {
  const int64_t width = config.width;
  DetrWeights weights;
  ASSIGN_OR_RETURN(weights.backbone,
                   ResNet::Read(config.backbone, BackboneRoot(reader), reader));
  weights.projection_shape = {.out_channels = width,
                              .in_channels = weights.backbone.channels()};
  ASSIGN_OR_RETURN(weights.projection,
                   reader.Convolution("model.input_projection",
                                      weights.projection_shape, ""));
  ASSIGN_OR_RETURN(
      weights.queries,
      reader.Matrix("model.query_position_embeddings", config.num_queries,
                    width, WeightRole::kEmbedding));
  for (int64_t i = 0; i < config.encoder_layers; ++i) {
    const std::string name = StrCat("model.encoder.layers.", i);
    EncoderLayer layer;
    ASSIGN_OR_RETURN(layer.self, ReadAttention(name + ".self_attn", width,
                                               config.encoder_heads, reader));
    ASSIGN_OR_RETURN(layer.inner,
                     ReadInner(name, width, config.encoder_inner, reader));
    weights.encoder.push_back(std::move(layer));
  }
  for (int64_t i = 0; i < config.decoder_layers; ++i) {
    const std::string name = StrCat("model.decoder.layers.", i);
    DecoderLayer layer;
    ASSIGN_OR_RETURN(layer.self, ReadAttention(name + ".self_attn", width,
                                               config.decoder_heads, reader));
    ASSIGN_OR_RETURN(layer.cross, ReadAttention(name + ".encoder_attn", width,
                                                config.decoder_heads, reader));
    ASSIGN_OR_RETURN(layer.inner,
                     ReadInner(name, width, config.decoder_inner, reader));
    weights.decoder.push_back(std::move(layer));
  }
  ASSIGN_OR_RETURN(weights.last_norm,
                   ReadNorm(reader, "model.decoder.layernorm", width, {}));
  ASSIGN_OR_RETURN(weights.classifier,
                   ReadLinear(reader, "class_labels_classifier",
                              static_cast<int64_t>(config.labels.size()) + 1,
                              width, /*bias=*/true, WeightRole::kHead));
  for (int64_t i = 0; i < 3; ++i) {
    ASSIGN_OR_RETURN(weights.boxes[i],
                     ReadBoxLayer(StrCat("bbox_predictor.layers.", i),
                                  i < 2 ? width : 4, width, reader));
  }
  return weights;
}

}  // namespace ounce::model
