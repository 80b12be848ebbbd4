#include "tests/testing/tiny_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/str_cat.h"
#include "model/registry.h"
#include "quant/registry.h"

namespace ounce::testing {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<GoldenCase> GoldenCases() {
  std::vector<GoldenCase> cases;
  for (const model::Architecture* architecture : model::AllArchitectures()) {
    const std::string family(architecture->name);
    for (const std::string& parent :
         {"tests/golden/decoder/" + family, "tests/golden/" + family}) {
      std::error_code none;
      for (const auto& entry : fs::directory_iterator(parent, none)) {
        if (!fs::exists(entry.path() / "logits.bin")) continue;
        cases.push_back({StrCat(family, "_", entry.path().filename().string()),
                         entry.path().string()});
      }
    }
  }
  std::sort(cases.begin(), cases.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return cases;
}

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.name; }

Golden ReadGolden(const std::string& folder, int64_t vocab_size) {
  std::ifstream expected_file(folder + "/expected.json");
  OUNCE_CHECK(expected_file.good(), "run tests from the source tree's root");
  const json expected = json::parse(expected_file);
  Golden golden;
  golden.prompts = expected["prompts"].get<std::vector<std::vector<int32_t>>>();
  golden.greedy = expected["greedy"].get<std::vector<std::vector<int32_t>>>();
  std::ifstream logits_file(folder + "/logits.bin", std::ios::binary);
  for (const auto& prompt : golden.prompts) {
    std::vector<float> logits(prompt.size() * vocab_size);
    logits_file.read(reinterpret_cast<char*>(logits.data()),
                     static_cast<std::streamsize>(logits.size() * 4));
    golden.logits.push_back(std::move(logits));
  }
  OUNCE_CHECK(logits_file.good(), "logits.bin is complete");
  return golden;
}

void MemoryCheckpoint::Add(const std::string& name, std::vector<int64_t> shape,
                           std::vector<float> values, quant::DType dtype) {
  model::TensorInfo info;
  info.dtype = dtype;
  info.shape = std::move(shape);
  info.storage_id = next_id_++;
  tensors_[name] = std::move(info);
  values_[name] = std::move(values);
}

void MemoryCheckpoint::Tie(const std::string& name, const std::string& of) {
  tensors_[name] = tensors_.at(of);
  values_[name] = values_.at(of);
}

void MemoryCheckpoint::Remove(const std::string& name) {
  tensors_.erase(name);
  values_.erase(name);
}

absl::Status MemoryCheckpoint::ReadFloats(const std::string& name,
                                          int64_t first, int64_t count,
                                          float* out) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return absl::NotFoundError(name);
  std::copy_n(found->second.begin() + first, count, out);
  return absl::OkStatus();
}

std::unique_ptr<MemoryCheckpoint> MakeTinyCheckpoint(const TinyShape& shape,
                                                     uint32_t seed) {
  auto checkpoint = std::make_unique<MemoryCheckpoint>();
  checkpoint->config_json = {
      {"model_type", "codegen"},           {"vocab_size", shape.vocab},
      {"n_positions", shape.positions},    {"n_embd", shape.width},
      {"n_layer", shape.layers},           {"n_head", shape.heads},
      {"rotary_dim", shape.rotary_dim},    {"n_inner", shape.inner},
      {"activation_function", "gelu_new"}, {"layer_norm_epsilon", 1e-5},
      {"tie_word_embeddings", shape.tied}};
  std::mt19937 random(seed);
  const auto add = [&](const std::string& name, std::vector<int64_t> extents,
                       float spread, float mean = 0) {
    std::normal_distribution<float> normal(mean, spread);
    int64_t count = 1;
    for (int64_t extent : extents) count *= extent;
    std::vector<float> values(count);
    for (float& value : values) {
      value = quant::RoundTo(shape.dtype, normal(random));
    }
    checkpoint->Add(name, std::move(extents), std::move(values), shape.dtype);
  };
  const auto add_norm = [&](const std::string& name) {
    add(name + ".weight", {shape.width}, 0.3f, 1);
    add(name + ".bias", {shape.width}, 0.3f);
  };
  add("transformer.wte.weight", {shape.vocab, shape.width}, 0.3f);
  for (int64_t i = 0; i < shape.layers; ++i) {
    const std::string block = StrCat("transformer.h.", i);
    add_norm(block + ".ln_1");
    add(block + ".attn.qkv_proj.weight", {3 * shape.width, shape.width}, 0.3f);
    add(block + ".attn.out_proj.weight", {shape.width, shape.width}, 0.3f);
    add(block + ".mlp.fc_in.weight", {shape.inner, shape.width}, 0.3f);
    add(block + ".mlp.fc_in.bias", {shape.inner}, 0.3f);
    add(block + ".mlp.fc_out.weight", {shape.width, shape.inner}, 0.3f);
    add(block + ".mlp.fc_out.bias", {shape.width}, 0.3f);
  }
  add_norm("transformer.ln_f");
  if (!shape.tied) add("lm_head.weight", {shape.vocab, shape.width}, 0.3f);
  add("lm_head.bias", {shape.vocab}, 0.3f);
  return checkpoint;
}

model::LoadedModel LoadWith(const model::Checkpoint& checkpoint,
                            const std::string& spec) {
  model::LoadOptions options;
  if (!spec.empty()) {
    auto plan = model::ParseMethodPlan(spec);
    OUNCE_CHECK(plan.ok(), plan.status().ToString().c_str());
    options.plan = *std::move(plan);
  }
  auto loaded = model::LoadModel(checkpoint, options);
  OUNCE_CHECK(loaded.ok(), loaded.status().ToString().c_str());
  return *std::move(loaded);
}

}  // namespace ounce::testing
