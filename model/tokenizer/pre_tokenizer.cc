#include "model/tokenizer/pre_tokenizer.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/byte_level_split.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;
using PreTokenizerOr = absl::StatusOr<std::unique_ptr<const PreTokenizer>>;

#define PRE_TOKENIZER(type, maker) PreTokenizerOr maker(const json& step);
#include "model/tokenizer/pre_tokenizers.def"
#undef PRE_TOKENIZER

namespace {

constexpr char kPart[] = "pre_tokenizer";
constexpr char kList[] = "pretokenizers";

struct Entry {
  std::string_view type;
  PreTokenizerOr (*make)(const json&);
};

constexpr Entry kPreTokenizers[] = {
#define PRE_TOKENIZER(type, maker) {#type, &maker},
#include "model/tokenizer/pre_tokenizers.def"
#undef PRE_TOKENIZER
};

PreTokenizerOr Make(const json& step) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, step));
  for (const Entry& entry : kPreTokenizers) {
    if (entry.type != type) continue;
    PreTokenizerOr made = entry.make(step);
    if (!made.ok()) {
      return WithContext(made.status(), StrCat(kPart, " ", type));
    }
    return made;
  }
  return absl::UnimplementedError(
      StrCat(kPart, ": type ", Quoted(type), " is not supported"));
}

}  // namespace

absl::StatusOr<PreTokenizers> MakePreTokenizers(const json* pre_tokenizer,
                                                bool keep_bytes) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(kPart, pre_tokenizer, kList));
  // Each may double the bytes.
  constexpr int kMaxByteLevel = 3;
  int num_byte_level = 0;
  PreTokenizers made;
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, *steps[i]));
    num_byte_level += type == "ByteLevel" ? 1 : 0;
    if (num_byte_level > kMaxByteLevel) {
      return absl::UnimplementedError(StrCat(
          kPart, " must have ByteLevel at most ", kMaxByteLevel, " times"));
    }
    if (keep_bytes && i + 1 == steps.size()) {
      PreTokenizerOr step = MakeUnspelledByteLevelSplit(*steps[i]);
      if (!step.ok()) {
        return WithContext(step.status(), StrCat(kPart, " ByteLevel"));
      }
      made.push_back(*std::move(step));
      continue;
    }
    ASSIGN_OR_RETURN(made.emplace_back(), Make(*steps[i]));
  }
  return made;
}

absl::StatusOr<bool> EndsWithByteLevel(const json* pre_tokenizer) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(kPart, pre_tokenizer, kList));
  if (steps.empty()) return false;
  ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, *steps.back()));
  return type == "ByteLevel";
}

}  // namespace ounce::model
