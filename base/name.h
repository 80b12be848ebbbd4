// Names that people give, to models and to tokens: they go into file names,
// labels, logs and command lines as they are.
#ifndef OUNCE_BASE_NAME_H_
#define OUNCE_BASE_NAME_H_

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "absl/strings/ascii.h"

namespace ounce {

// 1 to 64 letters, digits, '.', '_' and '-'.
inline bool IsName(std::string_view text) {
  constexpr size_t kMaxBytes = 64;
  return !text.empty() && text.size() <= kMaxBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '-';
         });
}

}  // namespace ounce

#endif  // OUNCE_BASE_NAME_H_
