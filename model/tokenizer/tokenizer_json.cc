#include "model/tokenizer/tokenizer_json.h"

#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "model/tokenizer/pipeline.h"
#include "model/tokenizer/post_processor.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

absl::StatusOr<AddedToken> ReadAddedToken(const json& value) {
  if (!value.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("must be an object, is JSON ", value.type_name()));
  }
  RETURN_IF_ERROR(CheckKeys(value, {"id", "content", "special", "normalized",
                                    "single_word", "lstrip", "rstrip"}));
  AddedToken token;
  ASSIGN_OR_RETURN(const int64_t id,
                   JsonInt(value, "id", 0, kMaxVocabularySize - 1));
  token.id = static_cast<int32_t>(id);
  ASSIGN_OR_RETURN(token.content, JsonString(value, "content"));
  ASSIGN_OR_RETURN(token.special, JsonBool(value, "special"));
  ASSIGN_OR_RETURN(token.normalized, JsonBool(value, "normalized"));
  ASSIGN_OR_RETURN(token.single_word, JsonBool(value, "single_word"));
  ASSIGN_OR_RETURN(token.lstrip, JsonBool(value, "lstrip"));
  ASSIGN_OR_RETURN(token.rstrip, JsonBool(value, "rstrip"));
  return token;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const json& root) {
  std::vector<AddedToken> read;
  const json* tokens = FindField(root, "added_tokens");
  if (tokens == nullptr) return read;
  if (!tokens->is_array()) {
    return WrongType("added_tokens", tokens, "an array");
  }
  for (size_t i = 0; i < tokens->size(); ++i) {
    absl::StatusOr<AddedToken> token = ReadAddedToken((*tokens)[i]);
    if (!token.ok()) {
      return WithContext(token.status(), StrCat("added_tokens: entry ", i));
    }
    read.push_back(*std::move(token));
  }
  return read;
}

// The pad token that a "padding" names, which transformers takes for the
// tokenizer's own; empty if there is none.
absl::StatusOr<std::string> PadToken(const json& root) {
  const json* padding = FindField(root, "padding");
  if (padding == nullptr || !padding->is_object()) return std::string();
  absl::StatusOr<std::string> token =
      OptionalJsonString(*padding, "pad_token", "");
  if (!token.ok()) return WithContext(token.status(), "padding");
  return token;
}

// Sets what is false in a step, or in the steps of a Sequence.
void SetPrefixSpaceInAllSteps(json& step) {
  const auto found = step.find("add_prefix_space");
  if (found != step.end() && *found == false) *found = true;
  const auto steps = step.find("pretokenizers");
  if (steps == step.end() || !steps->is_array()) return;
  for (json& inner : *steps) {
    if (inner.is_object()) SetPrefixSpaceInAllSteps(inner);
  }
}

// transformers replaces a pre-tokenizer's add_prefix_space by the config's, but
// looks into a Sequence for one class only.
absl::Status SetPrefixSpace(const CompanionFiles& companions, json& root) {
  ASSIGN_OR_RETURN(const ConfiguredSpace space,
                   ConfiguredPrefixSpace(companions));
  const auto step = root.find("pre_tokenizer");
  if (step == root.end() || !step->is_object()) return absl::OkStatus();
  if (space.place == TokenizerClass::PrefixSpace::kAllSteps && space.wanted) {
    SetPrefixSpaceInAllSteps(*step);
  }
  if (!step->contains("add_prefix_space") ||
      step->value("type", json()) != "ByteLevel") {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(JsonBool(*step, "add_prefix_space").status());
  (*step)["add_prefix_space"] = space.wanted;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerFromJson(
    json root, const CompanionFiles* companions, const JsonOrigin& origin) {
  RETURN_IF_ERROR(CheckKeys(
      root, {"version", "truncation", "padding", "added_tokens", "normalizer",
             "pre_tokenizer", "post_processor", "decoder", "model"}));
  ASSIGN_OR_RETURN(const std::string version,
                   OptionalJsonString(root, "version", "1.0"));
  if (version != "1.0") return Unsupported("version", Quoted(version), "1.0");
  if (companions != nullptr) {
    RETURN_IF_ERROR(SetPrefixSpace(*companions, root));
  }
  TokenizerParts parts;
  ASSIGN_OR_RETURN(parts.normalizers,
                   MakeNormalizers(FindField(root, "normalizer")));
  const json* model = FindField(root, "model");
  if (model == nullptr) {
    return absl::InvalidArgumentError("'model' is missing");
  }
  const json* pre_tokenizer = FindField(root, "pre_tokenizer");
  ASSIGN_OR_RETURN(const bool byte_level, EndsWithByteLevel(pre_tokenizer));
  ASSIGN_OR_RETURN(parts.model, MakeTokenModel(*model, byte_level));
  ASSIGN_OR_RETURN(
      parts.pre_tokenizers,
      MakePreTokenizers(pre_tokenizer, parts.model->takes_bytes()));
  ASSIGN_OR_RETURN(parts.decoder, MakeDecoderSteps(FindField(root, "decoder")));
  ASSIGN_OR_RETURN(parts.added_tokens, ReadAddedTokens(root));
  ASSIGN_OR_RETURN(IdsAround around,
                   ReadPostProcessor(FindField(root, "post_processor")));
  ASSIGN_OR_RETURN(std::string pad_token, PadToken(root));
  if (companions != nullptr) {
    const MainFiles main = {.form = origin.form,
                            .vocabulary = parts.model->vocabulary(),
                            .pad_token = std::move(pad_token),
                            .adds_before = !around.before.empty(),
                            .unnamed_class = origin.unnamed_class};
    ASSIGN_OR_RETURN(parts.tokens_around,
                     AddCompanionTokens(*companions, main, parts.added_tokens));
  }
  parts.ids_before = std::move(around.before);
  parts.ids_after = std::move(around.after);
  return MakeTokenizer(std::move(parts));
}

namespace {

absl::StatusOr<std::unique_ptr<const Tokenizer>> Parse(
    const std::string& name, std::string_view text,
    const CompanionFiles* companions) {
  ASSIGN_OR_RETURN(json root, ParseJsonObject(name, text));
  auto tokenizer = TokenizerFromJson(std::move(root), companions, {});
  if (!tokenizer.ok()) return WithContext(tokenizer.status(), name);
  return tokenizer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseTokenizerJson(
    const std::string& name, std::string_view text) {
  return Parse(name, text, nullptr);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseTokenizerJson(
    const std::string& name, std::string_view text,
    const CompanionFiles& companions) {
  return Parse(name, text, &companions);
}

}  // namespace ounce::model
