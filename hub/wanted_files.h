// Which of a repository's files are needed to serve the model.
#ifndef OUNCE_HUB_WANTED_FILES_H_
#define OUNCE_HUB_WANTED_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::hub {

// Of `paths`, as the hub lists them: configs, the tokenizer, chat templates;
// then model.safetensors, in one piece or several, else other .safetensors
// files, else pytorch_model.bin; and what a pattern of `include` fits ('*' and
// '?' stand for any characters, '/' too). If that brings weights along (.gguf
// included), no others are wanted. Paths that are not safe (files.h) are never.
// Errors: kFailedPrecondition where there are no weights, saying what there is;
// kNotFound for a pattern that fits nothing.
absl::StatusOr<std::vector<std::string>> WantedFiles(
    const std::vector<std::string>& paths,
    const std::vector<std::string>& include);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_WANTED_FILES_H_
