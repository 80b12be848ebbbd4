// The ids that end a generation, as a checkpoint has them.
#ifndef OUNCE_MODEL_DECODER_EOS_IDS_H_
#define OUNCE_MODEL_DECODER_EOS_IDS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// `eos_token_id` of a config: one id, a list, or null for none. Ids that no
// token has, such as the -1 by which some configs mean none, are left out.
// `absent` is what a config without the key means.
// Errors: kInvalidArgument for what is not an integer.
absl::StatusOr<std::vector<int32_t>> ReadEosIds(const nlohmann::json& config,
                                                int64_t vocab_size,
                                                std::vector<int32_t> absent);

// What generation_config.json says, or else config.json, or else `absent` (none
// if no token of the vocabulary).
// Errors: as above, with the file.
absl::StatusOr<std::vector<int32_t>> EosIds(const Checkpoint& checkpoint,
                                            int64_t vocab_size, int32_t absent);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_EOS_IDS_H_
