#include "model/tokenizer/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/tokenizer/utf8.h"

namespace ounce::model {
namespace {

// Debian 12's PCRE2 10.42 knows Unicode 14; these are the letters, numbers and
// word characters that came with 15 and 16. A newer PCRE2 has them twice, which
// changes nothing. Found by asking both for every code point, which
// word_splitter_test.cc does again.
constexpr char kNewLetters[] =
    "\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}"
    "\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}"
    "\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}\\x{11380}-\\x{11389}"
    "\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}"
    "\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}"
    "\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}"
    "\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}"
    "\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}"
    "\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}"
    "\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}";

constexpr char kNewNumbers[] =
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}"
    "\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}"
    "\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"
    "\\x{1e5f1}-\\x{1e5fa}";

constexpr char kNewWordCharacters[] =
    "\\x{897}\\x{cf3}\\x{ece}\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}"
    "\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d40}-\\x{10d65}"
    "\\x{10d69}-\\x{10d6d}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}"
    "\\x{10efc}-\\x{10eff}\\x{1123f}-\\x{11241}\\x{11380}-\\x{11389}"
    "\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}-\\x{113c0}"
    "\\x{113c2}\\x{113c5}\\x{113c7}-\\x{113ca}\\x{113cc}-\\x{113d3}"
    "\\x{113e1}-\\x{113e2}\\x{116d0}-\\x{116e3}\\x{11bc0}-\\x{11be0}"
    "\\x{11bf0}-\\x{11bf9}\\x{11f00}-\\x{11f10}\\x{11f12}-\\x{11f3a}"
    "\\x{11f3e}-\\x{11f42}\\x{11f50}-\\x{11f5a}\\x{1342f}"
    "\\x{13440}-\\x{13455}\\x{13460}-\\x{143fa}\\x{16100}-\\x{16139}"
    "\\x{16d40}-\\x{16d6c}\\x{16d70}-\\x{16d79}\\x{18cff}\\x{1b132}"
    "\\x{1b155}\\x{1ccf0}-\\x{1ccf9}\\x{1df25}-\\x{1df2a}"
    "\\x{1e030}-\\x{1e06d}\\x{1e08f}\\x{1e4d0}-\\x{1e4f9}"
    "\\x{1e5d0}-\\x{1e5fa}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}"
    "\\x{31350}-\\x{323af}";

// White_Space. Spelled out because PCRE2's \s has U+180E, which is none since
// Unicode 6.3.
constexpr char kSpaces[] =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
    "\\x{202f}\\x{205f}\\x{3000}";

std::string WordsPattern() {
  const std::string letters = StrCat("\\p{L}", kNewLetters);
  const std::string numbers = StrCat("\\p{N}", kNewNumbers);
  return StrCat("'s|'t|'re|'ve|'m|'ll|'d| ?[", letters, "]+| ?[", numbers,
                "]+| ?[^", kSpaces, letters, numbers, "]+|[", kSpaces,
                "]+(?![^", kSpaces, "])|[", kSpaces, "]+");
}

std::string WordCharacterPattern() {
  return StrCat("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}",
                kNewWordCharacters, "]");
}

std::string ErrorText(int error) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// Where a match was found; its own for each call, so that threads share none.
class MatchData {
 public:
  MatchData() : data_(pcre2_match_data_create(1, nullptr)) {}
  ~MatchData() { pcre2_match_data_free(data_); }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;

  // The bytes matched at `at`, or PCRE2's error, which is negative. `code` is
  // compiled as anchored: as an option here that would turn the JIT off.
  int64_t MatchAt(const pcre2_code* code, std::string_view text, size_t at) {
    if (data_ == nullptr) return PCRE2_ERROR_NOMEMORY;
    const int result =
        pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                    text.size(), at, PCRE2_NO_UTF_CHECK, data_, nullptr);
    if (result < 0) return result;
    return static_cast<int64_t>(pcre2_get_ovector_pointer(data_)[1] - at);
  }

 private:
  pcre2_match_data* const data_;
};

}  // namespace

void WordSplitter::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

absl::StatusOr<WordSplitter::Code> WordSplitter::Compile(
    std::string_view pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  if (code == nullptr) {
    return absl::InternalError(StrCat("PCRE2 refuses the word pattern at byte ",
                                      offset, ": ", ErrorText(error)));
  }
  // Where there is no JIT, PCRE2 interprets: slower, the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

absl::StatusOr<std::unique_ptr<const WordSplitter>> WordSplitter::Create() {
  ASSIGN_OR_RETURN(Code words, Compile(WordsPattern()));
  ASSIGN_OR_RETURN(Code word_character, Compile(WordCharacterPattern()));
  return std::unique_ptr<const WordSplitter>(
      new WordSplitter(std::move(words), std::move(word_character)));
}

absl::Status WordSplitter::Split(
    std::string_view text,
    absl::FunctionRef<void(std::string_view)> word) const {
  MatchData data;
  size_t at = 0;
  while (at < text.size()) {
    const int64_t length = data.MatchAt(words_.get(), text, at);
    // Some alternative takes at least one character of any text, so what is
    // not positive is a failure of PCRE2.
    if (length <= 0) {
      const std::string message =
          StrCat("PCRE2 failed at byte ", at,
                 " of the text: ", ErrorText(static_cast<int>(length)));
      return length == PCRE2_ERROR_NOMEMORY || length == PCRE2_ERROR_HEAPLIMIT
                 ? absl::ResourceExhaustedError(message)
                 : absl::InternalError(message);
    }
    word(text.substr(at, length));
    at += length;
  }
  return absl::OkStatus();
}

bool WordSplitter::StartsWithWordCharacter(std::string_view text) const {
  return !text.empty() &&
         MatchData().MatchAt(word_character_.get(), text, 0) > 0;
}

bool WordSplitter::EndsWithWordCharacter(std::string_view text) const {
  return !text.empty() &&
         StartsWithWordCharacter(text.substr(LastCharacter(text)));
}

}  // namespace ounce::model
