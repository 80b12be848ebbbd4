// The local cache of the Hugging Face hub, read only.
//
//   <cache>/models--ORG--NAME/refs/REVISION         text: a commit
//   <cache>/models--ORG--NAME/snapshots/COMMIT/...  the files, links to blobs
//
// <cache> is $HF_HUB_CACHE, else $HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub,
// else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; a ~ in
// front and $VARIABLE or ${VARIABLE} anywhere in it are replaced. Source:
// huggingface_hub, constants.py and file_download.py.
#ifndef OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_
#define OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ounce::model {

// The folder that `location` means: itself if it is a folder or a GGUF file,
// else the snapshot of `org/name[@revision]` (revision: a branch or tag, `main`
// if absent, or a commit of 40 digits; `org/` is absent for a few old models).
// Errors: kNotFound, naming what was looked for, and for a model the command
// that fills the cache; kInvalidArgument for a malformed cache, and for a file,
// saying what it is.
absl::StatusOr<std::string> FindModelFolder(std::string_view location);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_HUB_CACHE_H_
