// What GGUF calls the parts of a network that Hugging Face's checkpoints have
// under other names, and how it changes some of them. One architecture is one
// entry of the table in gguf_architectures.cc.
//
// Source: ggml-org/llama.cpp, gguf-py/gguf/constants.py, tensor_mapping.py and
// the converters (conversion/*.py).
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// How a GGUF tensor differs from Hugging Face's.
enum class GgufChange {
  kNone,
  // Rows of each head: those of its two halves alternate.
  kQueryHeads,
  kKeyHeads,
  // Rows of query, key and value of all heads are those of all queries, then
  // all keys, then all values; here each head's own lie together.
  kHeadsJoined,
  // A third of its rows: the query's, the key's, the value's.
  kQueryRows,
  kKeyRows,
  kValueRows,
  // A norm's weight, which has one added.
  kPlusOne,
};

// A module with .weight and perhaps .bias. '#' stands for a block's number.
struct GgufName {
  std::string_view gguf;
  std::string_view hugging_face;
  GgufChange change = GgufChange::kNone;
};

// A key of config.json. `key` follows the architecture's name and a dot.
struct GgufConfigKey {
  std::string_view hugging_face;
  std::string_view key;
  bool required = true;
};

struct GgufArchitecture {
  std::string_view name;  // general.architecture
  std::string_view model_type;
  absl::Span<const GgufName> names;
  absl::Span<const GgufConfigKey> keys;
  // Keys of config.json that are true where there is such a tensor, else false.
  absl::Span<const GgufName> flags = {};
  // Adds what is said in other ways to the config.
  absl::Status (*complete)(const nlohmann::json& metadata,
                           nlohmann::json& config) = nullptr;
};

absl::Span<const GgufArchitecture> AllGgufArchitectures();

// By metadata's general.architecture. Errors: kInvalidArgument where there is
// none; kUnimplemented for one that is not in the table, with those that are.
absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(
    const nlohmann::json& metadata);

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

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_
