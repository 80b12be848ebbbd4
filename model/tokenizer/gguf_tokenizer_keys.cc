#include "model/tokenizer/gguf_tokenizer_keys.h"

#include <memory>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/tokenizer/gguf_cuts.h"
#include "model/tokenizer/gguf_pieces.h"
#include "model/tokenizer/gguf_tokenizer.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using Type = SentencePiece::Type;

constexpr char kModel[] = "tokenizer.ggml.model";

absl::StatusOr<json> ByteLevelKeys(const TokenizerSources& sources,
                                   const Tokenizer& tokenizer,
                                   const std::set<std::string>& listed,
                                   int64_t vocab_size) {
  const GgufCut* cut = FindGgufCut(sources.tokenizer);
  if (cut == nullptr) {
    return GgufCannotSay(
        "it cuts texts in none of the ways that have a name in GGUF and that "
        "Ounce knows (tokenizer.ggml.pre)");
  }
  const json& model = FieldOf(sources.tokenizer, "model");
  json keys = {{kModel, "gpt2"}, {"tokenizer.ggml.pre", cut->pre}};
  ASSIGN_OR_RETURN(GgufPieces pieces, GgufPiecesOf(model, vocab_size));
  RETURN_IF_ERROR(AddGgufTokens(tokenizer, listed, std::move(pieces), keys));
  ASSIGN_OR_RETURN(keys["tokenizer.ggml.merges"], GgufMergesOf(model));
  if (keys["tokenizer.ggml.merges"].empty()) {
    return GgufCannotSay("it has no merges");
  }
  return keys;
}

absl::StatusOr<json> SentencePieceKeys(const Tokenizer& tokenizer,
                                       const std::set<std::string>& listed,
                                       GgufPieces pieces, bool space) {
  json keys = {{kModel, "llama"},
               {"tokenizer.ggml.pre", "default"},
               {"tokenizer.ggml.add_space_prefix", space}};
  for (size_t id = 0; id < pieces.types.size(); ++id) {
    if (pieces.types[id] == Type::kUnknown) {
      keys["tokenizer.ggml.unknown_token_id"] = id;
    }
  }
  RETURN_IF_ERROR(AddGgufTokens(tokenizer, listed, std::move(pieces), keys));
  return keys;
}

// What every text begins and ends with.
absl::Status AddAround(const Tokenizer& tokenizer, json& keys) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> around, tokenizer.Encode(""));
  ASSIGN_OR_RETURN(const std::vector<int32_t> text, tokenizer.Encode("a"));
  const bool begins = !around.empty() && text.front() == around.front();
  const size_t ends = around.size() - (begins ? 1 : 0);
  if (ends > 1 || (ends == 1 && text.back() != around.back())) {
    return GgufCannotSay(
        "it puts other tokens around a text than one at each end");
  }
  keys["tokenizer.ggml.add_bos_token"] = begins;
  keys["tokenizer.ggml.add_eos_token"] = ends == 1;
  if (begins) keys["tokenizer.ggml.bos_token_id"] = around.front();
  if (ends == 1) keys["tokenizer.ggml.eos_token_id"] = around.back();
  return absl::OkStatus();
}

std::vector<std::string> Probes(const std::set<std::string>& listed) {
  std::vector<std::string> probes = {
      "",
      "Hello world",
      " two  spaces and   three, 12345 digits, 3.14\t\ttabs",
      "don't they'll I'M\n\n\tstop\r\n  \nend ",
      "def f(x):\n    return [x ** 2, x != 0]  # h\u00e9llo",
      "cafe\u0301 na\u00efve \u00fcber \u2603 \U0001f600\U0001f1e9\U0001f1ea",
      "\u4f60\u597d\uff0c\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 "
      "\u041f\u0440\u0438\u0432\u0435\u0442 \u0e2a\u0e27\u0e31\u0e2a",
      "the theory of them 007 100000 1,000.5 a_b-c/d\\e",
      "\u00a0\u2009\u3000x\u200d\u00ad.",
  };
  constexpr size_t kMost = 4096;
  std::string all;
  for (const std::string& text : listed) {
    if (probes.size() > kMost) break;
    probes.push_back(StrCat("x", text, " y ", text, text, "\n z"));
  }
  return probes;
}

// Whether the keys give the ids that the folder's tokenizer gives.
absl::Status CheckSame(const TokenizerSources& sources,
                       const Tokenizer& tokenizer, const json& keys,
                       std::string_view architecture,
                       const std::set<std::string>& listed) {
  json metadata = keys;
  metadata["general.architecture"] = architecture;
  ASSIGN_OR_RETURN(json root, GgufTokenizerJson(metadata));
  if (!sources.tokenizer.is_null()) {
    ASSIGN_OR_RETURN(const json wanted,
                     GgufMergesOf(FieldOf(sources.tokenizer, "model")));
    ASSIGN_OR_RETURN(const json found, GgufMergesOf(FieldOf(root, "model")));
    if (found != wanted) {
      return GgufCannotSay("its merges do not follow from scores of pieces");
    }
  }
  ASSIGN_OR_RETURN(const auto again,
                   TokenizerFromJson(std::move(root), nullptr, {}));
  for (const std::string& probe : Probes(listed)) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> wanted,
                     tokenizer.Encode(probe));
    const auto found = again->Encode(probe);
    if (found.ok() && *found == wanted &&
        again->Decode(wanted) == tokenizer.Decode(wanted)) {
      continue;
    }
    return GgufCannotSay(
        StrCat("what GGUF says of it gives other ids or another "
               "text for ",
               Quoted(probe)));
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ScoredKeys(const TokenizerSources& sources,
                                const Tokenizer& tokenizer,
                                const std::set<std::string>& listed,
                                int64_t vocab_size, bool gemma) {
  std::vector<absl::StatusOr<GgufPieces>> all;
  if (FileExists(sources.folder + "/tokenizer.model")) {
    all.push_back(GgufModelPieces(sources, vocab_size));
  }
  if (!sources.tokenizer.is_null()) {
    all.push_back(
        GgufScoredPieces(FieldOf(sources.tokenizer, "model"), vocab_size));
  }
  absl::Status last;
  for (const auto& pieces : all) {
    last = pieces.status();
    if (!last.ok()) continue;
    for (const bool space : {!gemma, false}) {
      ASSIGN_OR_RETURN(json keys,
                       SentencePieceKeys(tokenizer, listed, *pieces, space));
      RETURN_IF_ERROR(AddAround(tokenizer, keys));
      last = CheckSame(sources, tokenizer, keys, gemma ? "gemma" : "llama",
                       listed);
      if (last.ok()) return keys;
    }
  }
  return last;
}

absl::StatusOr<json> TokenKeys(const TokenizerSources& sources,
                               const Tokenizer& tokenizer, int64_t vocab_size,
                               bool gemma) {
  if (tokenizer.size() > vocab_size) {
    return GgufCannotSay(StrCat("it has ", tokenizer.size(),
                                " ids, and the embedding ", vocab_size,
                                " rows"));
  }
  const json& model = FieldOf(sources.tokenizer, "model");
  if (!sources.tokenizer.is_null() && !FieldOf(model, "merges").is_array()) {
    return GgufCannotSay(StrCat(
        "its model is ", Quoted(TextOf(FieldOf(model, "type"))), ", not BPE"));
  }
  ASSIGN_OR_RETURN(const std::set<std::string> listed, ListedTokens(sources));
  if (sources.tokenizer.is_null() || IsTrue(FieldOf(model, "byte_fallback"))) {
    return ScoredKeys(sources, tokenizer, listed, vocab_size, gemma);
  }
  ASSIGN_OR_RETURN(json keys,
                   ByteLevelKeys(sources, tokenizer, listed, vocab_size));
  RETURN_IF_ERROR(AddAround(tokenizer, keys));
  RETURN_IF_ERROR(CheckSame(sources, tokenizer, keys, "llama", listed));
  return keys;
}

absl::Status AddChatTemplate(const TokenizerSources& sources, json& keys) {
  constexpr char kKey[] = "tokenizer.chat_template";
  const std::string file = sources.folder + "/chat_template.jinja";
  if (FileExists(file)) {
    ASSIGN_OR_RETURN(keys[kKey], ReadTextFile(file));
    return absl::OkStatus();
  }
  const json& found = FieldOf(sources.config, "chat_template");
  if (found.is_string()) keys[kKey] = found;
  if (!found.is_array()) return absl::OkStatus();
  for (const json& one : found) {  // several, by name
    if (TextOf(FieldOf(one, "name")) != "default") continue;
    keys[kKey] = TextOf(FieldOf(one, "template"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<json> GgufTokenizerKeys(const std::string& folder,
                                       int64_t vocab_size, bool gemma) {
  const auto tokenizer = Tokenizer::Load(folder);
  if (absl::IsNotFound(tokenizer.status())) {
    return json{{kModel, "no_vocab"}};
  }
  RETURN_IF_ERROR(tokenizer.status());
  ASSIGN_OR_RETURN(const TokenizerSources sources,
                   ReadTokenizerSources(folder));
  ASSIGN_OR_RETURN(json keys,
                   TokenKeys(sources, **tokenizer, vocab_size, gemma));
  RETURN_IF_ERROR(AddChatTemplate(sources, keys));
  return keys;
}

}  // namespace ounce::model
