#include "server/service/oip_request.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "model/files/json_file.h"
#include "nlohmann/json.hpp"
#include "server/scheduler/refusal.h"
#include "server/service/message_judge.h"
#include "server/service/oip_tensors.h"
#include "server/service/request_limits.h"

namespace ounce::server {
namespace {

using Message = inference::ModelInferRequest;

constexpr size_t kMaxJsonBytes = size_t{64} << 10;

constexpr char kStream[] = "stream";
constexpr char kSampling[] = "sampling_parameters";
constexpr char kExclude[] = "exclude_input_in_output";

// Of requests or tensors, without any effect here: hints for protocols whose
// responses do not say what they hold.
constexpr const char* kNoEffect[] = {"binary_data", "binary_data_output",
                                     "binary_data_size",
                                     "triton_enable_empty_final_response"};

std::string NamesOf(const std::vector<OipOutput>& outputs) {
  return absl::StrJoin(outputs, ", ", [](std::string* out, const OipOutput& o) {
    absl::StrAppend(out, o.name);
  });
}

bool HasNoEffect(const std::string& name) {
  return std::find(std::begin(kNoEffect), std::end(kNoEffect), name) !=
         std::end(kNoEffect);
}

template <class Map>
absl::Status CheckTensorParameters(const std::string& tensor,
                                   const Map& parameters) {
  for (const auto& [name, ignored] : parameters) {
    if (HasNoEffect(name)) continue;
    return FieldError(tensor, absl::StrCat("parameter '", name,
                                           "' is not known; leave it out"));
  }
  return absl::OkStatus();
}

// A parameter's value, as a message or as JSON has it.
using Value =
    std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string>;

Value ValueOf(const inference::InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam:
      return parameter.bool_param();
    case inference::InferParameter::kInt64Param:
      return parameter.int64_param();
    case inference::InferParameter::kStringParam:
      return parameter.string_param();
    case inference::InferParameter::kDoubleParam:
      return parameter.double_param();
    case inference::InferParameter::kUint64Param:
      return parameter.uint64_param();
    case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return std::monostate();
}

Value ValueOf(const nlohmann::json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned()) return json.get<uint64_t>();
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return std::monostate();
}

// Also of text: some clients have no parameters that are floats.
std::optional<double> NumberOf(const Value& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) {
    return static_cast<double>(*i);
  }
  if (const auto* u = std::get_if<uint64_t>(&value)) {
    return static_cast<double>(*u);
  }
  if (const auto* d = std::get_if<double>(&value)) return *d;
  double number;
  const auto* text = std::get_if<std::string>(&value);
  if (text != nullptr && absl::SimpleAtod(*text, &number)) return number;
  return std::nullopt;
}

template <class Int>
std::optional<Int> IntegerOf(const Value& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) {
    return std::in_range<Int>(*i) ? std::optional<Int>(static_cast<Int>(*i))
                                  : std::nullopt;
  }
  if (const auto* u = std::get_if<uint64_t>(&value)) {
    return std::in_range<Int>(*u) ? std::optional<Int>(static_cast<Int>(*u))
                                  : std::nullopt;
  }
  Int number;
  const auto* text = std::get_if<std::string>(&value);
  if (text != nullptr && absl::SimpleAtoi(*text, &number)) return number;
  return std::nullopt;
}

// Sets what a parameter is for.
class Parameters {
 public:
  explicit Parameters(OipRequest& out)
      : out_(out), text_(std::get_if<GenerateRequest>(&out.request)) {}

  absl::Status Set(const std::string& name, const Value& value) {
    if (HasNoEffect(name)) return absl::OkStatus();
    if (name == "timeout") return Timeout(name, value);
    return text_ != nullptr
               ? SetOfText(name, value)
               : SetOfPicture(std::get<DetectRequest>(out_.request), name,
                              value);
  }

  // Of sampling_parameters, which may hold lists.
  absl::Status SetJson(const std::string& name, const nlohmann::json& json) {
    if (name != "stop" || !json.is_array()) return Set(name, ValueOf(json));
    text_->stop.clear();
    for (const nlohmann::json& stop : json) {
      RETURN_IF_ERROR(AddStop(ValueOf(stop)));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status SetOfText(const std::string& name, const Value& value) {
    SamplingRequest& sampling = text_->sampling;
    if (name == "temperature") return Float(name, value, &sampling.temperature);
    if (name == "top_p") return Float(name, value, &sampling.top_p);
    if (name == "min_p") return Float(name, value, &sampling.min_p);
    if (name == "repetition_penalty") {
      return Float(name, value, &sampling.repetition_penalty);
    }
    if (name == "top_k") {
      RETURN_IF_ERROR(Integer(name, value, &sampling.top_k));
      if (*sampling.top_k == -1) sampling.top_k = 0;  // all, as vLLM says it
      return absl::OkStatus();
    }
    if (name == "seed") return Integer(name, value, &sampling.seed);
    if (name == "max_tokens" || name == "max_new_tokens") {
      return Integer(name, value, &text_->max_new_tokens);
    }
    if (name == "stop") {
      text_->stop.clear();
      return AddStop(value);
    }
    return Unknown(name,
                   "max_tokens (or max_new_tokens), temperature, top_k, top_p, "
                   "min_p, repetition_penalty, seed, stop and timeout");
  }

  absl::Status SetOfPicture(DetectRequest& picture, const std::string& name,
                            const Value& value) {
    if (name == "threshold") return Float(name, value, &picture.threshold);
    if (name == "max_detections") {
      std::optional<int64_t> number;
      RETURN_IF_ERROR(Integer(name, value, &number));
      picture.max_detections = *number;
      return absl::OkStatus();
    }
    return Unknown(name, "threshold, max_detections and timeout");
  }

  static absl::Status Unknown(const std::string& name, const char* known) {
    return FieldError(
        "parameters",
        absl::StrCat("'", name, "' is not known; known are ", known));
  }

  static absl::Status Float(const std::string& name, const Value& value,
                            std::optional<float>* out) {
    const std::optional<double> number = NumberOf(value);
    if (!number.has_value()) return FieldError(name, "must be a number");
    *out = static_cast<float>(*number);
    return absl::OkStatus();
  }

  template <class Int>
  static absl::Status Integer(const std::string& name, const Value& value,
                              std::optional<Int>* out) {
    *out = IntegerOf<Int>(value);
    if (out->has_value()) return absl::OkStatus();
    return FieldError(name, absl::StrCat("must be a whole number, at most ",
                                         std::numeric_limits<Int>::max()));
  }

  absl::Status AddStop(const Value& value) {
    const auto* const stop = std::get_if<std::string>(&value);
    if (stop == nullptr) {
      return FieldError("stop",
                        "must be text, or in sampling_parameters a list of "
                        "texts");
    }
    if (stop->size() > kMaxStopBytes || text_->stop.size() >= kMaxStops) {
      return FieldError(
          "stop", absl::StrCat("must be at most ", kMaxStops,
                               " texts of at most ", kMaxStopBytes, " bytes"));
    }
    text_->stop.push_back(*stop);
    return absl::OkStatus();
  }

  absl::Status Timeout(const std::string& name, const Value& value) {
    const std::optional<int64_t> micros = IntegerOf<int64_t>(value);
    if (!micros.has_value() || *micros <= 0) {
      return FieldError(name, "must be microseconds, at least 1");
    }
    out_.timeout = absl::Microseconds(*micros);
    return absl::OkStatus();
  }

  OipRequest& out_;
  GenerateRequest* const text_;
};

// The one element of each input, by name.
class Inputs {
 public:
  explicit Inputs(Message& message) : message_(message) {}

  // `known`: what this model takes.
  absl::Status Read(const std::vector<std::string>& known) {
    if (raw() && message_.raw_input_contents_size() != message_.inputs_size()) {
      return FieldError(
          "raw_input_contents",
          absl::StrCat("must be one for each of the ", message_.inputs_size(),
                       " inputs, or none, are ",
                       message_.raw_input_contents_size()));
    }
    for (int i = 0; i < message_.inputs_size(); ++i) {
      const auto& input = message_.inputs(i);
      if (std::find(known.begin(), known.end(), input.name()) == known.end()) {
        return FieldError(
            "inputs",
            absl::StrCat("'", input.name(), "' is not known; this model takes ",
                         absl::StrJoin(known, ", ")));
      }
      if (!by_name_.emplace(input.name(), i).second) {
        return FieldError(input.name(), "is given more than once");
      }
      RETURN_IF_ERROR(CheckTensorParameters(input.name(), input.parameters()));
      RETURN_IF_ERROR(CheckShape(input));
      if (raw() && input.has_contents()) {
        return FieldError(input.name(),
                          "has contents beside raw_input_contents; give one");
      }
    }
    return absl::OkStatus();
  }

  bool raw() const { return message_.raw_input_contents_size() > 0; }
  bool Has(const std::string& name) const { return by_name_.contains(name); }

  // Moves it out of the message.
  absl::StatusOr<std::string> Bytes(const std::string& name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      return FieldError(name, "is missing; give it as an input of BYTES");
    }
    auto& input = *message_.mutable_inputs(found->second);
    RETURN_IF_ERROR(CheckDatatype(input, "BYTES"));
    if (!raw()) {
      if (input.contents().bytes_contents_size() != 1) {
        return FieldError(name,
                          absl::StrCat("must have 1 element in bytes_contents, "
                                       "has ",
                                       input.contents().bytes_contents_size()));
      }
      return std::move(*input.mutable_contents()->mutable_bytes_contents(0));
    }
    std::string& bytes = *message_.mutable_raw_input_contents(found->second);
    if (bytes.size() < kLengthBytes ||
        LengthIn(bytes) != bytes.size() - kLengthBytes) {
      return FieldError(
          name, absl::StrCat("its raw contents must be the length in 4 bytes, "
                             "the lowest first, and as many bytes; are ",
                             bytes.size(), " bytes that are not"));
    }
    bytes.erase(0, kLengthBytes);
    return std::move(bytes);
  }

  // Absent: `absent`.
  absl::StatusOr<bool> Bool(const std::string& name, bool absent) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return absent;
    const auto& input = message_.inputs(found->second);
    RETURN_IF_ERROR(CheckDatatype(input, "BOOL"));
    if (!raw()) {
      if (input.contents().bool_contents_size() == 1) {
        return input.contents().bool_contents(0);
      }
    } else if (message_.raw_input_contents(found->second).size() == 1) {
      return message_.raw_input_contents(found->second)[0] != 0;
    }
    return FieldError(name, "must have 1 element");
  }

 private:
  using Input = Message::InferInputTensor;

  static absl::Status CheckDatatype(const Input& input,
                                    const std::string& wanted) {
    if (input.datatype() == wanted) return absl::OkStatus();
    return FieldError(input.name(),
                      absl::StrCat("must be of datatype ", wanted, ", is '",
                                   input.datatype(), "'"));
  }

  // [1], or with dimensions of a batch before it.
  static absl::Status CheckShape(const Input& input) {
    bool one = input.shape_size() > 0;
    for (const int64_t size : input.shape()) one &= size == 1;
    if (one) return absl::OkStatus();
    return FieldError(
        input.name(),
        absl::StrCat("must have 1 element, shape [1] or [1, 1], has shape [",
                     absl::StrJoin(input.shape(), ", "),
                     "]; send a request for each element"));
  }

  Message& message_;
  std::map<std::string, int> by_name_;
};

absl::Status CheckSize(const std::string& name, const std::string& bytes,
                       size_t max) {
  if (bytes.size() <= max) return absl::OkStatus();
  return FieldError(
      name, absl::StrCat("must be at most ", max, " bytes, is ", bytes.size()));
}

absl::Status ReadParameters(const Message& message, Parameters& parameters) {
  if (message.parameters().contains("max_tokens") &&
      message.parameters().contains("max_new_tokens")) {
    return FieldError("max_tokens",
                      "is given beside max_new_tokens, which is the same; give "
                      "one");
  }
  for (const auto& [name, parameter] : message.parameters()) {
    RETURN_IF_ERROR(parameters.Set(name, ValueOf(parameter)));
  }
  return absl::OkStatus();
}

absl::Status ReadText(Inputs& inputs, Parameters& parameters, OipRequest& out) {
  GenerateRequest& text = std::get<GenerateRequest>(out.request);
  ASSIGN_OR_RETURN(std::string prompt, inputs.Bytes(kOipText));
  RETURN_IF_ERROR(CheckSize(kOipText, prompt, kMaxPromptBytes));
  if (const size_t valid = ValidUtf8Prefix(prompt); valid < prompt.size()) {
    return NotUtf8(kOipText, valid, prompt.size());
  }
  text.prompt = std::move(prompt);
  ASSIGN_OR_RETURN(out.answer.stream, inputs.Bool(kStream, false));
  ASSIGN_OR_RETURN(const bool exclude, inputs.Bool(kExclude, true));
  if (!exclude) {
    return FieldError(kExclude,
                      "must be true; text_output never repeats text_input");
  }
  if (!inputs.Has(kSampling)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string json, inputs.Bytes(kSampling));
  RETURN_IF_ERROR(CheckSize(kSampling, json, kMaxJsonBytes));
  const absl::StatusOr<nlohmann::json> object =
      model::ParseJsonObject("the text", json);
  if (!object.ok()) {
    return FieldError(kSampling, object.status().message());
  }
  for (const auto& [name, value] : object->items()) {
    RETURN_IF_ERROR(parameters.SetJson(name, value));
  }
  return absl::OkStatus();
}

absl::Status ReadOutputs(const Message& message, bool text, OipAnswer& out) {
  for (const auto& wanted : message.outputs()) {
    bool is_known = false;
    for (const OipOutput& output : OipOutputs(text)) {
      is_known |= wanted.name() == output.name;
    }
    if (!is_known) {
      return FieldError(
          "outputs",
          absl::StrCat("'", wanted.name(), "' is not known; this model has ",
                       NamesOf(OipOutputs(text))));
    }
    RETURN_IF_ERROR(CheckTensorParameters(wanted.name(), wanted.parameters()));
    out.outputs.insert(wanted.name());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OipRequest> ReadOipRequest(Message& message,
                                          const ModelInfo& info) {
  RETURN_IF_ERROR(CheckOipVersion(info, message.model_version()));
  const bool text = GeneratesText(info);
  Inputs inputs(message);
  OipRequest out;
  out.answer.model = message.model_name();
  out.answer.id = message.id();
  out.answer.raw = inputs.raw();
  if (text) {
    out.request = GenerateRequest{.model = message.model_name()};
    RETURN_IF_ERROR(inputs.Read({kOipText, kStream, kSampling, kExclude}));
  } else {
    out.request = DetectRequest{.model = message.model_name()};
    RETURN_IF_ERROR(inputs.Read({kOipImage}));
  }
  RETURN_IF_ERROR(ReadOutputs(message, text, out.answer));
  Parameters parameters(out);
  RETURN_IF_ERROR(ReadParameters(message, parameters));
  if (text) {
    RETURN_IF_ERROR(ReadText(inputs, parameters, out));
  } else {
    ASSIGN_OR_RETURN(std::get<DetectRequest>(out.request).image,
                     inputs.Bytes(kOipImage));
  }
  return out;
}

absl::Status CheckOipVersion(const ModelInfo& info,
                             const std::string& version) {
  const std::string serving = absl::StrCat(info.version);
  if (version.empty() || version == serving) return absl::OkStatus();
  return AboutModel(
      Refusal(Reason::kModelNotFound,
              absl::StrCat("model '", info.name, "' has no version '", version,
                           "'; version ", serving,
                           " serves; leave the version out for the one that "
                           "does")),
      info.name);
}

absl::Status WithFieldName(const absl::Status& status,
                           const std::string& name) {
  const absl::string_view description =
      absl::StripPrefix(status.message(), absl::StrCat(FieldOf(status), ": "));
  return WithReason(FieldError(name, description), ReasonOf(status));
}

absl::Status InOipTerms(const absl::Status& status) {
  const std::string field = FieldOf(status);
  if (field.empty()) return status;
  std::string name(absl::StripPrefix(field, "sampling."));
  if (name == "model") name = "model_name";
  if (name == "prompt") name = kOipText;
  if (name == "max_new_tokens") name = "max_tokens";
  if (absl::StartsWith(name, "stop[")) name = "stop";
  return WithFieldName(status, name);
}

}  // namespace ounce::server
