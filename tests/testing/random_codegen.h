// Checkpoints of a size that is seen, made of nothing: random halves, written
// without holding them in memory.
#ifndef OUNCE_TESTS_TESTING_RANDOM_CODEGEN_H_
#define OUNCE_TESTS_TESTING_RANDOM_CODEGEN_H_

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "tests/testing/temp_folder.h"

namespace ounce::testing {

// A CodeGen in float16: 12 * width^2 weights a layer, and little else.
struct RandomCodeGen {
  int64_t width = 1024;  // a multiple of 64
  int64_t layers = 3;
  int64_t positions = 256;
};

// Writes it with the tokenizer of `tokenizer_folder`, which has 299 tokens,
// into `folder`, and returns the folder.
inline std::string WriteRandomCodeGen(const std::string& folder,
                                      const std::string& tokenizer_folder,
                                      const RandomCodeGen& shape) {
  constexpr int64_t kVocab = 304;
  const int64_t width = shape.width;
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << absl::StrCat(
      R"({"model_type":"codegen","vocab_size":)", kVocab, R"(,"n_positions":)",
      shape.positions, R"(,"n_ctx":)", shape.positions, R"(,"n_embd":)", width,
      R"(,"n_layer":)", shape.layers, R"(,"n_head":)",
      std::max<int64_t>(4, width / 64), R"(,"rotary_dim":8,"n_inner":null,)",
      R"("activation_function":"gelu_new","layer_norm_epsilon":1e-5,)",
      R"("tie_word_embeddings":false,"bos_token_id":298,"eos_token_id":298})");
  std::filesystem::copy(tokenizer_folder + "/tokenizer.json", folder);
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors = {
      {"transformer.wte.weight", {kVocab, width}},
      {"transformer.ln_f.weight", {width}},
      {"transformer.ln_f.bias", {width}},
      {"lm_head.weight", {kVocab, width}},
      {"lm_head.bias", {kVocab}}};
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string h = absl::StrCat("transformer.h.", layer, ".");
    tensors.push_back({h + "ln_1.weight", {width}});
    tensors.push_back({h + "ln_1.bias", {width}});
    tensors.push_back({h + "attn.qkv_proj.weight", {3 * width, width}});
    tensors.push_back({h + "attn.out_proj.weight", {width, width}});
    tensors.push_back({h + "mlp.fc_in.weight", {4 * width, width}});
    tensors.push_back({h + "mlp.fc_in.bias", {4 * width}});
    tensors.push_back({h + "mlp.fc_out.weight", {width, 4 * width}});
    tensors.push_back({h + "mlp.fc_out.bias", {width}});
  }
  std::string header = "{";
  int64_t offset = 0;
  for (const auto& [name, extents] : tensors) {
    int64_t bytes = 2;
    for (const int64_t extent : extents) bytes *= extent;
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name,
                    R"(":{"dtype":"F16","shape":[)",
                    absl::StrJoin(extents, ","), R"(],"data_offsets":[)",
                    offset, ",", offset + bytes, "]}");
    offset += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');

  std::ofstream file(folder + "/model.safetensors", std::ios::binary);
  uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << header;
  // Halves of 2^-6 to 2^-5 in size, either sign.
  std::vector<uint16_t> halves(1 << 16);
  std::mt19937 random(1);
  for (uint16_t& half : halves) {
    half = static_cast<uint16_t>((random() & 0x83ff) | 0x2400);
  }
  for (int64_t left = offset; left > 0;) {
    const int64_t chunk =
        std::min<int64_t>(left, static_cast<int64_t>(halves.size() * 2));
    file.write(reinterpret_cast<const char*>(halves.data()), chunk);
    left -= chunk;
  }
  OUNCE_CHECK(file.good(), "a checkpoint could not be written");
  return folder;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_RANDOM_CODEGEN_H_
