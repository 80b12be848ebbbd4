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
#include "model/checkpoint/json_fields.h"
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

absl::Status Unknown(std::string_view key, const std::string& found,
                     std::string_view wanted) {
  return absl::UnimplementedError(
      StrCat("'", key, "': ", found, " found, ", wanted, " wanted"));
}

// The beginning of a value, for messages.
std::string Short(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 100);
}

bool IsGiven(const json& object, std::string_view key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

// A choice of which we have one.
absl::Status OnlyString(const json& object, std::string_view key,
                        std::string_view only) {
  ASSIGN_OR_RETURN(const std::string value,
                   OptionalJsonString(object, key, only));
  if (value == only) return absl::OkStatus();
  return Unknown(key, StrCat("'", value, "'"), StrCat("'", only, "'"));
}

absl::Status OnlyThreeChannels(const json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t channels,
                   OptionalJsonInt(object, key, 1, kMaxWidth, 3));
  return channels == 3 ? absl::OkStatus()
                       : Unknown(key, absl::StrCat(channels), "3");
}

absl::StatusOr<std::vector<int64_t>> ReadSizes(const json& object,
                                               std::string_view key,
                                               int64_t max,
                                               std::vector<int64_t> absent) {
  if (!IsGiven(object, key)) return absent;
  const json& list = object[std::string(key)];
  if (!list.is_array() || list.empty() ||
      list.size() > static_cast<size_t>(kMaxStages)) {
    return absl::InvalidArgumentError(StrCat("'", key, "': ", Short(list),
                                             " found, a list of 1 to ",
                                             kMaxStages, " integers wanted"));
  }
  std::vector<int64_t> sizes;
  for (const json& entry : list) {
    ASSIGN_OR_RETURN(const int64_t size,
                     JsonInt(json{{std::string(key), entry}}, key, 1, max));
    sizes.push_back(size);
  }
  return sizes;
}

absl::StatusOr<std::vector<std::string>> ReadLabels(const json& config) {
  std::vector<std::string> labels;
  if (!IsGiven(config, "id2label")) {
    ASSIGN_OR_RETURN(const int64_t count,
                     OptionalJsonInt(config, "num_labels", 1, kMaxLabels, 2));
    for (int64_t id = 0; id < count; ++id) {
      labels.push_back(StrCat("LABEL_", id));
    }
    return labels;
  }
  const json& map = config["id2label"];
  if (!map.is_object() || map.empty() ||
      map.size() > static_cast<size_t>(kMaxLabels)) {
    return absl::InvalidArgumentError(
        StrCat("'id2label': ", map.type_name(), " of ", map.size(),
               " found, an object of 1 to ", kMaxLabels, " labels wanted"));
  }
  labels.resize(map.size());
  for (const auto& [key, label] : map.items()) {
    size_t id = 0;
    const auto [end, error] =
        std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() ||
        id >= labels.size() || StrCat(id) != key) {
      return absl::InvalidArgumentError(StrCat("'id2label': key ", Short(key),
                                               " found, 0 to ",
                                               labels.size() - 1, " wanted"));
    }
    if (!label.is_string()) {
      return absl::InvalidArgumentError(StrCat("'id2label': label ",
                                               Short(label), " of ", key,
                                               " found, a string wanted"));
    }
    labels[id] = label.get<std::string>();
  }
  return labels;
}

// Cuts the stages behind the one whose output is wanted: the last of those that
// the backbone is asked for.
absl::Status CutStages(const json& backbone, ResNetShape& shape) {
  const auto stages = static_cast<int64_t>(shape.depths.size());
  int64_t last = stages;
  if (IsGiven(backbone, "out_features")) {
    const json& names = backbone["out_features"];
    last = -1;
    for (int64_t i = 1; i <= stages; ++i) {
      if (names.is_array() && std::find(names.begin(), names.end(),
                                        StrCat("stage", i)) != names.end()) {
        last = i;
      }
    }
    if (last < 0) {
      return absl::InvalidArgumentError(StrCat(
          "'out_features': ", Short(names),
          " found, a list with one of 'stage1' to 'stage", stages, "' wanted"));
    }
  } else if (IsGiven(backbone, "out_indices")) {
    const json& indices = backbone["out_indices"];
    last = 0;
    for (const json& index : indices) {
      ASSIGN_OR_RETURN(const int64_t i, JsonInt(json{{"out_indices", index}},
                                                "out_indices", 0, stages));
      last = std::max(last, i);
    }
    if (last == 0) {
      return absl::InvalidArgumentError(
          StrCat("'out_indices': ", Short(indices),
                 " found, a list with one of 1 to ", stages, " wanted"));
    }
  }
  shape.hidden_sizes.resize(last);
  shape.depths.resize(last);
  return absl::OkStatus();
}

// Of transformers' ResNetConfig; null stands for its defaults.
absl::StatusOr<ResNetShape> ReadBackboneConfig(const json& backbone) {
  ResNetShape shape;
  // Its stages stride on, however many there are.
  shape.output_stride = std::numeric_limits<int64_t>::max();
  if (backbone.is_null()) return shape;
  if (!backbone.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("'backbone_config': ", backbone.type_name(),
               " found, an object wanted"));
  }
  RETURN_IF_ERROR(OnlyString(backbone, "model_type", "resnet"));
  RETURN_IF_ERROR(OnlyString(backbone, "hidden_act", "relu"));
  RETURN_IF_ERROR(OnlyThreeChannels(backbone, "num_channels"));
  ASSIGN_OR_RETURN(shape.embedding_size,
                   OptionalJsonInt(backbone, "embedding_size", 1, kMaxWidth,
                                   shape.embedding_size));
  ASSIGN_OR_RETURN(
      shape.hidden_sizes,
      ReadSizes(backbone, "hidden_sizes", kMaxWidth, shape.hidden_sizes));
  ASSIGN_OR_RETURN(shape.depths,
                   ReadSizes(backbone, "depths", kMaxLayers, shape.depths));
  if (shape.depths.size() != shape.hidden_sizes.size()) {
    return absl::InvalidArgumentError(
        StrCat("'depths': ", shape.depths.size(), " stages found, ",
               shape.hidden_sizes.size(), " as in 'hidden_sizes' wanted"));
  }
  ASSIGN_OR_RETURN(const std::string layer_type,
                   OptionalJsonString(backbone, "layer_type", "bottleneck"));
  if (layer_type != "basic" && layer_type != "bottleneck") {
    return Unknown("layer_type", StrCat("'", layer_type, "'"),
                   "'basic' or 'bottleneck'");
  }
  shape.bottleneck = layer_type == "bottleneck";
  for (int64_t size : shape.hidden_sizes) {
    if (shape.bottleneck && size % 4 != 0) {
      return absl::InvalidArgumentError(
          StrCat("'hidden_sizes': ", size,
                 " found, multiples of 4 wanted with bottleneck layers"));
    }
  }
  ASSIGN_OR_RETURN(
      shape.downsample_in_first_stage,
      OptionalJsonBool(backbone, "downsample_in_first_stage", false));
  ASSIGN_OR_RETURN(
      shape.downsample_in_bottleneck,
      OptionalJsonBool(backbone, "downsample_in_bottleneck", false));
  RETURN_IF_ERROR(CutStages(backbone, shape));
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
  return Unknown("backbone", StrCat("'", name, "'"), StrCat("one of ", names));
}

absl::StatusOr<ResNetShape> ReadTimmBackbone(const json& config) {
  ASSIGN_OR_RETURN(const std::string name,
                   OptionalJsonString(config, "backbone", "resnet50"));
  ASSIGN_OR_RETURN(ResNetShape shape, NamedBackbone(name));
  ASSIGN_OR_RETURN(const bool dilation,
                   OptionalJsonBool(config, "dilation", false));
  if (dilation) shape.output_stride = 16;
  if (!IsGiven(config, "backbone_kwargs")) return shape;
  const json& kwargs = config["backbone_kwargs"];
  if (!kwargs.is_object()) {
    return absl::InvalidArgumentError(StrCat(
        "'backbone_kwargs': ", kwargs.type_name(), " found, an object wanted"));
  }
  for (const auto& [key, value] : kwargs.items()) {
    if (key != "out_indices" && key != "in_chans" && key != "output_stride") {
      return Unknown("backbone_kwargs", StrCat("'", key, "'"),
                     "'out_indices', 'in_chans' and 'output_stride' alone");
    }
  }
  RETURN_IF_ERROR(OnlyThreeChannels(kwargs, "in_chans"));
  ASSIGN_OR_RETURN(
      shape.output_stride,
      OptionalJsonInt(kwargs, "output_stride", 8, 32, shape.output_stride));
  if (shape.output_stride % 8 != 0 || shape.output_stride == 24) {
    return absl::InvalidArgumentError(
        StrCat("'output_stride': ", shape.output_stride,
               " found, 8, 16 or 32 wanted"));
  }
  RETURN_IF_ERROR(CutStages(kwargs, shape));
  return shape;
}

absl::StatusOr<ResNetShape> ReadBackbone(const json& config) {
  RETURN_IF_ERROR(OnlyThreeChannels(config, "num_channels"));
  ASSIGN_OR_RETURN(const bool timm,
                   OptionalJsonBool(config, "use_timm_backbone", true));
  if (timm) return ReadTimmBackbone(config);
  // So says transformers; `dilation` is for timm's alone.
  RETURN_IF_ERROR(OnlyString(config, "backbone", "resnet50"));
  return ReadBackboneConfig(config.value("backbone_config", json()));
}

absl::Status CheckHeads(const json& config, std::string_view key, int64_t width,
                        int64_t* heads) {
  ASSIGN_OR_RETURN(*heads, OptionalJsonInt(config, key, 1, width, 8));
  if (width % *heads == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("'", key, "': ", *heads, " found, a divisor of d_model = ", width,
             " wanted"));
}

// Options of other DETRs, under which the network is another one.
absl::Status RefuseOtherNetworks(const json& config) {
  RETURN_IF_ERROR(OnlyString(config, "activation_function", "relu"));
  RETURN_IF_ERROR(OnlyString(config, "position_embedding_type", "sine"));
  for (const char* key : {"pre_norm", "normalize_before", "two_stage"}) {
    ASSIGN_OR_RETURN(const bool on, OptionalJsonBool(config, key, false));
    if (on) return Unknown(key, "true", "false");
  }
  const json& names = config.value("architectures", json());
  if (names.is_array() && !names.empty() &&
      std::find(names.begin(), names.end(), "DetrForObjectDetection") ==
          names.end()) {
    return Unknown("architectures", Short(names), "'DetrForObjectDetection'");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DetrConfig> ReadDetrConfig(const json& object) {
  RETURN_IF_ERROR(RefuseOtherNetworks(object));
  DetrConfig config;
  ASSIGN_OR_RETURN(config.width,
                   OptionalJsonInt(object, "d_model", 4, kMaxWidth, 256));
  if (config.width % 4 != 0) {
    return absl::InvalidArgumentError(
        StrCat("'d_model': ", config.width, " found, a multiple of 4 wanted"));
  }
  RETURN_IF_ERROR(CheckHeads(object, "encoder_attention_heads", config.width,
                             &config.encoder_heads));
  RETURN_IF_ERROR(CheckHeads(object, "decoder_attention_heads", config.width,
                             &config.decoder_heads));
  ASSIGN_OR_RETURN(config.encoder_layers,
                   OptionalJsonInt(object, "encoder_layers", 0, kMaxLayers, 6));
  ASSIGN_OR_RETURN(config.decoder_layers,
                   OptionalJsonInt(object, "decoder_layers", 0, kMaxLayers, 6));
  ASSIGN_OR_RETURN(
      config.encoder_inner,
      OptionalJsonInt(object, "encoder_ffn_dim", 1, kMaxInner, 2048));
  ASSIGN_OR_RETURN(
      config.decoder_inner,
      OptionalJsonInt(object, "decoder_ffn_dim", 1, kMaxInner, 2048));
  ASSIGN_OR_RETURN(config.num_queries,
                   OptionalJsonInt(object, "num_queries", 1, kMaxQueries, 100));
  ASSIGN_OR_RETURN(config.norm_after_each_layer,
                   OptionalJsonBool(object, "auxiliary_loss", false));
  ASSIGN_OR_RETURN(config.labels, ReadLabels(object));
  ASSIGN_OR_RETURN(config.backbone, ReadBackbone(object));
  return config;
}

}  // namespace ounce::model
