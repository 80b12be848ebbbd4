#include "model/tokenizer/companion_files.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr char kConfig[] = "tokenizer_config.json";

// The bos, eos and unk token that the GPT-2 and CodeGen classes take for
// granted where the files say nothing.
constexpr char kEndOfText[] = "<|endoftext|>";

// A token as transformers writes it: its text, or an object with flags.
absl::StatusOr<AddedToken> ReadToken(const json& value, bool special) {
  AddedToken token;
  token.special = special;
  token.normalized = !special;
  if (value.is_string()) {
    token.content = value.get_ref<const std::string&>();
    return token;
  }
  if (!value.is_object()) {
    return absl::InvalidArgumentError(StrCat(
        "a token must be a text or an object, is JSON ", value.type_name()));
  }
  ASSIGN_OR_RETURN(token.content, JsonString(value, "content"));
  ASSIGN_OR_RETURN(token.special, OptionalJsonBool(value, "special", special));
  ASSIGN_OR_RETURN(token.normalized,
                   OptionalJsonBool(value, "normalized", !token.special));
  ASSIGN_OR_RETURN(token.single_word,
                   OptionalJsonBool(value, "single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, OptionalJsonBool(value, "lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, OptionalJsonBool(value, "rstrip", false));
  return token;
}

// The tokens that the configs name for a role, in the order in which
// transformers adds those that are not added yet.
absl::StatusOr<std::vector<AddedToken>> NamedTokens(const json& config) {
  std::vector<AddedToken> named;
  for (const char* role : {"bos_token", "eos_token", "unk_token", "sep_token",
                           "pad_token", "cls_token", "mask_token"}) {
    const auto found = config.find(role);
    if (found == config.end() || found->is_null()) continue;
    absl::StatusOr<AddedToken> token = ReadToken(*found, true);
    if (!token.ok()) {
      return WithContext(token.status(), StrCat("'", role, "'"));
    }
    token->special = true;
    named.push_back(*std::move(token));
  }
  // A list, or names with tokens.
  for (const char* key :
       {"additional_special_tokens", "extra_special_tokens"}) {
    const auto more = config.find(key);
    if (more == config.end() || !more->is_structured()) continue;
    for (const json& value : *more) {
      absl::StatusOr<AddedToken> token = ReadToken(value, true);
      if (!token.ok()) {
        return WithContext(token.status(), StrCat("'", key, "'"));
      }
      token->special = true;
      named.push_back(*std::move(token));
    }
  }
  return named;
}

// tokenizer_config.json's "added_tokens_decoder": {"50256": {"content": ...}}.
absl::Status ReadAddedTokensDecoder(const json& decoder,
                                    std::vector<AddedToken>& tokens) {
  if (!decoder.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("must be an object, is JSON ", decoder.type_name()));
  }
  for (const auto& [key, value] : decoder.items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(StrCat("ids must be from 0 to ",
                                               kMaxVocabularySize - 1,
                                               ", one is ", Quoted(key)));
    }
    absl::StatusOr<AddedToken> token = ReadToken(value, false);
    if (!token.ok()) {
      return WithContext(token.status(), StrCat("id ", id));
    }
    token->id = id;
    tokens.push_back(*std::move(token));
  }
  return absl::OkStatus();
}

// added_tokens.json: {"<|endoftext|>": 50256, ...}, without flags.
absl::Status ReadAddedTokensFile(std::string_view text,
                                 std::vector<AddedToken>& tokens) {
  ASSIGN_OR_RETURN(const json file, ParseJsonObject("added_tokens.json", text));
  for (const auto& [content, id] : file.items()) {
    const absl::StatusOr<int64_t> number =
        JsonInt(file, content, 0, kMaxVocabularySize - 1);
    if (!number.ok()) return WithContext(number.status(), "added_tokens.json");
    tokens.push_back({.content = content,
                      .id = static_cast<int32_t>(*number),
                      .normalized = true});
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ParseOptional(const char* name,
                                   const std::optional<std::string>& text) {
  if (!text.has_value()) return json::object();
  return ParseJsonObject(name, *text);
}

// Whether the file is for one of the classes that know kEndOfText and refuse
// add_bos_token. A folder without a word on it is: config.json's model_type
// leads to them.
bool IsGpt2Class(const json& config) {
  const auto name = config.find("tokenizer_class");
  if (name == config.end() || !name->is_string()) return true;
  const std::string_view text = name->get_ref<const std::string&>();
  return text.starts_with("GPT2Tokenizer") ||
         text.starts_with("CodeGenTokenizer");
}

bool HasToken(const MainFiles& main, const std::vector<AddedToken>& tokens,
              std::string_view token) {
  return main.vocabulary.Id(token).has_value() ||
         std::any_of(
             tokens.begin(), tokens.end(),
             [&](const AddedToken& added) { return added.content == token; });
}

absl::StatusOr<bool> ConfigBool(const json& config, const char* key) {
  absl::StatusOr<bool> value = OptionalJsonBool(config, key, false);
  if (!value.ok()) return WithContext(value.status(), kConfig);
  return value;
}

}  // namespace

absl::StatusOr<bool> ConfiguredPrefixSpace(const CompanionFiles& files) {
  ASSIGN_OR_RETURN(const json config,
                   ParseOptional(kConfig, files.tokenizer_config_json));
  return ConfigBool(config, "add_prefix_space");
}

absl::Status AddCompanionTokens(const CompanionFiles& files,
                                const MainFiles& main,
                                std::vector<AddedToken>& added_tokens) {
  ASSIGN_OR_RETURN(json config,
                   ParseOptional(kConfig, files.tokenizer_config_json));
  const bool gpt2_class = IsGpt2Class(config);
  const auto decoder = config.find("added_tokens_decoder");
  const bool has_decoder = decoder != config.end() && !decoder->is_null();
  if (!has_decoder) {
    ASSIGN_OR_RETURN(const json map,
                     ParseOptional("special_tokens_map.json",
                                   files.special_tokens_map_json));
    for (const auto& [role, token] : map.items()) config[role] = token;
  }
  if (!main.pad_token.empty() && !config.contains("pad_token")) {
    config["pad_token"] = main.pad_token;
  }
  const bool has_end_of_text =
      gpt2_class && HasToken(main, added_tokens, kEndOfText);
  for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
    if (has_end_of_text && !config.contains(role)) config[role] = kEndOfText;
  }
  absl::StatusOr<std::vector<AddedToken>> named = NamedTokens(config);
  if (!named.ok()) return WithContext(named.status(), kConfig);

  std::vector<AddedToken> more;
  if (has_decoder) {
    RETURN_IF_ERROR(WithContext(ReadAddedTokensDecoder(*decoder, more),
                                StrCat(kConfig, ": 'added_tokens_decoder'")));
  } else if (files.added_tokens_json.has_value()) {
    RETURN_IF_ERROR(ReadAddedTokensFile(*files.added_tokens_json, more));
  }
  std::sort(
      more.begin(), more.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  absl::flat_hash_set<absl::string_view> special;
  for (const AddedToken& token : *named) special.insert(token.content);
  absl::flat_hash_set<std::string> added;
  for (const AddedToken& token : added_tokens) added.insert(token.content);
  for (AddedToken& token : more) {
    if (special.contains(token.content)) {
      token.special = true;
      if (!has_decoder) token.normalized = false;
    }
    added.insert(token.content);
    added_tokens.push_back(std::move(token));
  }
  for (AddedToken& token : *named) {
    if (!added.insert(token.content).second) continue;
    added_tokens.push_back(std::move(token));
  }

  ASSIGN_OR_RETURN(const bool bos, ConfigBool(config, "add_bos_token"));
  if (bos && gpt2_class && !main.adds_before) {
    return absl::UnimplementedError(
        StrCat(kConfig, ": 'add_bos_token' must be false, is true; ",
               "put the token into tokenizer.json's post_processor"));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
