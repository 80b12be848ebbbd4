// Reads vocab.json, merges.txt and the small files beside them, the form that
// GPT-2's and CodeGen's tokenizers had before tokenizer.json.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/byte_source.h"
#include "model/checkpoint/json_fields.h"
#include "model/checkpoint/json_file.h"
#include "model/tokenizer/byte_level_bpe.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr size_t kMaxMergesBytes = 25'000'000;

// The bos, eos and unk token that the tokenizer classes take for granted where
// the configs say nothing.
constexpr char kEndOfText[] = "<|endoftext|>";

absl::Status ReadVocabulary(std::string_view text, BpeParts& parts) {
  ASSIGN_OR_RETURN(const json vocabulary, ParseJsonObject("vocab.json", text));
  parts.vocabulary.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() >= uint64_t{kMaxVocabularySize}) {
      return absl::InvalidArgumentError(StrCat(
          "vocab.json: token ", Quoted(token), ": ",
          id.is_structured() ? id.type_name() : id.dump(),
          " found, an id from 0 to ", kMaxVocabularySize - 1, " wanted"));
    }
    parts.vocabulary.emplace_back(token, id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(std::string_view text, BpeParts& parts) {
  if (text.size() > kMaxMergesBytes) {
    return absl::InvalidArgumentError(StrCat("merges.txt: ", text.size(),
                                             " bytes found, at most ",
                                             kMaxMergesBytes, " wanted"));
  }
  for (int line_number = 1; !text.empty(); ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos) {
      return absl::InvalidArgumentError(
          StrCat("merges.txt: line ", line_number, ", ", Quoted(line),
                 ", is not two tokens with a space between"));
    }
    parts.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return absl::OkStatus();
}

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
    return absl::InvalidArgumentError(
        StrCat("JSON ", value.type_name(),
               " found, a token's text or an object wanted"));
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
  const auto more = config.find("additional_special_tokens");
  if (more != config.end() && more->is_array()) {
    for (const json& value : *more) {
      absl::StatusOr<AddedToken> token = ReadToken(value, true);
      if (!token.ok()) {
        return WithContext(token.status(), "'additional_special_tokens'");
      }
      token->special = true;
      named.push_back(*std::move(token));
    }
  }
  return named;
}

// tokenizer_config.json's "added_tokens_decoder": {"50256": {"content": ...}}.
absl::Status ReadAddedTokensDecoder(const json& decoder, BpeParts& parts) {
  if (!decoder.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("JSON ", decoder.type_name(), " found, an object wanted"));
  }
  for (const auto& [key, value] : decoder.items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("id ", Quoted(key), " found, 0 to ", kMaxVocabularySize - 1,
                 " wanted"));
    }
    absl::StatusOr<AddedToken> token = ReadToken(value, false);
    if (!token.ok()) {
      return WithContext(token.status(), StrCat("id ", id));
    }
    token->id = id;
    parts.added_tokens.push_back(*std::move(token));
  }
  return absl::OkStatus();
}

// added_tokens.json: {"<|endoftext|>": 50256, ...}, without flags.
absl::Status ReadAddedTokensFile(std::string_view text,
                                 const std::vector<AddedToken>& named,
                                 BpeParts& parts) {
  absl::flat_hash_set<absl::string_view> special;
  for (const AddedToken& token : named) special.insert(token.content);
  ASSIGN_OR_RETURN(const json tokens,
                   ParseJsonObject("added_tokens.json", text));
  for (const auto& [content, id] : tokens.items()) {
    AddedToken token;
    const absl::StatusOr<int64_t> number =
        JsonInt(tokens, content, 0, kMaxVocabularySize - 1);
    if (!number.ok()) return WithContext(number.status(), "added_tokens.json");
    token.content = content;
    token.id = static_cast<int32_t>(*number);
    token.special = special.contains(content);
    token.normalized = !token.special;
    parts.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ParseOptional(const char* name,
                                   const std::optional<std::string>& text) {
  if (!text.has_value()) return json::object();
  return ParseJsonObject(name, *text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseVocabularyFiles(
    const VocabularyFiles& files) {
  BpeParts parts;
  RETURN_IF_ERROR(ReadVocabulary(files.vocab_json, parts));
  RETURN_IF_ERROR(ReadMerges(files.merges_txt, parts));

  constexpr char kConfig[] = "tokenizer_config.json";
  ASSIGN_OR_RETURN(json config,
                   ParseOptional(kConfig, files.tokenizer_config_json));
  const auto decoder = config.find("added_tokens_decoder");
  const bool has_decoder = decoder != config.end() && !decoder->is_null();
  if (has_decoder) {
    RETURN_IF_ERROR(WithContext(ReadAddedTokensDecoder(*decoder, parts),
                                StrCat(kConfig, ": 'added_tokens_decoder'")));
  } else {
    ASSIGN_OR_RETURN(const json map,
                     ParseOptional("special_tokens_map.json",
                                   files.special_tokens_map_json));
    for (const auto& [role, token] : map.items()) config[role] = token;
  }
  const bool has_end_of_text =
      std::any_of(parts.vocabulary.begin(), parts.vocabulary.end(),
                  [](const auto& entry) { return entry.first == kEndOfText; });
  for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
    if (has_end_of_text && !config.contains(role)) config[role] = kEndOfText;
  }

  absl::StatusOr<std::vector<AddedToken>> named = NamedTokens(config);
  if (!named.ok()) return WithContext(named.status(), kConfig);
  if (!has_decoder && files.added_tokens_json.has_value()) {
    RETURN_IF_ERROR(
        ReadAddedTokensFile(*files.added_tokens_json, *named, parts));
  }
  std::sort(
      parts.added_tokens.begin(), parts.added_tokens.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  absl::flat_hash_set<std::string> added;
  for (const AddedToken& token : parts.added_tokens) {
    added.insert(token.content);
  }
  for (const AddedToken& token : *named) {
    if (added.insert(token.content).second) {
      parts.added_tokens.push_back(token);
    }
  }

  absl::StatusOr<bool> prefix =
      OptionalJsonBool(config, "add_prefix_space", false);
  if (!prefix.ok()) return WithContext(prefix.status(), kConfig);
  parts.add_prefix_space = *prefix;
  const absl::StatusOr<bool> bos =
      OptionalJsonBool(config, "add_bos_token", false);
  if (!bos.ok()) return WithContext(bos.status(), kConfig);
  if (*bos) {
    return absl::UnimplementedError(
        StrCat(kConfig, ": 'add_bos_token' true found, false wanted; ",
               "a tokenizer.json may say it with a post_processor"));
  }
  absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> bpe =
      ByteLevelBpe::Create(std::move(parts));
  if (!bpe.ok()) {
    return WithContext(bpe.status(), "vocab.json, merges.txt, added tokens");
  }
  return bpe;
}

}  // namespace ounce::model
