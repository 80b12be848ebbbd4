// Reads vocab.json and merges.txt, the form that GPT-2's and CodeGen's
// tokenizers had before tokenizer.json.
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_file.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/byte_level_split.h"
#include "model/tokenizer/companion_files.h"
#include "model/tokenizer/decoders.h"
#include "model/tokenizer/pipeline.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr size_t kMaxMergesBytes = 25'000'000;

absl::Status ReadVocabulary(std::string_view text, BpeParts& parts) {
  constexpr char kName[] = "vocab.json";
  ASSIGN_OR_RETURN(const json vocabulary, ParseJsonObject(kName, text));
  ASSIGN_OR_RETURN(parts.vocabulary, ReadTokenIds(kName, vocabulary));
  return absl::OkStatus();
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

absl::StatusOr<std::unique_ptr<const Tokenizer>> Make(
    BpeParts bpe, const CompanionFiles& companions) {
  constexpr char kFiles[] = "vocab.json, merges.txt";
  TokenizerParts parts;
  bpe.byte_level = true;
  absl::StatusOr<std::unique_ptr<const Bpe>> model =
      Bpe::Create(std::move(bpe));
  if (!model.ok()) return WithContext(model.status(), kFiles);
  ByteLevelOptions split;
  split.spell = !(*model)->takes_bytes();
  ASSIGN_OR_RETURN(const ConfiguredSpace space,
                   ConfiguredPrefixSpace(companions));
  split.add_prefix_space = space.wanted;
  ASSIGN_OR_RETURN(parts.pre_tokenizers.emplace_back(),
                   MakeByteLevelSplit(split));
  parts.decoder.push_back(MakeByteLevelDecoder(/*lossy=*/false));
  ASSIGN_OR_RETURN(
      parts.tokens_around,
      AddCompanionTokens(companions,
                         {.form = MainFiles::Form::kVocabularyFiles,
                          .vocabulary = (*model)->vocabulary(),
                          .pad_token = {}},
                         parts.added_tokens));
  parts.model = *std::move(model);
  absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer =
      MakeTokenizer(std::move(parts));
  if (!tokenizer.ok()) {
    return WithContext(tokenizer.status(), StrCat(kFiles, ", added tokens"));
  }
  return tokenizer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseVocabularyFiles(
    const VocabularyFiles& files) {
  BpeParts bpe;
  RETURN_IF_ERROR(ReadVocabulary(files.vocab_json, bpe));
  RETURN_IF_ERROR(ReadMerges(files.merges_txt, bpe));
  return Make(std::move(bpe), files.companions);
}

}  // namespace ounce::model
