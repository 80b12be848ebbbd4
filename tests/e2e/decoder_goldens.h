// Checkpoints of every architecture of decoders, as a server can load them.
#ifndef OUNCE_TESTS_E2E_DECODER_GOLDENS_H_
#define OUNCE_TESTS_E2E_DECODER_GOLDENS_H_

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/temp_folder.h"

namespace ounce::testing {

struct DecoderGolden {
  std::string name;              // the model's: "llama_gqa_bin"
  std::string family;            // "llama"
  std::filesystem::path golden;  // with expected.json
  std::string flag;              // of --model: "llama_gqa_bin=PATH"
};

// Copies all goldens to `to`, each with some tokenizer, and without an end of
// text.
inline std::vector<DecoderGolden> CopyDecoderGoldens(const TempFolder& to) {
  const std::filesystem::path root = OUNCE_SOURCE_ROOT "/tests/golden";
  std::vector<DecoderGolden> goldens;
  for (const auto& family :
       std::filesystem::directory_iterator(root / "decoder")) {
    for (const auto& folder :
         std::filesystem::directory_iterator(family.path())) {
      DecoderGolden golden;
      golden.family = family.path().filename();
      golden.name = golden.family + "_" + folder.path().filename().string();
      golden.golden = folder.path();
      const std::string path = to.Path(golden.name);
      std::filesystem::copy(folder.path(), path);
      std::filesystem::copy(root / "codegen/bfloat16/tokenizer.json", path);
      to.WriteFile(golden.name + "/generation_config.json",
                   R"({"eos_token_id": -1})");
      golden.flag = absl::StrCat(golden.name, "=", path);
      goldens.push_back(std::move(golden));
    }
  }
  return goldens;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_E2E_DECODER_GOLDENS_H_
