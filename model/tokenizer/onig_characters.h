// Single characters and sets of them in a regular expression of Oniguruma:
// "\n", "\x0a", "\s", "\p{L}", "[a-c&&[^b]]".
#ifndef OUNCE_MODEL_TOKENIZER_ONIG_CHARACTERS_H_
#define OUNCE_MODEL_TOKENIZER_ONIG_CHARACTERS_H_

#include <cstddef>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/tokenizer/onig_set.h"

namespace ounce::model {

// Of groups or sets in one another, as they are written.
inline constexpr int kMaxOnigDepth = 32;
// What the sets of a pattern become together: some kilobytes each, of which
// PCRE2 takes a few dozen.
inline constexpr size_t kMaxOnigSetBytes = 1 << 20;

class OnigCharacters {
 public:
  // Reads what `rest` begins with, and takes it away. `rest` must outlive it.
  explicit OnigCharacters(std::string_view& rest) : rest_(rest) {}

  // All errors are as ParseOnigPattern's.

  // From '[' to its ']'.
  absl::StatusOr<OnigSet> ReadSet();

  // \s, \P{L} and their like; nothing for another escape.
  absl::StatusOr<std::optional<OnigSet>> ReadSetEscape(bool in_set);

  // "\n", "\x0a", "\u3000", "\." and their like.
  absl::StatusOr<char32_t> ReadEscape(bool in_set);

 private:
  bool Take(std::string_view text);
  absl::Status RefuseNext(size_t bytes) const;

  // What "\p{..}" holds, whatever the case of its 'p'.
  absl::StatusOr<OnigSet> ReadProperty(bool in_set);
  // "\0" and up to two more digits of base 8.
  char32_t ReadOctal();
  // "\ca".
  absl::StatusOr<char32_t> ReadControl();
  absl::StatusOr<char32_t> ReadHex();

  // Of a set.
  bool HasAnotherBracket() const;
  absl::Status Add(const OnigSet& part, OnigSet& set);
  absl::Status Member(OnigSet& set);
  // [:alpha:] and [:^alpha:].
  absl::Status Bracket(OnigSet& set);
  // Behind a set that is a member.
  absl::Status CheckNoRange() const;
  absl::StatusOr<char32_t> MemberCharacter();

  std::string_view& rest_;
  int depth_ = 0;
  size_t set_bytes_ = 0;  // so far
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ONIG_CHARACTERS_H_
