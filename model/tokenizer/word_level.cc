// WordLevel: a word is a token as a whole, or unknown.
//
// Source: Hugging Face tokenizers 0.22.2, models/wordlevel/mod.rs.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/token_model.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

class WordLevel : public TokenModel {
 public:
  WordLevel(Vocabulary vocabulary, std::string unknown_token)
      : vocabulary_(std::move(vocabulary)),
        unknown_token_(std::move(unknown_token)),
        unknown_id_(vocabulary_.Id(unknown_token_)) {}

  std::unique_ptr<Encoder> StartEncoding() const override {
    return std::make_unique<LookUp>(*this);
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  int64_t resident_bytes() const override {
    return static_cast<int64_t>(sizeof(WordLevel)) +
           vocabulary_.resident_bytes();
  }

 private:
  class LookUp : public Encoder {
   public:
    explicit LookUp(const WordLevel& model) : model_(model) {}
    absl::Status AppendIds(std::string_view word,
                           std::vector<int32_t>& ids) override {
      std::optional<int32_t> id = model_.vocabulary_.Id(word);
      if (!id.has_value()) id = model_.unknown_id_;
      if (!id.has_value()) {
        return absl::InvalidArgumentError(
            StrCat("the text has the word ", Quoted(word),
                   ", which is no token, and the tokenizer's unknown token ",
                   Quoted(model_.unknown_token_), " is not in its vocabulary"));
      }
      ids.push_back(*id);
      return absl::OkStatus();
    }

   private:
    const WordLevel& model_;
  };

  const Vocabulary vocabulary_;
  const std::string unknown_token_;
  const std::optional<int32_t> unknown_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> MakeWordLevel(
    const nlohmann::json& model, bool /*byte_level*/) {
  RETURN_IF_ERROR(CheckKeys(model, {"type", "unk_token", "vocab"}));
  ASSIGN_OR_RETURN(std::string unknown_token, JsonString(model, "unk_token"));
  ASSIGN_OR_RETURN(const TokenIds tokens, ReadVocabulary(model));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(tokens));
  return std::make_unique<const WordLevel>(std::move(vocabulary),
                                           std::move(unknown_token));
}

}  // namespace ounce::model
