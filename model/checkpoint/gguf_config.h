// A network's config.json as a GGUF file's metadata, and back.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_CONFIG_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_CONFIG_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/gguf_architectures.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// config.json as Hugging Face would have it, but for what tensors tell
// (vocab_size, tie_word_embeddings, biases). Errors: kInvalidArgument, with the
// key, for what is missing or malformed; kUnimplemented for what is known and
// not served.
absl::StatusOr<nlohmann::json> GgufConfig(const GgufArchitecture& architecture,
                                          const nlohmann::json& metadata);

// The tensor by which Llama 3's rotary scaling is said: what each frequency is
// divided by.
inline constexpr char kGgufRopeFactors[] = "rope_freqs.weight";

// Says in the config what these factors, one for each pair of a head, are made
// of. Errors: kUnimplemented unless they are Llama 3.1's to 3.3's.
absl::Status AddGgufRopeFactors(absl::Span<const float> factors,
                                nlohmann::json& config);

// The keys by which a file names the tokens that end a text.
absl::Span<const char* const> GgufEndKeys();

// What a file says of a network.
struct GgufNetwork {
  nlohmann::json metadata;          // numbers as files have them
  std::vector<float> rope_factors;  // of kGgufRopeFactors; empty: none
};

// The inverse of GgufConfig and AddGgufRopeFactors. What neither says of the
// config is for the caller to compare. Errors: kInvalidArgument, with the key,
// for what is missing or malformed; kFailedPrecondition for what no file says.
absl::StatusOr<GgufNetwork> DescribeForGguf(
    const GgufArchitecture& architecture, const nlohmann::json& config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_CONFIG_H_
