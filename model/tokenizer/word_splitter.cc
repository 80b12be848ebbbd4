#include "model/tokenizer/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/tokenizer/onig_pattern.h"
#include "model/tokenizer/onig_set.h"
#include "model/tokenizer/utf8.h"

namespace ounce::model {
namespace {

// The pattern as the reference has it.
constexpr char kWords[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Where a match was found; its own for each call, so that threads share none.
class MatchData {
 public:
  MatchData() : data_(pcre2_match_data_create(1, nullptr)) {}
  ~MatchData() { pcre2_match_data_free(data_); }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;

  // The bytes matched at `at`, or PCRE2's error, which is negative. `code` is
  // compiled as anchored.
  int64_t MatchAt(const pcre2_code* code, std::string_view text, size_t at) {
    if (data_ == nullptr) return PCRE2_ERROR_NOMEMORY;
    const int result = Pcre2Match(code, text, at, data_, nullptr);
    if (result < 0) return result;
    return static_cast<int64_t>(pcre2_get_ovector_pointer(data_)[1] - at);
  }

 private:
  pcre2_match_data* const data_;
};

}  // namespace

absl::StatusOr<Pcre2Code> WordSplitter::Compile(std::string_view pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Pcre2Code code(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  if (code == nullptr) {
    return absl::InternalError(StrCat("PCRE2 refuses the word pattern at byte ",
                                      offset, ": ", Pcre2ErrorText(error)));
  }
  // Where there is no JIT, PCRE2 interprets: slower, the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

absl::StatusOr<std::unique_ptr<const WordSplitter>> WordSplitter::Create() {
  ASSIGN_OR_RETURN(const std::string pattern, FromOnigPattern(kWords));
  ASSIGN_OR_RETURN(Pcre2Code words, Compile(pattern));
  ASSIGN_OR_RETURN(Pcre2Code word_character,
                   Compile(StrCat("[", RustWordCharacters(), "]")));
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
                 " of the text: ", Pcre2ErrorText(static_cast<int>(length)));
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
