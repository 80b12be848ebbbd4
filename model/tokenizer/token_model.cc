#include "model/tokenizer/token_model.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;

#define TOKEN_MODEL(type, maker)                                             \
  absl::StatusOr<std::unique_ptr<const TokenModel>> maker(const json& model, \
                                                          bool byte_level);
#include "model/tokenizer/models.def"
#undef TOKEN_MODEL

namespace {

struct Entry {
  std::string_view type;
  absl::StatusOr<std::unique_ptr<const TokenModel>> (*make)(const json&, bool);
};

constexpr Entry kModels[] = {
#define TOKEN_MODEL(type, maker) {#type, &maker},
#include "model/tokenizer/models.def"
#undef TOKEN_MODEL
};

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> MakeTokenModel(
    const json& model, bool byte_level) {
  constexpr char kPart[] = "model";
  if (!model.is_object()) return WrongType(kPart, &model, "an object");
  // Files of before 2021 name no type.
  absl::StatusOr<std::string> type = OptionalJsonString(model, "type", "BPE");
  if (!type.ok()) return WithContext(type.status(), kPart);
  for (const Entry& entry : kModels) {
    if (entry.type != *type) continue;
    auto made = entry.make(model, byte_level);
    if (!made.ok()) return WithContext(made.status(), kPart);
    return made;
  }
  return absl::UnimplementedError(
      StrCat("model: type ", Quoted(*type), " is not supported"));
}

}  // namespace ounce::model
