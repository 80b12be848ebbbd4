#include "model/tokenizer/byte_level_bpe.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

// Positions in a text are 32-bit.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// GPT-2's byte alphabet: bytes that are printable in Latin-1 stand for
// themselves, the other 68 are U+0100, U+0101, ... in order.
bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
         byte >= 0xae;
}

// The byte by code point; -1 for a character that is not of the alphabet.
std::array<int16_t, 0x144> MakeAlphabet() {
  std::array<int16_t, 0x144> alphabet;
  alphabet.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet[StandsForItself(byte) ? byte : next++] =
        static_cast<int16_t>(byte);
  }
  return alphabet;
}

// The bytes that `token` spells in the byte alphabet; nothing if it has a
// character that is none of it.
std::optional<std::string> SpelledBytes(std::string_view token) {
  static const std::array<int16_t, 0x144> kAlphabet = MakeAlphabet();
  std::string bytes;
  while (!token.empty()) {
    const Utf8Sequence c = FirstUtf8Sequence(token);
    if (c.kind != Utf8Sequence::kWhole || c.code_point >= kAlphabet.size() ||
        kAlphabet[c.code_point] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kAlphabet[c.code_point]));
    token.remove_prefix(c.length);
  }
  return bytes;
}

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 |
         static_cast<uint32_t>(right);
}

}  // namespace

// One call of Encode: the ids so far, and what is kept between words.
class ByteLevelBpe::Encoding {
 public:
  explicit Encoding(const ByteLevelBpe& bpe) : bpe_(bpe) {}

  std::vector<int32_t>& ids() { return ids_; }

  absl::Status AddPlainText(std::string_view text) {
    if (bpe_.add_prefix_space_ && text[0] != ' ') {
      text = prefixed_.emplace_back(StrCat(" ", text));
    }
    if (bpe_.use_regex_) {
      return bpe_.splitter_->Split(
          text, [this](std::string_view word) { AddWord(word); });
    }
    AddWord(text);
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

  // Words that were met before cost one look-up. Bounded, and only for this
  // call, so that encoding needs no lock.
  static constexpr size_t kMaxCachedWords = 1 << 16;
  static constexpr size_t kMaxCachedWordBytes = 64;
  struct Cached {
    size_t begin = 0;  // where in ids_ its ids are
    size_t count = 0;
  };

  void AddWord(std::string_view word) {
    if (bpe_.ignore_merges_) {
      const auto whole = bpe_.whole_words_.find(ToAbsl(word));
      if (whole != bpe_.whole_words_.end()) {
        ids_.push_back(whole->second);
        return;
      }
    }
    if (word.size() > kMaxCachedWordBytes) {
      MergeWord(word);
      return;
    }
    if (const auto found = cache_.find(ToAbsl(word)); found != cache_.end()) {
      const Cached cached = found->second;
      for (size_t i = 0; i < cached.count; ++i) {
        ids_.push_back(ids_[cached.begin + i]);
      }
      return;
    }
    const size_t begin = ids_.size();
    MergeWord(word);
    if (cache_.size() < kMaxCachedWords) {
      cache_.emplace(ToAbsl(word), Cached{begin, ids_.size() - begin});
    }
  }

  void AddSymbols(std::string_view word) {
    symbols_.clear();
    symbols_.reserve(word.size());
    bool pending_unknown = false;  // the last symbol is an unknown to fuse with
    for (const char c : word) {
      int32_t id = bpe_.byte_ids_[static_cast<uint8_t>(c)];
      const bool unknown = id < 0;
      if (unknown) {
        id = bpe_.unknown_id_;
        if (id < 0 || (bpe_.fuse_unknown_ && pending_unknown)) continue;
      }
      pending_unknown = unknown;
      const uint32_t at = static_cast<uint32_t>(symbols_.size());
      symbols_.push_back({id, at - 1, at + 1, -1});
    }
    if (symbols_.empty()) return;
    symbols_.front().previous = kNone;
    symbols_.back().next = kNone;
  }

  // Notes what symbol `at` and the one after it would merge to. Whether they
  // would at all; then the merge is at the end of queue_, its rank in the high
  // half, so that the least is the one to do next, the leftmost of equals.
  bool Queue(uint32_t at) {
    Symbol& left = symbols_[at];
    left.merged_id = -1;
    if (left.next == kNone) return false;
    const auto merge =
        bpe_.merges_.find(PairKey(left.id, symbols_[left.next].id));
    if (merge == bpe_.merges_.end()) return false;
    left.merged_id = merge->second.id;
    queue_.push_back(uint64_t{merge->second.rank} << 32 | at);
    return true;
  }
  void QueueInOrder(uint32_t at) {
    if (Queue(at)) {
      std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
    }
  }

  // Time: n log n for n bytes, since each merge removes one symbol and queues
  // at most two.
  void MergeWord(std::string_view word) {
    AddSymbols(word);
    queue_.clear();
    for (uint32_t at = 0; at < symbols_.size(); ++at) Queue(at);
    std::make_heap(queue_.begin(), queue_.end(), std::greater<>());
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const uint64_t top = queue_.back();
      queue_.pop_back();
      const uint32_t at = static_cast<uint32_t>(top);
      const int32_t merged_id = bpe_.merged_ids_[top >> 32];
      Symbol& left = symbols_[at];
      // Out of date when the pair has changed since. To compare what it makes
      // is enough: symbols only grow, so no other pair here makes the same.
      if (left.merged_id != merged_id) continue;
      Symbol& right = symbols_[left.next];
      left.id = merged_id;
      left.next = right.next;
      right.id = -1;
      right.merged_id = -1;
      if (left.next != kNone) symbols_[left.next].previous = at;
      if (left.previous != kNone) QueueInOrder(left.previous);
      QueueInOrder(at);
    }
    for (const Symbol& symbol : symbols_) {
      if (symbol.id >= 0) ids_.push_back(symbol.id);
    }
  }

  const ByteLevelBpe& bpe_;
  std::vector<int32_t> ids_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> queue_;
  std::deque<std::string> prefixed_;  // texts that cache_'s keys point into
  absl::flat_hash_map<absl::string_view, Cached> cache_;
};

absl::StatusOr<std::unique_ptr<const ByteLevelBpe>> ByteLevelBpe::Create(
    BpeParts parts) {
  std::unique_ptr<ByteLevelBpe> bpe(new ByteLevelBpe);
  bpe->ignore_merges_ = parts.ignore_merges;
  bpe->add_prefix_space_ = parts.add_prefix_space;
  bpe->use_regex_ = parts.use_regex;
  bpe->fuse_unknown_ = parts.fuse_unknown;
  ASSIGN_OR_RETURN(bpe->splitter_, WordSplitter::Create());

  IdByToken ids;
  for (const auto& [token, id] : parts.vocabulary) {
    if (id < 0 || id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("the id of token ", Quoted(token), " must be from 0 to ",
                 kMaxVocabularySize - 1, ", is ", id));
    }
    if (!ids.emplace(token, id).second) {
      return absl::InvalidArgumentError(
          StrCat("token ", Quoted(token), " comes twice"));
    }
  }
  std::vector<AddedToken> added;
  RETURN_IF_ERROR(bpe->SetAddedTokens(parts, ids, added));
  RETURN_IF_ERROR(bpe->SetTokenBytes(parts, added));
  RETURN_IF_ERROR(bpe->SetUnknownToken(parts, ids));
  RETURN_IF_ERROR(bpe->SetMerges(parts, ids));
  for (const auto* around : {&parts.ids_before, &parts.ids_after}) {
    for (const int32_t id : *around) {
      if (id < 0 || id >= bpe->size()) {
        return absl::InvalidArgumentError(
            StrCat("post_processor: ids must be from 0 to ", bpe->size() - 1,
                   ", one is ", id));
      }
    }
  }
  bpe->ids_before_ = std::move(parts.ids_before);
  bpe->ids_after_ = std::move(parts.ids_after);

  std::vector<AddedToken> normalized;
  std::vector<AddedToken> plain;
  for (AddedToken& token : added) {
    (token.normalized ? normalized : plain).push_back(std::move(token));
  }
  bpe->plain_finder_ = AddedTokenFinder(std::move(plain));
  bpe->normalized_finder_ = AddedTokenFinder(std::move(normalized));
  return bpe;
}

absl::Status ByteLevelBpe::SetAddedTokens(const BpeParts& parts,
                                          const IdByToken& ids,
                                          std::vector<AddedToken>& added) {
  absl::flat_hash_map<absl::string_view, size_t> seen;  // indexes in `added`
  // A token of the vocabulary keeps its id; others are counted on from the
  // vocabulary's size, as the reference does whatever the file says.
  int64_t next_id = static_cast<int64_t>(parts.vocabulary.size());
  for (const AddedToken& token : parts.added_tokens) {
    if (token.content.empty()) continue;
    if (token.content.size() > kMaxAddedTokenBytes) {
      return absl::InvalidArgumentError(
          StrCat("added token ", Quoted(token.content), " must have at most ",
                 kMaxAddedTokenBytes, " bytes, has ", token.content.size()));
    }
    const auto [place, is_new] = seen.emplace(token.content, added.size());
    if (!is_new) {
      AddedToken& known = added[place->second];
      const AddedToken before = std::exchange(known, token);
      known.id = before.id;
      known.special |= before.special;  // once is for ever, as in the reference
      continue;
    }
    const auto known = ids.find(token.content);
    const int64_t id = known != ids.end() ? known->second : next_id++;
    if (id >= kMaxVocabularySize) {
      return absl::InvalidArgumentError(
          StrCat("the id of added token ", Quoted(token.content),
                 " must be at most ", kMaxVocabularySize - 1, ", is ", id));
    }
    added.push_back(token);
    added.back().id = static_cast<int32_t>(id);
  }
  return absl::OkStatus();
}

absl::Status ByteLevelBpe::SetTokenBytes(const BpeParts& parts,
                                         const std::vector<AddedToken>& added) {
  int32_t size = 0;
  for (const auto& [token, id] : parts.vocabulary) {
    size = std::max(size, id + 1);
  }
  for (const AddedToken& token : added) size = std::max(size, token.id + 1);

  // Who has each id: v for parts.vocabulary[v], -2 - a for added[a].
  constexpr int32_t kNobody = -1;
  std::vector<int32_t> owners(size, kNobody);
  for (size_t v = 0; v < parts.vocabulary.size(); ++v) {
    const auto& [token, id] = parts.vocabulary[v];
    if (owners[id] != kNobody) {
      return absl::InvalidArgumentError(
          StrCat("tokens ", Quoted(parts.vocabulary[owners[id]].first), " and ",
                 Quoted(token), " have the same id ", id));
    }
    owners[id] = static_cast<int32_t>(v);
  }
  special_.assign(size, false);
  for (size_t a = 0; a < added.size(); ++a) {
    const AddedToken& token = added[a];
    special_[token.id] = token.special;
    if (token.special) special_ids_.emplace(token.content, token.id);
    int32_t& owner = owners[token.id];
    if (owner == kNobody) {
      owner = -2 - static_cast<int32_t>(a);
      continue;
    }
    const std::string& other =
        owner >= 0 ? parts.vocabulary[owner].first : added[-2 - owner].content;
    if (other != token.content) {
      return absl::InvalidArgumentError(StrCat("tokens ", Quoted(other),
                                               " and ", Quoted(token.content),
                                               " have the same id ", token.id));
    }
    // Written as it is, not in the byte alphabet, as some do.
    if (!SpelledBytes(other).has_value()) {
      owner = -2 - static_cast<int32_t>(a);
    }
  }

  byte_ids_.fill(-1);
  token_end_.reserve(size);
  for (int32_t id = 0; id < size; ++id) {
    const int32_t owner = owners[id];
    if (owner >= 0) {
      const std::string& token = parts.vocabulary[owner].first;
      std::optional<std::string> bytes = SpelledBytes(token);
      if (!bytes.has_value()) {
        return absl::InvalidArgumentError(
            StrCat("token ", Quoted(token), " (id ", id,
                   ") is neither an added token nor in the byte alphabet"));
      }
      token_bytes_ += *bytes;
      if (bytes->size() == 1) {
        byte_ids_[static_cast<uint8_t>(bytes->front())] = id;
      }
      if (ignore_merges_) whole_words_.emplace(*std::move(bytes), id);
    } else if (owner != kNobody) {
      token_bytes_ += added[-2 - owner].content;
    }
    token_end_.push_back(static_cast<uint32_t>(token_bytes_.size()));
  }
  return absl::OkStatus();
}

absl::Status ByteLevelBpe::SetUnknownToken(const BpeParts& parts,
                                           const IdByToken& ids) {
  if (!parts.unknown_token.has_value()) return absl::OkStatus();
  const auto found = ids.find(*parts.unknown_token);
  if (found != ids.end()) {
    unknown_id_ = found->second;
    return absl::OkStatus();
  }
  // Without the token the reference fails at the first byte that needs it; with
  // all bytes in the vocabulary none does.
  for (const int32_t id : byte_ids_) {
    if (id >= 0) continue;
    return absl::InvalidArgumentError(
        StrCat("unk_token ", Quoted(*parts.unknown_token),
               " is not in the vocabulary, which lacks bytes"));
  }
  return absl::OkStatus();
}

absl::Status ByteLevelBpe::SetMerges(const BpeParts& parts,
                                     const IdByToken& ids) {
  merges_.reserve(parts.merges.size());
  merged_ids_.reserve(parts.merges.size());
  std::string merged;
  for (const auto& [left, right] : parts.merges) {
    merged = StrCat(left, right);
    for (const std::string* token : {&left, &right, &std::as_const(merged)}) {
      if (ids.contains(*token)) continue;
      return absl::InvalidArgumentError(StrCat(
          "merge ", merged_ids_.size(), ", ", Quoted(left), " and ",
          Quoted(right), ": ", Quoted(*token), " is not in the vocabulary"));
    }
    const int32_t id = ids.at(merged);
    // Of two merges of one pair the later counts, as in the reference.
    merges_[PairKey(ids.at(left), ids.at(right))] = {
        static_cast<uint32_t>(merged_ids_.size()), id};
    merged_ids_.push_back(id);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> ByteLevelBpe::Encode(
    std::string_view text) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(StrCat(
        "text must have at most ", kMaxTextBytes, " bytes, has ", text.size()));
  }
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size()) {
    return absl::InvalidArgumentError(
        StrCat("text: not UTF-8 at byte ", valid));
  }
  std::vector<TextPiece> around_plain;
  plain_finder_.Cut(text, *splitter_, around_plain);
  std::vector<TextPiece> pieces;
  for (const TextPiece& piece : around_plain) {
    if (piece.added_id >= 0) {
      pieces.push_back(piece);
    } else {
      normalized_finder_.Cut(piece.text, *splitter_, pieces);
    }
  }

  Encoding encoding(*this);
  encoding.ids() = ids_before_;
  for (const TextPiece& piece : pieces) {
    if (piece.added_id >= 0) {
      encoding.ids().push_back(piece.added_id);
    } else {
      RETURN_IF_ERROR(encoding.AddPlainText(piece.text));
    }
  }
  std::vector<int32_t> ids = std::move(encoding.ids());
  ids.insert(ids.end(), ids_after_.begin(), ids_after_.end());
  return ids;
}

std::string ByteLevelBpe::Decode(absl::Span<const int32_t> ids,
                                 bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= size() || (skip_special && special_[id])) continue;
    const uint32_t begin = id == 0 ? 0 : token_end_[id - 1];
    text.append(token_bytes_, begin, token_end_[id] - begin);
  }
  return text;
}

std::optional<int32_t> ByteLevelBpe::SpecialTokenId(
    std::string_view text) const {
  const auto found = special_ids_.find(ToAbsl(text));
  if (found == special_ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace ounce::model
