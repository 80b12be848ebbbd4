// The half of one_process_test that includes LibTorch: no file includes both
// that and protobuf.
#ifndef OUNCE_TESTS_ONE_PROCESS_TORCH_H_
#define OUNCE_TESTS_ONE_PROCESS_TORCH_H_

#include <string>
#include <vector>

namespace ounce {

// a [rows, inner] times b [inner, columns], row-major.
std::vector<float> TorchMatmul(std::vector<float> a, std::vector<float> b,
                               int rows, int inner, int columns);

// Of the headers this was compiled with: "2.13.0".
std::string TorchHeaderVersion();

// What the library itself says of how it was built.
std::string TorchConfig();

}  // namespace ounce

#endif  // OUNCE_TESTS_ONE_PROCESS_TORCH_H_
