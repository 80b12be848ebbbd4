// What GGUF calls the parts of a network that Hugging Face's checkpoints have
// under other names, and how it changes some of them. One architecture is one
// entry of the table in gguf_architectures.cc, by which files are read and
// written.
//
// Source: ggml-org/llama.cpp, gguf-py/gguf/constants.py, tensor_mapping.py and
// the converters (conversion/*.py); what llama.cpp wants of a file, its
// src/models/*.cpp.
#ifndef OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_
#define OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_

#include <cstdint>
#include <optional>
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

enum class GgufNumber { kCount, kReal, kTruth };

// A key of config.json. `key` follows the architecture's name and a dot.
struct GgufConfigKey {
  std::string_view hugging_face;
  std::string_view key;
  bool required = true;
  GgufNumber number = GgufNumber::kCount;
  // Where config.json says nothing: so many times the width. 0: it must.
  int64_t widths = 0;
};

// A key of config.json that no key of a file says: the network has this value.
struct GgufGiven {
  std::string_view hugging_face;
  // As JSON. `null`: config.json must say so. Empty: whatever it is, it changes
  // nothing beside the other keys.
  std::string_view value;
  std::string_view also = "";  // another that means the same
};

// Where config.json says how heads turn.
struct GgufRotary {
  bool turns = true;
  std::string_view base = "rope_theta";
  std::string_view share = "";  // of a head that turns; empty: all of it
  double absent_share = 1;
};

// What llama.cpp wants of the head.
enum class GgufHead {
  kAny,   // of its own, or the embedding
  kOwn,   // a tensor `output`
  kTied,  // no such tensor
};

struct GgufArchitecture {
  std::string_view name;  // general.architecture
  std::string_view model_type;
  absl::Span<const GgufName> names;
  absl::Span<const GgufConfigKey> keys;
  absl::Span<const GgufGiven> given;
  // Keys of config.json that are true where there is such a tensor, else false.
  absl::Span<const GgufName> flags = {};
  GgufRotary rotary = {};
  GgufHead head = GgufHead::kAny;
  // Another of config.json's, which files have as this one.
  std::string_view also_model_type = "";
};

absl::Span<const GgufArchitecture> AllGgufArchitectures();

// By metadata's general.architecture. Errors: kInvalidArgument where there is
// none; kUnimplemented for one that is not in the table, with those that are.
absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(
    const nlohmann::json& metadata);

// The entry of a config.json's model_type; null if there is none.
const GgufArchitecture* FindGgufArchitectureOf(std::string_view model_type);

// The architectures' names, for messages: "gemma, gpt2, ...".
std::string GgufArchitectureNames();

// A tensor as a file has it.
struct GgufTensorName {
  std::string name;
  GgufChange change = GgufChange::kNone;
};

// What a file calls a whole tensor of Hugging Face's, with or without the
// prefix that all of a network's have ("model."). Nothing for what the
// architecture is not known to have.
std::optional<GgufTensorName> GgufNameOf(const GgufArchitecture& architecture,
                                         std::string_view hugging_face);

// The row of a file's tensor that is Hugging Face's row `row` of `rows`, where
// `heads` are changed. Of vectors, elements.
int64_t GgufRow(GgufChange change, int64_t rows, int64_t heads, int64_t row);

// How many heads a change is about. Errors: kInvalidArgument, naming the key,
// for a malformed config.
absl::StatusOr<int64_t> GgufHeads(GgufChange change,
                                  const nlohmann::json& config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_GGUF_ARCHITECTURES_H_
