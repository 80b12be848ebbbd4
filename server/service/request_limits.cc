#include "server/service/request_limits.h"

#include "model/loader/method_plan.h"

namespace ounce::server {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr int kObjects = 262'144;
// Of the Open Inference Protocol: tensors of a request, its parameters and
// theirs, and numbers, of which no tensor is made.
constexpr int kTensors = 16;
constexpr int kParameters = 64;
constexpr int kNumbers = 65'536;

// Names (`model`, `name`, `as`) need no row: what is longer than the default
// is no name.
constexpr FieldLimit kFields[] = {
    {"GenerateRequest.prompt", 1, kMaxPromptBytes},
    {"GenerateRequest.stop", kMaxStops, kMaxStopBytes},
    {"TokenIds.ids", 65'536},
    {"TokenizeRequest.text", 1, kMiB},
    {"DetokenizeRequest.token_ids", 65'536},
    {"DetectObjectsRequest.image", 1, 0},
    {"LoadModelRequest.path", 1, 4096},
    {"LoadModelRequest.method", 1, 1024},
    {"LoadModelRequest.plan", 1, model::kMaxPlanBytes},
    {"QuantizeRequest.method", 1, 1024},
    {"QuantizeRequest.include", 1024, 256},
    {"QuantizeRequest.exclude", 1024, 256},
    {"QuantizeRequest.plan", 1, model::kMaxPlanBytes},
    {"QuantizeRequest.pictures", 64, 0},
    {"QuantizeRequest.texts", 64, 4 * kMiB},
    {"EvaluateRequest.text", 1, 4 * kMiB},
    {"EvaluateRequest.pictures", 8192, 0},
    {"EvaluateRequest.objects", kObjects, 0},
    {"AnnotatedObject.picture", kObjects},
    {"AnnotatedObject.label", kObjects},
    {"AnnotatedObject.x", kObjects},
    {"AnnotatedObject.y", kObjects},
    {"AnnotatedObject.width", kObjects},
    {"AnnotatedObject.height", kObjects},
    {"AnnotatedObject.area", kObjects},
    {"AnnotatedObject.crowd", kObjects},
    {"EvaluateRequest.text_name", 1, 256},
    {"SaveModelRequest.folder", 1, 4096},
    {"InspectRequest.path", 1, 4096},
    {"InspectRequest.plan", 1, model::kMaxPlanBytes},
    {"InspectRequest.tensor", 1, 4096},
    {"InspectRequest.method", 1, 1024},
    {"ModelInferRequest.parameters", kParameters},
    {"ModelInferRequest.ParametersEntry.key", kParameters},
    {"ModelInferRequest.ParametersEntry.value", kParameters},
    {"ModelInferRequest.inputs", kTensors},
    {"ModelInferRequest.InferInputTensor.shape", 4 * kTensors},
    {"ModelInferRequest.InferInputTensor.parameters", kParameters},
    {"ModelInferRequest.InferInputTensor.ParametersEntry.key", kParameters},
    {"ModelInferRequest.InferInputTensor.ParametersEntry.value", kParameters},
    {"ModelInferRequest.outputs", kTensors},
    {"ModelInferRequest.InferRequestedOutputTensor.parameters", kParameters},
    {"ModelInferRequest.InferRequestedOutputTensor.ParametersEntry.key",
     kParameters},
    {"ModelInferRequest.InferRequestedOutputTensor.ParametersEntry.value",
     kParameters},
    {"ModelInferRequest.raw_input_contents", kTensors, 0},
    {"InferParameter.bool_param", 3 * kParameters},
    {"InferParameter.int64_param", 3 * kParameters},
    {"InferParameter.string_param", 3 * kParameters},
    {"InferParameter.double_param", 3 * kParameters},
    {"InferParameter.uint64_param", 3 * kParameters},
    {"InferTensorContents.bool_contents", kNumbers},
    {"InferTensorContents.int_contents", kNumbers},
    {"InferTensorContents.int64_contents", kNumbers},
    {"InferTensorContents.uint_contents", kNumbers},
    {"InferTensorContents.uint64_contents", kNumbers},
    {"InferTensorContents.fp32_contents", kNumbers},
    {"InferTensorContents.fp64_contents", kNumbers},
    {"InferTensorContents.bytes_contents", kTensors, 0},
    {"RepositoryModelLoadRequest.parameters", kTensors},
    {"RepositoryModelUnloadRequest.parameters", kTensors},
    {"ModelRepositoryParameter.string_param", 1, model::kMaxPlanBytes},
};

constexpr MessageLimit kMessages[] = {
    {"GenerateRequest", 2 * kMiB},  {"TokenizeRequest", 2 * kMiB},
    {"DetokenizeRequest", kMiB},    {"DetectObjectsRequest", 0},
    {"LoadModelRequest", 2 * kMiB}, {"QuantizeRequest", 0},
    {"EvaluateRequest", 0},         {"InspectRequest", 2 * kMiB},
    {"ModelInferRequest", 0},       {"RepositoryModelLoadRequest", 2 * kMiB},
};

// "GenerateRequest.stop" of "ounce.v1.GenerateRequest.stop".
std::string_view WithoutPackage(std::string_view full_name,
                                std::string_view package) {
  return full_name.substr(package.empty() ? 0 : package.size() + 1);
}

}  // namespace

absl::Span<const FieldLimit> FieldLimits() { return kFields; }

FieldLimit LimitOf(const google::protobuf::FieldDescriptor& field) {
  const std::string_view name =
      WithoutPackage(field.full_name(), field.file()->package());
  for (const FieldLimit& limit : kFields) {
    if (limit.field == name) return limit;
  }
  FieldLimit limit;
  limit.field = name;
  if (field.is_repeated()) limit.max_elements = 0;
  return limit;
}

size_t MaxBytesOf(const google::protobuf::Descriptor& message) {
  const std::string_view name =
      WithoutPackage(message.full_name(), message.file()->package());
  for (const MessageLimit& limit : kMessages) {
    if (limit.message == name) return limit.max_bytes;
  }
  return MessageLimit().max_bytes;
}

}  // namespace ounce::server
