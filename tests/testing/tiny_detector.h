// Small DETRs for tests: those of tests/golden/detr, made by
// tools/make_detr_goldens.py with transformers; and what runs them.
#ifndef OUNCE_TESTS_TESTING_TINY_DETECTOR_H_
#define OUNCE_TESTS_TESTING_TINY_DETECTOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/checkpoint/checkpoint.h"
#include "model/detector.h"
#include "model/loader/loader.h"
#include "quant/compute.h"

namespace ounce::testing {

// Folders that a server can serve: labels N/A, circle, square, triangle, star;
// 7 queries. The first has float32 in safetensors, the other float16 in .bin.
inline constexpr char kTinyDetectorFolder[] = "tests/golden/detr/bottleneck";
inline constexpr char kOtherTinyDetectorFolder[] =
    "tests/golden/detr/basic_bin";

// All goldens that have outputs.
std::vector<std::string> DetrGoldenFolders();

// Opens the weights of such a folder, or makes them up as its script did.
std::unique_ptr<model::Checkpoint> OpenDetrGolden(const std::string& folder);

// What transformers makes of the generated pictures `first`, `first` + 1, ...
// padded to one canvas.
struct DetrGolden {
  int first = 0;
  std::vector<model::PictureSize> sizes;
  model::PictureSize canvas;
  std::vector<float> logits;  // [pictures, queries, labels + 1]
  std::vector<float> boxes;   // [pictures, queries, 4]
  float threshold = 0;
  // Of each picture, in the order of its queries, not clipped.
  std::vector<std::vector<model::Detection>> detections;
};
std::vector<DetrGolden> ReadDetrGoldens(const std::string& folder,
                                        const model::DetectorShape& shape);

// ImageNet's normalization.
const model::PixelTable& ImageNetPixels();

struct DetectorOutputs {
  std::vector<float> logits;
  std::vector<float> boxes;
};

// Owns what a detector runs on.
class DetectorRunner {
 public:
  struct Picture {
    std::vector<uint8_t> rgb;
    model::PictureSize size;
    model::PictureSize canvas;
  };

  // Ownership: the model must outlive it.
  DetectorRunner(const model::Detector& detector, int threads)
      : detector_(detector), pool_(threads) {}

  static Picture Generated(int index, const model::PictureSize& size,
                           const model::PictureSize& canvas);
  // Exactly as large a scratch as the detector asks for, full of NaN.
  DetectorOutputs Run(const std::vector<Picture>& pictures,
                      model::LinearObserver* observer = nullptr);

  // Of the last run: what was asked for and what was used.
  int64_t scratch_bytes() const { return scratch_bytes_; }
  int64_t scratch_peak() const { return scratch_peak_; }

 private:
  const model::Detector& detector_;
  ThreadPool pool_;
  int64_t scratch_bytes_ = 0;
  int64_t scratch_peak_ = 0;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_TINY_DETECTOR_H_
