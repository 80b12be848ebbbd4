#include "server/engine/served_task.h"

#include "absl/strings/str_cat.h"
#include "server/engine/served_causal_lm.h"
#include "server/engine/served_detector.h"

namespace ounce::server {
namespace {

// A task: which models do it, what they are read with, and what that takes;
// null: next to nothing.
struct TaskRow {
  bool (*is_done_by)(const model::Model& model);
  absl::StatusOr<std::shared_ptr<ServedTask>> (*read)(
      const model::Model& model, const std::string& folder);
  MemoryNeed (*need_to_read)(const std::string& folder);
};
constexpr TaskRow kTasks[] = {
    {[](const model::Model& model) { return model.causal_lm() != nullptr; },
     ReadTextGeneration, NeedToReadTextGeneration},
    {[](const model::Model& model) { return model.detector() != nullptr; },
     ReadObjectDetection, nullptr},
};

}  // namespace

model::KvShape KvShapeOf(const EngineContext& context,
                         const model::CausalLm& model) {
  const model::KvType computed = model.compute() == quant::Compute::kBFloat16
                                     ? model::KvType::kBFloat16
                                     : model::KvType::kFloat32;
  model::KvShape shape = model.shape().kv;
  shape.type = context.options.kv_type.value_or(computed);
  return shape;
}

absl::StatusOr<std::vector<Detections>> ServedTask::Detect(
    const EngineContext& /*context*/,
    // Overrides keep it. NOLINTNEXTLINE(performance-unnecessary-value-param)
    std::shared_ptr<const model::Model> /*model*/,
    // NOLINTNEXTLINE(performance-unnecessary-value-param)
    std::string /*method*/,
    absl::Span<const std::shared_ptr<const Picture>> /*pictures*/,
    const std::function<absl::Status()>& /*proceed*/,
    model::LinearObserver* /*observer*/) const {
  return absl::FailedPreconditionError("the model does not detect objects");
}

MemoryNeed NeedToReadTask(const model::Model& model,
                          const std::string& folder) {
  for (const TaskRow& row : kTasks) {
    if (row.is_done_by(model) && row.need_to_read != nullptr) {
      return row.need_to_read(folder);
    }
  }
  return {};
}

absl::StatusOr<std::shared_ptr<ServedTask>> ReadServedTask(
    const model::Model& model, const std::string& folder) {
  for (const TaskRow& row : kTasks) {
    if (row.is_done_by(model)) return row.read(model, folder);
  }
  return absl::UnimplementedError(absl::StrCat(
      "architecture ", std::string(model.architecture()),
      " neither generates text nor detects objects, and nothing else is "
      "served"));
}

}  // namespace ounce::server
