// A config.json as every architecture reads it, for a checkpoint without
// weights, as an image processor, and as a generation_config.json.
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "model/arch/detr_config.h"
#include "model/checkpoint/checkpoint.h"
#include "model/decoder/eos_ids.h"
#include "model/decoder/rope_config.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "model/generation_defaults.h"
#include "model/loader/loader.h"
#include "model/processors/detr_image_processor.h"
#include "model/registry.h"

namespace {

using namespace ounce::model;

// A checkpoint that has no tensors.
class NoTensors final : public Checkpoint {
 public:
  explicit NoTensors(nlohmann::json config) : config_(std::move(config)) {}
  const std::string& folder() const override { return folder_; }
  const nlohmann::json& config() const override { return config_; }
  const nlohmann::json& generation_config() const override { return config_; }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return tensors_;
  }
  absl::Status ReadFloats(const std::string&, int64_t, int64_t,
                          float*) const override {
    return absl::NotFoundError("no tensors");
  }

 private:
  const std::string folder_ = "memory";
  const nlohmann::json config_;
  const std::map<std::string, TensorInfo> tensors_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::StatusOr<nlohmann::json> config = ParseJsonObject(
      "config.json", {reinterpret_cast<const char*>(data), size});
  if (!config.ok()) return 0;
  for (const char* key : {"n_embd", "layer_norm_epsilon", "model_type", "a"}) {
    const auto number = JsonInt(*config, key, 1, 65536);
    OUNCE_CHECK(!number.ok() || (*number >= 1 && *number <= 65536), "in range");
    (void)JsonNumber(*config, key, 0, 1);
    (void)JsonString(*config, key);
    (void)JsonBool(*config, key);
    (void)OptionalJsonInt(*config, key, 1, 10, 3);
  }
  const auto rope = ReadRope(*config, RopePairing::kHalves, 64, 2048,
                             {.partial = "partial_rotary_factor"});
  OUNCE_CHECK(
      !rope.ok() || (rope->rotary_dim > 0 && rope->rotary_dim <= 64 &&
                     rope->rotary_dim ==
                         2 * static_cast<int64_t>(rope->frequencies.size())),
      "a part of a head, with a frequency for each pair");
  for (const Architecture* architecture : AllArchitectures()) {
    nlohmann::json of_it = *config;
    of_it["model_type"] = architecture->name;
    OUNCE_CHECK(!PlanModel(NoTensors(std::move(of_it)), {}).ok(),
                "a network has weights");
  }
  (void)ReadEosIds(*config, 100, {});
  const auto generation = ReadGenerationDefaults(*config, 100);
  OUNCE_CHECK(
      !generation.ok() || (generation->top_p > 0 && generation->top_p <= 1 &&
                           generation->repetition_penalty > 0 &&
                           generation->suppressed_ids.size() <= 100),
      "what a sampler takes");
  const auto detr = ReadDetrConfig(*config);
  OUNCE_CHECK(
      !detr.ok() ||
          (!detr->labels.empty() && !detr->backbone.depths.empty() &&
           detr->backbone.depths.size() == detr->backbone.hidden_sizes.size()),
      "a network that can be built");
  (void)DetrImageProcessor::Parse("preprocessor_config.json",
                                  {reinterpret_cast<const char*>(data), size});
  (void)config->dump();  // throws for what is not UTF-8
  return 0;
}
