// Reads tokenizer.json, the one file of Hugging Face `tokenizers`.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "model/tokenizer/bpe_fields.h"
#include "model/tokenizer/byte_level_bpe.h"
#include "model/tokenizer/companion_files.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// Null for a key that is missing or null.
const json* Find(const json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::Status Unsupported(std::string_view part, std::string_view is,
                         std::string_view supported) {
  return absl::UnimplementedError(
      StrCat(part, " must be ", supported, ", is ", is,
             ": other tokenizers are not supported"));
}

absl::Status WrongType(std::string_view part, const json& is,
                       std::string_view type) {
  return absl::InvalidArgumentError(
      StrCat(part, " must be ", type, ", is JSON ", is.type_name()));
}

// The type of a part such as the decoder: {"type": "ByteLevel", ...}.
absl::StatusOr<std::string> TypeOf(std::string_view part, const json& value) {
  if (!value.is_object()) return WrongType(part, value, "an object");
  absl::StatusOr<std::string> type = JsonString(value, "type");
  if (!type.ok()) return WithContext(type.status(), part);
  return type;
}

// The steps that a part consists of: a Sequence's, which `list` names, or the
// part itself; none where it is absent.
absl::StatusOr<std::vector<const json*>> Steps(const json& root,
                                               std::string_view part,
                                               std::string_view list) {
  const json* value = Find(root, part);
  std::vector<const json*> steps;
  if (value == nullptr) return steps;
  ASSIGN_OR_RETURN(const std::string type, TypeOf(part, *value));
  if (type != "Sequence") {
    steps.push_back(value);
    return steps;
  }
  const json* sequence = Find(*value, list);
  if (sequence == nullptr || !sequence->is_array()) {
    return WrongType(StrCat(part, ": '", list, "'"),
                     sequence == nullptr ? json() : *sequence, "an array");
  }
  for (const json& step : *sequence) steps.push_back(&step);
  return steps;
}

// A part that must be ByteLevel and nothing else.
absl::StatusOr<const json*> OnlyByteLevel(const json& root,
                                          std::string_view part,
                                          std::string_view list) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(root, part, list));
  if (steps.empty()) return Unsupported(part, "none", "ByteLevel");
  for (const json* step : steps) {
    ASSIGN_OR_RETURN(const std::string type, TypeOf(part, *step));
    if (type != "ByteLevel") {
      return Unsupported(part, Quoted(type), "ByteLevel");
    }
  }
  if (steps.size() > 1) {
    return Unsupported(part, StrCat(steps.size(), " steps"), "ByteLevel once");
  }
  return steps.front();
}

absl::Status CheckNoNormalizer(const json& root) {
  constexpr char kPart[] = "normalizer";
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(root, kPart, "normalizers"));
  for (const json* step : steps) {
    ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, *step));
    return Unsupported(kPart, Quoted(type), "none");
  }
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const json& model, BpeParts& parts) {
  const json* vocabulary = Find(model, "vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) {
    return WrongType("vocab", vocabulary == nullptr ? json() : *vocabulary,
                     "an object");
  }
  return AddVocabulary("vocab", *vocabulary, parts);
}

// "a b" strings in older files, ["a", "b"] pairs in newer ones, never both.
absl::Status ReadMerges(const json& model, BpeParts& parts) {
  const json* merges = Find(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return WrongType("merges", merges == nullptr ? json() : *merges,
                     "an array");
  }
  const bool pairs = !merges->empty() && merges->front().is_array();
  parts.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const json& merge = (*merges)[i];
    const auto wrong = [&](std::string_view wanted) {
      return absl::InvalidArgumentError(
          StrCat("merges: entry ", i, " is not ", wanted));
    };
    if (pairs) {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
          !merge[1].is_string()) {
        return wrong("a pair of strings, as the first one is");
      }
      parts.merges.emplace_back(merge[0].get_ref<const std::string&>(),
                                merge[1].get_ref<const std::string&>());
      continue;
    }
    if (!merge.is_string()) return wrong("a string, as the first one is");
    const std::string_view text = merge.get_ref<const std::string&>();
    if (text.starts_with("#version")) continue;
    if (!AddMerge(text, parts)) return wrong("two tokens with a space between");
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const json& model, BpeParts& parts) {
  if (!model.is_object()) return WrongType("model", model, "an object");
  // Files of before 2021 name no type.
  ASSIGN_OR_RETURN(const std::string type,
                   OptionalJsonString(model, "type", "BPE"));
  if (type != "BPE") return Unsupported("model", Quoted(type), "BPE");
  ASSIGN_OR_RETURN(const double dropout,
                   OptionalJsonNumber(model, "dropout", 0, 1, 0));
  if (dropout != 0) return Unsupported("dropout", StrCat(dropout), "0");
  for (const char* affix :
       {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::string text,
                     OptionalJsonString(model, affix, ""));
    if (!text.empty()) return Unsupported(affix, Quoted(text), "none");
  }
  ASSIGN_OR_RETURN(const bool byte_fallback,
                   OptionalJsonBool(model, "byte_fallback", false));
  if (byte_fallback) return Unsupported("byte_fallback", "true", "false");
  ASSIGN_OR_RETURN(parts.fuse_unknown,
                   OptionalJsonBool(model, "fuse_unk", false));
  ASSIGN_OR_RETURN(parts.ignore_merges,
                   OptionalJsonBool(model, "ignore_merges", false));
  if (Find(model, "unk_token") != nullptr) {
    ASSIGN_OR_RETURN(parts.unknown_token, JsonString(model, "unk_token"));
  }
  RETURN_IF_ERROR(ReadVocabulary(model, parts));
  return ReadMerges(model, parts);
}

absl::StatusOr<AddedToken> ReadAddedToken(const json& value) {
  if (!value.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("must be an object, is JSON ", value.type_name()));
  }
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

absl::Status ReadAddedTokens(const json& root, BpeParts& parts) {
  const json* tokens = Find(root, "added_tokens");
  if (tokens == nullptr) return absl::OkStatus();
  if (!tokens->is_array()) {
    return WrongType("added_tokens", *tokens, "an array");
  }
  for (size_t i = 0; i < tokens->size(); ++i) {
    absl::StatusOr<AddedToken> token = ReadAddedToken((*tokens)[i]);
    if (!token.ok()) {
      return WithContext(token.status(), StrCat("added_tokens: entry ", i));
    }
    parts.added_tokens.push_back(*std::move(token));
  }
  return absl::OkStatus();
}

// The ids that a template puts before and after a single text:
// "single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A"}}].
absl::Status ReadTemplate(const json& processor, BpeParts& parts) {
  const json* single = Find(processor, "single");
  const json* tokens = Find(processor, "special_tokens");
  if (single == nullptr || !single->is_array()) {
    return absl::InvalidArgumentError("'single' is not an array");
  }
  bool after = false;
  for (const json& piece : *single) {
    const json* sequence =
        piece.is_object() ? Find(piece, "Sequence") : nullptr;
    const json* special =
        piece.is_object() ? Find(piece, "SpecialToken") : nullptr;
    const json* what = sequence != nullptr ? sequence : special;
    if (what == nullptr || !what->is_object()) {
      return absl::InvalidArgumentError(
          "'single' has a piece that is neither Sequence nor SpecialToken");
    }
    ASSIGN_OR_RETURN(const std::string name, JsonString(*what, "id"));
    if (sequence != nullptr) {
      if (name != "A" || after) {
        return Unsupported("'single'", StrCat("sequence ", Quoted(name)),
                           "sequence 'A' once");
      }
      after = true;
      continue;
    }
    const json* token = tokens != nullptr && tokens->is_object()
                            ? Find(*tokens, name)
                            : nullptr;
    const json* ids =
        token != nullptr && token->is_object() ? Find(*token, "ids") : nullptr;
    if (ids == nullptr || !ids->is_array()) {
      return absl::InvalidArgumentError(
          StrCat("'special_tokens' has no ids for ", Quoted(name)));
    }
    for (const json& id : *ids) {
      if (!id.is_number_unsigned() ||
          id.get<uint64_t>() >= uint64_t{kMaxVocabularySize}) {
        return absl::InvalidArgumentError(
            StrCat("'special_tokens' has an id for ", Quoted(name),
                   " that is not from 0 to ", kMaxVocabularySize - 1));
      }
      (after ? parts.ids_after : parts.ids_before).push_back(id.get<int32_t>());
    }
  }
  if (!after) return Unsupported("'single'", "no sequence", "sequence 'A'");
  return absl::OkStatus();
}

absl::Status ReadPostProcessor(const json& root, BpeParts& parts) {
  // A template at most; ByteLevel changes offsets, no ids.
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(root, "post_processor", "processors"));
  bool has_template = false;
  for (const json* step : steps) {
    ASSIGN_OR_RETURN(const std::string type, TypeOf("post_processor", *step));
    if (type == "ByteLevel") continue;
    if (type != "TemplateProcessing" || has_template) {
      return Unsupported("post_processor", Quoted(type),
                         "ByteLevel or one TemplateProcessing");
    }
    has_template = true;
    RETURN_IF_ERROR(WithContext(ReadTemplate(*step, parts), "post_processor"));
  }
  return absl::OkStatus();
}

// The pad token that a "padding" names, which transformers takes for the
// tokenizer's own; empty if there is none.
absl::StatusOr<std::string> PadToken(const json& root) {
  const json* padding = Find(root, "padding");
  if (padding == nullptr || !padding->is_object()) return std::string();
  absl::StatusOr<std::string> token =
      OptionalJsonString(*padding, "pad_token", "");
  if (!token.ok()) return WithContext(token.status(), "padding");
  return token;
}

absl::StatusOr<TokenizerParts> ReadParts(const json& root) {
  TokenizerParts parts;
  ASSIGN_OR_RETURN(const std::string version,
                   OptionalJsonString(root, "version", "1.0"));
  if (version != "1.0") return Unsupported("version", Quoted(version), "1.0");
  RETURN_IF_ERROR(CheckNoNormalizer(root));
  const json* model = Find(root, "model");
  if (model == nullptr) {
    return absl::InvalidArgumentError("'model' is missing");
  }
  ASSIGN_OR_RETURN(const json* pre_tokenizer,
                   OnlyByteLevel(root, "pre_tokenizer", "pretokenizers"));
  RETURN_IF_ERROR(OnlyByteLevel(root, "decoder", "decoders").status());
  BpeParts& bpe = parts.bpe;
  RETURN_IF_ERROR(WithContext(ReadModel(*model, bpe), "model"));
  ASSIGN_OR_RETURN(bpe.add_prefix_space,
                   JsonBool(*pre_tokenizer, "add_prefix_space"));
  ASSIGN_OR_RETURN(bpe.use_regex,
                   OptionalJsonBool(*pre_tokenizer, "use_regex", true));
  RETURN_IF_ERROR(ReadAddedTokens(root, bpe));
  RETURN_IF_ERROR(ReadPostProcessor(root, bpe));
  ASSIGN_OR_RETURN(parts.pad_token, PadToken(root));
  // The reference does not look into a Sequence.
  parts.config_decides_prefix_space =
      pre_tokenizer == Find(root, "pre_tokenizer");
  return parts;
}

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> FromJson(
    std::string_view name, const json& root, const CompanionFiles* companions) {
  absl::StatusOr<TokenizerParts> parts = ReadParts(root);
  if (!parts.ok()) return WithContext(parts.status(), name);
  if (companions != nullptr) {
    RETURN_IF_ERROR(MergeCompanionFiles(*companions, *parts));
  }
  absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> bpe =
      ByteLevelBpe::Create(std::move(parts->bpe));
  if (!bpe.ok()) return WithContext(bpe.status(), name);
  return bpe;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseTokenizerJson(
    const std::string& name, std::string_view text) {
  ASSIGN_OR_RETURN(const json root, ParseJsonObject(name, text));
  return FromJson(name, root, nullptr);
}

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseTokenizerJson(
    const std::string& name, std::string_view text,
    const CompanionFiles& companions) {
  ASSIGN_OR_RETURN(const json root, ParseJsonObject(name, text));
  return FromJson(name, root, &companions);
}

}  // namespace ounce::model
