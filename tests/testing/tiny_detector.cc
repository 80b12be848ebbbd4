#include "tests/testing/tiny_detector.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "quant/scratch.h"
#include "tests/testing/generated_checkpoint.h"

namespace ounce::testing {

using model::PictureSize;
using nlohmann::json;

std::vector<std::string> DetrGoldenFolders() {
  return {kTinyDetectorFolder, kOtherTinyDetectorFolder,
          "tests/golden/detr/early_strides", "tests/golden/detr/resnet50",
          "tests/golden/detr/resnet18_dc5"};
}

std::unique_ptr<model::Checkpoint> OpenDetrGolden(const std::string& folder) {
  if (std::filesystem::exists(folder + "/tensors.json")) {
    return std::make_unique<GeneratedCheckpoint>(folder);
  }
  auto checkpoint = model::Checkpoint::Open(folder);
  OUNCE_CHECK(checkpoint.ok(), checkpoint.status().ToString().c_str());
  return *std::move(checkpoint);
}

std::vector<DetrGolden> ReadDetrGoldens(const std::string& folder,
                                        const model::DetectorShape& shape) {
  std::ifstream expected_file(folder + "/expected.json");
  OUNCE_CHECK(expected_file.good(), "run tests from the source tree's root");
  const json expected = json::parse(expected_file);
  std::ifstream outputs(folder + "/outputs.bin", std::ios::binary);
  const auto read = [&](size_t count) {
    std::vector<float> values(count);
    outputs.read(reinterpret_cast<char*>(values.data()),
                 static_cast<std::streamsize>(count * sizeof(float)));
    return values;
  };
  std::vector<DetrGolden> goldens;
  for (const json& run : expected["runs"]) {
    DetrGolden golden;
    golden.first = run["first"];
    golden.canvas = {run["canvas"][0], run["canvas"][1]};
    golden.threshold = run["threshold"];
    for (const json& size : run["sizes"]) {
      golden.sizes.push_back({size[0], size[1]});
    }
    for (const json& picture : run["detections"]) {
      golden.detections.emplace_back();
      for (size_t i = 0; i < picture["scores"].size(); ++i) {
        const json& box = picture["boxes"][i];
        golden.detections.back().push_back({.label_id = picture["labels"][i],
                                            .score = picture["scores"][i],
                                            .x_min = box[0],
                                            .y_min = box[1],
                                            .x_max = box[2],
                                            .y_max = box[3]});
      }
    }
    const size_t rows = golden.sizes.size() * shape.num_queries;
    golden.logits = read(rows * (shape.labels.size() + 1));
    golden.boxes = read(rows * 4);
    goldens.push_back(std::move(golden));
  }
  OUNCE_CHECK(outputs.good(), "outputs.bin is complete");
  return goldens;
}

const model::PixelTable& ImageNetPixels() {
  static const model::PixelTable kTable = [] {
    constexpr double kMean[] = {0.485, 0.456, 0.406};
    constexpr double kDeviation[] = {0.229, 0.224, 0.225};
    model::PixelTable table;
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < 256; ++i) {
        table.values[c][i] =
            static_cast<float>((i / 255.0 - kMean[c]) / kDeviation[c]);
      }
    }
    return table;
  }();
  return kTable;
}

DetectorRunner::Picture DetectorRunner::Generated(int index,
                                                  const PictureSize& size,
                                                  const PictureSize& canvas) {
  return {GeneratedPicture(index, size.height, size.width), size, canvas};
}

DetectorOutputs DetectorRunner::Run(const std::vector<Picture>& pictures,
                                    model::LinearObserver* observer) {
  std::vector<model::PictureView> views;
  std::vector<PictureSize> canvases;
  for (const Picture& picture : pictures) {
    views.push_back({.rgb = picture.rgb.data(),
                     .size = picture.size,
                     .canvas = picture.canvas,
                     .table = &ImageNetPixels()});
    canvases.push_back(picture.canvas);
  }
  scratch_bytes_ = static_cast<int64_t>(
      detector_.ScratchBytes(canvases, pool_.num_threads()));
  auto scratch = quant::Scratch::Create(scratch_bytes_);
  OUNCE_CHECK(scratch.ok(), "memory for a test");
  std::memset(scratch->Take<std::byte>(1), 0xff, scratch->capacity());
  scratch->ReturnTo(0);

  const model::DetectorShape& shape = detector_.shape();
  const auto rows = static_cast<int64_t>(pictures.size()) * shape.num_queries;
  const auto classes = static_cast<int64_t>(shape.labels.size()) + 1;
  DetectorOutputs outputs;
  outputs.logits.resize(rows * classes);
  outputs.boxes.resize(rows * 4);
  detector_.Forward(views, detector_.RunOn(pool_, *scratch, observer),
                    {outputs.logits.data(), rows, classes, classes},
                    {outputs.boxes.data(), rows, 4, 4});
  scratch_peak_ = static_cast<int64_t>(scratch->peak());
  return outputs;
}

}  // namespace ounce::testing
