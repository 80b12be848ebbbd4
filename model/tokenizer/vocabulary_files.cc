// Reads vocab.json and merges.txt, the form that GPT-2's and CodeGen's
// tokenizers had before tokenizer.json.
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_file.h"
#include "model/tokenizer/bpe_fields.h"
#include "model/tokenizer/byte_level_bpe.h"
#include "model/tokenizer/companion_files.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr size_t kMaxMergesBytes = 25'000'000;

absl::Status ReadVocabulary(std::string_view text, BpeParts& parts) {
  constexpr char kName[] = "vocab.json";
  ASSIGN_OR_RETURN(const json vocabulary, ParseJsonObject(kName, text));
  return AddVocabulary(kName, vocabulary, parts);
}

// As transformers reads it: the first line is a header whatever it says, and
// what follows the last line end is no line.
absl::Status ReadMerges(std::string_view text, BpeParts& parts) {
  if (text.size() > kMaxMergesBytes) {
    return absl::InvalidArgumentError(StrCat("merges.txt must have at most ",
                                             kMaxMergesBytes, " bytes, has ",
                                             text.size()));
  }
  for (int line_number = 1;; ++line_number) {
    const size_t end = text.find('\n');
    if (end == text.npos) return absl::OkStatus();
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line_number == 1 || line.empty()) continue;
    if (!AddMerge(line, parts)) {
      return absl::InvalidArgumentError(
          StrCat("merges.txt: line ", line_number, ", ", Quoted(line),
                 ", is not two tokens with a space between"));
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ParseVocabularyFiles(
    const VocabularyFiles& files) {
  TokenizerParts parts;
  RETURN_IF_ERROR(ReadVocabulary(files.vocab_json, parts.bpe));
  RETURN_IF_ERROR(ReadMerges(files.merges_txt, parts.bpe));
  RETURN_IF_ERROR(MergeCompanionFiles(files.companions, parts));
  absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> bpe =
      ByteLevelBpe::Create(std::move(parts.bpe));
  if (!bpe.ok()) {
    return WithContext(bpe.status(), "vocab.json, merges.txt, added tokens");
  }
  return bpe;
}

}  // namespace ounce::model
