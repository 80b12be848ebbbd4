// Unigram: of all ways to cut a word into tokens the one whose scores sum up to
// most, found by Viterbi's algorithm, left to right.
//
// Source: Hugging Face tokenizers 0.22.2, models/unigram/model.rs, whose order
// of sums and of comparisons is kept, because it decides between equals.
#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/heap_bytes.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/byte_trie.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/token_model.h"
#include "model/tokenizer/vocabulary.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

// How much worse than the worst token an unknown character is.
constexpr double kUnknownPenalty = 10.0;

class Unigram : public TokenModel {
 public:
  struct Parts {
    TokenIds tokens;
    std::vector<double> scores;  // by id
    int32_t unknown_id = -1;     // -1: none
    bool byte_fallback = false;
  };
  static absl::StatusOr<std::unique_ptr<const Unigram>> Create(Parts parts) {
    ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(parts.tokens));
    std::vector<std::pair<std::string_view, int32_t>> tokens(
        parts.tokens.begin(), parts.tokens.end());
    ASSIGN_OR_RETURN(ByteTrie trie, ByteTrie::Create(std::move(tokens)));
    return std::unique_ptr<const Unigram>(
        new Unigram(std::move(vocabulary), std::move(trie), std::move(parts)));
  }

  std::unique_ptr<Encoder> StartEncoding() const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  int64_t resident_bytes() const override {
    return static_cast<int64_t>(sizeof(Unigram)) +
           vocabulary_.resident_bytes() + trie_.resident_bytes() +
           HeapBytes(scores_);
  }

 private:
  class Viterbi;

  Unigram(Vocabulary vocabulary, ByteTrie trie, Parts parts)
      : vocabulary_(std::move(vocabulary)),
        trie_(std::move(trie)),
        scores_(std::move(parts.scores)),
        unknown_id_(parts.unknown_id),
        byte_fallback_(parts.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] =
          vocabulary_.Id(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
    }
    double least = std::numeric_limits<double>::infinity();
    for (const double score : scores_) least = std::min(least, score);
    unknown_score_ = least - kUnknownPenalty;
  }

  const Vocabulary vocabulary_;
  const ByteTrie trie_;
  const std::vector<double> scores_;
  const int32_t unknown_id_;
  const bool byte_fallback_;
  std::array<int32_t, 256> byte_ids_ = {};  // -1: no token
  double unknown_score_ = 0;
};

class Unigram::Viterbi : public TokenModel::Encoder {
 public:
  explicit Viterbi(const Unigram& model) : model_(model) {}

  absl::Status AppendIds(std::string_view word,
                         std::vector<int32_t>& ids) override {
    RETURN_IF_ERROR(FindBest(word));
    Backtrack(word);
    for (auto piece = pieces_.rbegin(); piece != pieces_.rend(); ++piece) {
      AppendPiece(*piece, ids);
    }
    return absl::OkStatus();
  }

 private:
  // The best way to what ends at one byte of the word.
  struct Best {
    double score = 0;        // of the whole way
    uint32_t begin = kNone;  // of its last token; kNone: no way ends here
    int32_t id = -1;         // of its last token
  };
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  struct Piece {
    std::string_view text;
    int32_t id = -1;  // -1: unknown, maybe several characters
  };

  void Offer(size_t begin, size_t end, double score, int32_t id) {
    Best& best = best_[end];
    if (best.begin == kNone || score > best.score) {
      best = {score, static_cast<uint32_t>(begin), id};
    }
  }

  // Time: the word's bytes times those of the longest token.
  absl::Status FindBest(std::string_view word) {
    best_.assign(word.size() + 1, Best());
    for (size_t begin = 0; begin < word.size();) {
      const double score = best_[begin].score;
      const size_t character = FirstUtf8Sequence(word.substr(begin)).length;
      bool has_character = false;
      ByteTrie::Node node = ByteTrie::kRoot;
      for (size_t end = begin; end < word.size();) {
        node = model_.trie_.Next(node, word[end]);
        if (node == ByteTrie::kRoot) break;
        ++end;
        const int32_t id = model_.trie_.Id(node);
        if (id < 0) continue;
        Offer(begin, end, model_.scores_[id] + score, id);
        has_character |= end - begin == character;
      }
      if (!has_character) {
        if (model_.unknown_id_ < 0) return NoUnknown();
        Offer(begin, begin + character, model_.unknown_score_ + score,
              model_.unknown_id_);
      }
      begin += character;
    }
    return absl::OkStatus();
  }

  // The tokens of the best way, last one first; a run of unknown ones is one.
  void Backtrack(std::string_view word) {
    pieces_.clear();
    bool after_unknown = false;
    for (size_t end = word.size(); end > 0;) {
      const Best& best = best_[end];
      const std::string_view text = word.substr(best.begin, end - best.begin);
      const bool unknown = best.id == model_.unknown_id_;
      if (unknown && after_unknown) {
        Piece& run = pieces_.back();
        run.text = word.substr(best.begin, text.size() + run.text.size());
      } else {
        pieces_.push_back({text, unknown ? -1 : best.id});
      }
      after_unknown = unknown;
      end = best.begin;
    }
  }

  void AppendPiece(const Piece& piece, std::vector<int32_t>& ids) const {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      return;
    }
    // Unknown characters side by side may spell a token that scores too little
    // to be found, and the unknown token's own text is one.
    if (const auto id = model_.vocabulary_.Id(piece.text)) {
      ids.push_back(*id);
      return;
    }
    if (model_.byte_fallback_ && AppendBytes(piece.text, ids)) return;
    ids.push_back(model_.unknown_id_);
  }

  // A token for each byte, if all of them have one.
  bool AppendBytes(std::string_view text, std::vector<int32_t>& ids) const {
    const size_t before = ids.size();
    for (const char byte : text) {
      const int32_t id = model_.byte_ids_[static_cast<uint8_t>(byte)];
      if (id < 0) {
        ids.resize(before);
        return false;
      }
      ids.push_back(id);
    }
    return true;
  }

  static absl::Status NoUnknown() {
    return absl::InvalidArgumentError(
        "the text has a character without a token, and the tokenizer has no "
        "unknown token");
  }

  const Unigram& model_;
  std::vector<Best> best_;  // by where it ends
  std::vector<Piece> pieces_;
};

std::unique_ptr<TokenModel::Encoder> Unigram::StartEncoding() const {
  return std::make_unique<Viterbi>(*this);
}

// [["token", score], ...]; ids count from 0.
absl::Status ReadScoredTokens(const json* vocab, Unigram::Parts& parts) {
  if (vocab == nullptr || !vocab->is_array()) {
    return WrongType("vocab", vocab, "an array");
  }
  if (vocab->size() > size_t{kMaxVocabularySize}) {
    return absl::InvalidArgumentError(StrCat("vocab must have at most ",
                                             kMaxVocabularySize,
                                             " tokens, has ", vocab->size()));
  }
  parts.tokens.reserve(vocab->size());
  parts.scores.reserve(vocab->size());
  for (size_t i = 0; i < vocab->size(); ++i) {
    const json& entry = (*vocab)[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
        !entry[1].is_number()) {
      return absl::InvalidArgumentError(
          StrCat("vocab: entry ", i, " is not a token with a score"));
    }
    parts.tokens.emplace_back(entry[0].get_ref<const std::string&>(),
                              static_cast<int32_t>(i));
    parts.scores.push_back(entry[1].get<double>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> MakeUnigram(
    const json& model, bool /*byte_level*/) {
  RETURN_IF_ERROR(
      CheckKeys(model, {"type", "unk_id", "vocab", "byte_fallback"}));
  Unigram::Parts parts;
  RETURN_IF_ERROR(ReadScoredTokens(FindField(model, "vocab"), parts));
  if (FindField(model, "unk_id") != nullptr) {
    ASSIGN_OR_RETURN(const int64_t unknown_id,
                     JsonInt(model, "unk_id", 0,
                             static_cast<int64_t>(parts.tokens.size()) - 1));
    parts.unknown_id = static_cast<int32_t>(unknown_id);
  }
  ASSIGN_OR_RETURN(parts.byte_fallback,
                   OptionalJsonBool(model, "byte_fallback", false));
  return Unigram::Create(std::move(parts));
}

}  // namespace ounce::model
