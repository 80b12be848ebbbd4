#include "model/tokenizer/normalizer.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;
using NormalizerOr = absl::StatusOr<std::unique_ptr<const Normalizer>>;

#define NORMALIZER(type, maker) NormalizerOr maker(const json& step);
#include "model/tokenizer/normalizers.def"
#undef NORMALIZER

namespace {

constexpr char kPart[] = "normalizer";

struct Entry {
  std::string_view type;
  NormalizerOr (*make)(const json&);
};

constexpr Entry kNormalizers[] = {
#define NORMALIZER(type, maker) {#type, &maker},
#include "model/tokenizer/normalizers.def"
#undef NORMALIZER
};

NormalizerOr Make(const json& step) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, step));
  for (const Entry& entry : kNormalizers) {
    if (entry.type != type) continue;
    NormalizerOr made = entry.make(step);
    if (!made.ok()) {
      return WithContext(made.status(), StrCat(kPart, " ", type));
    }
    return made;
  }
  return absl::UnimplementedError(
      StrCat(kPart, ": type ", Quoted(type), " is not supported"));
}

}  // namespace

absl::Status Normalize(const Normalizers& normalizers, NormalizedText& text) {
  for (const auto& normalizer : normalizers) {
    RETURN_IF_ERROR(normalizer->Normalize(text));
    if (text.text.size() > text.max_bytes) {
      return absl::ResourceExhaustedError(
          "the tokenizer's normalizers make the text too long");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Normalizers> MakeNormalizers(const json* normalizer) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(kPart, normalizer, "normalizers"));
  Normalizers made;
  for (const json* step : steps) {
    ASSIGN_OR_RETURN(made.emplace_back(), Make(*step));
  }
  return made;
}

}  // namespace ounce::model
