// Weights as an architecture asks for them, by name and shape; the policy that
// picks each one's method works behind it.
#ifndef OUNCE_MODEL_WEIGHTS_H_
#define OUNCE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/layers/linear.h"
#include "model/weight_role.h"
#include "quant/convolution.h"

namespace ounce::model {

// Rows of a linear layer, as a checkpoint stores them: rows
// [first_row, first_row + rows) of tensor `module` + ".weight".
struct LinearSource {
  std::string module;
  int64_t rows = 0;
  // Stored as [cols, stored_rows], as GPT-2's Conv1D is.
  bool transposed = false;
  bool bias = false;  // has `module` + ".bias" [stored_rows], cut likewise
  int64_t first_row = 0;
  int64_t stored_rows = 0;  // of the tensor; 0: `rows`
};

// A convolution whose batch norm is folded in: y = W * x + bias.
struct ConvolutionWeight {
  SharedWeight weight;  // packed from quant::ConvolutionCodes
  std::vector<float> bias;
};

// A reader may also only look at names and shapes (PlanModel): then the weights
// that it returns are null and the vectors empty, which is all right as long as
// an architecture does no more than keep them.
//
// Threads: one at a time.
// Errors, each with the tensor's name: kInvalidArgument for one that is missing
//   or of another shape; what its method or file returns; kCancelled when the
//   one who loads gave up.
class WeightReader {
 public:
  virtual ~WeightReader() = default;

  virtual bool Has(std::string_view name) const = 0;

  // For checkpoints that differ in what stands before all names: the first of
  // `prefixes` behind which there is a tensor `name`; if there is none, the
  // first of all, so that what is missing is missing under its usual name.
  std::string PrefixOf(std::string_view name,
                       std::initializer_list<std::string_view> prefixes) const {
    for (const std::string_view prefix : prefixes) {
      std::string full(prefix);
      if (Has(full.append(name))) return std::string(prefix);
    }
    return std::string(*prefixes.begin());
  }

  // Tensor `module` + ".weight" of shape [rows, cols], packed. Asking again for
  // the same tensor, or for one that shares its storage, gives the same weight.
  virtual absl::StatusOr<SharedWeight> Matrix(std::string_view module,
                                              int64_t rows, int64_t cols,
                                              WeightRole role) = 0;

  // A linear layer of the rows of `sources`, one after another; columns of W
  // are `cols` inputs. Neighbours that get the same method and have the same
  // dtype are packed as one matrix, others are parts of their own. Where no
  // source has a bias the layer has none; where some have, the others' is zero.
  // A head's bias may be -infinity (LogitBias).
  //
  // Several layers may have rows of one tensor. All of its rows must be asked
  // for in the end, else the load fails: the config was not understood.
  virtual absl::StatusOr<Linear> ReadLinear(
      absl::Span<const LinearSource> sources, int64_t cols,
      WeightRole role) = 0;

  // For a config that ties the head `module` to `other`, of which Matrix has
  // been asked: the same weight under a second name. A tensor of the second
  // name is not needed; kInvalidArgument if there is one and its values differ.
  virtual absl::StatusOr<SharedWeight> Tied(std::string_view module,
                                            std::string_view other) = 0;

  // Tensor `module` + ".weight" of shape [out, in, kernel, kernel], with what
  // makes its outputs into those of its neighbour:
  //   batch_norm "": bias is `module` + ".bias"
  //   else: the frozen batch norm's weight, bias, running_mean and running_var
  //     (of this module) are folded in, with epsilon 1e-5
  virtual absl::StatusOr<ConvolutionWeight> Convolution(
      std::string_view module, const quant::ConvolutionShape& shape,
      std::string_view batch_norm) = 0;

  // Tensor `name` of shape [size], as float32. kInvalidArgument for NaN and
  // infinite values, of which a single one would spoil every answer.
  virtual absl::StatusOr<std::vector<float>> Vector(std::string_view name,
                                                    int64_t size) = 0;

  // As Vector, but -infinity is taken: what is never to be chosen has it.
  virtual absl::StatusOr<std::vector<float>> LogitBias(std::string_view name,
                                                       int64_t size) = 0;

  // Tensors whose names match this glob (glob.h) are known not to be needed
  // (mask buffers of old checkpoints). What is left over at the end is an error
  // if its name begins like the network's own (up to the first dot), for then
  // the config was not understood; other names are reported.
  virtual void Ignore(std::string_view glob) = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_WEIGHTS_H_
