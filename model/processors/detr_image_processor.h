// From a decoded picture to what DETR takes, as transformers'
// DetrImageProcessor does it: resize, rescale, normalize.
//
// Pixels stay bytes: normalization is a table of 3 x 256 floats that the model
// reads them through. A picture alone needs no padding.
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
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

struct PreparedPicture {
  image::Rgb8 rgb;       // resized, [height, width, 3]
  PictureSize original;  // of the picture that came in: boxes are in its pixels

  int64_t height() const { return rgb.height(); }
  int64_t width() const { return rgb.width(); }
};

// Threads: const after Load, so any thread may call anything.
class DetrImageProcessor {
 public:
  // Of a picture after the resize: the longer side, and the area.
  static constexpr int64_t kMaxSide = 8192;
  static constexpr int64_t kMaxPixels = 16'000'000;

  // The defaults of transformers: shortest edge 800, longest 1333, bilinear,
  // 1/255, ImageNet's mean and deviation.
  DetrImageProcessor();

  // Reads preprocessor_config.json of a checkpoint folder; the defaults when
  // there is none.
  // Errors: kInvalidArgument naming the file, the key and the reason;
  //   kUnimplemented naming the processor type or option that we do not have.
  static absl::StatusOr<DetrImageProcessor> Load(const std::string& folder);

  // The same from the file's text; `name` is for messages.
  static absl::StatusOr<DetrImageProcessor> Parse(const std::string& name,
                                                  std::string_view text);

  // What a picture of this size is resized to: transformers'
  // get_size_with_aspect_ratio, or the fixed size.
  // Errors: kInvalidArgument when a side would be 0, as an elongated picture's
  //   can be; kResourceExhausted when it would be over kMaxSide or kMaxPixels.
  absl::StatusOr<PictureSize> TargetSize(int64_t height, int64_t width) const;

  // Errors: those of TargetSize and image::Resize.
  absl::StatusOr<PreparedPicture> Prepare(image::Rgb8 picture) const;

  // The most memory that Prepare holds besides its input, the result included.
  // Errors: those of TargetSize.
  absl::StatusOr<int64_t> PrepareBytes(int64_t height, int64_t width) const;

  // pixel_values[c, y, x] = table().values[c][rgb[y, x, c]]:
  // (v * rescale_factor - mean) / std, each step rounded as numpy does it in
  // transformers. Error: none, equal to the bit. Lives as long as the
  // processor.
  const PixelTable& table() const { return table_; }

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
