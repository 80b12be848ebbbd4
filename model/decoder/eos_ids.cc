#include "model/decoder/eos_ids.h"

#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/config_fields.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;

absl::StatusOr<std::vector<int32_t>> ReadEosIds(const json& config,
                                                int64_t vocab_size,
                                                std::vector<int32_t> absent) {
  const auto field = config.find("eos_token_id");
  if (field == config.end()) return absent;
  std::vector<int32_t> ids;
  if (field->is_null()) return ids;
  const json list = field->is_array() ? *field : json::array({*field});
  for (const json& entry : list) {
    if (entry.is_null()) continue;
    ASSIGN_OR_RETURN(const int64_t id,
                     JsonInt(json{{"eos_token_id", entry}}, "eos_token_id",
                             INT32_MIN, INT32_MAX));
    if (id >= 0 && id < vocab_size) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EosIds(const Checkpoint& checkpoint,
                                            int64_t vocab_size,
                                            int32_t absent) {
  const json& generation = checkpoint.generation_config();
  const bool in_generation =
      generation.is_object() && IsGiven(generation, "eos_token_id");
  std::vector<int32_t> absent_ids;
  if (absent >= 0 && absent < vocab_size) absent_ids.push_back(absent);
  auto ids = ReadEosIds(in_generation ? generation : checkpoint.config(),
                        vocab_size, std::move(absent_ids));
  RETURN_IF_ERROR(WithContext(
      ids.status(),
      StrCat(checkpoint.folder(),
             in_generation ? "/generation_config.json" : "/config.json")));
  return ids;
}

}  // namespace ounce::model
