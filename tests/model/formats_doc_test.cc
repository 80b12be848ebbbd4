// Writes docs/formats.md from the lists of formats and the goldens, and holds
// the page to them.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/gguf_architectures.h"
#include "model/checkpoint/gguf_blocks.h"
#include "model/checkpoint/quantized_format.h"
#include "model/saver/saver.h"
#include "nlohmann/json.hpp"
#include "quant/registry.h"
#include "tests/testing/checkpoint_files.h"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/written_page.h"

namespace ounce::model {
namespace {

using ::ounce::testing::QuantizedFixture;

constexpr char kIntroduction[] =
    R"(# Checkpoints that are quantized already

Most quantized models people have were made by another tool. Ounce serves them by the
codes in their files: integers and scales are packed for its kernels, nothing is quantized
again, and the float checkpoint is not needed. Reports show what the file has
(`ounce inspect FOLDER`): its bytes, and `resident_bytes`, what the codes take in memory.

```
ounce-server --model code=/models/llama-3-8b-awq --model small=/models/smollm2.Q4_K_M.gguf
```

A *plan* keeps such weights unless it says more: `lm_head=linear` quantizes a head that is
floats, `linear:requantize=true` also what is quantized, from the values of its codes. The
first errors stay then, and the report's are those that come on top. Without
`requantize=true` such a plan is refused, with the tensor's name.

## Folders with a `quantization_config`

| `quant_method` | Codes, as reports call them | Written by |
|---|---|---|
)";

constexpr char kBehindFormats[] = R"(
Fixtures of each, by these tools, are in `tests/golden/quantized`
(`tools/make_quantized_goldens.py`): every value that codes stand for is the tool's to the
bit, and logits are within 0.001 of transformers' on these values, relative to their norm;
but for 4-bit floats (nf4, fp4), whose levels products round to integers, and 8-bit
floats, which they round to bfloat16: 0.02 and 0.008. With `float32:requantize=true` all
are within 1e-4.

- **Memory** is the file's bytes, and more where kernels hold codes wider: 8-bit floats
  become bfloat16; the 1 to 3 bits of IQ types 3 or 4; all groups of EXL2's matrix have the
  width of its widest; integers in groups that are no multiple of 16 columns are floats.
- **Activations** are read in 16 bits or more whatever the config says of them
  (`input_activations`, `activation_scheme`); `bnb-int8` rounds them to 8 by its
  definition.
- **Groups of sorted columns** (`desc_act`, `actorder: group`) read their inputs in that
  order; four bytes a column are in the report.
- **Refused by name**, before anything is read: other `quant_method`s; `gptq` in other
  forms than `gptq` and `gptq_v2`; `awq` in others than `gemm` and `gemv`; formats of
  compressed-tensors for GPUs (`marlin-24`, `nvfp4-pack-quantized`, ...) and sparse ones;
  `hqq` with `axis` 0 or quantized scales; `torchao`'s layouts for GPUs and what scales
  activations by numbers in the file.

## GGUF

A file, any part of one that is split, or a folder whose only model it is. Config and
tokenizer come out of its metadata; tensors get Hugging Face's names, and rows that
llama.cpp has turned (queries and keys of Llama, GPT-NeoX's joined ones) their places.

| `general.architecture` | served as |
|---|---|
)";

constexpr char kBehindArchitectures[] = R"(
Types: F32, F16, BF16, TYPES. Another type, another architecture, or a tensor that an
architecture is not known to have is refused by name.

Tokenizers: `tokenizer.ggml.model` `gpt2`, whose `tokenizer.ggml.pre` must be known, and
`llama`. Fixtures of each architecture, with the package gguf, are in
`tests/golden/gguf_models` (`tools/make_gguf_model_goldens.py`): values are gguf's to the
bit, ids of texts are llama.cpp's, logits within 0.001 of transformers' on these values,
and llama.cpp, which rounds activations to 8 bits, agrees as far as that allows.
SmolLM2-135M (Q4_1 and Q8_0, 272 tensors) takes the 96,576,768 bytes of its tensors.
)";

constexpr char kSaving[] = R"(
## What is written

`ounce save MODEL FOLDER --format FORMAT` writes what a model is served as. A format that
cannot hold it says so by the tensor, before anything is written; without one the first
that can is taken. Codes are what they are in memory: a model that is saved and loaded
again has the same codes and gives the same tokens, to the bit. A convolution with its
batch norm folded in, products with 8-bit activations, and other tools' codes that a plan
changed in part go into Ounce's own layout ([format.md](format.md)) or nowhere. A GGUF
file holds the architectures above, with their tokenizer, and Mistral as `llama`.

The scripts `tools/check_saved_models.py` and `tools/check_saved_gguf.py` hold such files
to the programs in the last column: values to the bit, tensors of bitsandbytes and of GGUF
byte by byte to what these make of the same floats.

| Format | Weights that are stored as | Opened by |
|---|---|---|
)";

// Programs that opened what Ounce wrote, beside Ounce: the scripts in tools/.
const std::map<std::string_view, std::string_view> kOpenedBy = {
    {"safetensors", "transformers 4.57.6"},
    {"checkpoint", "whatever opened it before"},
    {"bitsandbytes", "transformers 4.57.6 with bitsandbytes 0.50.2"},
    {"hqq", "transformers 4.57.6 with hqq 0.2.8"},
    {"compressed-tensors",
     "transformers 4.57.6 with compressed-tensors 0.20.1 (`mode=asymmetric`: "
     "unpacked by compressed-tensors alone)"},
    {"gptq", "AutoGPTQ 0.7.1, which unpacked them; of float16 checkpoints"},
    {"awq", "AutoAWQ 0.2.9, which unpacked them; of float16 checkpoints"},
    {"gguf", "llama.cpp (llama-cpp-python 0.3.36), gguf 0.19.0"},
    {"ounce", "Ounce only"},
};

struct Row {
  std::set<std::string> specs;
  std::set<std::string> tools;
};

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

std::string FormatRows() {
  std::map<std::string, Row> rows;
  for (const QuantizedFormat* format : AllQuantizedFormats()) {
    rows[std::string(format->name())];
  }
  for (const QuantizedFixture& fixture : ounce::testing::QuantizedFixtures()) {
    if (fixture.is_gguf()) continue;
    const auto checkpoint = Checkpoint::Open(fixture.location);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) continue;
    Row& row =
        rows[(*checkpoint)->config()["quantization_config"]["quant_method"]];
    row.tools.insert(ReadJson(fixture.folder + "/expected.json")["tool"]);
    for (const auto& [name, info] : (*checkpoint)->tensors()) {
      if (info.coded != nullptr) {
        row.specs.insert(absl::StrCat("`", info.coded->spec.ToString(), "`"));
      }
    }
  }
  std::string text;
  for (const auto& [name, row] : rows) {
    absl::StrAppend(&text, "| `", name, "` | ", absl::StrJoin(row.specs, ", "),
                    " | ", absl::StrJoin(row.tools, ", "), " |\n");
  }
  return text;
}

std::string ArchitectureRows() {
  std::string text;
  for (const GgufArchitecture& architecture : AllGgufArchitectures()) {
    absl::StrAppend(&text, "| `", std::string(architecture.name), "` | `",
                    std::string(architecture.model_type), "` |\n");
  }
  return text;
}

// A Llama whose widths all blocks divide, in float16.
std::string WriteLlama(const ounce::testing::TempFolder& folder) {
  constexpr int64_t kWidth = 256, kVocab = 32;
  std::vector<ounce::testing::FileTensor> tensors;
  float next = 0;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    std::vector<float> values(shape[0] * (shape.size() > 1 ? shape[1] : 1));
    for (float& value : values) value = std::sin(next += 1) / 16;
    tensors.push_back(ounce::testing::MakeTensor(name, std::move(shape), values,
                                                 quant::DType::kF16));
  };
  const std::string layer = "model.layers.0.";
  for (const char* projection :
       {"self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate",
        "mlp.up", "mlp.down"}) {
    add(absl::StrCat(layer, projection, "_proj.weight"), {kWidth, kWidth});
  }
  add(layer + "input_layernorm.weight", {kWidth});
  add(layer + "post_attention_layernorm.weight", {kWidth});
  add("model.norm.weight", {kWidth});
  add("model.embed_tokens.weight", {kVocab, kWidth});
  add("lm_head.weight", {kVocab, kWidth});
  folder.WriteFile("model.safetensors",
                   ounce::testing::SafetensorsFile(tensors));
  folder.WriteFile("config.json", R"({"model_type": "llama", "vocab_size": 32,
    "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": false, "torch_dtype": "float16"})");
  return folder.path().string();
}

bool Holds(const Checkpoint& checkpoint, const std::string& plan,
           std::string_view format) {
  const ounce::testing::TempFolder folder;
  SaveOptions options;
  options.plan = *ParseMethodPlan(plan);
  options.format = std::string(format);
  options.folder = folder.Path("saved");
  const auto saved = SaveModel(checkpoint, options);
  EXPECT_TRUE(saved.ok() ||
              saved.status().code() == absl::StatusCode::kFailedPrecondition)
      << format << ", " << plan << ": " << saved.status();
  return saved.ok();
}

// Methods of which the format holds some form.
std::string MethodsHeld(const Checkpoint& checkpoint, std::string_view format) {
  std::vector<std::string> held;
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    const std::string name(method->name());
    std::vector<std::string> specs = {name};
    if (name == "linear") {
      specs.push_back("linear:bits=4,mode=asymmetric,granularity=group");
    }
    if (std::any_of(specs.begin(), specs.end(), [&](const std::string& spec) {
          return Holds(checkpoint, spec, format);
        })) {
      held.push_back(absl::StrCat("`", name, "`"));
    }
  }
  return held.size() == quant::AllMethods().size() ? "every method"
         : held.empty() ? "what is kept as the checkpoint has it"
                        : absl::StrJoin(held, ", ");
}

std::string SavedRows() {
  const ounce::testing::TempFolder folder;
  const auto llama = Checkpoint::Open(WriteLlama(folder));
  EXPECT_TRUE(llama.ok()) << llama.status();
  if (!llama.ok()) return "";
  std::string text;
  for (const SaveFormatInfo& format : SaveFormats()) {
    const auto opened = kOpenedBy.find(format.name);
    EXPECT_NE(opened, kOpenedBy.end()) << format.name;
    if (opened == kOpenedBy.end()) continue;
    absl::StrAppend(&text, "| `", std::string(format.name), "` | ",
                    MethodsHeld(**llama, format.name), " | ",
                    std::string(opened->second), " |\n");
  }
  return text;
}

std::string Page() {
  std::string behind = kBehindArchitectures;
  const std::string kTypes = "TYPES";
  behind.replace(behind.find(kTypes), kTypes.size(), GgufBlockTypeNames());
  return absl::StrCat(kIntroduction, FormatRows(), kBehindFormats,
                      ArchitectureRows(), behind, kSaving, SavedRows());
}

TEST(FormatsDocTest, IsWhatTheCodeSays) {
  ounce::testing::ExpectWritten(OUNCE_SOURCE_ROOT "/docs/formats.md", Page());
}

}  // namespace
}  // namespace ounce::model
