// Patterns over names of modules and tensors.
#ifndef OUNCE_MODEL_LOADER_GLOB_H_
#define OUNCE_MODEL_LOADER_GLOB_H_

#include <string_view>

#include "absl/status/status.h"

namespace ounce::model {

// The whole name, with the wildcards of fnmatch(3):
//   *      any run of characters, dots too
//   ?      any one character
//   [0-2]  one of these; [!0-2] or [^0-2] one that is not. A ']' that comes
//          first stands for itself.
// The rest is literal; nothing escapes. Takes time in proportion to the product
// of the lengths at most. A glob that CheckGlob refuses matches nothing, or
// what its characters before the fault allow.
bool GlobMatches(std::string_view glob, std::string_view name);

// kInvalidArgument for a '[' that is never closed, and for a range whose ends
// are the wrong way round, which could match nothing.
absl::Status CheckGlob(std::string_view glob);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_GLOB_H_
