#include "model/tokenizer/tokenizer.h"

#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_file.h"
#include "model/tokenizer/byte_level_bpe.h"

namespace ounce::model {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

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

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(
    const std::string& folder) {
  CompanionFiles companions;
  ASSIGN_OR_RETURN(companions.added_tokens_json,
                   ReadIfThere(folder, "added_tokens.json"));
  ASSIGN_OR_RETURN(companions.tokenizer_config_json,
                   ReadIfThere(folder, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(companions.special_tokens_map_json,
                   ReadIfThere(folder, "special_tokens_map.json"));
  ASSIGN_OR_RETURN(const std::optional<std::string> tokenizer_json,
                   ReadIfThere(folder, "tokenizer.json"));
  if (tokenizer_json.has_value()) {
    return ParseTokenizerJson(StrCat(folder, "/tokenizer.json"),
                              *tokenizer_json, companions);
  }
  ASSIGN_OR_RETURN(std::optional<std::string> vocab,
                   ReadIfThere(folder, "vocab.json"));
  ASSIGN_OR_RETURN(std::optional<std::string> merges,
                   ReadIfThere(folder, "merges.txt"));
  if (!vocab.has_value() || !merges.has_value()) {
    return absl::NotFoundError(StrCat(
        folder, ": no tokenizer.json, and no vocab.json with merges.txt"));
  }
  VocabularyFiles files;
  files.vocab_json = *std::move(vocab);
  files.merges_txt = *std::move(merges);
  files.companions = std::move(companions);
  absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> bpe =
      ParseVocabularyFiles(files);
  if (!bpe.ok()) return WithContext(bpe.status(), folder);
  return *std::move(bpe);
}

std::string StreamDecoder::Push(int32_t id) {
  pending_ += tokenizer_.Decode({&id, 1});
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Prefix(rest);
    text += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Sequence sequence = FirstUtf8Sequence(rest);
    if (sequence.kind == Utf8Sequence::kCutShort) break;
    text += kReplacement;
    rest.remove_prefix(sequence.length);
  }
  pending_ = std::string(rest);
  return text;
}

std::string StreamDecoder::Finish() {
  // What is pending is one sequence cut short.
  const bool broken = !pending_.empty();
  pending_.clear();
  return broken ? std::string(kReplacement) : std::string();
}

}  // namespace ounce::model
