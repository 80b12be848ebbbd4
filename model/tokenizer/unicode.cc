#include "model/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "base/utf8.h"

namespace ounce::model {
namespace {

constexpr char32_t kPastUnicode = 0x110000;

// Each a bit of a character's flags.
enum Flag : uint8_t {
  kNumber = 1,
  kPunctuation = 2,
  kMark = 4,
  kNonspacingMark = 8,
  kControl = 16,
  kInertInNormalForms = 32,  // later than the reference's normal forms
};

struct FlagRange {
  Flag flag;
  char32_t first;
  char32_t last;
};

constexpr FlagRange kReferenceHas[] = {
#define REFERENCE_HAS(property, first, last) {k##property, first, last},
#define REFERENCE_LACKS(property, first, last)
#define REFERENCE_LOWERS(upper, lower)
#define REGEX_HAS(category, first, last)
#define REGEX_SCRIPT(name, code)
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
};

constexpr FlagRange kReferenceLacks[] = {
#define REFERENCE_HAS(property, first, last)
#define REFERENCE_LACKS(property, first, last) {k##property, first, last},
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
#undef REFERENCE_LOWERS
};

struct CasePair {
  char32_t upper;
  char32_t lower;
};

constexpr CasePair kReferenceLowers[] = {
#define REFERENCE_HAS(property, first, last)
#define REFERENCE_LACKS(property, first, last)
#define REFERENCE_LOWERS(upper, lower) {upper, lower},
#include "model/tokenizer/unicode_tables.inc"
#undef REFERENCE_HAS
#undef REFERENCE_LACKS
#undef REFERENCE_LOWERS
#undef REGEX_HAS
#undef REGEX_SCRIPT
};

bool IsAsciiPunctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') ||
         (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

uint8_t FlagsByUtf8proc(char32_t c) {
  uint8_t flags = IsAsciiPunctuation(c) ? kPunctuation : 0;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return flags | kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return flags | kPunctuation;
    case UTF8PROC_CATEGORY_MN:
      return flags | kMark | kNonspacingMark;
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return flags | kMark;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      return flags | kControl;
    default:
      return flags;
  }
}

// The flags of every character, blocks of 256 that are equal stored once.
class FlagTable {
 public:
  FlagTable() {
    std::vector<uint8_t> all(kPastUnicode);
    for (char32_t c = 0; c < kPastUnicode; ++c) all[c] = FlagsByUtf8proc(c);
    for (const FlagRange& range : kReferenceHas) {
      for (char32_t c = range.first; c <= range.last; ++c) all[c] |= range.flag;
    }
    for (const FlagRange& range : kReferenceLacks) {
      for (char32_t c = range.first; c <= range.last; ++c) {
        all[c] &= static_cast<uint8_t>(~range.flag);
      }
    }
    std::map<Block, uint16_t> known;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      Block block;
      std::copy_n(all.begin() + static_cast<int64_t>(i * block.size()),
                  block.size(), block.begin());
      const auto [place, is_new] =
          known.try_emplace(block, static_cast<uint16_t>(flags_.size()));
      if (is_new) flags_.push_back(block);
      blocks_[i] = place->second;
    }
  }

  uint8_t Of(char32_t c) const {
    return c < kPastUnicode ? flags_[blocks_[c >> 8]][c & 0xff] : 0;
  }

 private:
  using Block = std::array<uint8_t, 256>;
  std::array<uint16_t, kPastUnicode / 256> blocks_ = {};
  std::vector<Block> flags_;
};

bool Has(char32_t c, Flag flag) {
  static const FlagTable& table = *new FlagTable;
  return (table.Of(c) & flag) != 0;
}

// One call of Normalized. Characters are decomposed one by one and their marks
// ordered here, because utf8proc's way of ordering takes time by the square of
// a run's length.
class Normalization {
 public:
  Normalization(NormalForm form, std::string& text)
      : compose_(form == NormalForm::kNfc || form == NormalForm::kNfkc),
        compatible_(form == NormalForm::kNfkc || form == NormalForm::kNfkd),
        text_(text) {}

  void Add(char32_t c) {
    if (Has(c, kInertInNormalForms)) {
      Flush();
      AppendUtf8(c, text_);
      return;
    }
    constexpr size_t kLongest = 32;  // what one character becomes
    const size_t before = characters_.size();
    characters_.resize(before + kLongest);
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(c), characters_.data() + before, kLongest,
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                       (compatible_ ? UTF8PROC_COMPAT : 0)),
        nullptr);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(kLongest)) {
      characters_.resize(before);
      characters_.push_back(static_cast<utf8proc_int32_t>(c));
      return;
    }
    characters_.resize(before + static_cast<size_t>(count));
  }

  // What was added, in order, to the text.
  void Flush() {
    OrderMarks();
    utf8proc_ssize_t count = static_cast<utf8proc_ssize_t>(characters_.size());
    if (compose_) {
      count = utf8proc_normalize_utf32(
          characters_.data(), count,
          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      AppendUtf8(static_cast<char32_t>(characters_[i]), text_);
    }
    characters_.clear();
  }

 private:
  static int Class(utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  }

  void OrderMarks() {
    for (auto at = characters_.begin(); at != characters_.end();) {
      if (Class(*at) == 0) {
        ++at;
        continue;
      }
      const auto end =
          std::find_if(at, characters_.end(),
                       [](utf8proc_int32_t c) { return Class(c) == 0; });
      if (end - at > 1) {
        std::stable_sort(at, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
          return Class(a) < Class(b);
        });
      }
      at = end;
    }
  }

  const bool compose_;
  const bool compatible_;
  std::string& text_;
  std::vector<utf8proc_int32_t> characters_;
};

}  // namespace

bool IsNumber(char32_t c) { return Has(c, kNumber); }
bool IsPunctuation(char32_t c) { return Has(c, kPunctuation); }
bool IsMark(char32_t c) { return Has(c, kMark); }
bool IsNonspacingMark(char32_t c) { return Has(c, kNonspacingMark); }
bool IsControl(char32_t c) { return Has(c, kControl); }

void AppendUtf8(char32_t c, std::string& text) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  text.append(reinterpret_cast<const char*>(bytes),
              static_cast<size_t>(length));
}

void AppendLowerCase(char32_t c, std::string& text) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    return;
  }
  if (c == 0x130) {  // the only one whose lower case has two characters
    text += "i\u0307";
    return;
  }
  const CasePair* const end = std::end(kReferenceLowers);
  const CasePair* const found = std::lower_bound(
      std::begin(kReferenceLowers), end, c,
      [](const CasePair& pair, char32_t value) { return pair.upper < value; });
  if (found != end && found->upper == c) {
    AppendUtf8(found->lower, text);
    return;
  }
  AppendUtf8(
      static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))),
      text);
}

std::string Normalized(std::string_view text, NormalForm form) {
  std::string result;
  result.reserve(text.size());
  Normalization normalization(form, result);
  const auto is_ascii = [](char c) { return static_cast<uint8_t>(c) < 0x80; };
  size_t at = 0;
  while (at < text.size()) {
    // ASCII stays as it is, but for the last one of a run, which may be
    // composed with marks behind it.
    const auto foreign = std::find_if_not(
        text.begin() + static_cast<int64_t>(at), text.end(), is_ascii);
    const size_t end_of_ascii = static_cast<size_t>(foreign - text.begin());
    if (foreign == text.end()) {
      result += text.substr(at);
      break;
    }
    if (end_of_ascii > at) {
      result += text.substr(at, end_of_ascii - at - 1);
      normalization.Add(static_cast<char32_t>(text[end_of_ascii - 1]));
    }
    at = end_of_ascii;
    while (at < text.size() && !is_ascii(text[at])) {
      const Utf8Sequence c = FirstUtf8Sequence(text.substr(at));
      normalization.Add(c.code_point);
      at += c.length;
    }
    normalization.Flush();
  }
  return result;
}

size_t GraphemeBytes(std::string_view text) {
  Utf8Sequence c = FirstUtf8Sequence(text);
  size_t length = c.length;
  utf8proc_int32_t state = 0;
  while (length < text.size()) {
    const Utf8Sequence next = FirstUtf8Sequence(text.substr(length));
    if (utf8proc_grapheme_break_stateful(
            static_cast<utf8proc_int32_t>(c.code_point),
            static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    length += next.length;
    c = next;
  }
  return length;
}

}  // namespace ounce::model
