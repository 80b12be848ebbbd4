#include "tests/testing/generated_checkpoint.h"

#include <cmath>
#include <fstream>

#include "base/check.h"

namespace ounce::testing {
namespace {

using nlohmann::json;

json ReadJson(const std::string& file) {
  std::ifstream stream(file);
  OUNCE_CHECK(stream.good(), "run tests from the source tree's root");
  return json::parse(stream);
}

}  // namespace

// splitmix64, begun at the FNV-1a hash of the name.
void FillWithNoise(const std::string& name, int64_t first, int64_t count,
                   float* out) {
  uint64_t seed = 0xcbf29ce484222325;
  for (unsigned char byte : name) seed = (seed ^ byte) * 0x100000001b3;
  for (int64_t i = 0; i < count; ++i) {
    uint64_t z =
        seed + static_cast<uint64_t>(first + i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    out[i] = static_cast<float>(z >> 40) / (1 << 23) - 1;
  }
}

std::vector<uint8_t> GeneratedPicture(int index, int64_t height,
                                      int64_t width) {
  std::vector<float> noise(height * width * 3);
  FillWithNoise("picture " + std::to_string(index), 0,
                static_cast<int64_t>(noise.size()), noise.data());
  std::vector<uint8_t> bytes(noise.size());
  size_t i = 0;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c, ++i) {
        const int64_t wave = ((3 + index) * x + (5 - index) * y + 60 * c) % 192;
        bytes[i] = static_cast<uint8_t>(
            wave + static_cast<int64_t>(std::floor((noise[i] + 1) * 32)));
      }
    }
  }
  return bytes;
}

GeneratedCheckpoint::GeneratedCheckpoint(const std::string& folder,
                                         quant::DType dtype)
    : config_json(ReadJson(folder + "/config.json")), folder_(folder) {
  const json shapes = ReadJson(folder + "/tensors.json");
  for (const auto& [name, shape] : shapes.items()) {
    model::TensorInfo info;
    info.dtype = dtype;
    info.shape = shape.get<std::vector<int64_t>>();
    info.storage_id = static_cast<int64_t>(tensors_.size());
    tensors_[name] = std::move(info);
  }
}

void GeneratedCheckpoint::Rename(const std::string& name,
                                 const std::string& as) {
  auto node = tensors_.extract(name);
  OUNCE_CHECK(!node.empty(), name.c_str());
  node.key() = as;
  tensors_.insert(std::move(node));
  original_names_[as] = name;
}

absl::Status GeneratedCheckpoint::ReadFloats(const std::string& stored_name,
                                             int64_t first, int64_t count,
                                             float* out) const {
  const auto found = tensors_.find(stored_name);
  if (found == tensors_.end()) return absl::NotFoundError(stored_name);
  const auto renamed = original_names_.find(stored_name);
  const std::string& name =
      renamed == original_names_.end() ? stored_name : renamed->second;
  const std::vector<int64_t>& shape = found->second.shape;
  const auto ends_with = [&](const char* end) { return name.ends_with(end); };
  const auto has = [&](const char* part) {
    return name.find(part) != std::string::npos;
  };
  float offset = 0, spread = 0;
  if (ends_with("running_var")) {
    offset = 1.0f;
    spread = 0.5f;
  } else if (ends_with("running_mean")) {
    spread = 0.3f;
  } else if (shape.size() == 1) {
    offset = ends_with("weight") ? 0.8f : 0.0f;
    spread = ends_with("weight") ? 0.2f : 0.1f;
  } else if (ends_with("query_position_embeddings.weight")) {
    spread = 1.5f;
  } else {
    const double fan_in = static_cast<double>(found->second.elements()) /
                          static_cast<double>(shape[0]);
    const double gain = has("q_proj") || has("k_proj")   ? 2
                        : has("class_labels_classifier") ? 3
                        : has("model.input_projection")  ? 0.25
                                                         : 1;
    spread = static_cast<float>(
        std::sqrt((shape.size() == 4 ? 6 : 3) / fan_in) * gain);
  }
  FillWithNoise(name, first, count, out);
  for (int64_t i = 0; i < count; ++i) out[i] = offset + spread * out[i];
  return absl::OkStatus();
}

}  // namespace ounce::testing
