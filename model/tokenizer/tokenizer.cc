#include "model/tokenizer/tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/gguf_file.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "model/tokenizer/gguf_tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

// Nothing when there is no such file.
absl::StatusOr<std::optional<std::string>> ReadIfThere(
    const std::string& folder, const char* name) {
  const absl::StatusOr<std::unique_ptr<ByteSource>> file =
      OpenFile(StrCat(folder, "/", name));
  if (absl::IsNotFound(file.status())) return std::nullopt;
  RETURN_IF_ERROR(file.status());
  const int64_t size = (*file)->size();
  if (size > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        StrCat((*file)->name(), ": must have at most ", kMaxJsonBytes,
               " bytes, has ", size));
  }
  std::string bytes(size, '\0');
  RETURN_IF_ERROR((*file)->Read(0, size, bytes.data()));
  return bytes;
}

// config.json's model_type; empty where there is none.
absl::StatusOr<std::string> ReadModelType(const std::string& folder) {
  constexpr char kName[] = "config.json";
  ASSIGN_OR_RETURN(const std::optional<std::string> text,
                   ReadIfThere(folder, kName));
  if (!text.has_value()) return std::string();
  const std::string path = StrCat(folder, "/", kName);
  ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(path, *text));
  auto type = OptionalJsonString(config, "model_type", "");
  if (!type.ok()) return WithContext(type.status(), path);
  return type;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(
    const std::string& folder) {
  if (IsGgufFile(folder)) {
    ASSIGN_OR_RETURN(const auto file, OpenFile(folder));
    return ReadGgufTokenizer(*file);
  }
  CompanionFiles companions;
  ASSIGN_OR_RETURN(companions.added_tokens_json,
                   ReadIfThere(folder, "added_tokens.json"));
  ASSIGN_OR_RETURN(companions.tokenizer_config_json,
                   ReadIfThere(folder, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(companions.special_tokens_map_json,
                   ReadIfThere(folder, "special_tokens_map.json"));
  ASSIGN_OR_RETURN(companions.model_type, ReadModelType(folder));
  ASSIGN_OR_RETURN(const std::optional<std::string> tokenizer_json,
                   ReadIfThere(folder, "tokenizer.json"));
  const absl::StatusOr<ConfiguredSpace> space =
      ConfiguredPrefixSpace(companions);
  RETURN_IF_ERROR(WithContext(space.status(), folder));
  std::optional<std::string> sentencepiece;
  if (!tokenizer_json.has_value() ||
      space->place == TokenizerClass::PrefixSpace::kTokenizerModel) {
    ASSIGN_OR_RETURN(sentencepiece, ReadIfThere(folder, "tokenizer.model"));
  }
  if (tokenizer_json.has_value() && !sentencepiece.has_value()) {
    return ParseTokenizerJson(StrCat(folder, "/tokenizer.json"),
                              *tokenizer_json, companions);
  }
  if (sentencepiece.has_value()) {
    SentencePieceFiles files;
    files.tokenizer_model = *std::move(sentencepiece);
    files.companions = std::move(companions);
    auto tokenizer = ParseSentencePieceFiles(files);
    if (!tokenizer.ok()) return WithContext(tokenizer.status(), folder);
    return tokenizer;
  }
  ASSIGN_OR_RETURN(std::optional<std::string> vocab,
                   ReadIfThere(folder, "vocab.json"));
  ASSIGN_OR_RETURN(std::optional<std::string> merges,
                   ReadIfThere(folder, "merges.txt"));
  if (!vocab.has_value() || !merges.has_value()) {
    return absl::NotFoundError(StrCat(
        folder, ": no tokenizer.json, no tokenizer.model, and no vocab.json ",
        "with merges.txt"));
  }
  VocabularyFiles files;
  files.vocab_json = *std::move(vocab);
  files.merges_txt = *std::move(merges);
  files.companions = std::move(companions);
  absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer =
      ParseVocabularyFiles(files);
  if (!tokenizer.ok()) return WithContext(tokenizer.status(), folder);
  return tokenizer;
}

int64_t Tokenizer::MostLoadBytes(const std::string& folder) {
  // Of memory per byte of file, measured with vocabularies of 2,000 to 256,000
  // tokens: up to 16 of JSON without spaces (10 as it is published), 10 of
  // vocab.json and merges.txt, and 44 of a tokenizer.model, whose merges are
  // found out.
  constexpr int64_t kPerJsonByte = 20;
  constexpr int64_t kPerModelByte = 60;
  // Patterns and tables of Unicode, however short the files are.
  constexpr int64_t kSteps = int64_t{2} << 20;
  // Of a GGUF file, what stands before its tensors: 55 bytes for each of its
  // own; most files have little else than the tokenizer there.
  constexpr int64_t kPerGgufByte = 80;
  if (IsGgufFile(folder)) {
    const auto file = OpenFile(folder);
    if (!file.ok()) return 0;
    const auto gguf = ReadGguf(**file, [](std::string_view) { return false; });
    // More than a file can have that is read at all.
    constexpr int64_t kMost = int64_t{1} << 40;
    return gguf.ok() ? kSteps + kPerGgufByte * std::min(kMost, gguf->data_start)
                     : 0;
  }
  const auto size = [&](const char* name) -> int64_t {
    const auto file = OpenFile(StrCat(folder, "/", name));
    return file.ok() ? (*file)->size() : 0;
  };
  // Only one of these forms is read.
  const int64_t main =
      std::max(kPerJsonByte * std::max(size("tokenizer.json"),
                                       size("vocab.json") + size("merges.txt")),
               kPerModelByte * size("tokenizer.model"));
  if (main == 0) return 0;
  return kSteps + main +
         kPerJsonByte *
             (size("added_tokens.json") + size("tokenizer_config.json") +
              size("special_tokens_map.json") + size("config.json"));
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids,
                              bool skip_special) const {
  std::string text;
  const std::unique_ptr<Decoding> decoding = StartDecoding(skip_special);
  for (const int32_t id : ids) decoding->Push(id, text);
  decoding->Finish(text);
  return text;
}

std::string StreamDecoder::Push(int32_t id) {
  std::string decoded;
  decoding_->Push(id, decoded);
  std::string text;
  mended_.Push(decoded, text);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string decoded;
  decoding_->Finish(decoded);
  decoding_ = tokenizer_.StartDecoding();
  std::string text;
  mended_.Push(decoded, text);
  mended_.Finish(text);
  return text;
}

}  // namespace ounce::model
