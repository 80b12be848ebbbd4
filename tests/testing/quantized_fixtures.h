// Checkpoints that other tools quantized, in tests/golden: Hugging Face folders
// (tools/make_quantized_goldens.py) and GGUF files
// (tools/make_gguf_model_goldens.py).
#ifndef OUNCE_TESTS_TESTING_QUANTIZED_FIXTURES_H_
#define OUNCE_TESTS_TESTING_QUANTIZED_FIXTURES_H_

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

namespace ounce::testing {

struct QuantizedFixture {
  std::string name;      // "gptq_4", "gguf_qwen2"
  std::string folder;    // with expected.json and logits.bin
  std::string location;  // to open: the folder, or the file in it

  bool is_gguf() const { return location != folder; }
};

inline void PrintTo(const QuantizedFixture& fixture, std::ostream* out) {
  *out << fixture.name;
}

inline std::vector<QuantizedFixture> QuantizedFixtures() {
  namespace fs = std::filesystem;
  std::vector<QuantizedFixture> fixtures;
  for (const auto& entry : fs::directory_iterator("tests/golden/quantized")) {
    const std::string folder = entry.path().string();
    fixtures.push_back({entry.path().filename().string(), folder, folder});
  }
  for (const auto& entry : fs::directory_iterator("tests/golden/gguf_models")) {
    QuantizedFixture fixture = {
        "gguf_" + entry.path().filename().string(), entry.path().string(), {}};
    std::vector<std::string> files;
    for (const auto& file : fs::directory_iterator(entry.path())) {
      if (file.path().extension() == ".gguf") {
        files.push_back(file.path().string());
      }
    }
    fixture.location = *std::max_element(files.begin(), files.end());
    fixtures.push_back(std::move(fixture));
  }
  std::sort(fixtures.begin(), fixtures.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return fixtures;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_QUANTIZED_FIXTURES_H_
