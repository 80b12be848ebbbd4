// JSON from files that nobody vouches for: bounded in size and depth, keys
// unique, no exceptions.
#ifndef OUNCE_MODEL_FILES_JSON_FILE_H_
#define OUNCE_MODEL_FILES_JSON_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// Bytes. Real config files have a few kB, the indexes of the largest models a
// few MB, tokenizers of a quarter of a million tokens more than 30 MB.
inline constexpr int64_t kMaxJsonBytes = 50'000'000;
// Objects and arrays inside each other.
inline constexpr int kMaxJsonDepth = 32;

// `text` as a JSON object; `name` is for messages. NaN, Infinity and -Infinity,
// which Python writes although JSON knows none of them, become strings of these
// words, which no field that needs a number takes.
// Errors: kInvalidArgument, with the byte's position: not JSON, not UTF-8, not
// an object, a key twice in one object, deeper or longer than the limits.
absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& name,
                                               std::string_view text);

// The same for a file. Errors: also those of OpenFile and ByteSource::Read.
absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& path);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_FILES_JSON_FILE_H_
