// generation_config.json: how a model's authors want it to write, where a
// request does not say it otherwise.
//
// Sources: transformers 4.57.6, GenerationConfig and what its generate() does
// with it.
#ifndef OUNCE_MODEL_GENERATION_DEFAULTS_H_
#define OUNCE_MODEL_GENERATION_DEFAULTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// Fields as in inference.proto's Sampling. As it is made here: of a model
// without the file.
struct GenerationDefaults {
  // The first four count with do_sample alone; without it, greedy.
  float temperature = 0;
  int64_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;

  std::optional<int64_t> max_new_tokens;
  // Prompt and new tokens together; nothing where max_new_tokens says it. Nor
  // for 20, the class's own default, which older files have written out.
  std::optional<int64_t> max_length;

  // Never generated: ascending, each in [0, vocab_size).
  std::vector<int32_t> suppressed_ids;

  // What would change the output in transformers and does not here, as "key =
  // value".
  std::vector<std::string> not_honoured;
};

// `object`: the file, or null where there is none. Keys that change nothing
// here (caches, speculation, what generate() returns) and keys that the class
// does not know are passed over. The ids that end a text are the
// architecture's to read.
//
// Errors: kInvalidArgument with the key, what it must be and what it is, but
//   not the file.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(
    const nlohmann::json& object, int64_t vocab_size);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_GENERATION_DEFAULTS_H_
