#include "model/tokenizer/gguf_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/gguf_file.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/gguf_cuts.h"
#include "model/tokenizer/sentencepiece_conversion.h"
#include "model/tokenizer/sentencepiece_model.h"
#include "model/tokenizer/tokenizer_json.h"
#include "model/tokenizer/vocabulary.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using Type = SentencePiece::Type;

constexpr char kPrefix[] = "tokenizer.ggml.";

std::string KeyOf(std::string_view name) { return StrCat(kPrefix, name); }

// An array of the file; null if it is not there.
absl::StatusOr<const json*> FindArray(const json& metadata,
                                      std::string_view name, bool required) {
  const auto found = metadata.find(KeyOf(name));
  if (found == metadata.end()) {
    if (!required) return nullptr;
    return absl::InvalidArgumentError(StrCat("no key '", KeyOf(name), "'"));
  }
  if (!found->is_array()) {
    return absl::InvalidArgumentError(
        StrCat("'", KeyOf(name), "' must be an array"));
  }
  return &*found;
}

struct Piece {
  std::string_view text;
  Type type = Type::kNormal;
  float score = 0;
};

absl::StatusOr<std::vector<Piece>> ReadPieces(const json& metadata,
                                              bool scored) {
  ASSIGN_OR_RETURN(const json* tokens, FindArray(metadata, "tokens", true));
  ASSIGN_OR_RETURN(const json* types, FindArray(metadata, "token_type", false));
  ASSIGN_OR_RETURN(const json* scores, FindArray(metadata, "scores", scored));
  const size_t size = tokens->size();
  if (size == 0 || size > size_t{kMaxVocabularySize}) {
    return absl::InvalidArgumentError(
        StrCat("'", KeyOf("tokens"), "' must have 1 to ", kMaxVocabularySize,
               " elements, has ", size));
  }
  for (const auto& [name, array] :
       {std::pair("token_type", types), std::pair("scores", scores)}) {
    if (array == nullptr || array->size() == size) continue;
    return absl::InvalidArgumentError(
        StrCat("'", KeyOf(name), "' must have ", size,
               " elements, one for each token, has ", array->size()));
  }
  std::vector<Piece> pieces(size);
  for (size_t i = 0; i < size; ++i) {
    const auto wrong = [&](const char* name) {
      return absl::InvalidArgumentError(
          StrCat("'", KeyOf(name), "': element ", i, " is malformed"));
    };
    Piece& piece = pieces[i];
    if (!(*tokens)[i].is_string()) return wrong("tokens");
    piece.text = (*tokens)[i].get_ref<const std::string&>();
    if (types != nullptr) {
      const json& type = (*types)[i];
      if (!type.is_number_integer() || type.get<int64_t>() < 1 ||
          type.get<int64_t>() > 6) {
        return wrong("token_type");
      }
      piece.type = static_cast<Type>(type.get<int>());
    }
    if (scores != nullptr) {
      if (!(*scores)[i].is_number()) return wrong("scores");
      piece.score = (*scores)[i].get<float>();
    }
  }
  return pieces;
}

// Puts the tokens that the file asks for around every text.
absl::Status AddTokensAround(const json& metadata,
                             const std::vector<Piece>& pieces, bool adds_bos,
                             json& root) {
  json single = json::array(), tokens = json::object();
  const auto add = [&](const char* flag, const char* key,
                       bool absent) -> absl::Status {
    ASSIGN_OR_RETURN(const bool wanted,
                     OptionalJsonBool(metadata, KeyOf(flag), absent));
    if (!wanted) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int64_t id,
                     JsonInt(metadata, KeyOf(key), 0,
                             static_cast<int64_t>(pieces.size()) - 1));
    const std::string text(pieces[id].text);
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    tokens[text] = {{"id", text},
                    {"ids", json::array({static_cast<uint64_t>(id)})},
                    {"tokens", json::array({text})}};
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add("add_bos_token", "bos_token_id", adds_bos));
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  RETURN_IF_ERROR(add("add_eos_token", "eos_token_id", false));
  if (tokens.empty()) return absl::OkStatus();
  root["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", single},
                            {"pair", single},
                            {"special_tokens", std::move(tokens)}};
  return absl::OkStatus();
}

absl::StatusOr<const GgufCut*> CutOf(const json& metadata) {
  // Files of these had none, when it was not known yet that texts are cut in
  // several ways.
  ASSIGN_OR_RETURN(const std::string architecture,
                   OptionalJsonString(metadata, "general.architecture", ""));
  const bool is_old = architecture == "gpt2" || architecture == "gptneox" ||
                      architecture == "phi2";
  ASSIGN_OR_RETURN(
      const std::string pre,
      OptionalJsonString(metadata, KeyOf("pre"), is_old ? "gpt-2" : ""));
  std::string known;
  for (const GgufCut& cut : AllGgufCuts()) {
    if (cut.pre == pre) return &cut;
    StrAppend(&known, known.empty() ? "" : ", ", cut.pre);
  }
  return absl::UnimplementedError(
      StrCat("'", KeyOf("pre"), "' must be one of ", known, ", is ",
             pre.empty() ? std::string("missing: convert the model again with "
                                       "a newer llama.cpp")
                         : Quoted(pre)));
}

absl::StatusOr<json> ByteLevelBpe(const json& metadata) {
  ASSIGN_OR_RETURN(const GgufCut* cut, CutOf(metadata));
  ASSIGN_OR_RETURN(const std::vector<Piece> pieces,
                   ReadPieces(metadata, /*scored=*/false));
  ASSIGN_OR_RETURN(const json* merges, FindArray(metadata, "merges", true));
  json vocab = json::object(), added = json::array();
  for (size_t id = 0; id < pieces.size(); ++id) {
    const Piece& piece = pieces[id];
    if (!vocab.emplace(piece.text, id).second) {
      return absl::InvalidArgumentError(StrCat(
          "'", KeyOf("tokens"), "': ", Quoted(piece.text), " comes twice"));
    }
    if (piece.type != Type::kControl && piece.type != Type::kUserDefined) {
      continue;
    }
    added.push_back({{"id", id},
                     {"content", piece.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", piece.type == Type::kControl}});
  }
  json root = {{"version", "1.0"},
               {"added_tokens", std::move(added)},
               {"pre_tokenizer", cut->steps()},
               {"decoder",
                {{"type", "ByteLevel"},
                 {"add_prefix_space", false},
                 {"trim_offsets", true},
                 {"use_regex", true}}},
               {"model",
                {{"type", "BPE"},
                 {"ignore_merges", cut->ignores_merges},
                 {"vocab", std::move(vocab)},
                 {"merges", *merges}}}};
  if (cut->composes) root["normalizer"] = {{"type", "NFC"}};
  RETURN_IF_ERROR(AddTokensAround(metadata, pieces, cut->ignores_merges, root));
  return root;
}

absl::StatusOr<json> SentencePieces(const json& metadata) {
  ASSIGN_OR_RETURN(const std::vector<Piece> pieces,
                   ReadPieces(metadata, /*scored=*/true));
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::kBpe;
  for (const Piece& piece : pieces) {
    model.pieces.push_back({std::string(piece.text), piece.score, piece.type});
    if (piece.type == Type::kUnknown) model.unknown_piece = piece.text;
    if (piece.text.empty()) {
      return absl::InvalidArgumentError(
          StrCat("'", KeyOf("tokens"), "': element ", model.pieces.size() - 1,
                 " is empty"));
    }
  }
  ASSIGN_OR_RETURN(const std::string architecture,
                   OptionalJsonString(metadata, "general.architecture", ""));
  const bool gemma = architecture.starts_with("gemma");
  const std::string space_key = KeyOf("add_space_prefix");
  ASSIGN_OR_RETURN(const bool space,
                   OptionalJsonBool(metadata, space_key, !gemma));
  if (gemma && space) {
    return absl::UnimplementedError(
        StrCat("'", space_key, "' must be false for ", architecture,
               ", whose texts have no space put before them"));
  }
  json config = {{"add_prefix_space", space}};
  // As in tokenizer_config.json: a Gemma tokenizer's first three by their
  // roles.
  constexpr const char* kRoles[] = {"pad_token", "eos_token", "bos_token"};
  for (size_t i = 0; i < std::min(std::size(kRoles), pieces.size()); ++i) {
    config[kRoles[i]] = pieces[i].text;
  }
  ASSIGN_OR_RETURN(json root,
                   ConvertSentencePiece(model,
                                        gemma ? SentencePieceClass::kGemma
                                              : SentencePieceClass::kLlama,
                                        config));
  RETURN_IF_ERROR(AddTokensAround(metadata, pieces, /*adds_bos=*/true, root));
  return root;
}

}  // namespace

absl::StatusOr<json> GgufTokenizerJson(const json& metadata) {
  const std::string key = KeyOf("model");
  if (!metadata.contains(key)) {
    return absl::NotFoundError(StrCat("has no tokenizer ('", key, "')"));
  }
  ASSIGN_OR_RETURN(const std::string model, JsonString(metadata, key));
  if (model == "no_vocab" || model == "none") {
    return absl::NotFoundError(
        StrCat("has no tokenizer ('", key, "' is ", Quoted(model), ")"));
  }
  if (model == "gpt2") return ByteLevelBpe(metadata);
  if (model == "llama") return SentencePieces(metadata);
  return absl::UnimplementedError(
      StrCat("'", key, "' must be gpt2 or llama, is ", Quoted(model)));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> ReadGgufTokenizer(
    const ByteSource& file) {
  ASSIGN_OR_RETURN(const GgufFile gguf,
                   ReadGguf(file, [](std::string_view key) {
                     return key.starts_with(kPrefix);
                   }));
  const auto read = [&]() -> absl::StatusOr<std::unique_ptr<const Tokenizer>> {
    ASSIGN_OR_RETURN(json root, GgufTokenizerJson(gguf.metadata));
    return TokenizerFromJson(std::move(root), nullptr, {});
  };
  auto tokenizer = read();
  if (!tokenizer.ok()) return WithContext(tokenizer.status(), file.name());
  return tokenizer;
}

}  // namespace ounce::model
