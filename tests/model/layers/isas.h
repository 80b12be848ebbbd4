// The instruction sets that this machine can run, for parameterized tests.
#ifndef OUNCE_TESTS_MODEL_LAYERS_ISAS_H_
#define OUNCE_TESTS_MODEL_LAYERS_ISAS_H_

#include <vector>

#include "base/cpu.h"

namespace ounce::testing {

inline std::vector<Isa> RunnableIsas() {
  std::vector<Isa> isas;
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) {
    isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_MODEL_LAYERS_ISAS_H_
