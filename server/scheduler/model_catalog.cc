#include "server/scheduler/model_catalog.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/name.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

bool IsModelName(std::string_view name) { return IsName(name); }

const char* LoadStageName(LoadStage stage) {
  switch (stage) {
    case LoadStage::kReading:
      return "reading";
    case LoadStage::kPacking:
      return "packing";
    case LoadStage::kPublishing:
      return "publishing";
  }
  return "";
}

const char* QuantizeStageName(QuantizeStage stage) {
  switch (stage) {
    case QuantizeStage::kReading:
      return "reading";
    case QuantizeStage::kWaiting:
      return "waiting";
    case QuantizeStage::kQuantizing:
      return "quantizing";
    case QuantizeStage::kEvaluating:
      return "evaluating";
    case QuantizeStage::kSwapping:
      return "swapping";
  }
  return "";
}

namespace {

struct TaskWords {
  Task task;
  const char* does;      // with its RPC
  const char* does_not;  // after "does not"
};
constexpr TaskWords kTaskWords[] = {
    {Task::kGenerate, "generates text (Generate)", "generate text"},
    {Task::kDetectObjects, "detects objects (DetectObjects)", "detect objects"},
};

}  // namespace

absl::Status CheckTask(const ModelInfo& info, Task task) {
  const auto can = [&](Task other) {
    return std::find(info.tasks.begin(), info.tasks.end(), other) !=
           info.tasks.end();
  };
  if (can(task)) return absl::OkStatus();
  std::string message = absl::StrCat("model '", info.name, "' ");
  for (const TaskWords& words : kTaskWords) {
    if (can(words.task)) absl::StrAppend(&message, words.does, " and ");
  }
  for (const TaskWords& words : kTaskWords) {
    if (words.task == task) {
      absl::StrAppend(&message, "does not ", words.does_not);
    }
  }
  return AboutModel(Refusal(Reason::kTaskNotSupported, message), info.name);
}

}  // namespace ounce::server
