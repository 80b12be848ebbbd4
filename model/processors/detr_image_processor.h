// From a decoded picture to what DETR takes, as transformers'
// DetrImageProcessor does it: resize, rescale, normalize.
//
// Source: transformers 4.57.6, models/detr/image_processing_detr.py.
#ifndef OUNCE_MODEL_PROCESSORS_DETR_IMAGE_PROCESSOR_H_
#define OUNCE_MODEL_PROCESSORS_DETR_IMAGE_PROCESSOR_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "image/resize.h"
#include "image/rgb8.h"
#include "model/detector.h"
#include "model/processors/image_processor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

class DetrImageProcessor final : public ImageProcessor {
 public:
  // Of a picture after the resize: the longer side, and the area.
  static constexpr int64_t kMaxSide = 8192;
  static constexpr int64_t kMaxPixels = 16'000'000;

  // The defaults of transformers: shortest edge 800, longest 1333, bilinear,
  // 1/255, ImageNet's mean and deviation.
  DetrImageProcessor();

  // From an object as preprocessor_config.json has it.
  // Errors: kInvalidArgument naming the key and the reason; kUnimplemented
  //   naming the processor type or option that we do not have.
  static absl::StatusOr<DetrImageProcessor> FromConfig(
      const nlohmann::json& config);

  // The same from the file's text; `name` is for messages.
  static absl::StatusOr<DetrImageProcessor> Parse(const std::string& name,
                                                  std::string_view text);

  // transformers' get_size_with_aspect_ratio, or the fixed size. Errors:
  // kResourceExhausted over kMaxSide or kMaxPixels.
  absl::StatusOr<PictureSize> TargetSize(int64_t height,
                                         int64_t width) const override;
  absl::StatusOr<PreparedPicture> Prepare(image::Rgb8 picture) const override;
  absl::StatusOr<int64_t> PrepareBytes(int64_t height,
                                       int64_t width) const override;

  // (v * rescale_factor - mean) / std, each step rounded as numpy does it in
  // transformers. Error: none, equal to the bit.
  const PixelTable& table() const override { return table_; }

 private:
  enum class Rule {
    kAsItIs,
    kFixed,  // height, width
    kEdges,  // shortest at most, longest at most
    kWithin  // largest that keeps the ratio within height, width
  };

  absl::Status Configure(const nlohmann::json& config);
  absl::Status ReadSize(const nlohmann::json& config);

  Rule rule_ = Rule::kEdges;
  int64_t first_ = 800;
  int64_t second_ = 1333;
  image::Resample resample_ = image::Resample::kBilinear;
  PixelTable table_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_PROCESSORS_DETR_IMAGE_PROCESSOR_H_
