// The specs that the conformance tests run, and the worst error that each may
// make: every method with its defaults, and what else differs in its code.
#ifndef OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_
#define OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_

#include <cctype>
#include <cstdint>
#include <string>
#include <string_view>

namespace ounce::quant {

struct ErrorBound {
  std::string_view spec;
  // |w - w'| <= row_max * max + relative * |w| + absolute, for float32 weights
  // that the method takes; max is the largest magnitude of those that `of`
  // says.
  double row_max = 0;
  double relative = 0;
  double absolute = 0;
  // ||W - W'|| / ||W|| for normally distributed weights, 64 rows of `cols`.
  double relative_l2 = 0;
  // kRun: the weights that have all fields' values in common.
  enum Of { kRow, kMatrix, kRun } of = kRow;
  int64_t cols = 1000;
};

inline constexpr ErrorBound kErrorBounds[] = {
    {"float32", 0, 0, 0, 0},
    // Half a unit in the last of 11 and of 8 significant bits, or of the
    // smallest number.
    {"float16", 0, 0x1p-11, 0x1p-25, 0x1p-11},
    {"bfloat16", 0, 0x1p-8, 0x1p-134, 0x1p-8},
    // Half a step, max / 127, and a float32 rounding of the scale. The largest
    // of 1,000 normal values is about 3.3 deviations, so a step is 0.026 of
    // one, and the error of rounding step / sqrt(12) = 0.0075; rows differ.
    {"linear", 0.5 / 127 * (1 + 1e-5), 0, 0, 0.0095},
    // The largest of 64,000 values is about 4.3 deviations.
    {"linear:granularity=tensor", 0.5 / 127 * (1 + 1e-5), 0, 0, 0.0115,
     ErrorBound::kMatrix},
    // The range of 1,000 values is about 6.5 deviations.
    {"linear:mode=asymmetric", 1.0 / 255 * (1 + 1e-5), 0, 0, 0.0090},
    {"linear:bits=3,mode=asymmetric,granularity=tensor", 1.0 / 7 * (1 + 1e-5),
     0, 0, 0.39, ErrorBound::kMatrix},
    // Below 4 bits weights that round to zero count most.
    {"linear:bits=2", 0.5 * (1 + 1e-5), 0, 0, 0.92},
    {"linear:bits=4", 0.5 / 7 * (1 + 1e-5), 0, 0, 0.16},
    // The largest of 16, 48, 64 and 128 values is about 1.9, 2.3, 2.4 and 2.7
    // deviations.
    {"linear:granularity=group,group=16", 0.5 / 127 * (1 + 1e-5), 0, 0, 0.0055,
     ErrorBound::kRun},
    {"linear:bits=6,granularity=group,group=48", 0.5 / 31 * (1 + 1e-5), 0, 0,
     0.025, ErrorBound::kRun},
    {"linear:bits=4,granularity=group", 0.5 / 7 * (1 + 1e-5), 0, 0, 0.115,
     ErrorBound::kRun},
    {"linear:bits=3,granularity=group,group=128", 0.5 / 3 * (1 + 1e-5), 0, 0,
     0.29, ErrorBound::kRun},
    // The range of 32 values is about 4.1 deviations, of 256 about 5.6.
    {"linear:bits=4,mode=asymmetric,granularity=group,group=32",
     1.0 / 15 * (1 + 1e-5), 0, 0, 0.090, ErrorBound::kRun},
    {"linear:bits=5,mode=asymmetric,granularity=group,group=256",
     1.0 / 31 * (1 + 1e-5), 0, 0, 0.060, ErrorBound::kRun},
    // What is clamped may be off by nearly all of itself.
    {"linear:bits=4,range=percentile,percentile=99", 1, 0, 0, 0.115},
    {"linear:bits=4,mode=asymmetric,granularity=tensor,range=percentile", 1, 0,
     0, 0.14, ErrorBound::kMatrix},
    {"linear:bits=4,range=mse", 1, 0, 0, 0.112},
    {"linear:bits=3,mode=asymmetric,granularity=tensor,range=mse", 1, 0, 0,
     0.21, ErrorBound::kMatrix},
    // Half a step of what is asked for, or all of the weights.
    {"linear:granularity=tensor,scale=0.01", 1, 0, 0.005 * (1 + 1e-5), 0.06,
     ErrorBound::kMatrix},
    {"linear:mode=asymmetric,granularity=tensor,scale=3.5,zero=-70", 1, 0, 1.75,
     1, ErrorBound::kMatrix},
    // Half a step 16 times too wide, or all of the weights.
    {"linear:mode=asymmetric,granularity=tensor,seed=3", 1, 0, 0, 1,
     ErrorBound::kMatrix},
    // As linear, of weights rounded to float16.
    {"bnb-int8", 0.5 / 127 * (1 + 0x1p-11), 0x1p-11, 0x1p-25, 0.0095},
    {"linear:bits=7,mode=asymmetric,granularity=group,group=-1",
     1.0 / 127 * (1 + 1e-5), 0, 0, 0.018, ErrorBound::kRun},
    // Half the widest gap between levels, -1 and -0.696.
    {"bnb-nf4", 0.15191, 0, 0, 0.096, ErrorBound::kRun},
    {"bnb-nf4:block=4096", 0.15191, 0, 0, 0.13, ErrorBound::kRun},
    // An 8-bit scale is off by half a step of the largest difference between
    // scales, 0.9 / 64 / 2, or where that is -1, by 0.0071.
    {"bnb-nf4:double_quant=true", 0.15191 + 0.0072, 0, 0, 0.097,
     ErrorBound::kMatrix},
    {"bnb-nf4:block=256,double_quant=true", 0.15191 + 0.0072, 0, 0, 0.115,
     ErrorBound::kMatrix},
    // Half the widest gap, 2 / 3 and 1.
    {"bnb-fp4", 1.0 / 6 * (1 + 1e-5), 0, 0, 0.125, ErrorBound::kRun},
    {"bnb-fp4:block=2048,double_quant=true", 1.0 / 6 + 0.0072, 0, 0, 0.2,
     ErrorBound::kMatrix},
    // Half the widest gap, 89 to 113, of a block whose largest weight became
    // 100; what the search gives up of the largest is no more.
    {"ks4", 0.13, 0, 0, 0.073},
    // Half a unit in the last of 4 and of 3 significant bits, or of the
    // smallest number, 2^-9 and 2^-16, where the largest is 448 and 57344.
    {"float8", 0x1p-10 / 448 * (1 + 1e-5), 0x1p-4 * (1 + 1e-5), 0, 0.028,
     ErrorBound::kRun},
    {"float8:granularity=block", 0x1p-10 / 448 * (1 + 1e-5),
     0x1p-4 * (1 + 1e-5), 0, 0.028, ErrorBound::kRun},
    {"float8:format=e5m2,granularity=block", 0x1p-17 / 57344 * (1 + 1e-5),
     0x1p-3 * (1 + 1e-5), 0, 0.055, ErrorBound::kRun},
    // A step of a range of twice the largest weight, since the zero-point is
    // not the range's; float16's rounding of scale and zero-point; and the
    // smallest range that has a scale.
    {"hqq", 2.0 / 15 + 0x1p-9, 0, 1e-4, 0.09, ErrorBound::kRun},
    {"hqq:bits=8", 2.0 / 255 + 0x1p-9, 0, 1e-4, 0.006, ErrorBound::kRun},
    {"hqq:bits=3,group=32", 2.0 / 7 + 0x1p-9, 0, 1e-4, 0.17, ErrorBound::kRun},
    {"hqq:bits=2,group=16", 2.0 / 3 + 0x1p-9, 0, 1e-4, 0.32, ErrorBound::kRun},
    {"hqq:bits=1,group=-1", 2 + 0x1p-9, 0, 1e-4, 1.05, ErrorBound::kRun},
    // No error is larger than the weights themselves. Of normal weights a sign
    // and the mean magnitude leave 1 - 2 / pi of the square, three values 0.26.
    {"ternary", 1, 0, 0, 0.53, ErrorBound::kRun},
    {"ternary:granularity=tensor", 1, 0, 0, 0.53, ErrorBound::kMatrix},
    {"binary", 1 + 0x1p-11, 0, 0, 0.61, ErrorBound::kRun},
    {"binary:granularity=channel", 1 + 0x1p-11, 0, 0, 0.61, ErrorBound::kRun},
    // Half a step, or a whole one where the largest weight is negative and its
    // opposite finds no code; and float16's rounding of scale and minimum.
    {.spec = "gguf-q8_0",
     .row_max = 0.5 / 127 + 0x1p-11,
     .relative_l2 = 0.0056,
     .of = ErrorBound::kRun,
     .cols = 1024},
    {.spec = "gguf-q4_0",
     .row_max = 1.0 / 8 + 0x1p-11,
     .relative_l2 = 0.090,
     .of = ErrorBound::kRun,
     .cols = 1024},
    {.spec = "gguf-q4_1",
     .row_max = 1.0 / 15 + 3 * 0x1p-11,
     .relative_l2 = 0.081,
     .of = ErrorBound::kRun,
     .cols = 1024},
    {.spec = "gguf-q5_0",
     .row_max = 1.0 / 16 + 0x1p-11,
     .relative_l2 = 0.045,
     .of = ErrorBound::kRun,
     .cols = 1024},
    {.spec = "gguf-q5_1",
     .row_max = 1.0 / 31 + 3 * 0x1p-11,
     .relative_l2 = 0.040,
     .of = ErrorBound::kRun,
     .cols = 1024},
    // Searches give up the largest weights for the many: what they were seen to
    // do, and a fifth more.
    {.spec = "gguf-q2_k", .row_max = 0.46, .relative_l2 = 0.31, .cols = 1024},
    {.spec = "gguf-q3_k", .row_max = 0.23, .relative_l2 = 0.157, .cols = 1024},
    {.spec = "gguf-q4_k", .row_max = 0.096, .relative_l2 = 0.074, .cols = 1024},
    {.spec = "gguf-q5_k", .row_max = 0.06, .relative_l2 = 0.038, .cols = 1024},
    {.spec = "gguf-q6_k", .row_max = 0.02, .relative_l2 = 0.0185, .cols = 1024},
    {.spec = "gguf-iq4_nl",
     .row_max = 0.115,
     .relative_l2 = 0.079,
     .cols = 1024},
    {.spec = "gguf-iq4_xs",
     .row_max = 0.115,
     .relative_l2 = 0.080,
     .cols = 1024},
    // For weights that were trained with three values.
    {.spec = "gguf-tq2_0",
     .row_max = 0.5 + 0x1p-11,
     .relative_l2 = 0.83,
     .of = ErrorBound::kRun,
     .cols = 1024},
};

// A spec in letters that a test's name may have.
inline std::string TestName(std::string_view spec) {
  std::string name(spec);
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_
