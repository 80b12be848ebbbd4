#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/heap_bytes.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/merge_queue.h"
#include "model/tokenizer/word_cache.h"

namespace ounce::model {
namespace {

uint64_t PairKey(uint32_t left, uint32_t right) {
  return uint64_t{left} << 32 | right;
}

// The code point of a text that is one character; nothing for another text.
std::optional<char32_t> OnlyCharacter(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const Utf8Sequence first = FirstUtf8Sequence(text);
  if (first.kind != Utf8Sequence::kWhole || first.length != text.size()) {
    return std::nullopt;
  }
  return first.code_point;
}

// "<0xE4>".
std::string FallbackToken(int byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

}  // namespace

// What is kept between words.
class Bpe::Encoder final : public TokenModel::Encoder {
 public:
  explicit Encoder(const Bpe& bpe) : bpe_(bpe) {}

  absl::Status AppendIds(std::string_view word,
                         std::vector<int32_t>& ids) override {
    if (bpe_.ignore_merges_) {
      const std::optional<int32_t> whole = WholeWord(word);
      if (whole.has_value()) {
        ids.push_back(*whole);
        return absl::OkStatus();
      }
    }
    if (bpe_.joints_.has_value()) return AppendSegments(word, ids);
    Merged(word, ids);
    return absl::OkStatus();
  }

 private:
  // Part of a word: what one token stands for, in a list linked both ways.
  struct Symbol {
    int32_t id = -1;  // -1 once it was merged into the one before
    uint32_t previous = kNone;
    uint32_t next = kNone;
    int32_t merged_id = -1;  // what it makes with the next; -1 for nothing
  };
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  // From so many symbols on, lists by rank are faster than a heap, however many
  // ranks there are to look at.
  static constexpr size_t kLongWord = 1 << 15;

  std::optional<int32_t> WholeWord(std::string_view word) const {
    if (!bpe_.takes_bytes_) return bpe_.vocabulary_.Id(word);
    const auto whole = bpe_.whole_words_.find(ToAbsl(word));
    if (whole == bpe_.whole_words_.end()) return std::nullopt;
    return whole->second;
  }

  // Cuts a word where no merge can happen, so that a text without any
  // pre-tokenizer is not one word of its length.
  absl::Status AppendSegments(std::string_view word,
                              std::vector<int32_t>& ids) {
    const auto merged = [this](std::string_view part,
                               std::vector<int32_t>& part_ids) {
      Merged(part, part_ids);
      return absl::OkStatus();
    };
    size_t begin = 0;
    char32_t previous = 0;
    bool previous_known = false;
    for (size_t at = 0; at < word.size();) {
      const Utf8Sequence c = FirstUtf8Sequence(word.substr(at));
      const bool known = bpe_.character_ids_.contains(c.code_point);
      if (known && previous_known &&
          !bpe_.joints_->contains(PairKey(previous, c.code_point))) {
        RETURN_IF_ERROR(
            cache_.AppendIds(word.substr(begin, at - begin), ids, merged));
        begin = at;
      }
      previous = c.code_point;
      previous_known = known;
      at += c.length;
    }
    return cache_.AppendIds(word.substr(begin), ids, merged);
  }

  void AddSymbol(int32_t id) {
    const uint32_t at = static_cast<uint32_t>(symbols_.size());
    symbols_.push_back({id, at - 1, at + 1, -1});
  }

  // Characters without a token: one that waits to be joined by more of them.
  void AddUnknown() {
    if (bpe_.unknown_id_ < 0) return;
    if (unknown_waits_ && bpe_.fuse_unknown_) return;
    if (unknown_waits_) AddSymbol(bpe_.unknown_id_);
    unknown_waits_ = true;
  }
  void EndUnknown() {
    if (unknown_waits_) AddSymbol(bpe_.unknown_id_);
    unknown_waits_ = false;
  }

  // -1 for a character without a token.
  int32_t CharacterId(const Utf8Sequence& c, std::string_view text, bool first,
                      bool last) {
    const bool prefix = !first && !bpe_.prefix_.empty();
    const bool suffix = last && !bpe_.suffix_.empty();
    if (!prefix && !suffix) {
      const auto found = bpe_.character_ids_.find(c.code_point);
      return found == bpe_.character_ids_.end() ? -1 : found->second;
    }
    spelled_.clear();
    if (prefix) spelled_ += bpe_.prefix_;
    spelled_ += text;
    if (suffix) spelled_ += bpe_.suffix_;
    return bpe_.vocabulary_.Id(spelled_).value_or(-1);
  }

  // A token for each byte of what stands for the character; false if one is
  // missing.
  bool AddFallback(std::string_view text) {
    for (const char c : text) {
      if (bpe_.fallback_ids_[static_cast<uint8_t>(c)] < 0) return false;
    }
    for (const char c : text) {
      AddSymbol(bpe_.fallback_ids_[static_cast<uint8_t>(c)]);
    }
    return true;
  }

  void AddCharacters(std::string_view word) {
    for (size_t at = 0; at < word.size();) {
      const Utf8Sequence c = FirstUtf8Sequence(word.substr(at));
      const std::string_view text = word.substr(at, c.length);
      const bool is_first = at == 0;
      at += c.length;
      const bool is_last = at == word.size();
      const int32_t id = CharacterId(c, text, is_first, is_last);
      if (id >= 0) {
        EndUnknown();
        AddSymbol(id);
        continue;
      }
      const bool affixed = (!is_first && !bpe_.prefix_.empty()) ||
                           (is_last && !bpe_.suffix_.empty());
      // As in the reference, the affixes fall back too, and an unknown that
      // waits goes on waiting.
      if (AddFallback(affixed ? std::string_view(spelled_) : text)) continue;
      AddUnknown();
    }
    EndUnknown();
  }

  void AddBytes(std::string_view word) {
    if (!bpe_.has_all_bytes_) {
      for (const char c : word) {
        const int32_t id = bpe_.byte_ids_[static_cast<uint8_t>(c)];
        if (id < 0) {
          AddUnknown();
          continue;
        }
        EndUnknown();
        AddSymbol(id);
      }
      EndUnknown();
      return;
    }
    symbols_.resize(word.size());
    for (uint32_t i = 0; i < word.size(); ++i) {
      symbols_[i] = {bpe_.byte_ids_[static_cast<uint8_t>(word[i])], i - 1,
                     i + 1, -1};
    }
  }

  // Notes what symbol `at` and the one after it would merge to; the rank of
  // that merge, if there is one.
  std::optional<uint32_t> NoteMerge(uint32_t at) {
    Symbol& left = symbols_[at];
    left.merged_id = -1;
    if (left.next == kNone) return std::nullopt;
    const auto merge =
        bpe_.merges_.find(PairKey(left.id, symbols_[left.next].id));
    if (merge == bpe_.merges_.end()) return std::nullopt;
    left.merged_id = merge->second.id;
    return merge->second.rank;
  }

  void Merged(std::string_view word, std::vector<int32_t>& ids) {
    symbols_.clear();
    if (bpe_.takes_bytes_) {
      AddBytes(word);
    } else {
      AddCharacters(word);
    }
    if (symbols_.empty()) return;
    symbols_.front().previous = kNone;
    symbols_.back().next = kNone;
    if (symbols_.size() < kLongWord) {
      heap_.Clear();
      MergeSymbols(heap_);
    } else {
      lists_.Clear(bpe_.merged_ids_.size());
      MergeSymbols(lists_);
    }
    for (const Symbol& symbol : symbols_) {
      if (symbol.id >= 0) ids.push_back(symbol.id);
    }
  }

  // Time: n log n for n symbols, since each merge removes one and queues at
  // most two.
  template <typename Queue>
  void MergeSymbols(Queue& queue) {
    for (uint32_t at = 0; at < symbols_.size(); ++at) {
      if (const auto rank = NoteMerge(at)) queue.PushFirst(*rank, at);
    }
    queue.Start();
    const auto push = [&](uint32_t at) {
      if (const auto rank = NoteMerge(at)) queue.Push(*rank, at);
    };
    for (HeapMergeQueue::Entry next; queue.Pop(next);) {
      const int32_t merged_id = bpe_.merged_ids_[next.rank];
      Symbol& left = symbols_[next.at];
      // Out of date when the pair has changed since. To compare what it makes
      // is enough: symbols only grow, so no other pair here makes the same.
      if (left.merged_id != merged_id) continue;
      Symbol& right = symbols_[left.next];
      left.id = merged_id;
      left.next = right.next;
      right.id = -1;
      right.merged_id = -1;
      if (left.next != kNone) symbols_[left.next].previous = next.at;
      if (left.previous != kNone) push(left.previous);
      push(next.at);
    }
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  HeapMergeQueue heap_;
  ListMergeQueue lists_;
  std::string spelled_;  // a character with its affixes
  bool unknown_waits_ = false;
  WordCache cache_;  // of segments
};

std::unique_ptr<TokenModel::Encoder> Bpe::StartEncoding() const {
  return std::make_unique<Encoder>(*this);
}

absl::StatusOr<std::unique_ptr<const Bpe>> Bpe::Create(const BpeParts& parts) {
  std::unique_ptr<Bpe> bpe(new Bpe);
  ASSIGN_OR_RETURN(bpe->vocabulary_, Vocabulary::Create(parts.vocabulary));
  bpe->ignore_merges_ = parts.ignore_merges;
  bpe->fuse_unknown_ = parts.fuse_unknown;
  bpe->prefix_ = parts.continuing_subword_prefix;
  bpe->suffix_ = parts.end_of_word_suffix;
  // Affixes and fallbacks are said of characters, so bytes must be spelled.
  bpe->takes_bytes_ = parts.byte_level && !parts.byte_fallback &&
                      bpe->prefix_.empty() && bpe->suffix_.empty();
  bpe->SetFirstTokens(parts);
  RETURN_IF_ERROR(bpe->SetUnknownToken(parts));
  RETURN_IF_ERROR(bpe->SetMerges(parts));
  bpe->SetJoints(parts);
  return bpe;
}

void Bpe::SetFirstTokens(const BpeParts& parts) {
  byte_ids_.fill(-1);
  fallback_ids_.fill(-1);
  for (const auto& [token, id] : parts.vocabulary) {
    if (const auto c = OnlyCharacter(token)) character_ids_.emplace(*c, id);
    if (!takes_bytes_) continue;
    std::string bytes;
    if (!AppendSpelledBytes(token, bytes)) continue;
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
    if (ignore_merges_) whole_words_.emplace(std::move(bytes), id);
  }
  has_all_bytes_ = std::all_of(byte_ids_.begin(), byte_ids_.end(),
                               [](int32_t id) { return id >= 0; });
  for (int byte = 0; byte < 256 && parts.byte_fallback; ++byte) {
    fallback_ids_[byte] = vocabulary_.Id(FallbackToken(byte)).value_or(-1);
  }
}

absl::Status Bpe::SetUnknownToken(const BpeParts& parts) {
  if (!parts.unknown_token.has_value()) return absl::OkStatus();
  if (const auto id = vocabulary_.Id(*parts.unknown_token)) {
    unknown_id_ = *id;
    return absl::OkStatus();
  }
  // Without the token the reference fails at the first character that needs it;
  // with all bytes in the vocabulary none does.
  if (has_all_bytes_ || std::all_of(fallback_ids_.begin(), fallback_ids_.end(),
                                    [](int32_t id) { return id >= 0; })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat("unk_token ", Quoted(*parts.unknown_token),
             " is not in the vocabulary, which lacks ",
             takes_bytes_ ? "bytes" : "characters"));
}

absl::Status Bpe::SetMerges(const BpeParts& parts) {
  merges_.reserve(parts.merges.size());
  merged_ids_.reserve(parts.merges.size());
  std::string merged;
  for (const auto& [left, right] : parts.merges) {
    // The prefix of what follows goes, whatever it is, as in the reference.
    merged = StrCat(left, std::string_view(right).substr(
                              std::min(prefix_.size(), right.size())));
    for (const std::string* token : {&left, &right, &std::as_const(merged)}) {
      if (vocabulary_.Id(*token).has_value()) continue;
      return absl::InvalidArgumentError(StrCat(
          "merge ", merged_ids_.size(), ", ", Quoted(left), " and ",
          Quoted(right), ": ", Quoted(*token), " is not in the vocabulary"));
    }
    const int32_t id = *vocabulary_.Id(merged);
    // Of two merges of one pair the later counts, as in the reference.
    merges_[PairKey(*vocabulary_.Id(left), *vocabulary_.Id(right))] = {
        static_cast<uint32_t>(merged_ids_.size()), id};
    merged_ids_.push_back(id);
  }
  return absl::OkStatus();
}

void Bpe::SetJoints(const BpeParts& parts) {
  // With affixes the ends of a word count; bytes are cut by the pre-tokenizer;
  // and a token that stands for other characters than its own (an unknown, a
  // byte) must not be part of a merge.
  if (takes_bytes_ || !prefix_.empty() || !suffix_.empty()) return;
  absl::flat_hash_set<uint64_t> joints;
  for (const auto& [left, right] : parts.merges) {
    for (const std::string* token : {&left, &right}) {
      if (OnlyCharacter(*token).has_value()) continue;
      const int32_t id = *vocabulary_.Id(*token);
      if (id == unknown_id_ ||
          (token->size() == 6 && token->starts_with("<0x"))) {
        return;
      }
    }
    const std::string merged = StrCat(left, right);
    std::string_view rest = merged;
    char32_t previous = 0;
    for (bool first = true; !rest.empty(); first = false) {
      const Utf8Sequence c = FirstUtf8Sequence(rest);
      if (!first) joints.insert(PairKey(previous, c.code_point));
      previous = c.code_point;
      rest.remove_prefix(c.length);
    }
  }
  joints_ = std::move(joints);
}

int64_t Bpe::resident_bytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof(Bpe)) +
                  vocabulary_.resident_bytes() +
                  HashTableBytes(character_ids_) + HashTableBytes(merges_) +
                  HeapBytes(merged_ids_) + HashTableBytes(whole_words_);
  for (const auto& [word, id] : whole_words_) bytes += HeapBytes(word);
  if (joints_.has_value()) bytes += HashTableBytes(*joints_);
  return bytes;
}

}  // namespace ounce::model
