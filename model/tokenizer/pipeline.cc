#include "model/tokenizer/pipeline.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/heap_bytes.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/word_cache.h"
#include "model/tokenizer/word_splitter.h"

namespace ounce::model {
namespace {

// Positions in a text are 32-bit.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Of an added token, as it is looked for.
absl::Status CheckLength(std::string_view content) {
  if (content.size() <= kMaxAddedTokenBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("added token ", Quoted(content), " must have at most ",
             kMaxAddedTokenBytes, " bytes, has ", content.size()));
}

class Pipeline final : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<const Pipeline>> Create(
      TokenizerParts parts);

  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const override;
  std::unique_ptr<Decoding> StartDecoding(bool skip_special) const override;
  std::optional<int32_t> SpecialTokenId(std::string_view text) const override;
  int64_t resident_bytes() const override;
  int32_t size() const override { return size_; }

 private:
  class EncodeCall;
  class DecodeCall;

  // Where a token that comes several times, with other flags each time, is
  // looked for.
  struct Sought {
    void Add(const AddedToken& token) {
      (token.normalized ? in_normalized_text : in_text) = true;
    }
    bool in_text = false;
    bool in_normalized_text = false;
  };

  Pipeline() = default;

  // Each fills its part of the members, in this order.
  absl::Status SetAddedTokens(std::vector<AddedToken> tokens);
  absl::Status SetFinders();
  absl::Status SetAround(std::vector<int32_t> before,
                         std::vector<int32_t> after);

  // The id of an added token or one of the vocabulary; none for none.
  absl::StatusOr<std::vector<int32_t>> IdsOf(
      const std::optional<std::string>& token) const;

  // Nothing for an id without a token.
  std::optional<std::string_view> Token(int32_t id) const {
    const auto added = added_by_id_.find(id);
    if (added != added_by_id_.end()) return added_[added->second].content;
    return model_->vocabulary().Token(id);
  }
  bool IsSpecial(int32_t id) const {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() && added_[added->second].special;
  }

  Normalizers normalizers_;
  PreTokenizers pre_tokenizers_;
  std::unique_ptr<const TokenModel> model_;
  DecoderSteps decoder_;
  std::vector<int32_t> ids_before_;
  std::vector<int32_t> ids_after_;
  int32_t size_ = 0;
  std::vector<AddedToken> added_;
  std::vector<Sought> sought_;                        // of each of added_
  absl::flat_hash_map<int32_t, size_t> added_by_id_;  // indexes in added_
  std::unique_ptr<const WordSplitter> words_;
  AddedTokenFinder plain_finder_;       // of those not normalized, in the text
  AddedTokenFinder normalized_finder_;  // of others, in the normalized text
  absl::flat_hash_map<std::string, int32_t> special_ids_;
};

class Pipeline::EncodeCall {
 public:
  explicit EncodeCall(const Pipeline& pipeline)
      : pipeline_(pipeline),
        encoder_(pipeline.model_->StartEncoding()),
        ids_(pipeline.ids_before_) {}

  absl::Status AddText(std::string_view text) {
    std::vector<TextPiece> pieces;
    pipeline_.plain_finder_.Cut(text, *pipeline_.words_, pieces);
    for (const TextPiece& piece : pieces) {
      if (piece.added_id >= 0) {
        ids_.push_back(piece.added_id);
        continue;
      }
      const bool at_beginning = piece.text.data() == text.data();
      if (pipeline_.normalizers_.empty()) {
        RETURN_IF_ERROR(AddNormalized(piece.text, at_beginning));
        continue;
      }
      NormalizedText normalized{std::string(piece.text), at_beginning};
      normalized.budget = &budget_;
      RETURN_IF_ERROR(Normalize(pipeline_.normalizers_, normalized));
      RETURN_IF_ERROR(AddNormalized(normalized.text, normalized.at_beginning));
    }
    return absl::OkStatus();
  }

  std::vector<int32_t> Finish() {
    ids_.insert(ids_.end(), pipeline_.ids_after_.begin(),
                pipeline_.ids_after_.end());
    return std::move(ids_);
  }

 private:
  absl::Status AddNormalized(std::string_view text, bool at_beginning) {
    std::vector<TextPiece> pieces;
    pipeline_.normalized_finder_.Cut(text, *pipeline_.words_, pieces);
    for (const TextPiece& piece : pieces) {
      if (piece.added_id >= 0) {
        ids_.push_back(piece.added_id);
        continue;
      }
      RETURN_IF_ERROR(PreTokenize(
          0, {piece.text, at_beginning && piece.text.data() == text.data()}));
    }
    return absl::OkStatus();
  }

  // The steps from the `step`-th on.
  absl::Status PreTokenize(size_t step, const Word& word) {
    if (step < pipeline_.pre_tokenizers_.size()) {
      return pipeline_.pre_tokenizers_[step]->Split(
          {word.text, word.at_beginning, &budget_},
          [&](const Word& part) { return PreTokenize(step + 1, part); });
    }
    return cache_.AppendIds(
        word.text, ids_,
        [this](std::string_view text, std::vector<int32_t>& ids) {
          return encoder_->AppendIds(text, ids);
        });
  }

  const Pipeline& pipeline_;
  const std::unique_ptr<TokenModel::Encoder> encoder_;
  std::vector<int32_t> ids_;
  WordCache cache_;
  RegexBudget budget_;
};

class Pipeline::DecodeCall final : public Tokenizer::Decoding {
 public:
  DecodeCall(const Pipeline& pipeline, bool skip_special)
      : pipeline_(pipeline), skip_special_(skip_special) {
    runs_.reserve(pipeline.decoder_.size());
    first_ = &end_;
    for (size_t i = pipeline.decoder_.size(); i-- > 0;) {
      runs_.push_back(pipeline.decoder_[i]->Start(*first_));
      first_ = runs_.back().get();
    }
  }

  void Push(int32_t id, std::string& text) override {
    if (skip_special_ && pipeline_.IsSpecial(id)) return;
    const std::optional<std::string_view> token = pipeline_.Token(id);
    if (!token.has_value()) return;
    end_.text = &text;
    first_->Push({*token});
  }
  void Finish(std::string& text) override {
    end_.text = &text;
    first_->Finish();
  }

 private:
  struct End final : DecoderStep::Run {
    void Push(const TokenPart& part) override { text->append(part.text); }
    void Finish() override {}
    std::string* text = nullptr;
  };

  const Pipeline& pipeline_;
  const bool skip_special_;
  End end_;
  std::vector<std::unique_ptr<DecoderStep::Run>> runs_;  // the last one first
  DecoderStep::Run* first_ = nullptr;
};

absl::StatusOr<std::unique_ptr<const Pipeline>> Pipeline::Create(
    TokenizerParts parts) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline);
  ASSIGN_OR_RETURN(pipeline->words_, WordSplitter::Create());
  pipeline->normalizers_ = std::move(parts.normalizers);
  pipeline->pre_tokenizers_ = std::move(parts.pre_tokenizers);
  pipeline->model_ = std::move(parts.model);
  pipeline->decoder_ = std::move(parts.decoder);
  RETURN_IF_ERROR(pipeline->SetAddedTokens(std::move(parts.added_tokens)));
  RETURN_IF_ERROR(pipeline->SetFinders());
  if (parts.tokens_around.has_value()) {
    ASSIGN_OR_RETURN(parts.ids_before,
                     pipeline->IdsOf(parts.tokens_around->before));
    ASSIGN_OR_RETURN(parts.ids_after,
                     pipeline->IdsOf(parts.tokens_around->after));
  }
  RETURN_IF_ERROR(pipeline->SetAround(std::move(parts.ids_before),
                                      std::move(parts.ids_after)));
  return pipeline;
}

absl::Status Pipeline::SetAddedTokens(std::vector<AddedToken> tokens) {
  const Vocabulary& vocabulary = model_->vocabulary();
  size_ = vocabulary.size();
  absl::flat_hash_map<std::string, size_t> seen;  // indexes in added_
  // A token of the vocabulary keeps its id; others are counted on from the
  // vocabulary's size, as the reference does whatever the file says.
  int64_t next_id = vocabulary.num_tokens();
  for (AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    const auto [place, is_new] = seen.emplace(token.content, added_.size());
    if (!is_new) {
      AddedToken& known = added_[place->second];
      const AddedToken before = std::exchange(known, std::move(token));
      known.id = before.id;
      // Once special is for ever, as in the reference, and so is where a
      // special token is sought.
      if (!before.special) sought_[place->second].Add(known);
      known.special |= before.special;
      continue;
    }
    const std::optional<int32_t> known = vocabulary.Id(token.content);
    const int64_t id = known.has_value() ? *known : next_id++;
    if (id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("the id of added token ", Quoted(token.content),
                 " must be at most ", kMaxVocabularySize - 1, ", is ", id));
    }
    token.id = static_cast<int32_t>(id);
    const std::optional<std::string_view> other = vocabulary.Token(token.id);
    if (!known.has_value() && other.has_value()) {
      return absl::InvalidArgumentError(StrCat("tokens ", Quoted(*other),
                                               " and ", Quoted(token.content),
                                               " have the same id ", id));
    }
    size_ = std::max(size_, token.id + 1);
    sought_.emplace_back().Add(token);
    added_.push_back(std::move(token));
  }
  for (size_t i = 0; i < added_.size(); ++i) {
    added_by_id_.emplace(added_[i].id, i);
    if (added_[i].special)
      special_ids_.emplace(added_[i].content, added_[i].id);
  }
  return absl::OkStatus();
}

absl::Status Pipeline::SetFinders() {
  std::vector<AddedToken> plain;
  std::vector<AddedToken> normalized;
  // Special ones first, which count where two are the same when normalized.
  std::vector<size_t> order(added_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_partition(order.begin(), order.end(),
                        [&](size_t i) { return added_[i].special; });
  for (const size_t i : order) {
    const AddedToken& token = added_[i];
    if (sought_[i].in_text) {
      RETURN_IF_ERROR(CheckLength(token.content));
      plain.push_back(token);
    }
    if (!sought_[i].in_normalized_text) continue;
    NormalizedText text{token.content};
    RETURN_IF_ERROR(Normalize(normalizers_, text));
    if (text.text.empty()) {
      return absl::UnimplementedError(
          StrCat("added token ", Quoted(token.content),
                 " is empty when it is normalized"));
    }
    RETURN_IF_ERROR(CheckLength(text.text));
    normalized.push_back(token);
    normalized.back().content = std::move(text.text);
  }
  plain_finder_ = AddedTokenFinder(std::move(plain));
  normalized_finder_ = AddedTokenFinder(std::move(normalized));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Pipeline::IdsOf(
    const std::optional<std::string>& token) const {
  if (!token.has_value()) return std::vector<int32_t>();
  if (const auto id = SpecialTokenId(*token)) return std::vector<int32_t>{*id};
  if (const auto id = model_->vocabulary().Id(*token)) {
    return std::vector<int32_t>{*id};
  }
  return absl::InvalidArgumentError(
      StrCat("token ", Quoted(*token), ", which is to stand before or after ",
             "every text, is not in the vocabulary"));
}

absl::Status Pipeline::SetAround(std::vector<int32_t> before,
                                 std::vector<int32_t> after) {
  for (const auto* around : {&before, &after}) {
    for (const int32_t id : *around) {
      if (id < 0 || id >= size_) {
        return absl::InvalidArgumentError(
            StrCat("post_processor: ids must be from 0 to ", size_ - 1,
                   ", one is ", id));
      }
    }
  }
  ids_before_ = std::move(before);
  ids_after_ = std::move(after);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Pipeline::Encode(
    std::string_view text) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(StrCat(
        "text must have at most ", kMaxTextBytes, " bytes, has ", text.size()));
  }
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size()) {
    return absl::InvalidArgumentError(
        StrCat("text: not UTF-8 at byte ", valid));
  }
  EncodeCall call(*this);
  RETURN_IF_ERROR(call.AddText(text));
  return call.Finish();
}

std::unique_ptr<Tokenizer::Decoding> Pipeline::StartDecoding(
    bool skip_special) const {
  return std::make_unique<DecodeCall>(*this, skip_special);
}

int64_t Pipeline::resident_bytes() const {
  int64_t bytes =
      static_cast<int64_t>(sizeof(Pipeline)) + model_->resident_bytes() +
      ResidentBytes(added_) + HeapBytes(sought_) +
      HashTableBytes(added_by_id_) + plain_finder_.resident_bytes() +
      normalized_finder_.resident_bytes() + HashTableBytes(special_ids_);
  for (const auto& [token, id] : special_ids_) bytes += HeapBytes(token);
  for (const auto& step : normalizers_) bytes += step->resident_bytes();
  return bytes;
}

std::optional<int32_t> Pipeline::SpecialTokenId(std::string_view text) const {
  const auto found = special_ids_.find(ToAbsl(text));
  if (found == special_ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(
    TokenizerParts parts) {
  return Pipeline::Create(std::move(parts));
}

}  // namespace ounce::model
