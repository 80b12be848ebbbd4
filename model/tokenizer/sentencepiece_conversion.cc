#include "model/tokenizer/sentencepiece_conversion.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using Type = SentencePiece::Type;

constexpr char kSpace[] = "▁";

// Bytes of a piece. The trainer makes none of more than 64.
constexpr size_t kMaxPieceBytes = 512;
// The largest published file (Gemma 3's) leads to half a million.
constexpr size_t kMaxMerges = 1 << 21;

struct ScoredToken {
  std::string text;
  double score = 0;
};

using IdByText = absl::flat_hash_map<absl::string_view, int32_t>;

// A way to make a token of two.
struct ScoredMerge {
  std::string_view left;
  std::string_view right;
  double score = 0;
  int left_characters = 0;
  int right_characters = 0;
};

int CountCharacters(std::string_view text) {
  return static_cast<int>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// Every way to make `token` of two in `ids`, in the order of their ids.
void AddMergesOf(const ScoredToken& token, const IdByText& ids,
                 std::vector<ScoredMerge>& merges) {
  const std::string_view text = token.text;
  const int characters = CountCharacters(text);
  struct Way {
    int32_t left_id;
    int32_t right_id;
    ScoredMerge merge;
  };
  std::vector<Way> ways;
  size_t middle = 0;
  for (int left_characters = 1; left_characters < characters;
       ++left_characters) {
    middle += FirstUtf8Sequence(text.substr(middle)).length;
    const auto left = ids.find(ToAbsl(text.substr(0, middle)));
    if (left == ids.end()) continue;
    const auto right = ids.find(ToAbsl(text.substr(middle)));
    if (right == ids.end()) continue;
    ways.push_back({left->second,
                    right->second,
                    {text.substr(0, middle), text.substr(middle), token.score,
                     left_characters, characters - left_characters}});
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) {
    return std::pair(a.left_id, a.right_id) < std::pair(b.left_id, b.right_id);
  });
  for (const Way& way : ways) merges.push_back(way.merge);
}

// What the vocabulary's scores say of BPE: a token of higher score is made
// before others, and of several ways the one whose first part is longest.
absl::StatusOr<json> MakeMerges(const std::vector<ScoredToken>& tokens,
                                const IdByText& ids) {
  std::vector<ScoredMerge> merges;
  for (const ScoredToken& token : tokens) {
    AddMergesOf(token, ids, merges);
    if (merges.size() > kMaxMerges) {
      return absl::InvalidArgumentError(
          StrCat("pieces must be made of two others in at most ", kMaxMerges,
                 " ways together, are in more"));
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const ScoredMerge& a, const ScoredMerge& b) {
                     if (a.score != b.score) return a.score > b.score;
                     if (a.left_characters != b.left_characters) {
                       return a.left_characters > b.left_characters;
                     }
                     return a.right_characters > b.right_characters;
                   });
  json list = json::array();
  for (const ScoredMerge& merge : merges) {
    list.push_back(json::array({merge.left, merge.right}));
  }
  return list;
}

// The text of a token that `key` of the config names: a string, or an object
// with its flags; `absent` where there is none.
absl::StatusOr<std::string> NamedToken(const json& config, const char* key,
                                       std::string_view absent) {
  const json* value = FindField(config, key);
  if (value != nullptr && value->is_object()) {
    absl::StatusOr<std::string> content = JsonString(*value, "content");
    if (!content.ok())
      return WithContext(content.status(), StrCat("'", key, "'"));
    return content;
  }
  return OptionalJsonString(config, key, absent);
}

// The first three tokens of a Llama tokenizer: as "added_tokens_decoder" has
// them, else as they are in the file.
absl::StatusOr<std::vector<ScoredToken>> LlamaTokens(
    const SentencePieceModel& model, const json& config) {
  std::vector<ScoredToken> tokens;
  tokens.reserve(model.pieces.size());
  const json* decoder = FindField(config, "added_tokens_decoder");
  for (const SentencePiece& piece : model.pieces) {
    const size_t id = tokens.size();
    tokens.push_back({piece.text, piece.score});
    if (id >= 3) continue;
    tokens.back().score = 0;
    if (decoder == nullptr || !decoder->is_object()) continue;
    ASSIGN_OR_RETURN(
        tokens.back().text,
        NamedToken(*decoder, std::to_string(id).c_str(), piece.text));
  }
  return tokens;
}

// Those of a Gemma tokenizer: by their roles. Older files lack a tab, which
// then takes the place of its byte.
absl::StatusOr<std::vector<ScoredToken>> GemmaTokens(
    const SentencePieceModel& model, const json& config) {
  std::vector<ScoredToken> tokens(3);
  ASSIGN_OR_RETURN(tokens[0].text, NamedToken(config, "pad_token", "<pad>"));
  ASSIGN_OR_RETURN(tokens[1].text, NamedToken(config, "eos_token", "<eos>"));
  ASSIGN_OR_RETURN(tokens[2].text, NamedToken(config, "bos_token", "<bos>"));
  tokens.reserve(model.pieces.size());
  ScoredToken* byte_of_tab = nullptr;
  bool has_tab = false;
  for (size_t id = 3; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    tokens.push_back({piece.text, piece.score});
    has_tab |= piece.text == "\t";
    if (piece.text == "<0x09>") byte_of_tab = &tokens.back();
  }
  if (!has_tab && byte_of_tab != nullptr) *byte_of_tab = {"\t", 0};
  return tokens;
}

// The model. What is made of two is sought among the file's own pieces, to
// which Gemma's tab is added.
absl::StatusOr<json> MakeModel(const SentencePieceModel& model,
                               SentencePieceClass tokenizer_class,
                               const json& config) {
  const bool gemma = tokenizer_class == SentencePieceClass::kGemma;
  ASSIGN_OR_RETURN(
      const std::vector<ScoredToken> tokens,
      gemma ? GemmaTokens(model, config) : LlamaTokens(model, config));
  if (model.algorithm == SentencePieceModel::Algorithm::kUnigram) {
    json vocab = json::array();
    for (const ScoredToken& token : tokens) {
      vocab.push_back(json::array({token.text, token.score}));
    }
    return json{{"type", "Unigram"},
                {"unk_id", gemma ? 3 : 0},
                {"byte_fallback", true},
                {"vocab", std::move(vocab)}};
  }
  IdByText ids;
  ids.reserve(model.pieces.size() + 1);
  for (const SentencePiece& piece : model.pieces) {
    ids.emplace(piece.text, static_cast<int32_t>(ids.size()));
  }
  if (gemma && !ids.contains("\t")) {
    if (const auto byte = ids.find("<0x09>"); byte != ids.end()) {
      const int32_t id = byte->second;
      ids.emplace("\t", id);
    }
  }
  json vocab = json::object();
  for (const ScoredToken& token : tokens) {
    const size_t id = vocab.size();
    if (!vocab.emplace(token.text, id).second) {
      return absl::InvalidArgumentError(
          StrCat("token ", Quoted(token.text), " comes twice"));
    }
  }
  ASSIGN_OR_RETURN(json merges, MakeMerges(tokens, ids));
  return json{{"type", "BPE"},
              {"unk_token", model.unknown_piece},
              {"fuse_unk", true},
              {"byte_fallback", true},
              {"vocab", std::move(vocab)},
              {"merges", std::move(merges)}};
}

// Pieces that are found in a text before all else.
json AddedTokens(const SentencePieceModel& model,
                 SentencePieceClass tokenizer_class) {
  json added = json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.type != Type::kControl && piece.type != Type::kUserDefined) {
      continue;
    }
    const bool turn =
        tokenizer_class == SentencePieceClass::kGemma &&
        (piece.text == "<start_of_turn>" || piece.text == "<end_of_turn>");
    added.push_back({{"id", id},
                     {"content", piece.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", piece.type == Type::kControl || turn}});
  }
  return added;
}

json SpacesReplaced() {
  return {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
}

json Decoder(bool strip) {
  json steps = json::array({{{"type", "Replace"},
                             {"pattern", {{"String", kSpace}}},
                             {"content", " "}},
                            {{"type", "ByteFallback"}},
                            {{"type", "Fuse"}}});
  if (strip) {
    steps.push_back(
        {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

// How a Llama tokenizer treats spaces. Its older form puts one before every
// part between added tokens, the newer one before the text.
absl::Status AddLlamaSteps(const json& config, json& root) {
  ASSIGN_OR_RETURN(const bool legacy, OptionalJsonBool(config, "legacy", true));
  // Null is false here: the class's default is for a missing key.
  bool space_before = !config.contains("add_prefix_space");
  if (!space_before) {
    ASSIGN_OR_RETURN(space_before,
                     OptionalJsonBool(config, "add_prefix_space", false));
  }
  if (legacy) {
    json steps = json::array();
    if (space_before) {
      steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    }
    steps.push_back(SpacesReplaced());
    root["normalizer"] = {{"type", "Sequence"},
                          {"normalizers", std::move(steps)}};
  } else {
    root["pre_tokenizer"] = {
        {"type", "Metaspace"},
        {"replacement", kSpace},
        {"prepend_scheme", space_before ? "first" : "never"},
        {"split", false}};
  }
  root["decoder"] = Decoder(/*strip=*/space_before);
  return absl::OkStatus();
}

void AddGemmaSteps(json& root) {
  root["normalizer"] = SpacesReplaced();
  root["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"String", " "}}},
                           {"behavior", "MergedWithPrevious"},
                           {"invert", false}};
  root["decoder"] = Decoder(/*strip=*/false);
}

}  // namespace

absl::StatusOr<SentencePieceClass> ClassOfSentencePiece(
    const json& tokenizer_config, std::string_view model_type) {
  const std::string_view by_model_type =
      model_type.starts_with("gemma") ? "GemmaTokenizer" : "LlamaTokenizer";
  ASSIGN_OR_RETURN(
      std::string name,
      OptionalJsonString(tokenizer_config, "tokenizer_class", by_model_type));
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "LlamaTokenizer") return SentencePieceClass::kLlama;
  if (name == "GemmaTokenizer") return SentencePieceClass::kGemma;
  return Unsupported("'tokenizer_class' beside a tokenizer.model", Quoted(name),
                     "LlamaTokenizer or GemmaTokenizer");
}

absl::StatusOr<json> ConvertSentencePiece(const SentencePieceModel& model,
                                          SentencePieceClass tokenizer_class,
                                          const json& tokenizer_config) {
  using Algorithm = SentencePieceModel::Algorithm;
  if (model.algorithm != Algorithm::kUnigram &&
      model.algorithm != Algorithm::kBpe) {
    return absl::UnimplementedError(
        "a SentencePiece model of words or characters is not supported, only "
        "unigram and BPE");
  }
  if (model.pieces.size() < 3) {
    return absl::InvalidArgumentError(
        StrCat("must have at least 3 pieces, has ", model.pieces.size()));
  }
  for (const SentencePiece& piece : model.pieces) {
    if (piece.text.size() > kMaxPieceBytes) {
      return absl::InvalidArgumentError(
          StrCat("piece ", Quoted(piece.text), " must have at most ",
                 kMaxPieceBytes, " bytes, has ", piece.text.size()));
    }
  }
  json root = {{"version", "1.0"},
               {"added_tokens", AddedTokens(model, tokenizer_class)}};
  if (tokenizer_class == SentencePieceClass::kLlama) {
    RETURN_IF_ERROR(AddLlamaSteps(tokenizer_config, root));
  } else {
    AddGemmaSteps(root);
  }
  ASSIGN_OR_RETURN(root["model"],
                   MakeModel(model, tokenizer_class, tokenizer_config));
  return root;
}

}  // namespace ounce::model
