// A model that finds objects in pictures.
#ifndef OUNCE_MODEL_DETECTOR_H_
#define OUNCE_MODEL_DETECTOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/model.h"
#include "quant/matmul.h"

namespace ounce::model {

struct DetectorShape {
  int64_t num_queries = 0;          // rows of logits and boxes per picture
  std::vector<std::string> labels;  // by label id; "no object" comes after them
};

// The float32 value that the model sees for a byte of each of red, green, blue:
// rescaled and normalized as the checkpoint's image processor says.
struct PixelTable {
  float values[3][256];
};

struct PictureSize {
  int64_t height = 0;
  int64_t width = 0;
};

// A picture ready for the model: resized, in bytes.
struct PictureView {
  const uint8_t* rgb = nullptr;  // [size.height, size.width, 3]
  PictureSize size;
  // The padded picture, at least `size`: pixels right of and below it are 0
  // after normalization, and no attention is paid to them. Without padding, the
  // same as `size`.
  PictureSize canvas;
  const PixelTable* table = nullptr;
};

class Detector : public Model {
 public:
  const Detector* detector() const final { return this; }

  virtual const DetectorShape& shape() const = 0;

  // Bytes of scratch for one Forward of pictures with these canvases.
  virtual size_t ScratchBytes(absl::Span<const PictureSize> canvases,
                              int threads) const = 0;

  // Finds objects in each picture. Pictures of different sizes share a call;
  // each is computed at its own size.
  //
  // Shapes, rows of pictures in order: logits [pictures * num_queries,
  //   labels.size() + 1]; boxes [pictures * num_queries, 4]: center x, center
  //   y, width, height relative to the picture without its padding, in (0, 1).
  // Exactness: the result for a picture does not depend, to the last bit, on
  //   the others or on the threads.
  // Threads: any, with scratch of its own; the pool is leased by the caller.
  // Requires a `run` of RunOn; no allocation beyond its scratch.
  virtual void Forward(absl::Span<const PictureView> pictures, const Run& run,
                       const quant::Matrix& logits,
                       const quant::Matrix& boxes) const = 0;
};

struct Detection {
  int64_t label_id = 0;
  float score = 0;  // probability, in (threshold, 1]
  // Corners in pixels of the original picture, inside it.
  float x_min = 0, y_min = 0, x_max = 0, y_max = 0;
};

// One picture's rows of Forward's results into detections: the best label of
// each query but "no object", where its probability is above `threshold`; best
// first (equal ones in the order of queries), at most `max_detections`. As
// transformers' post_process_object_detection, which neither sorts nor clips.
std::vector<Detection> PostProcess(const quant::ConstMatrix& logits,
                                   const quant::ConstMatrix& boxes,
                                   const PictureSize& original, float threshold,
                                   int64_t max_detections);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DETECTOR_H_
