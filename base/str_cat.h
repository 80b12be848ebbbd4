// absl::StrCat and absl::StrAppend that take std::string_view too.
//
// Debian's Abseil is built with a string_view class of its own, which does not
// convert from the standard one.
#ifndef OUNCE_BASE_STR_CAT_H_
#define OUNCE_BASE_STR_CAT_H_

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ounce {

inline absl::string_view ToAbsl(std::string_view text) {
  return absl::string_view(text.data(), text.size());
}
inline std::string_view FromAbsl(absl::string_view text) {
  return std::string_view(text.data(), text.size());
}

namespace internal {

template <class T>
decltype(auto) ForAbsl(const T& piece) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return ToAbsl(piece);
  } else {
    return (piece);
  }
}

}  // namespace internal

template <class... Pieces>
std::string StrCat(const Pieces&... pieces) {
  return absl::StrCat(internal::ForAbsl(pieces)...);
}

template <class... Pieces>
void StrAppend(std::string* to, const Pieces&... pieces) {
  absl::StrAppend(to, internal::ForAbsl(pieces)...);
}

}  // namespace ounce

#endif  // OUNCE_BASE_STR_CAT_H_
