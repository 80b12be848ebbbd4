#include "client/footnotes.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace ounce::client {

std::string Footnotes::Mark(const std::string& note) {
  if (note.empty()) return "";
  auto found = std::find(notes_.begin(), notes_.end(), note);
  if (found == notes_.end()) found = notes_.insert(found, note);
  return absl::StrCat("[", found - notes_.begin() + 1, "]");
}

std::string Footnotes::Text() const {
  std::string text = notes_.empty() ? "" : "\n";
  for (size_t i = 0; i < notes_.size(); ++i) {
    absl::StrAppend(&text, "[", i + 1, "] ", notes_[i], "\n");
  }
  return text;
}

}  // namespace ounce::client
