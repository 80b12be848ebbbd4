#include "model/arch/detr_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// Bounds that no known model comes near; products of any three of these fit 64
// bits. Queries times labels are what a picture's answer takes of memory, and a
// few megabytes of weights can ask for many of both.
constexpr int64_t kMaxWidth = 1 << 14;
constexpr int64_t kMaxInner = 1 << 16;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxQueries = 1 << 12;
constexpr int64_t kMaxLabels = 1 << 15;
constexpr int64_t kMaxStages = 16;

// A choice of which we have one.
absl::Status OnlyString(const json& object, std::string_view key,
                        std::string_view only) {
  ASSIGN_OR_RETURN(const std::string value, StringField(object, key, only));
  if (value == only) return absl::OkStatus();
  return UnsupportedField(key, StrCat("'", only, "'"), StrCat("'", value, "'"));
}

absl::Status OnlyThreeChannels(const json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t channels,
                   IntField(object, key, 1, kMaxWidth, 3));
  return channels == 3 ? absl::OkStatus()
                       : UnsupportedField(key, "3", StrCat(channels));
}

absl::StatusOr<std::vector<int64_t>> ReadSizes(const json& object,
                                               std::string_view key,
                                               int64_t max,
                                               std::vector<int64_t> absent) {
  if (!object.contains(key)) return absent;
  const json& list = object[std::string(key)];
  if (!list.is_array() || list.empty() ||
      list.size() > static_cast<size_t>(kMaxStages)) {
    return WrongField(key, StrCat("a list of 1 to ", kMaxStages, " integers"),
                      ShortJson(list));
  }
  std::vector<int64_t> sizes;
  for (const json& entry : list) {
    ASSIGN_OR_RETURN(const int64_t size,
                     JsonInt(json{{std::string(key), entry}}, key, 1, max));
    sizes.push_back(size);
  }
  return sizes;
}

// As many as id2label has entries, which is how many the network tells apart. A
// label that is missing or null is named as transformers names those that
// nobody named; one whose id no network of that many labels answers, for
// instance the last of those that count from 1, is never seen.
absl::StatusOr<std::vector<std::string>> ReadLabels(const json& config) {
  int64_t count = 0;
  const bool named = IsGiven(config, "id2label");
  if (named) {
    const json& map = config["id2label"];
    count = static_cast<int64_t>(map.size());
    if (!map.is_object() || count < 1 || count > kMaxLabels) {
      return WrongField(
          "id2label", StrCat("an object of 1 to ", kMaxLabels, " labels"),
          map.is_object() ? StrCat("one of ", count) : ShortJson(map));
    }
  } else {
    ASSIGN_OR_RETURN(count, IntField(config, "num_labels", 1, kMaxLabels, 2));
  }
  std::vector<std::string> labels;
  for (int64_t id = 0; id < count; ++id) {
    labels.push_back(StrCat("LABEL_", id));
  }
  if (!named) return labels;
  for (const auto& [key, label] : config["id2label"].items()) {
    int64_t id = 0;
    const auto [end, error] =
        std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return absl::InvalidArgumentError(StrCat(
          "'id2label' must have integers as keys, has ", ShortJson(key)));
    }
    if (label.is_structured()) {
      return absl::InvalidArgumentError(
          StrCat("'id2label' must have strings, has ", ShortJson(label),
                 " under ", key));
    }
    if (id < 0 || id >= count || label.is_null()) continue;
    labels[id] = label.is_string() ? label.get<std::string>() : label.dump();
  }
  return labels;
}

// The last stage that `out_features` names (`prefix` and a number); absent or
// null: nothing.
absl::StatusOr<std::optional<int64_t>> LastFeature(const json& backbone,
                                                   std::string_view prefix,
                                                   int64_t stages) {
  if (!IsGiven(backbone, "out_features")) return std::nullopt;
  const json& names = backbone["out_features"];
  for (int64_t i = stages; i > 0 && names.is_array(); --i) {
    if (std::find(names.begin(), names.end(), StrCat(prefix, i)) !=
        names.end()) {
      return i;
    }
  }
  return WrongField(
      "out_features",
      StrCat("a list with one of '", prefix, "1' to '", prefix, stages, "'"),
      ShortJson(names));
}

// The last stage that `out_indices` names, in which 0 is the stem and negative
// ones count from the end.
absl::StatusOr<std::optional<int64_t>> LastIndex(const json& backbone,
                                                 int64_t stages) {
  if (!IsGiven(backbone, "out_indices")) return std::nullopt;
  const json& indices = backbone["out_indices"];
  int64_t last = 0;
  if (indices.is_array()) {
    for (const json& entry : indices) {
      ASSIGN_OR_RETURN(const int64_t index,
                       JsonInt(json{{"out_indices", entry}}, "out_indices",
                               -stages - 1, stages));
      last = std::max(last, index < 0 ? index + stages + 1 : index);
    }
  }
  if (last > 0) return last;
  return WrongField("out_indices", StrCat("a list with one of 1 to ", stages),
                    ShortJson(indices));
}

// Cuts the stages behind the one whose output is wanted: the last of those that
// the backbone is asked for.
absl::Status CutStages(const json& backbone, std::string_view prefix,
                       ResNetShape& shape) {
  const auto stages = static_cast<int64_t>(shape.depths.size());
  ASSIGN_OR_RETURN(const std::optional<int64_t> by_name,
                   LastFeature(backbone, prefix, stages));
  ASSIGN_OR_RETURN(const std::optional<int64_t> by_index,
                   LastIndex(backbone, stages));
  if (by_name.has_value() && by_index.has_value() && by_name != by_index) {
    return WrongField("out_indices", "those of 'out_features'",
                      ShortJson(backbone["out_indices"]));
  }
  const int64_t last = by_name.value_or(by_index.value_or(stages));
  shape.cut_stages = stages - last;
  shape.hidden_sizes.resize(last);
  shape.depths.resize(last);
  return absl::OkStatus();
}

// Of transformers' ResNetConfig.
absl::StatusOr<ResNetShape> ReadResNetConfig(const json& backbone) {
  ResNetShape shape;
  // Its stages stride on, however many there are.
  shape.output_stride = std::numeric_limits<int64_t>::max();
  RETURN_IF_ERROR(OnlyString(backbone, "hidden_act", "relu"));
  RETURN_IF_ERROR(OnlyThreeChannels(backbone, "num_channels"));
  ASSIGN_OR_RETURN(
      shape.embedding_size,
      IntField(backbone, "embedding_size", 1, kMaxWidth, shape.embedding_size));
  ASSIGN_OR_RETURN(
      shape.hidden_sizes,
      ReadSizes(backbone, "hidden_sizes", kMaxWidth, shape.hidden_sizes));
  ASSIGN_OR_RETURN(shape.depths,
                   ReadSizes(backbone, "depths", kMaxLayers, shape.depths));
  if (shape.depths.size() != shape.hidden_sizes.size()) {
    return WrongField(
        "depths",
        StrCat("as long as 'hidden_sizes', ", shape.hidden_sizes.size()),
        StrCat(shape.depths.size(), " long"));
  }
  ASSIGN_OR_RETURN(const std::string layer_type,
                   StringField(backbone, "layer_type", "bottleneck"));
  if (layer_type != "basic" && layer_type != "bottleneck") {
    return UnsupportedField("layer_type", "'basic' or 'bottleneck'",
                            StrCat("'", layer_type, "'"));
  }
  shape.bottleneck = layer_type == "bottleneck";
  for (int64_t size : shape.hidden_sizes) {
    if (shape.bottleneck && size % 4 != 0) {
      return absl::InvalidArgumentError(StrCat(
          "'hidden_sizes' must be multiples of 4 with bottleneck layers, "
          "one is ",
          size));
    }
  }
  ASSIGN_OR_RETURN(shape.downsample_in_first_stage,
                   BoolField(backbone, "downsample_in_first_stage", false));
  ASSIGN_OR_RETURN(shape.downsample_in_bottleneck,
                   BoolField(backbone, "downsample_in_bottleneck", false));
  RETURN_IF_ERROR(CutStages(backbone, "stage", shape));
  return shape;
}

// The plain ResNets that timm knows by name.
absl::StatusOr<ResNetShape> NamedBackbone(const std::string& name) {
  struct Known {
    std::string_view name;
    bool bottleneck;
    std::array<int64_t, 4> depths;
  };
  static constexpr Known kKnown[] = {{"resnet18", false, {2, 2, 2, 2}},
                                     {"resnet34", false, {3, 4, 6, 3}},
                                     {"resnet50", true, {3, 4, 6, 3}},
                                     {"resnet101", true, {3, 4, 23, 3}},
                                     {"resnet152", true, {3, 8, 36, 3}}};
  // What follows a dot names pretrained weights, not a shape.
  const std::string base = name.substr(0, name.find('.'));
  std::string names;
  for (const Known& known : kKnown) {
    StrAppend(&names, names.empty() ? "" : ", ", known.name);
    if (known.name != base) continue;
    ResNetShape shape;
    shape.bottleneck = known.bottleneck;
    shape.depths.assign(known.depths.begin(), known.depths.end());
    if (!known.bottleneck) shape.hidden_sizes = {64, 128, 256, 512};
    return shape;
  }
  return UnsupportedField("backbone", StrCat("one of ", names),
                          StrCat("'", name, "'"));
}

absl::Status ReadOutputStride(const json& object, ResNetShape& shape) {
  ASSIGN_OR_RETURN(
      shape.output_stride,
      OptionalJsonInt(object, "output_stride", 8, 32, shape.output_stride));
  if (shape.output_stride % 8 != 0 || shape.output_stride == 24) {
    return WrongField("output_stride", "8, 16 or 32",
                      StrCat(shape.output_stride));
  }
  return absl::OkStatus();
}

// timm's backbone by the keys of DetrConfig itself, as transformers 4 has them.
absl::StatusOr<ResNetShape> ReadTimmKeys(const json& config) {
  ASSIGN_OR_RETURN(const std::string name,
                   OptionalJsonString(config, "backbone", "resnet50"));
  ASSIGN_OR_RETURN(ResNetShape shape, NamedBackbone(name));
  ASSIGN_OR_RETURN(const bool dilation, BoolField(config, "dilation", false));
  if (dilation) shape.output_stride = 16;
  if (!IsGiven(config, "backbone_kwargs")) return shape;
  const json& kwargs = config["backbone_kwargs"];
  if (!kwargs.is_object()) {
    return WrongField("backbone_kwargs", "an object", ShortJson(kwargs));
  }
  for (const auto& [key, value] : kwargs.items()) {
    if (key != "out_indices" && key != "in_chans" && key != "output_stride") {
      return UnsupportedField(
          "backbone_kwargs", "of 'out_indices', 'in_chans' and 'output_stride'",
          StrCat("with '", key, "'"));
    }
  }
  RETURN_IF_ERROR(OnlyThreeChannels(kwargs, "in_chans"));
  RETURN_IF_ERROR(ReadOutputStride(kwargs, shape));
  RETURN_IF_ERROR(CutStages(kwargs, "layer", shape));
  return shape;
}

// Of transformers' TimmBackboneConfig, which is how transformers 5 writes the
// same.
absl::StatusOr<ResNetShape> ReadTimmConfig(const json& backbone) {
  ASSIGN_OR_RETURN(const std::string name, JsonString(backbone, "backbone"));
  ASSIGN_OR_RETURN(ResNetShape shape, NamedBackbone(name));
  RETURN_IF_ERROR(OnlyThreeChannels(backbone, "num_channels"));
  ASSIGN_OR_RETURN(const bool features,
                   BoolField(backbone, "features_only", true));
  if (!features) return UnsupportedField("features_only", "true", "false");
  RETURN_IF_ERROR(ReadOutputStride(backbone, shape));
  RETURN_IF_ERROR(CutStages(backbone, "layer", shape));
  return shape;
}

// `backbone_config`, which counts if it is given.
absl::StatusOr<ResNetShape> ReadBackboneConfig(const json& backbone) {
  if (!backbone.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("must be an object, is ", ShortJson(backbone)));
  }
  ASSIGN_OR_RETURN(const std::string type, JsonString(backbone, "model_type"));
  if (type == "resnet") return ReadResNetConfig(backbone);
  if (type == "timm_backbone") return ReadTimmConfig(backbone);
  return UnsupportedField("model_type", "'resnet' or 'timm_backbone'",
                          StrCat("'", type, "'"));
}

absl::StatusOr<ResNetShape> ReadBackbone(const json& config) {
  RETURN_IF_ERROR(OnlyThreeChannels(config, "num_channels"));
  if (IsGiven(config, "backbone_config")) {
    auto shape = ReadBackboneConfig(config["backbone_config"]);
    RETURN_IF_ERROR(WithContext(shape.status(), "'backbone_config'"));
    // Keys of timm beside it: transformers 4 refuses some and ignores others, 5
    // ignores all. "resnet50" is a default that was left over.
    ASSIGN_OR_RETURN(const std::string name,
                     OptionalJsonString(config, "backbone", "resnet50"));
    const json& backbone = config["backbone_config"];
    if (name != "resnet50" && name != backbone.value("backbone", json())) {
      return UnsupportedField("backbone", "null beside 'backbone_config'",
                              StrCat("'", name, "'"));
    }
    ASSIGN_OR_RETURN(const bool dilation, BoolField(config, "dilation", false));
    if (dilation && shape->output_stride != 16) {
      return UnsupportedField("dilation", "false beside 'backbone_config'",
                              "true");
    }
    if (IsGiven(config, "backbone_kwargs") &&
        !config["backbone_kwargs"].empty()) {
      return UnsupportedField("backbone_kwargs",
                              "null beside 'backbone_config'",
                              ShortJson(config["backbone_kwargs"]));
    }
    return shape;
  }
  ASSIGN_OR_RETURN(const bool timm,
                   BoolField(config, "use_timm_backbone", true));
  if (timm) return ReadTimmKeys(config);
  // Then `backbone` is a model of the hub, whose shape stands elsewhere, but
  // for the default's name, which is left over; `dilation` is for timm's alone.
  // So says transformers.
  ASSIGN_OR_RETURN(const std::string name,
                   OptionalJsonString(config, "backbone", "resnet50"));
  if (name != "resnet50") {
    return UnsupportedField("backbone",
                            "null without timm and without 'backbone_config'",
                            StrCat("'", name, "'"));
  }
  return ReadResNetConfig(json::object());
}

absl::Status CheckHeads(std::string_view key, int64_t width, int64_t heads) {
  if (width % heads == 0) return absl::OkStatus();
  return WrongField(key, StrCat("a divisor of d_model = ", width),
                    StrCat(heads));
}

// Options of other DETRs, under which the network is another one.
absl::Status RefuseOtherNetworks(const json& config) {
  RETURN_IF_ERROR(OnlyString(config, "activation_function", "relu"));
  RETURN_IF_ERROR(OnlyString(config, "position_embedding_type", "sine"));
  for (const char* key : {"pre_norm", "normalize_before", "two_stage"}) {
    ASSIGN_OR_RETURN(const bool on, BoolField(config, key, false));
    if (on) return UnsupportedField(key, "false", "true");
  }
  const json& names = config.value("architectures", json());
  if (names.is_array() && !names.empty() &&
      std::find(names.begin(), names.end(), "DetrForObjectDetection") ==
          names.end()) {
    return UnsupportedField("architectures", "'DetrForObjectDetection'",
                            ShortJson(names));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DetrConfig> ReadDetrConfig(const json& object) {
  RETURN_IF_ERROR(RefuseOtherNetworks(object));
  DetrConfig config;
  ASSIGN_OR_RETURN(config.width, IntField(object, "d_model", "hidden_size", 4,
                                          kMaxWidth, 256));
  if (config.width % 4 != 0) {
    return WrongField("d_model", "a multiple of 4", StrCat(config.width));
  }
  ASSIGN_OR_RETURN(config.encoder_heads,
                   IntField(object, "encoder_attention_heads",
                            "num_attention_heads", 1, config.width, 8));
  RETURN_IF_ERROR(CheckHeads("encoder_attention_heads", config.width,
                             config.encoder_heads));
  ASSIGN_OR_RETURN(
      config.decoder_heads,
      IntField(object, "decoder_attention_heads", 1, config.width, 8));
  RETURN_IF_ERROR(CheckHeads("decoder_attention_heads", config.width,
                             config.decoder_heads));
  ASSIGN_OR_RETURN(config.encoder_layers,
                   IntField(object, "encoder_layers", 0, kMaxLayers, 6));
  ASSIGN_OR_RETURN(config.decoder_layers,
                   IntField(object, "decoder_layers", 0, kMaxLayers, 6));
  ASSIGN_OR_RETURN(config.encoder_inner,
                   IntField(object, "encoder_ffn_dim", 1, kMaxInner, 2048));
  ASSIGN_OR_RETURN(config.decoder_inner,
                   IntField(object, "decoder_ffn_dim", 1, kMaxInner, 2048));
  ASSIGN_OR_RETURN(config.num_queries,
                   IntField(object, "num_queries", 1, kMaxQueries, 100));
  ASSIGN_OR_RETURN(config.norm_after_each_layer,
                   BoolField(object, "auxiliary_loss", false));
  ASSIGN_OR_RETURN(config.labels, ReadLabels(object));
  ASSIGN_OR_RETURN(config.backbone, ReadBackbone(object));
  return config;
}

}  // namespace ounce::model
