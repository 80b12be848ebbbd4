// Reads tokenizer.model, the form that Llama's and Gemma's tokenizers had
// before tokenizer.json.
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "model/files/json_file.h"
#include "model/tokenizer/sentencepiece_conversion.h"
#include "model/tokenizer/sentencepiece_model.h"
#include "model/tokenizer/tokenizer_json.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

constexpr char kModel[] = "tokenizer.model";
constexpr char kConfig[] = "tokenizer_config.json";

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> ParseSentencePieceFiles(
    const SentencePieceFiles& files) {
  ASSIGN_OR_RETURN(
      const nlohmann::json config,
      ParseJsonObject(kConfig,
                      files.companions.tokenizer_config_json.value_or("{}")));
  const absl::StatusOr<SentencePieceClass> tokenizer_class =
      ClassOfSentencePiece(config, files.companions.model_type);
  if (!tokenizer_class.ok()) {
    return WithContext(tokenizer_class.status(), kConfig);
  }
  const absl::StatusOr<SentencePieceModel> model =
      ReadSentencePieceModel(files.tokenizer_model);
  if (!model.ok()) return WithContext(model.status(), kModel);
  absl::StatusOr<nlohmann::json> root =
      ConvertSentencePiece(*model, *tokenizer_class, config);
  if (!root.ok()) return WithContext(root.status(), kModel);
  auto tokenizer = TokenizerFromJson(
      *std::move(root), &files.companions,
      {.form = MainFiles::Form::kSentencePiece,
       .unnamed_class = *tokenizer_class == SentencePieceClass::kGemma
                            ? "GemmaTokenizer"
                            : "LlamaTokenizer"});
  if (!tokenizer.ok()) return WithContext(tokenizer.status(), kModel);
  return tokenizer;
}

}  // namespace ounce::model
