// Tiny checkpoints of decoders for tests: those of tests/golden/codegen and
// tests/golden/decoder, made with transformers by tools/make_codegen_goldens.py
// and tools/make_decoder_goldens.py; and CodeGen ones made in memory, of any
// shape.
#ifndef OUNCE_TESTS_TESTING_TINY_MODEL_H_
#define OUNCE_TESTS_TESTING_TINY_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "model/causal_lm.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "nlohmann/json.hpp"

namespace ounce::testing {

// A folder that a server can serve: config, weights (bfloat16) and a byte-level
// tokenizer of 299 tokens, of which 298 is <|endoftext|>. 128 positions,
// vocabulary 304. Relative to the source tree's root, where tests run.
inline constexpr char kTinyModelFolder[] = "tests/golden/codegen/bfloat16";
// Another one, from which other tokens come: float16, 112 positions.
inline constexpr char kOtherTinyModelFolder[] =
    "tests/golden/codegen/float16_odd_head";

// Of a decoder whose architecture is in architectures.def.
struct GoldenCase {
  std::string name;  // family and case, as a test's name: "llama_gqa_bin"
  std::string folder;
};
// All of them, sorted.
std::vector<GoldenCase> GoldenCases();
void PrintTo(const GoldenCase& c, std::ostream* out);

// What transformers makes of a golden checkpoint.
struct Golden {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::vector<int32_t>> greedy;  // 64 tokens after each prompt
  std::vector<std::vector<float>> logits;    // [prompt tokens, vocab] of each
};
Golden ReadGolden(const std::string& folder, int64_t vocab_size);

// A checkpoint whose tensors lie in memory as float32 but count as `dtype`.
class MemoryCheckpoint : public model::Checkpoint {
 public:
  nlohmann::json config_json;
  nlohmann::json generation_json;  // null

  void Add(const std::string& name, std::vector<int64_t> shape,
           std::vector<float> values, quant::DType dtype = quant::DType::kF32);
  // `name` becomes another name of the stored tensor `of`.
  void Tie(const std::string& name, const std::string& of);
  void Remove(const std::string& name);
  std::vector<float>& values(const std::string& name) {
    return values_.at(name);
  }

  const std::string& folder() const override { return folder_; }
  const nlohmann::json& config() const override { return config_json; }
  const nlohmann::json& generation_config() const override {
    return generation_json;
  }
  const std::map<std::string, model::TensorInfo>& tensors() const override {
    return tensors_;
  }
  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override;

 private:
  std::string folder_ = "memory";
  int64_t next_id_ = 0;  // of a storage
  std::map<std::string, model::TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

struct TinyShape {
  int64_t vocab = 50;
  int64_t positions = 64;
  int64_t width = 32;
  int64_t layers = 2;
  int64_t heads = 4;
  int64_t rotary_dim = 4;
  int64_t inner = 128;
  bool tied = false;
  quant::DType dtype = quant::DType::kF32;
};

// Seeded weights, rounded to the dtype, with a spread that makes all of them
// matter.
std::unique_ptr<MemoryCheckpoint> MakeTinyCheckpoint(const TinyShape& shape,
                                                     uint32_t seed = 1);

// Loads with a method spec ("" keeps the checkpoint's dtypes). Checks success.
model::LoadedModel LoadWith(const model::Checkpoint& checkpoint,
                            const std::string& spec);

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_TINY_MODEL_H_
