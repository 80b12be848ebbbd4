// A config.json as each architecture reads it, as an image processor, and as a
// generation_config.json.
#include <string_view>

#include "base/check.h"
#include "model/arch/codegen_config.h"
#include "model/arch/detr_config.h"
#include "model/decoder/eos_ids.h"
#include "model/decoder/rope_config.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "model/generation_defaults.h"
#include "model/processors/detr_image_processor.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::model;
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
  const auto codegen = ReadCodeGenConfig(*config);
  OUNCE_CHECK(!codegen.ok() || codegen->rotary_dim <= codegen->head_dim(),
              "heads hold what is turned");
  const auto rope = ReadRope(*config, RopePairing::kHalves, 64, 2048);
  OUNCE_CHECK(
      !rope.ok() || (rope->rotary_dim > 0 && rope->rotary_dim <= 64 &&
                     rope->rotary_dim ==
                         2 * static_cast<int64_t>(rope->frequencies.size())),
      "a part of a head, with a frequency for each pair");
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
