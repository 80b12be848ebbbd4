// Text for people to paste into a shell.
#ifndef OUNCE_BASE_SHELL_QUOTED_H_
#define OUNCE_BASE_SHELL_QUOTED_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace ounce {

// `argument` as one word, whatever is in it.
inline std::string ShellQuoted(absl::string_view argument) {
  return absl::StrCat("'", absl::StrReplaceAll(argument, {{"'", "'\\''"}}),
                      "'");
}

}  // namespace ounce

#endif  // OUNCE_BASE_SHELL_QUOTED_H_
