// From a decoded picture to what a detector takes: a checkpoint's image
// processor, whichever it is.
//
// Pixels stay bytes: rescaling and normalizing are a table of 3 x 256 floats
// that the model reads them through. A picture alone needs no padding.
//
// To add one: a file in model/processors/, a line in image_processors.def.
#ifndef OUNCE_MODEL_PROCESSORS_IMAGE_PROCESSOR_H_
#define OUNCE_MODEL_PROCESSORS_IMAGE_PROCESSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
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

// Threads: const after it was made, so any thread may call anything.
class ImageProcessor {
 public:
  virtual ~ImageProcessor() = default;

  // What a picture of this size is resized to.
  // Errors: kInvalidArgument when a side would be 0, as an elongated picture's
  //   can be; kResourceExhausted when it would be larger than is ever taken.
  virtual absl::StatusOr<PictureSize> TargetSize(int64_t height,
                                                 int64_t width) const = 0;

  // Errors: those of TargetSize and image::Resize.
  virtual absl::StatusOr<PreparedPicture> Prepare(
      image::Rgb8 picture) const = 0;

  // The most memory that Prepare holds besides its input, the result included.
  // Errors: those of TargetSize.
  virtual absl::StatusOr<int64_t> PrepareBytes(int64_t height,
                                               int64_t width) const = 0;

  // pixel_values[c, y, x] = table().values[c][rgb[y, x, c]], each step of the
  // normalization rounded as the reference does it. Lives as long as the
  // processor.
  virtual const PixelTable& table() const = 0;
};

// A kind of them, as image_processors.def lists it.
struct ImageProcessorKind {
  // Of `image_processor_type`, or of older files' `feature_extractor_type`.
  std::vector<std::string_view> types;
  // The model_type of checkpoints that have this kind where no file says which.
  std::string_view model_type;
  // From the file's object; an empty one where there is no file.
  // Errors: kInvalidArgument, kUnimplemented, naming the key.
  absl::StatusOr<std::shared_ptr<const ImageProcessor>> (*make)(
      const nlohmann::json& config);
};

// In the order of image_processors.def.
absl::Span<const ImageProcessorKind* const> AllImageProcessors();

// Reads preprocessor_config.json of a checkpoint folder, by its type; where it
// has none, or one that nobody knows, `model_type`'s kind judges it. Its
// defaults when there is no file.
// Errors: those of the kind, naming the file; kUnimplemented for a model_type
//   without a kind; those of ReadJsonObject.
absl::StatusOr<std::shared_ptr<const ImageProcessor>> LoadImageProcessor(
    const std::string& folder, std::string_view model_type);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_PROCESSORS_IMAGE_PROCESSOR_H_
