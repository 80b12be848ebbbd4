#include "model/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/onig_pattern.h"
#include "model/tokenizer/onig_tree.h"

namespace ounce::model {
namespace {

// What searches may take. One that takes few steps is free, as a pattern that
// looks at each character a few times needs; others share what there is for a
// call. A pattern that tries all ways to match needs more for 40 characters,
// and one that looks at the whole rest at each match more for a long text.
constexpr uint32_t kFreeSteps = 4096;
// So few at first, because one step may compare as much as half of the text.
constexpr uint32_t kFirstSteps = 64;
constexpr uint32_t kStepsPerByte = 16;
// Published patterns take a thirtieth of it.
constexpr absl::Duration kTimePerByte = absl::Microseconds(1);
constexpr uint32_t kMaxHeapKib = 256 << 10;

// The clock is looked at about so often.
constexpr absl::Duration kLap = absl::Milliseconds(2);

absl::Duration CpuTimeOfThread() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

// Where a match was found; its own for each call, so that threads share none.
class Search {
 public:
  explicit Search(RegexBudget& budget)
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        budget_(budget),
        lap_start_(CpuTimeOfThread()) {
    if (context_ == nullptr) return;
    pcre2_set_match_limit(context_, kFirstSteps);
    pcre2_set_heap_limit(context_, kMaxHeapKib);
  }
  ~Search() {
    EndLap();
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
  }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // 1 if there is a match at `at` or behind, 0 if not; else PCRE2's error.
  int Find(const pcre2_code* code, std::string_view text, size_t at) {
    if (data_ == nullptr || context_ == nullptr) return PCRE2_ERROR_NOMEMORY;
    // In stretches of places where a match may begin, so that a clock can be
    // looked at between.
    for (;;) {
      if (places_left_ <= 0 && !EndLap()) return PCRE2_ERROR_MATCHLIMIT;
      size_t end =
          std::min(text.size(), at + static_cast<size_t>(places_left_));
      while (end < text.size() && IsUtf8Continuation(text[end])) ++end;
      const bool is_last = end == text.size();
      pcre2_set_offset_limit(context_, is_last ? PCRE2_UNSET : end - 1);
      const int result = FindWithin(code, text, at);
      const size_t reached = result > 0 ? std::max(at, begin()) : end;
      places_left_ -= static_cast<int64_t>(reached - at) + 1;
      if (result != 0 || is_last) return result;
      at = end;
    }
  }
  size_t begin() const { return pcre2_get_ovector_pointer(data_)[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(data_)[1]; }

 private:
  static bool IsUtf8Continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
  }

  int FindWithin(const pcre2_code* code, std::string_view text, size_t at) {
    int result = Pcre2Match(code, text, at, data_, context_);
    if (result == PCRE2_ERROR_MATCHLIMIT) {
      // Again with more and more, so that what is taken is known roughly: as
      // long as the next try, which takes that many times longer, has the time.
      constexpr int kGrowth = 8;
      uint64_t steps = kFirstSteps;
      while (result == PCRE2_ERROR_MATCHLIMIT &&
             (steps < kFreeSteps || budget_.TakeSteps(steps))) {
        const absl::Duration before = budget_.time_left();
        if (!EndLap() ||
            budget_.time_left() < kGrowth * (before - budget_.time_left())) {
          break;
        }
        steps *= kGrowth;
        pcre2_set_match_limit(
            context_,
            static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
        result = Pcre2Match(code, text, at, data_, context_);
      }
      pcre2_set_match_limit(context_, kFirstSteps);
    }
    if (result == PCRE2_ERROR_NOMATCH) return 0;
    return result < 0 ? result : 1;
  }

  // Looks at the clock; false if the time is spent. The next lap has as many
  // places as will take about kLap, by what those of this one took.
  bool EndLap() {
    const absl::Duration now = CpuTimeOfThread();
    const absl::Duration taken = now - lap_start_;
    lap_start_ = now;
    if (taken > kLap) {
      places_in_lap_ = std::max<int64_t>(1, places_in_lap_ / 8);
    } else {
      places_in_lap_ = std::min<int64_t>(1 << 16, places_in_lap_ * 2);
    }
    places_left_ = places_in_lap_;
    return budget_.TakeTime(taken);
  }

  pcre2_match_data* const data_;
  pcre2_match_context* const context_;
  RegexBudget& budget_;
  absl::Duration lap_start_;
  int64_t places_in_lap_ = 64;
  int64_t places_left_ = 64;
};

}  // namespace

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  pcre2_compile_context* const context = pcre2_compile_context_create(nullptr);
  if (context == nullptr) {
    return absl::ResourceExhaustedError("no memory for a regular expression");
  }
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // By its short ways PCRE2 10.42 misses matches: those to a beginning that of
  // (?=a)b?a in "a", and of (?:b|)b*[ab] in "bc"; those past what a repeat
  // might give back, that of x*(?:ab)?+x in "xb".
  Pcre2Code code(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
          PCRE2_NO_START_OPTIMIZE | PCRE2_NO_AUTO_POSSESS |
          PCRE2_USE_OFFSET_LIMIT,
      &error, &offset, context));
  pcre2_compile_context_free(context);
  if (error == PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH) {
    return RefusePattern("a look-behind of varying length");
  }
  if (error == PCRE2_ERROR_PATTERN_TOO_LARGE) {
    return RefusePattern("so long a pattern");
  }
  if (error == PCRE2_ERROR_BACKSLASH_K_IN_LOOKAROUND) {
    return RefusePattern("'\\\\K' in a look-around");
  }
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        StrCat("PCRE2 refuses the regular expression: ", Pcre2ErrorText(error),
               " at byte ", offset, " of ", Quoted(pattern)));
  }
  // Where there is no JIT, PCRE2 interprets: slower, the same matches. The
  // JIT's code does not count what it goes back for a reference.
  uint32_t references = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_BACKREFMAX, &references);
  if (references == 0) pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

absl::StatusOr<Regex> Regex::CompileOnig(std::string_view pattern) {
  ASSIGN_OR_RETURN(const std::string translated, FromOnigPattern(pattern));
  return Compile(translated);
}

void RegexBudget::AddText(size_t bytes) {
  steps_left_ += uint64_t{kStepsPerByte} * bytes;
  time_left_ += static_cast<int64_t>(bytes) * kTimePerByte;
}

bool RegexBudget::TakeSteps(uint64_t steps) {
  if (steps > steps_left_) return false;
  steps_left_ -= steps;
  return true;
}

bool RegexBudget::TakeTime(absl::Duration cpu) {
  time_left_ -= cpu;
  return time_left_ > absl::ZeroDuration();
}

absl::Status Regex::ForEachMatch(
    std::string_view text,
    absl::FunctionRef<absl::Status(size_t, size_t)> match) const {
  RegexBudget budget;
  return ForEachMatch(text, budget, match);
}

absl::Status Regex::ForEachMatch(
    std::string_view text, RegexBudget& budget,
    absl::FunctionRef<absl::Status(size_t, size_t)> match) const {
  budget.AddText(text.size());
  Search search(budget);
  size_t at = 0;
  bool any = false;
  size_t last_end = 0;
  while (at <= text.size()) {
    const int found = search.Find(code_.get(), text, at);
    if (found == 0) return absl::OkStatus();
    if (found < 0) {
      return absl::ResourceExhaustedError(
          StrCat("the tokenizer's regular expression failed at byte ", at,
                 " of the text: ", Pcre2ErrorText(found)));
    }
    const size_t begin = search.begin();
    const size_t end = search.end();
    if (begin == end && any && end == last_end) {
      at = end < text.size() ? end + FirstUtf8Sequence(text.substr(end)).length
                             : end + 1;
      continue;
    }
    any = true;
    at = end;
    last_end = end;
    RETURN_IF_ERROR(match(begin, end));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
