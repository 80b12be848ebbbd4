#include "server/scheduler/model_catalog.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace ounce::server {

bool IsModelName(std::string_view name) {
  constexpr size_t kMaxBytes = 64;
  return !name.empty() && name.size() <= kMaxBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '-';
         });
}

absl::Status CheckTask(const ModelInfo& info, Task task) {
  if (std::find(info.tasks.begin(), info.tasks.end(), task) !=
      info.tasks.end()) {
    return absl::OkStatus();
  }
  const bool wants_text = task == Task::kGenerate;
  return absl::FailedPreconditionError(absl::StrCat(
      "model '", info.name, "' ",
      wants_text ? "detects objects (DetectObjects) and does not generate text"
                 : "generates text (Generate) and does not detect objects"));
}

}  // namespace ounce::server
