// What is saved by save_formats_test: checkpoints, plans, and the formats that
// hold them.
#ifndef OUNCE_TESTS_MODEL_SAVER_SAVE_CASES_H_
#define OUNCE_TESTS_MODEL_SAVER_SAVE_CASES_H_

#include <ostream>
#include <string>
#include <vector>

namespace ounce::model {

inline constexpr char kCodegen[] = "tests/golden/codegen/bfloat16";
inline constexpr char kTiedCodegen[] = "tests/golden/codegen/tied_bin";
inline constexpr char kGpt2[] = "tests/golden/decoder/gpt2/published";
inline constexpr char kLlama[] = "tests/golden/decoder/llama/gqa_bin";
inline constexpr char kOpt[] = "tests/golden/decoder/opt/post_norm_bin";
// In float16, with matrices of multiples of 32.
inline constexpr char kLlama32[] = "tests/golden/quantized/bnb_nf4";
inline constexpr char kDetr[] = "tests/golden/detr/bottleneck";

struct SaveCase {
  std::string format;
  std::string folder;
  std::string plan;
};
void PrintTo(const SaveCase& c, std::ostream* out);

std::vector<SaveCase> SaveCases();

}  // namespace ounce::model

#endif  // OUNCE_TESTS_MODEL_SAVER_SAVE_CASES_H_
