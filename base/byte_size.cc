#include "base/byte_size.h"

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ounce {
namespace {

constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};

}  // namespace

absl::StatusOr<int64_t> ParseByteSize(const std::string& text) {
  const absl::Status error = absl::InvalidArgumentError(absl::StrCat(
      "must be a number of bytes such as 65536, 64KiB, 512MiB or 1.5GiB, is '",
      text, "'"));
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string number = text.substr(0, digits);
  const std::string unit =
      digits == std::string::npos ? "B" : text.substr(digits);
  char* end = nullptr;
  double bytes = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0') return error;
  for (const char* known : kUnits) {
    if (unit == known) {
      if (bytes >= std::ldexp(1.0, 63)) return error;
      return static_cast<int64_t>(bytes);
    }
    bytes *= 1024;
  }
  return error;
}

std::string FormatByteSize(int64_t bytes) {
  double value = static_cast<double>(bytes);
  int unit = 0;
  // 999.5 would be shown with four digits.
  while (std::abs(value) >= 999.5 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return absl::StrCat(bytes, " B");
  const int decimals = std::abs(value) < 9.995 ? 2 : std::abs(value) < 99.95;
  return absl::StrFormat("%.*f %s", decimals, value, kUnits[unit]);
}

}  // namespace ounce
