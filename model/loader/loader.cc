#include "model/loader/loader.h"

#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/thread_pool.h"
#include "model/loader/counting.h"
#include "model/loader/method_policy.h"
#include "model/loader/weight_loader.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

using quant::Compute;

// Reads weights, packing them on `pool`, if there is one; else looks at names
// and shapes alone.
absl::StatusOr<ModelPlan> Walk(const Checkpoint& checkpoint,
                               const Architecture& architecture,
                               const LoadOptions& options, MethodPolicy& policy,
                               ThreadPool* pool) {
  WeightLoader loader(checkpoint, options, policy, pool);
  const Compute compute = options.compute.value_or(
      architecture.auto_is_faster ? quant::FasterCompute() : Compute::kFloat32);
  if (compute == Compute::kBFloat16) loader.KeepFloatsAsBFloat16();
  ASSIGN_OR_RETURN(std::unique_ptr<const Model> model,
                   architecture.create(checkpoint, compute, loader));
  ASSIGN_OR_RETURN(LoadReport report, std::move(loader).Finish());
  report.AddTables(model->table_bytes());
  return ModelPlan{std::move(report), std::move(model)};
}

// The plan as far as it is used; afterwards `policy` knows all names.
absl::StatusOr<MethodPlan> JudgePlan(const Checkpoint& checkpoint,
                                     const Architecture& architecture,
                                     const LoadOptions& options,
                                     MethodPolicy& policy) {
  RETURN_IF_ERROR(
      Walk(checkpoint, architecture, options, policy, nullptr).status());
  return policy.Judge();
}

// What a report has that only the last walk's needs.
void CompleteReport(const MethodPlan& used, ModelPlan* walked) {
  LoadReport& report = walked->report;
  report.plan = used.ToString();
  if (!used.keeps_all()) report.method = used.Label();
  std::vector<CountedTensor> counted;
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.counted.has_value()) counted.push_back(*tensor.counted);
  }
  report.footprints = CountFootprints(counted, walked->outline->mask_buffers());
}

absl::StatusOr<const Architecture*> FindServedArchitecture(
    const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindArchitecture(checkpoint));
  const auto code = checkpoint.config().find("auto_map");
  if (!architecture->takes_published_code &&
      code != checkpoint.config().end() && code->is_object()) {
    for (const auto& [name, where] : code->items()) {
      if (!name.starts_with("AutoModel")) continue;
      return absl::UnimplementedError(StrCat(
          checkpoint.folder(), "/config.json: 'auto_map' says that ", name,
          " is code of the checkpoint's own, as codegen2 has it; "
          "only the networks of transformers itself are supported"));
    }
  }
  return architecture;
}

}  // namespace

void LoadReport::AddTables(int64_t bytes) {
  if (bytes == 0) return;
  table_bytes += bytes;
  resident_bytes += bytes;
  resident_bytes_by_element[std::string(quant::Name(quant::DType::kF32))] +=
      bytes;
}

absl::StatusOr<ModelPlan> PlanModel(const Checkpoint& checkpoint,
                                    const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindServedArchitecture(checkpoint));
  MethodPolicy policy(options.plan);
  ASSIGN_OR_RETURN(const MethodPlan used,
                   JudgePlan(checkpoint, *architecture, options, policy));
  ASSIGN_OR_RETURN(ModelPlan planned,
                   Walk(checkpoint, *architecture, options, policy, nullptr));
  CompleteReport(used, &planned);
  return planned;
}

absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint,
                                      const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindServedArchitecture(checkpoint));
  MethodPolicy policy(options.plan);
  ASSIGN_OR_RETURN(const MethodPlan used,
                   JudgePlan(checkpoint, *architecture, options, policy));
  // What the chosen methods can't hold shows before anything is read.
  RETURN_IF_ERROR(
      Walk(checkpoint, *architecture, options, policy, nullptr).status());
  ThreadPool pool(options.threads);
  ASSIGN_OR_RETURN(ModelPlan loaded,
                   Walk(checkpoint, *architecture, options, policy, &pool));
  CompleteReport(used, &loaded);
  return LoadedModel{std::move(loaded.outline), std::move(loaded.report)};
}

}  // namespace ounce::model
