#include "model/processors/detr_image_processor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "image/resize.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

using Channels = std::array<double, 3>;

const json* Find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const std::vector<std::string_view>& Types() {
  static const auto* const kTypes = new std::vector<std::string_view>{
      "DetrImageProcessor", "DetrImageProcessorFast", "DetrImageProcessorPil",
      "DetrFeatureExtractor"};
  return *kTypes;
}

// Everything that decides about the bytes and the floats, as the file says it.
absl::Status CheckType(const json& config) {
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {
    ASSIGN_OR_RETURN(const std::string type,
                     OptionalJsonString(config, key, ""));
    if (!type.empty() &&
        std::find(Types().begin(), Types().end(), type) == Types().end()) {
      return absl::UnimplementedError(
          absl::StrCat("'", key, "' must be 'DetrImageProcessor', is ",
                       Quoted(type), ", which is not supported"));
    }
  }
  return absl::OkStatus();
}

// A number for all channels or a list of three.
absl::StatusOr<Channels> ReadChannels(const json& config, const char* key,
                                      double min, Channels absent) {
  constexpr double kMax = 1e6;
  const json* value = Find(config, key);
  if (value == nullptr) return absent;
  Channels channels;
  if (!value->is_array()) {
    ASSIGN_OR_RETURN(const double number, JsonNumber(config, key, min, kMax));
    channels.fill(number);
    return channels;
  }
  if (value->size() != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", key, "' must have 3 values (red, green, blue), has ",
                     value->size()));
  }
  for (int c = 0; c < 3; ++c) {
    const json entry = {{key, (*value)[c]}};
    ASSIGN_OR_RETURN(channels[c], JsonNumber(entry, key, min, kMax));
  }
  return channels;
}

// In numpy's order: float64 for the product, float32 for the rest.
absl::StatusOr<PixelTable> ReadTable(const json& config) {
  ASSIGN_OR_RETURN(const bool rescale,
                   OptionalJsonBool(config, "do_rescale", true));
  ASSIGN_OR_RETURN(
      const double factor,
      OptionalJsonNumber(config, "rescale_factor", 1e-9, 1e9, 1.0 / 255));
  ASSIGN_OR_RETURN(const bool normalize,
                   OptionalJsonBool(config, "do_normalize", true));
  ASSIGN_OR_RETURN(const Channels mean, ReadChannels(config, "image_mean", -1e6,
                                                     {0.485, 0.456, 0.406}));
  ASSIGN_OR_RETURN(const Channels std, ReadChannels(config, "image_std", 1e-6,
                                                    {0.229, 0.224, 0.225}));
  PixelTable table;
  for (int c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) {
      float value = static_cast<float>(rescale ? v * factor : v);
      if (normalize) {
        value =
            (value - static_cast<float>(mean[c])) / static_cast<float>(std[c]);
      }
      table.values[c][v] = value;
    }
  }
  return table;
}

// Python's int(): toward zero. What no int64 holds is far over the limit.
int64_t Truncated(double value) {
  return static_cast<int64_t>(std::clamp(value, 0.0, 1e15));
}

PictureSize WithEdges(int64_t height, int64_t width, int64_t shortest,
                      int64_t longest) {
  const double shorter = static_cast<double>(std::min(height, width));
  const double longer = static_cast<double>(std::max(height, width));
  // The side before rounding goes on into the other side's length where the
  // longest edge decides; the rounded one where the shortest does.
  double size = static_cast<double>(shortest);
  int64_t side = shortest;
  if (longer / shorter * size > longest) {
    size = longest * shorter / longer;
    side = static_cast<int64_t>(std::nearbyint(size));
  }
  if (std::min(height, width) == side) return {height, width};
  if (width < height) {
    return {Truncated(size * height / width), side};
  }
  return {side, Truncated(size * width / height)};
}

PictureSize Within(int64_t height, int64_t width, int64_t max_height,
                   int64_t max_width) {
  const double scale = std::min(static_cast<double>(max_height) / height,
                                static_cast<double>(max_width) / width);
  return {Truncated(height * scale), Truncated(width * scale)};
}

}  // namespace

DetrImageProcessor::DetrImageProcessor() : table_(*ReadTable(json::object())) {}

absl::StatusOr<DetrImageProcessor> DetrImageProcessor::FromConfig(
    const json& config) {
  DetrImageProcessor processor;
  RETURN_IF_ERROR(processor.Configure(config));
  return processor;
}

absl::StatusOr<DetrImageProcessor> DetrImageProcessor::Parse(
    const std::string& name, std::string_view text) {
  ASSIGN_OR_RETURN(const json config, ParseJsonObject(name, text));
  auto processor = FromConfig(config);
  RETURN_IF_ERROR(WithContext(processor.status(), name));
  return processor;
}

absl::Status DetrImageProcessor::Configure(const json& config) {
  RETURN_IF_ERROR(CheckType(config));
  ASSIGN_OR_RETURN(const bool resize,
                   OptionalJsonBool(config, "do_resize", true));
  ASSIGN_OR_RETURN(
      const int64_t resample,
      OptionalJsonInt(config, "resample", 0, image::kNumResamples - 1,
                      static_cast<int64_t>(image::Resample::kBilinear)));
  resample_ = static_cast<image::Resample>(resample);
  // Padding to the largest of a batch is not seen from outside.
  ASSIGN_OR_RETURN(const bool pad, OptionalJsonBool(config, "do_pad", true));
  if (pad && Find(config, "pad_size") != nullptr) {
    return absl::UnimplementedError(
        "'pad_size': padding to a fixed size is not supported; without it a "
        "picture is computed at its own size");
  }
  RETURN_IF_ERROR(ReadSize(config));
  if (!resize) rule_ = Rule::kAsItIs;
  ASSIGN_OR_RETURN(table_, ReadTable(config));
  return absl::OkStatus();
}

absl::Status DetrImageProcessor::ReadSize(const json& config) {
  const json* size = Find(config, "size");
  if (size == nullptr) return absl::OkStatus();
  if (!size->is_object()) {
    // Before transformers 4.26.
    ASSIGN_OR_RETURN(first_, JsonInt(config, "size", 1, kMaxSide));
    ASSIGN_OR_RETURN(second_,
                     OptionalJsonInt(config, "max_size", 1, kMaxSide, 1333));
    rule_ = Rule::kEdges;
    return absl::OkStatus();
  }
  struct Form {
    Rule rule;
    const char* first;
    const char* second;
  };
  for (const Form& form : {Form{Rule::kEdges, "shortest_edge", "longest_edge"},
                           Form{Rule::kWithin, "max_height", "max_width"},
                           Form{Rule::kFixed, "height", "width"}}) {
    if (Find(*size, form.first) == nullptr ||
        Find(*size, form.second) == nullptr) {
      continue;
    }
    const auto side = [&](const char* key) -> absl::StatusOr<int64_t> {
      auto value = JsonInt(*size, key, 1, kMaxSide);
      if (!value.ok()) return WithContext(value.status(), "'size'");
      return value;
    };
    ASSIGN_OR_RETURN(first_, side(form.first));
    ASSIGN_OR_RETURN(second_, side(form.second));
    rule_ = form.rule;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'size' must have shortest_edge and longest_edge, height and width, or "
      "max_height and max_width, is ",
      size->dump(-1, ' ', true, json::error_handler_t::replace)));
}

absl::StatusOr<PictureSize> DetrImageProcessor::TargetSize(
    int64_t height, int64_t width) const {
  if (height < 1 || width < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a picture of ", width, "x", height, " pixels"));
  }
  PictureSize target = {.height = height, .width = width};
  switch (rule_) {
    case Rule::kAsItIs:
      break;
    case Rule::kFixed:
      target = {.height = first_, .width = second_};
      break;
    case Rule::kEdges:
      target = WithEdges(height, width, first_, second_);
      break;
    case Rule::kWithin:
      target = Within(height, width, first_, second_);
      break;
  }
  if (target.height < 1 || target.width < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the picture is too elongated: its ", width, "x", height,
        " pixels would be resized to ", target.width, "x", target.height));
  }
  if (std::max(target.height, target.width) > kMaxSide ||
      target.height * target.width > kMaxPixels) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the picture's ", width, "x", height, " pixels would be resized to ",
        target.width, "x", target.height, "; at most ", kMaxSide,
        " pixels a side and ", kMaxPixels, " in all are allowed"));
  }
  return target;
}

absl::StatusOr<PreparedPicture> DetrImageProcessor::Prepare(
    image::Rgb8 picture) const {
  ASSIGN_OR_RETURN(const PictureSize target,
                   TargetSize(picture.height(), picture.width()));
  PreparedPicture prepared;
  prepared.original = {.height = picture.height(), .width = picture.width()};
  if (target.height == picture.height() && target.width == picture.width()) {
    prepared.rgb = std::move(picture);
    return prepared;
  }
  ASSIGN_OR_RETURN(prepared.rgb, image::Resize(picture, target.height,
                                               target.width, resample_));
  return prepared;
}

absl::StatusOr<int64_t> DetrImageProcessor::PrepareBytes(int64_t height,
                                                         int64_t width) const {
  ASSIGN_OR_RETURN(const PictureSize target, TargetSize(height, width));
  if (target.height == height && target.width == width) return 0;
  return image::ResizeBytes(height, width, target.height, target.width,
                            resample_);
}

const ImageProcessorKind& DetrImages() {
  static const auto* const kKind = new ImageProcessorKind{
      .types = Types(),
      .model_type = "detr",
      .make = [](const json& config)
          -> absl::StatusOr<std::shared_ptr<const ImageProcessor>> {
        ASSIGN_OR_RETURN(DetrImageProcessor processor,
                         DetrImageProcessor::FromConfig(config));
        return std::make_shared<const DetrImageProcessor>(processor);
      }};
  return *kKind;
}

}  // namespace ounce::model
