// Any pattern in Oniguruma's syntax, translated and matched on any text.
//
// The input is the pattern, a zero byte, the text.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "model/tokenizer/regex.h"
#include "model/tokenizer/utf8.h"

namespace {

// Both come out of JSON, which is valid UTF-8.
std::string Mended(std::string_view bytes) {
  std::string text;
  ounce::model::LossyUtf8 mended;
  mended.Push(bytes, text);
  mended.Finish(text);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string pattern = Mended(input.substr(0, zero));
  const std::string text =
      Mended(zero == input.npos ? std::string_view() : input.substr(zero + 1));
  const auto regex = ounce::model::Regex::CompileOnig(pattern);
  if (!regex.ok()) return 0;
  size_t last = 0;
  const absl::Status status =
      regex->ForEachMatch(text, [&](size_t begin, size_t end) {
        OUNCE_CHECK(begin >= last && end >= begin && end <= text.size(),
                    "a match is out of order");
        const std::string_view match =
            std::string_view(text).substr(begin, end - begin);
        OUNCE_CHECK(ounce::ValidUtf8Prefix(match) == match.size(),
                    "a match ends within a character");
        last = end;
        return absl::OkStatus();
      });
  OUNCE_CHECK(status.ok() || absl::IsResourceExhausted(status),
              "a search fails by its limits only");
  return 0;
}
