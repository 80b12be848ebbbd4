// Where a model lies that somebody names: a folder, a file, or what is in the
// Hugging Face hub's local cache (hub/cache_layout.h), which is only read.
#ifndef OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_
#define OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ounce::model {

// The folder that `location` means: itself if it is a folder or a GGUF file,
// else the snapshot of `org/name[@revision]` (revision: a branch or tag, `main`
// if absent, or a commit of 40 digits; `org/` is absent for a few old models).
// Errors: kNotFound, naming what was looked for, and for a model the commands
// that fill the cache; kInvalidArgument for a malformed cache, and for a file,
// saying what it is.
absl::StatusOr<std::string> FindModelFolder(std::string_view location);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_
