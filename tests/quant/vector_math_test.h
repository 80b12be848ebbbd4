// What vector_math_test.cc sees of an instruction set: functions on arrays.
#ifndef OUNCE_TESTS_QUANT_VECTOR_MATH_TEST_H_
#define OUNCE_TESTS_QUANT_VECTOR_MATH_TEST_H_

#include <cstdint>

namespace ounce::quant {

struct VectorFunctions {
  int lanes;
  // Reads and writes `count` elements, by LoadPart and StorePart at the end.
  void (*exp)(const float* x, int64_t count, float* y);
  void (*gelu)(const float* x, int64_t count, float* y);
  void (*gelu_tanh)(const float* x, int64_t count, float* y);
  void (*silu)(const float* x, int64_t count, float* y);
  void (*round)(const float* x, int64_t count, float* y);
  float (*reduce_add)(const float* x);  // `lanes` elements
  float (*reduce_max)(const float* x);
};

VectorFunctions VectorFunctionsPortable();
VectorFunctions VectorFunctionsAvx2();
VectorFunctions VectorFunctionsAvx512();

}  // namespace ounce::quant

// For the files that are compiled per instruction set.
#define OUNCE_VECTOR_LOOP(Function)                                         \
  [](const float* x, int64_t count, float* y) {                             \
    for (int64_t i = 0; i < count; i += vec::kLanes) {                      \
      vec::StorePart(vec::Function(vec::LoadPart(x + i, count - i)), y + i, \
                     count - i);                                            \
    }                                                                       \
  }
#define OUNCE_VECTOR_FUNCTIONS                                       \
  {                                                                  \
    vec::kLanes, OUNCE_VECTOR_LOOP(Exp), OUNCE_VECTOR_LOOP(Gelu),    \
        OUNCE_VECTOR_LOOP(GeluTanh), OUNCE_VECTOR_LOOP(Silu),        \
        OUNCE_VECTOR_LOOP(Round),                                    \
        [](const float* x) { return vec::ReduceAdd(vec::Load(x)); }, \
        [](const float* x) { return vec::ReduceMax(vec::Load(x)); }  \
  }

#endif  // OUNCE_TESTS_QUANT_VECTOR_MATH_TEST_H_
