#include "tests/model/saver/save_cases.h"

#include <initializer_list>

#include "base/str_cat.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

// As the plan makes it, of several checkpoints and plans.
void Add(const std::string& format, std::initializer_list<const char*> folders,
         std::initializer_list<const char*> plans,
         std::vector<SaveCase>& cases) {
  for (const char* folder : folders) {
    for (const char* plan : plans) cases.push_back({format, folder, plan});
  }
}

// As another tool made it.
void AddFixtures(const std::string& format,
                 std::initializer_list<const char*> fixtures,
                 std::vector<SaveCase>& cases) {
  for (const char* fixture : fixtures) {
    cases.push_back(
        {format, StrCat("tests/golden/quantized/", fixture), "keep"});
  }
}

void AddBitsandbytes(std::vector<SaveCase>& cases) {
  Add("bitsandbytes", {kCodegen, kLlama},
      {"bnb-int8", "bnb-int8:threshold=0", "bnb-nf4", "bnb-fp4:block=128",
       "bnb-nf4:double_quant=true", "lm_head=bnb-nf4 bnb-nf4",
       "*.1.*=bfloat16 prune-magnitude+bnb-nf4"},
      cases);
  Add("bitsandbytes", {kGpt2, kDetr}, {"bnb-int8", "bnb-nf4:double_quant=true"},
      cases);
  Add("bitsandbytes", {kTiedCodegen}, {"lm_head=bnb-int8:untie=true"}, cases);
  AddFixtures("bitsandbytes",
              {"bnb_fp4", "bnb_int8", "bnb_nf4_double", "bnb_nf4_gpt2",
               "bnb_int8_gpt2"},
              cases);
}

void AddHqq(std::vector<SaveCase>& cases) {
  Add("hqq", {kCodegen},
      {"hqq:bits=8", "hqq", "hqq:bits=3,group=16", "hqq:bits=2,group=-1",
       "hqq:bits=1,group=32", "lm_head=hqq *.1.*=keep hqq:bits=8,group=16"},
      cases);
  Add("hqq", {kDetr}, {"hqq:bits=3,group=-1"}, cases);
  AddFixtures("hqq", {"hqq_1", "hqq_3", "hqq_4", "hqq_8"}, cases);
}

void AddCompressedTensors(std::vector<SaveCase>& cases) {
  Add("compressed-tensors", {kCodegen},
      {"linear", "linear:mode=asymmetric", "linear:granularity=tensor",
       "linear:bits=6,mode=asymmetric,granularity=tensor",
       "linear:bits=4,granularity=group,group=16",
       "linear:bits=3,mode=asymmetric,granularity=group,group=32",
       "linear:bits=5", "linear:bits=2,mode=asymmetric",
       "linear:bits=7,granularity=group,group=32",
       "linear:seed=3,granularity=tensor", "float8", "float8:granularity=block",
       "*.0.*=linear:bits=4 linear:bits=4,mode=asymmetric",
       "*.0.*=linear:bits=3 *.1.mlp.*=float8 lm_head=linear "
       "linear:bits=4,mode=asymmetric"},
      cases);
  Add("compressed-tensors", {kLlama},
      {"linear", "linear:bits=4", "prune-24+linear"}, cases);
  Add("compressed-tensors", {kTiedCodegen}, {"lm_head=linear:untie=true"},
      cases);
  Add("compressed-tensors", {kDetr}, {"linear:bits=4"}, cases);
  AddFixtures("compressed-tensors",
              {"compressed_float8", "compressed_int8_asymmetric",
               "compressed_pack3_old", "gptq_3", "awq_gemv"},
              cases);
}

void AddGptq(std::vector<SaveCase>& cases) {
  Add("gptq", {kLlama32},
      {"linear:requantize=true",
       "linear:bits=4,granularity=group,group=32,requantize=true",
       "linear:bits=3,mode=asymmetric,granularity=group,group=32,"
       "requantize=true",
       "linear:bits=2,mode=asymmetric,requantize=true",
       "lm_head=linear:bits=4,mode=asymmetric "
       "linear:bits=4,mode=asymmetric,requantize=true"},
      cases);
  AddFixtures("gptq", {"gptq_8_rows", "awq_gemm", "compressed_pack4"}, cases);
}

void AddAwq(std::vector<SaveCase>& cases) {
  Add("awq", {kLlama32},
      {"linear:bits=4,requantize=true",
       "linear:bits=4,mode=asymmetric,granularity=group,group=32,"
       "requantize=true",
       "lm_head=linear:bits=4,granularity=group,group=16 "
       "*.mlp.*=float16:requantize=true "
       "linear:bits=4,granularity=group,group=16,requantize=true"},
      cases);
  AddFixtures("awq", {"awq_gemv", "gptq_4"}, cases);
}

// Of GGUF: of each architecture, and each method where its blocks divide all
// widths and where they do not.
std::vector<SaveCase> GgufCases() {
  std::vector<SaveCase> cases;
  const auto add = [&](const std::string& folder, const std::string& plan) {
    cases.push_back({"gguf", StrCat("tests/golden/", folder), plan});
  };
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    const std::string name(method->name());
    if (!name.starts_with("gguf-")) continue;
    add("decoder/llama/gqa_bin", name);
    add("gguf_models/llama_blocks_256/model.gguf", name + ":requantize=true");
  }
  for (const char* folder :
       {"decoder/gemma/mqa", "decoder/gpt2/published",
        "decoder/gpt_neox/parallel_bin", "decoder/llama/linear_biases_shards",
        "decoder/mistral/no_window_shards_bin", "decoder/phi/partial",
        "decoder/phi/bin", "decoder/qwen2/tied", "decoder/qwen3/tied_shards",
        "decoder/starcoder2/bin", "gguf_models/llama3/model.gguf",
        "gguf_models/gemma/model.gguf", "gguf_models/gptneox/model.gguf",
        "gguf_models/phi2/model.gguf"}) {
    add(folder, "keep");
    add(folder, StrCat("@embedding=gguf-q8_0:requantize=true "
                       "gguf-q4_1:requantize=true"));
  }
  for (const char* plan :
       {"keep", "float32", "float16", "bfloat16", "prune-24+float16",
        "prune-24+gguf-q5_0", "lm_head=gguf-q6_k *.0.mlp.*=keep gguf-iq4_xs"}) {
    add("decoder/llama/gqa_bin", plan);
    add("decoder/gpt2/published", plan);
  }
  add("decoder/qwen2/tied", "lm_head=gguf-q8_0:untie=true gguf-q4_0");
  return cases;
}

}  // namespace

void PrintTo(const SaveCase& c, std::ostream* out) {
  *out << c.format << ", " << c.folder << ", " << c.plan;
}

std::vector<SaveCase> SaveCases() {
  std::vector<SaveCase> cases = GgufCases();
  // Ounce's own layout holds whatever there is.
  for (const quant::QuantMethod* method : quant::AllMethods()) {
    const std::string name(method->name());
    for (const char* folder : {kCodegen, kGpt2}) {
      cases.push_back({"ounce", folder, name});
    }
  }
  const char* const ounces[] = {
      "linear:bits=3,mode=asymmetric,granularity=group,group=16",
      "linear:bits=5,granularity=tensor",
      "linear:granularity=tensor,seed=7",
      "bnb-nf4:block=4096,double_quant=true",
      "lm_head=linear:bits=4 *.0.mlp.*=keep ks4:activations=8",
      "prune-magnitude+linear",
      "hqq:bits=3",
      "@embedding=linear gguf-q6_k"};
  for (const char* plan : ounces) {
    cases.push_back({"ounce", kLlama, plan});
  }
  cases.push_back({"ounce", kOpt, "linear:bits=2,granularity=group"});
  cases.push_back({"ounce", kTiedCodegen, "lm_head=linear:untie=true"});
  for (const char* plan : {"linear", "@convolution=linear linear", "bnb-int8",
                           "@convolution=linear:mode=asymmetric gguf-q4_k"}) {
    cases.push_back({"ounce", kDetr, plan});
  }
  for (const char* plan : {"keep", "float32", "float16", "bfloat16",
                           "prune-24+float16", "lm_head=float32 bfloat16"}) {
    cases.push_back({"safetensors", kCodegen, plan});
    cases.push_back({"safetensors", kLlama, plan});
  }
  for (const char* plan : {"keep", "float16", "prune-24+float16"}) {
    cases.push_back({"safetensors", kGpt2, plan});
  }
  cases.push_back({"safetensors", kTiedCodegen, "keep"});
  cases.push_back({"safetensors", kTiedCodegen, "lm_head=float32:untie=true"});
  cases.push_back({"safetensors", kDetr, "keep"});
  cases.push_back({"safetensors", kDetr, "@linear=float16"});
  for (const char* fixture :
       {"gptq_4_order", "awq_gemm", "hqq_3", "exl2", "bnb_nf4_double",
        "compressed_int8_asymmetric", "fp8_blocks"}) {
    cases.push_back(
        {"checkpoint", StrCat("tests/golden/quantized/", fixture), "keep"});
  }
  AddBitsandbytes(cases);
  AddHqq(cases);
  AddCompressedTensors(cases);
  AddGptq(cases);
  AddAwq(cases);
  cases.push_back({"checkpoint", kCodegen, "keep"});
  cases.push_back({"checkpoint", "tests/golden/codegen/shards", "keep"});
  return cases;
}

}  // namespace ounce::model
