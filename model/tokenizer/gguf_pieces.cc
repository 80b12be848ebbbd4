#include "model/tokenizer/gguf_pieces.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_file.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using Type = SentencePiece::Type;

// Of what is in no list of pieces.
constexpr float kAddedScore = -1000;

// An object of the folder's; null if there is no such file.
absl::StatusOr<json> ReadIfThere(const std::string& path) {
  if (!FileExists(path)) return json();
  return ReadJsonObject(path);
}

bool IsByte(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
}

// merges.txt, whose first line is a header whatever it says.
json MergeLines(const std::string& text) {
  json merges = json::array();
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos;
       begin = end + 1) {
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (begin > 0 && !line.empty()) merges.push_back(std::move(line));
  }
  return merges;
}

// What fills up the rows of an embedding.
std::string Padding(int32_t id, const std::set<std::string>& listed,
                    const absl::flat_hash_set<std::string>& seen) {
  std::string text = StrCat("[PAD", id, "]");
  while (listed.contains(text) || seen.contains(text)) text += "_";
  return text;
}

}  // namespace

absl::Status GgufCannotSay(std::string_view why) {
  return absl::FailedPreconditionError(StrCat("its tokenizer: ", why));
}

const json& FieldOf(const json& object, std::string_view key) {
  static const json* const kNone = new json;
  if (!object.is_object()) return *kNone;
  const auto found = object.find(std::string(key));
  return found == object.end() ? *kNone : *found;
}

bool IsTrue(const json& value) { return value == json(true); }

std::string TextOf(const json& value) {
  return value.is_string() ? value.get<std::string>() : "";
}

bool FileExists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, OpenFile(path));
  if (file->size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        StrCat(path, ": is longer than ", kMaxJsonBytes, " bytes"));
  }
  std::string text(file->size(), '\0');
  RETURN_IF_ERROR(file->Read(0, file->size(), text.data()));
  return text;
}

absl::StatusOr<TokenizerSources> ReadTokenizerSources(
    const std::string& folder) {
  TokenizerSources sources;
  sources.folder = folder;
  ASSIGN_OR_RETURN(sources.tokenizer, ReadIfThere(folder + "/tokenizer.json"));
  ASSIGN_OR_RETURN(sources.config,
                   ReadIfThere(folder + "/tokenizer_config.json"));
  ASSIGN_OR_RETURN(sources.added, ReadIfThere(folder + "/added_tokens.json"));
  if (!sources.tokenizer.is_null() || FileExists(folder + "/tokenizer.model")) {
    return sources;
  }
  ASSIGN_OR_RETURN(json vocabulary, ReadIfThere(folder + "/vocab.json"));
  ASSIGN_OR_RETURN(const std::string merges,
                   ReadTextFile(folder + "/merges.txt"));
  const bool space = IsTrue(FieldOf(sources.config, "add_prefix_space"));
  sources.tokenizer = {
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", space}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", std::move(vocabulary)},
        {"merges", MergeLines(merges)}}}};
  return sources;
}

absl::StatusOr<std::set<std::string>> ListedTokens(
    const TokenizerSources& sources) {
  std::set<std::string> texts;
  for (const json* list : {&FieldOf(sources.tokenizer, "added_tokens"),
                           &FieldOf(sources.config, "added_tokens_decoder")}) {
    for (const json& token : *list) {
      const std::string text = TextOf(FieldOf(token, "content"));
      if (text.empty()) continue;
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
        if (!IsTrue(FieldOf(token, flag))) continue;
        return GgufCannotSay(StrCat("the token ", Quoted(text), " has '", flag,
                                    "', which GGUF has no key for"));
      }
      texts.insert(text);
    }
  }
  for (const auto& [text, id] : sources.added.items()) texts.insert(text);
  return texts;
}

absl::StatusOr<GgufPieces> GgufPiecesOf(const json& model, int64_t vocab_size) {
  GgufPieces pieces(vocab_size);
  for (const auto& [text, id] : FieldOf(model, "vocab").items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() >= vocab_size) {
      return GgufCannotSay(StrCat("the id of ", Quoted(text), " is not one of ",
                                  vocab_size, " rows of the embedding"));
    }
    pieces.texts[id.get<size_t>()] = text;
    pieces.types[id.get<size_t>()] = Type::kNormal;
  }
  return pieces;
}

absl::StatusOr<GgufPieces> GgufScoredPieces(const json& model,
                                            int64_t vocab_size) {
  ASSIGN_OR_RETURN(GgufPieces pieces, GgufPiecesOf(model, vocab_size));
  ASSIGN_OR_RETURN(const json merges, GgufMergesOf(model));
  absl::flat_hash_map<std::string, float> ranks;
  for (const json& merge : merges) {
    std::string text = merge;
    text.erase(text.find(' '), 1);
    ranks.try_emplace(std::move(text), static_cast<float>(ranks.size()));
  }
  const std::string unknown = TextOf(FieldOf(model, "unk_token"));
  const auto lowest = -static_cast<float>(ranks.size());
  pieces.scores.assign(vocab_size, kAddedScore);
  for (int64_t id = 0; id < vocab_size; ++id) {
    if (!pieces.texts[id].has_value()) continue;
    const std::string& text = *pieces.texts[id];
    const auto rank = ranks.find(text);
    pieces.scores[id] = rank != ranks.end() ? -rank->second : lowest;
    if (text == unknown) pieces.types[id] = Type::kUnknown;
    if (IsByte(text)) pieces.types[id] = Type::kByte;
  }
  return pieces;
}

absl::StatusOr<GgufPieces> GgufModelPieces(const TokenizerSources& sources,
                                           int64_t vocab_size) {
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadTextFile(sources.folder + "/tokenizer.model"));
  ASSIGN_OR_RETURN(const SentencePieceModel model,
                   ReadSentencePieceModel(bytes));
  if (model.algorithm != SentencePieceModel::Algorithm::kBpe) {
    return GgufCannotSay("tokenizer.model is no BPE");
  }
  if (static_cast<int64_t>(model.pieces.size()) > vocab_size) {
    return GgufCannotSay("it has more tokens than the embedding has rows");
  }
  GgufPieces pieces(vocab_size);
  pieces.scores.assign(vocab_size, kAddedScore);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    pieces.texts[id] = model.pieces[id].text;
    pieces.types[id] = model.pieces[id].type;
    pieces.scores[id] = model.pieces[id].score;
  }
  return pieces;
}

absl::StatusOr<json> GgufMergesOf(const json& model) {
  json merges = json::array();
  for (const json& merge : FieldOf(model, "merges")) {
    if (merge.is_string()) {
      if (!merge.get_ref<const std::string&>().starts_with("#version")) {
        merges.push_back(merge);
      }
      continue;
    }
    if (!merge.is_array() || merge.size() != 2) {
      return absl::InvalidArgumentError("'merges' are malformed");
    }
    const std::string a = TextOf(merge[0]), b = TextOf(merge[1]);
    if (StrCat(a, b).find(' ') != std::string::npos) {
      return GgufCannotSay("a merge has a space, which GGUF puts between two");
    }
    merges.push_back(StrCat(a, " ", b));
  }
  return merges;
}

absl::Status AddGgufTokens(const Tokenizer& tokenizer,
                           const std::set<std::string>& listed,
                           GgufPieces pieces, json& keys) {
  absl::flat_hash_set<std::string> seen;
  json tokens = json::array(), types = json::array();
  for (size_t i = 0; i < pieces.texts.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string shown = tokenizer.Decode({&id, 1}, false);
    const bool is_special =
        !shown.empty() && tokenizer.Decode({&id, 1}, true).empty();
    std::optional<std::string>& text = pieces.texts[i];
    Type type = pieces.types[i];
    const bool is_added = is_special || listed.contains(text.value_or(shown)) ||
                          !text.has_value();
    if (!text.has_value() && !shown.empty()) text = shown;
    if (is_added && text.has_value() && type != Type::kUnknown) {
      type = is_special ? Type::kControl : Type::kUserDefined;
    }
    if (!text.has_value()) text = Padding(id, listed, seen);
    if (!seen.insert(*text).second) {
      return GgufCannotSay(StrCat("two tokens are ", Quoted(*text)));
    }
    tokens.push_back(*std::move(text));
    types.push_back(static_cast<int>(type));
  }
  keys["tokenizer.ggml.tokens"] = std::move(tokens);
  keys["tokenizer.ggml.token_type"] = std::move(types);
  if (!pieces.scores.empty()) {
    keys["tokenizer.ggml.scores"] = std::move(pieces.scores);
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
