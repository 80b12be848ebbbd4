#include "server/service/oip_tensors.h"

#include "absl/strings/str_cat.h"

namespace ounce::server {

bool GeneratesText(const ModelInfo& info) {
  return CheckTask(info, Task::kGenerate).ok();
}

const std::vector<OipOutput>& OipOutputs(bool text) {
  static const auto* const kTextOutputs =
      new std::vector<OipOutput>{{"text_output", "BYTES", {1}},
                                 {"finish_reason", "BYTES", {1}},
                                 {"num_input_tokens", "UINT32", {1}},
                                 {"num_output_tokens", "UINT32", {1}},
                                 {"num_cached_tokens", "UINT32", {1}}};
  static const auto* const kImageOutputs =
      new std::vector<OipOutput>{{"boxes", "FP32", {-1, 4}},
                                 {"labels", "BYTES", {-1}},
                                 {"scores", "FP32", {-1}}};
  return text ? *kTextOutputs : *kImageOutputs;
}

inference::ModelMetadataResponse OipMetadata(const ModelInfo& info) {
  inference::ModelMetadataResponse response;
  response.set_name(info.name);
  response.add_versions(absl::StrCat(info.version));
  response.set_platform(absl::StrCat("ounce_", info.architecture));
  const bool text = GeneratesText(info);
  auto* const input = response.add_inputs();
  input->set_name(text ? kOipText : kOipImage);
  input->set_datatype("BYTES");
  input->add_shape(1);
  for (const OipOutput& output : OipOutputs(text)) {
    auto* const out = response.add_outputs();
    out->set_name(output.name);
    out->set_datatype(output.datatype);
    out->mutable_shape()->Add(output.shape.begin(), output.shape.end());
  }
  return response;
}

uint32_t LengthIn(const std::string& raw) {
  uint32_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(raw[i]);
  }
  return length;
}

void AppendLength(size_t length, std::string* raw) {
  for (size_t i = 0; i < kLengthBytes; ++i) {
    raw->push_back(static_cast<char>(length >> (8 * i)));
  }
}

}  // namespace ounce::server
