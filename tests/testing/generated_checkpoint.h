// Numbers that follow from a name and an index, the same here and in
// tools/make_detr_goldens.py: so goldens of large models need no weight files.
#ifndef OUNCE_TESTS_TESTING_GENERATED_CHECKPOINT_H_
#define OUNCE_TESTS_TESTING_GENERATED_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "quant/dtype.h"

namespace ounce::testing {

// Numbers first, first + 1, ... of a name: in [-1, 1), multiples of 2^-23.
void FillWithNoise(const std::string& name, int64_t first, int64_t count,
                   float* out);

// Bytes of an RGB picture: [height, width, 3].
std::vector<uint8_t> GeneratedPicture(int index, int64_t height, int64_t width);

// A checkpoint of float tensors whose names and shapes stand in
// `folder`/tensors.json; nothing of them lies in memory. Values are those of
// float32, whatever `dtype` the tensors are said to be of.
class GeneratedCheckpoint : public model::Checkpoint {
 public:
  nlohmann::json config_json;  // as in the folder

  explicit GeneratedCheckpoint(const std::string& folder,
                               quant::DType dtype = quant::DType::kF32);

  // `name` is known as `as` from now on, with the values that it had.
  void Rename(const std::string& name, const std::string& as);

  const std::string& folder() const override { return folder_; }
  const nlohmann::json& config() const override { return config_json; }
  const nlohmann::json& generation_config() const override { return null_; }
  const std::map<std::string, model::TensorInfo>& tensors() const override {
    return tensors_;
  }
  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override;

 private:
  std::string folder_;
  nlohmann::json null_;
  std::map<std::string, model::TensorInfo> tensors_;
  std::map<std::string, std::string> original_names_;  // of renamed ones
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_GENERATED_CHECKPOINT_H_
