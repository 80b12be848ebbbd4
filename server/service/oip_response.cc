#include "server/service/oip_response.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/service/oip_tensors.h"

namespace ounce::server {
namespace {

// Adds the tensors that are wanted, in the form that is.
class Response {
 public:
  Response(const OipAnswer& answer, int64_t version, const std::string& method)
      : answer_(answer) {
    response_.set_model_name(answer.model);
    if (version > 0) response_.set_model_version(absl::StrCat(version));
    response_.set_id(answer.id);
    if (!method.empty()) Parameter("method").set_string_param(method);
  }

  inference::InferParameter& Parameter(const std::string& name) {
    return (*response_.mutable_parameters())[name];
  }

  void Bytes(const char* name, std::vector<std::string> values) {
    auto* const tensor =
        Add(name, "BYTES", {static_cast<int64_t>(values.size())});
    if (tensor == nullptr) return;
    std::string raw;
    for (std::string& value : values) {
      if (answer_.raw) {
        AppendLength(value.size(), &raw);
        raw += value;
      } else {
        *tensor->mutable_contents()->add_bytes_contents() = std::move(value);
      }
    }
    if (answer_.raw) response_.add_raw_output_contents(std::move(raw));
  }

  void Floats(const char* name, const std::vector<int64_t>& shape,
              const std::vector<float>& values) {
    auto* const tensor = Add(name, "FP32", shape);
    if (tensor == nullptr) return;
    if (answer_.raw) {
      AddRaw(values);
    } else {
      tensor->mutable_contents()->mutable_fp32_contents()->Add(values.begin(),
                                                               values.end());
    }
  }

  void Count(const char* name, int64_t value) {
    auto* const tensor = Add(name, "UINT32", {1});
    if (tensor == nullptr) return;
    const auto count = static_cast<uint32_t>(value);
    if (answer_.raw) {
      AddRaw(std::vector<uint32_t>{count});
    } else {
      tensor->mutable_contents()->add_uint_contents(count);
    }
  }

  inference::ModelInferResponse Take() { return std::move(response_); }

 private:
  inference::ModelInferResponse::InferOutputTensor* Add(
      const char* name, const char* datatype,
      const std::vector<int64_t>& shape) {
    if (!answer_.outputs.empty() && !answer_.outputs.contains(name)) {
      return nullptr;
    }
    auto* const tensor = response_.add_outputs();
    tensor->set_name(name);
    tensor->set_datatype(datatype);
    tensor->mutable_shape()->Add(shape.begin(), shape.end());
    return tensor;
  }

  // The lowest byte first, as x86 has it.
  template <class T>
  void AddRaw(const std::vector<T>& values) {
    response_.add_raw_output_contents(values.data(), values.size() * sizeof(T));
  }

  const OipAnswer& answer_;
  inference::ModelInferResponse response_;
};

}  // namespace

inference::ModelInferResponse OipText(const OipAnswer& answer, std::string text,
                                      const GenerateOutcome* outcome) {
  if (outcome == nullptr) {
    Response response(answer, 0, "");
    response.Bytes("text_output", {std::move(text)});
    return response.Take();
  }
  const GenerateResult& result = outcome->result;
  Response response(answer, result.model_version, result.method);
  if (outcome->sampling.temperature > 0) {
    response.Parameter("seed").set_string_param(
        absl::StrCat(outcome->sampling.seed));
  }
  response.Bytes("text_output", {std::move(text)});
  response.Bytes("finish_reason",
                 {result.reason == FinishReason::kLength ? "length" : "stop"});
  response.Count("num_input_tokens", result.prompt_tokens);
  response.Count("num_output_tokens", result.new_tokens);
  response.Count("num_cached_tokens", result.cached_tokens);
  return response.Take();
}

inference::ModelInferResponse OipObjects(const OipAnswer& answer,
                                         const DetectResult& result) {
  std::vector<float> boxes;
  std::vector<std::string> labels;
  std::vector<float> scores;
  for (const DetectedObject& object : result.objects) {
    boxes.insert(boxes.end(),
                 {object.x_min, object.y_min, object.x_max, object.y_max});
    labels.push_back(object.label);
    scores.push_back(object.score);
  }
  const auto count = static_cast<int64_t>(scores.size());
  Response response(answer, result.model_version, result.method);
  response.Floats("boxes", {count, 4}, boxes);
  response.Bytes("labels", std::move(labels));
  response.Floats("scores", {count}, scores);
  return response.Take();
}

}  // namespace ounce::server
