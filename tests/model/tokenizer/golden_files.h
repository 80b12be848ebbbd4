// The files that tools/make_tokenizer_goldens.py wrote.
#ifndef OUNCE_TESTS_MODEL_TOKENIZER_GOLDEN_FILES_H_
#define OUNCE_TESTS_MODEL_TOKENIZER_GOLDEN_FILES_H_

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

// Tests run in the source tree's root.
inline constexpr char kGoldenFolder[] = "tests/golden/tokenizer";

inline std::string GoldenPath(const std::string& name) {
  return absl::StrCat(kGoldenFolder, "/", name);
}

inline std::string ReadWholeFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  OUNCE_CHECK(in.is_open(), "a file of the tests is missing");
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::vector<std::string> GoldenLines(const std::string& name) {
  std::istringstream in(ReadWholeFile(GoldenPath(name)));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The texts of strings.jsonl.
inline std::vector<std::string> GoldenTexts() {
  std::vector<std::string> texts;
  for (const std::string& line : GoldenLines("strings.jsonl")) {
    texts.push_back(nlohmann::json::parse(line).get<std::string>());
  }
  return texts;
}

// One row of ids per text.
inline std::vector<std::vector<int32_t>> GoldenIds(const std::string& name) {
  std::vector<std::vector<int32_t>> rows;
  for (const std::string& line : GoldenLines(name)) {
    std::istringstream in(line);
    rows.emplace_back();
    for (int32_t id = 0; in >> id;) rows.back().push_back(id);
  }
  return rows;
}

}  // namespace ounce::model

#endif  // OUNCE_TESTS_MODEL_TOKENIZER_GOLDEN_FILES_H_
