#include "model/tokenizer/companion_files.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
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
constexpr char kRoles[] = "special_tokens_map.json";

bool HasDecoder(const json& config) {
  const auto decoder = config.find("added_tokens_decoder");
  return decoder != config.end() && !decoder->is_null();
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

// A token that is named for a role, or one of a list of special tokens.
struct NamedToken {
  AddedToken token;
  // It comes with flags of its own, which count even if the token is there.
  bool has_flags = false;
  // The files name it, and for a role: it takes the flags of a token that they
  // have elsewhere.
  bool takes_flags = false;
};

// tokenizer_config.json, with what takes the place of its roles.
struct MergedConfig {
  json config;
  // Keys that special_tokens_map.json says.
  absl::flat_hash_set<std::string> of_roles_file = {};
};

// The tokens that the configs name, in the order in which transformers adds
// them. `defaults`: the roles that are the class's, not the files'.
// Errors: kInvalidArgument, naming the file and the key.
absl::StatusOr<std::vector<NamedToken>> NamedTokens(
    const MergedConfig& merged,
    const absl::flat_hash_set<std::string>& defaults, MainFiles::Form form) {
  const json& config = merged.config;
  std::vector<NamedToken> all;
  absl::flat_hash_set<std::string> contents;
  const auto add = [&](const char* key, const json& value, bool has_flags,
                       bool takes_flags) -> absl::Status {
    absl::StatusOr<AddedToken> token = ReadToken(value, true);
    if (!token.ok()) {
      const char* file = merged.of_roles_file.contains(key) ? kRoles : kConfig;
      return WithContext(token.status(), StrCat(file, ": '", key, "'"));
    }
    if (!contents.insert(token->content).second) return absl::OkStatus();
    NamedToken& named = all.emplace_back();
    named.token = *std::move(token);
    named.token.special = true;
    named.has_flags = has_flags || value.is_object();
    named.takes_flags = takes_flags;
    return absl::OkStatus();
  };
  const auto add_role = [&](const char* role, bool has_flags) {
    const auto found = config.find(role);
    if (found == config.end() || found->is_null()) return absl::OkStatus();
    return add(role, *found, has_flags, !defaults.contains(role));
  };
  // The class that a tokenizer.model is read by first gives some of them flags.
  const bool flagged = form == MainFiles::Form::kSentencePiece;
  RETURN_IF_ERROR(add_role("bos_token", flagged));
  RETURN_IF_ERROR(add_role("eos_token", flagged));
  RETURN_IF_ERROR(add_role("unk_token", flagged));
  RETURN_IF_ERROR(add_role("sep_token", false));
  RETURN_IF_ERROR(add_role("pad_token", flagged));
  RETURN_IF_ERROR(add_role("cls_token", false));
  RETURN_IF_ERROR(add_role("mask_token", false));
  // A list, or names with tokens.
  for (const char* key :
       {"additional_special_tokens", "extra_special_tokens"}) {
    const auto more = config.find(key);
    if (more == config.end() || !more->is_structured()) continue;
    for (const json& value : *more) {
      RETURN_IF_ERROR(add(key, value, false, false));
    }
  }
  for (const char* role :
       {"prefix_token", "middle_token", "suffix_token", "eot_token"}) {
    RETURN_IF_ERROR(add_role(role, false));
  }
  return all;
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

bool HasToken(const MainFiles& main, const std::vector<AddedToken>& tokens,
              std::string_view token) {
  return main.vocabulary.Id(token).has_value() ||
         std::any_of(
             tokens.begin(), tokens.end(),
             [&](const AddedToken& added) { return added.content == token; });
}

absl::StatusOr<MergedConfig> Merge(const CompanionFiles& files,
                                   const MainFiles& main) {
  MergedConfig merged;
  json& config = merged.config;
  ASSIGN_OR_RETURN(config, ParseOptional(kConfig, files.tokenizer_config_json));
  if (!HasDecoder(config)) {
    ASSIGN_OR_RETURN(const json roles,
                     ParseOptional(kRoles, files.special_tokens_map_json));
    for (const auto& [role, token] : roles.items()) {
      config[role] = token;
      merged.of_roles_file.insert(role);
    }
  }
  if (!main.pad_token.empty() && !config.contains("pad_token")) {
    config["pad_token"] = main.pad_token;
  }
  return merged;
}

// The class that the file names; empty: none.
absl::StatusOr<std::string> ClassName(const json& config) {
  absl::StatusOr<std::string> name =
      OptionalJsonString(config, "tokenizer_class", "");
  if (!name.ok()) return WithContext(name.status(), kConfig);
  return name;
}

// The text of a role's token.
absl::StatusOr<std::string> RoleText(const json& config, const char* role,
                                     const char* asked_by) {
  const auto found = config.find(role);
  if (found == config.end() || found->is_null()) {
    return absl::InvalidArgumentError(
        StrCat("'", asked_by, "' is true, and there is no '", role, "'"));
  }
  ASSIGN_OR_RETURN(AddedToken token, ReadToken(*found, true));
  return std::move(token.content);
}

absl::StatusOr<std::optional<TokensAround>> AroundByClass(
    const json& config, const TokenizerClass* known, bool unnamed,
    const MainFiles& main) {
  using Around = TokenizerClass::Around;
  if (known == nullptr || known->around == Around::kPostProcessor) {
    return std::nullopt;
  }
  ASSIGN_OR_RETURN(const bool begin, OptionalJsonBool(config, "add_bos_token",
                                                      known->add_bos_token));
  if (known->around == Around::kBosRefused) {
    if (!begin || (unnamed && main.adds_before)) return std::nullopt;
    return absl::UnimplementedError(
        StrCat("'add_bos_token' must be false, is true; ",
               "put the token into tokenizer.json's post_processor"));
  }
  // A folder that names no class need not have that class's tokens.
  if (unnamed && begin && !config.contains("add_bos_token") &&
      !config.contains("bos_token")) {
    return std::nullopt;
  }
  TokensAround around;
  if (known->around == Around::kVocabularyFiles) {
    if (!begin || main.form != MainFiles::Form::kVocabularyFiles) {
      return std::nullopt;
    }
  }
  if (begin) {
    ASSIGN_OR_RETURN(around.before,
                     RoleText(config, "bos_token", "add_bos_token"));
  }
  if (known->around == Around::kConfig) {
    ASSIGN_OR_RETURN(const bool end,
                     OptionalJsonBool(config, "add_eos_token", false));
    if (end) {
      ASSIGN_OR_RETURN(around.after,
                       RoleText(config, "eos_token", "add_eos_token"));
    }
  }
  return around;
}

absl::StatusOr<bool> ConfigBool(const json& config, const char* key) {
  absl::StatusOr<bool> value = OptionalJsonBool(config, key, false);
  if (!value.ok()) return WithContext(value.status(), kConfig);
  return value;
}

}  // namespace

absl::StatusOr<ConfiguredSpace> ConfiguredPrefixSpace(
    const CompanionFiles& files) {
  using Place = TokenizerClass::PrefixSpace;
  ASSIGN_OR_RETURN(const json config,
                   ParseOptional(kConfig, files.tokenizer_config_json));
  ConfiguredSpace space;
  ASSIGN_OR_RETURN(space.wanted, ConfigBool(config, "add_prefix_space"));
  ASSIGN_OR_RETURN(const std::string class_name, ClassName(config));
  const TokenizerClass* known = FindTokenizerClass(class_name);
  if (known == nullptr) return space;
  const auto said = config.find("add_prefix_space");
  const bool is_said = said != config.end() && !said->is_null();
  if (known->prefix_space != Place::kTokenizerModel || is_said) {
    space.place = known->prefix_space;
  }
  return space;
}

namespace {

// The tokens that added_tokens_decoder or added_tokens.json has, by id.
absl::StatusOr<std::vector<AddedToken>> ListedTokens(
    const json& config, const CompanionFiles& files) {
  std::vector<AddedToken> listed;
  if (HasDecoder(config)) {
    RETURN_IF_ERROR(WithContext(
        ReadAddedTokensDecoder(config["added_tokens_decoder"], listed),
        StrCat(kConfig, ": 'added_tokens_decoder'")));
  } else if (files.added_tokens_json.has_value()) {
    RETURN_IF_ERROR(ReadAddedTokensFile(*files.added_tokens_json, listed));
  }
  std::sort(
      listed.begin(), listed.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return listed;
}

bool IsEqual(const AddedToken& a, const AddedToken& b) {
  return a.content == b.content && a.special == b.special &&
         a.normalized == b.normalized && a.single_word == b.single_word &&
         a.lstrip == b.lstrip && a.rstrip == b.rstrip;
}

// Appends both kinds to `added_tokens`, those of the main files.
void AddTokens(std::vector<AddedToken> listed, std::vector<NamedToken> named,
               bool has_decoder, MainFiles::Form form,
               std::vector<AddedToken>& added_tokens) {
  const size_t num_of_main_files = added_tokens.size();
  absl::flat_hash_map<std::string, AddedToken> of_main_files;
  absl::flat_hash_set<std::string> added;
  for (const AddedToken& token : added_tokens) {
    of_main_files.insert_or_assign(token.content, token);
    added.insert(token.content);
  }
  // One that the main files have just so is passed over, even if another of
  // these gives it other flags.
  const auto append = [&](AddedToken token) {
    const auto before = of_main_files.find(token.content);
    if (before == of_main_files.end() || !IsEqual(before->second, token)) {
      added_tokens.push_back(std::move(token));
    }
  };
  absl::flat_hash_set<std::string> special;
  for (const NamedToken& name : named) special.insert(name.token.content);
  if (!has_decoder && form == MainFiles::Form::kTokenizerJson) {
    // They take the decoder's place.
    for (size_t i = 0; i < num_of_main_files; ++i) {
      if (!special.contains(added_tokens[i].content)) continue;
      AddedToken token = added_tokens[i];
      token.special = true;
      append(std::move(token));
    }
  }
  absl::flat_hash_map<std::string, AddedToken> of_decoder;
  for (AddedToken& token : listed) {
    if (special.contains(token.content)) {
      token.special = true;
      if (!has_decoder) token.normalized = false;
    }
    added.insert(token.content);
    if (has_decoder) of_decoder.insert_or_assign(token.content, token);
    append(std::move(token));
  }
  // Whose flags a role's token takes.
  const absl::flat_hash_map<std::string, AddedToken> nobody;
  const auto& flags = has_decoder                               ? of_decoder
                      : form == MainFiles::Form::kTokenizerJson ? of_main_files
                                                                : nobody;
  for (NamedToken& name : named) {
    const auto known = flags.find(name.token.content);
    const bool is_new = added.insert(name.token.content).second;
    if (name.takes_flags && known != flags.end()) {
      AddedToken token = known->second;
      token.special = true;
      append(std::move(token));
    } else if (is_new || name.has_flags) {
      append(std::move(name.token));
    }
  }
}

}  // namespace

absl::StatusOr<std::optional<TokensAround>> AddCompanionTokens(
    const CompanionFiles& files, const MainFiles& main,
    std::vector<AddedToken>& added_tokens) {
  ASSIGN_OR_RETURN(MergedConfig merged, Merge(files, main));
  json& config = merged.config;
  ASSIGN_OR_RETURN(const bool splits_special,
                   ConfigBool(config, "split_special_tokens"));
  if (splits_special) {
    return absl::UnimplementedError(
        StrCat(kConfig, ": 'split_special_tokens' must be false, is true"));
  }
  ASSIGN_OR_RETURN(const std::string class_name, ClassName(config));
  std::string_view unnamed = main.unnamed_class;
  if (unnamed.empty()) unnamed = TokenizerClassOfModel(files.model_type);
  const TokenizerClass* known =
      FindTokenizerClass(class_name.empty() ? unnamed : class_name);
  absl::flat_hash_set<std::string> defaults;
  if (known != nullptr) {
    for (const auto& [role, token] : known->roles) {
      if (config.contains(role)) continue;
      // A folder that names no class need not have that class's tokens.
      if (class_name.empty() && !HasToken(main, added_tokens, token)) continue;
      config[role] = token;
      defaults.insert(role);
    }
  }
  ASSIGN_OR_RETURN(std::vector<NamedToken> named,
                   NamedTokens(merged, defaults, main.form));
  ASSIGN_OR_RETURN(std::vector<AddedToken> listed, ListedTokens(config, files));
  AddTokens(std::move(listed), std::move(named), HasDecoder(config), main.form,
            added_tokens);
  auto around = AroundByClass(config, known, class_name.empty(), main);
  if (!around.ok()) return WithContext(around.status(), kConfig);
  return around;
}

}  // namespace ounce::model
