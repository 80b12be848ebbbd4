#include "model/layers/linear.h"

#include <utility>

#include "base/check.h"
#include "quant/matrices.h"

namespace ounce::model {
namespace {

using quant::ConstMatrix;
using quant::InputForms;
using quant::MatmulInput;
using quant::Matrix;
using quant::ScratchScope;

InputForms FormsFor(const LinearPart& part, const Run& run) {
  return quant::FormsFor(*part.weight, run.compute);
}

// x with its columns in a part's order.
Matrix InOrder(const ConstMatrix& x, const std::vector<int32_t>& order,
               const Run& run) {
  const Matrix ordered = quant::TakeMatrix(x.rows, x.cols, run.scratch);
  run.pool.ParallelFor(x.rows, [&](int64_t row, int) {
    const float* from = x.row(row);
    float* to = ordered.row(row);
    for (int64_t i = 0; i < x.cols; ++i) to[i] = from[order[i]];
  });
  return ordered;
}

}  // namespace

Linear::Linear(std::vector<LinearPart> parts, int64_t cols,
               std::vector<float> bias)
    : parts_(std::move(parts)), bias_(std::move(bias)), cols_(cols) {
  for (const LinearPart& part : parts_) {
    OUNCE_CHECK(part.weight->rows() == part.rows && part.weight->cols() == cols,
                "a part's weight has the part's shape");
    OUNCE_CHECK(part.input_order.empty() ||
                    static_cast<int64_t>(part.input_order.size()) == cols,
                "an order names every column");
    rows_ += part.rows;
  }
  OUNCE_CHECK(bias_.empty() || static_cast<int64_t>(bias_.size()) == rows_,
              "a bias has an element per row");
}

MatmulInput Linear::Prepare(const ConstMatrix& x,
                            std::initializer_list<const Linear*> layers,
                            const Run& run) {
  InputForms forms;
  for (const Linear* layer : layers) {
    OUNCE_CHECK(layer->cols_ == x.cols, "columns of x are the layer's");
    for (const LinearPart& part : layer->parts_) {
      if (part.input_order.empty()) forms = forms | FormsFor(part, run);
    }
  }
  return MatmulInput::Prepare(x, forms, run.pool, run.scratch);
}

void Linear::Apply(const MatmulInput& x, quant::Activation activation,
                   quant::Combine combine, const Matrix& y,
                   const Run& run) const {
  OUNCE_CHECK(y.cols == rows_ && y.rows == x.x().rows,
              "y has the rows of x, and as columns the layer's rows");
  int64_t first = 0;
  for (const LinearPart& part : parts_) {
    if (run.observer != nullptr && !part.modules.empty()) {
      run.observer->OnInput(part.modules, x.x());
    }
    const quant::Epilogue epilogue = {
        .bias = bias_.empty() ? nullptr : bias_.data() + first,
        .activation = activation,
        .combine = combine};
    const Matrix columns = {y.data + first, y.rows, part.rows, y.stride};
    first += part.rows;
    ScratchScope scope(run.scratch);
    const InputForms forms = FormsFor(part, run);
    MatmulInput input = x;
    if (!part.input_order.empty()) {
      input = MatmulInput::Prepare(
          quant::AsConst(InOrder(x.x(), part.input_order, run)), forms,
          run.pool, run.scratch);
    } else if (!x.Has(forms)) {
      input = MatmulInput::Prepare(x.x(), forms, run.pool, run.scratch);
    }
    if (run.counting()) {
      quant::CountMatmul(input, part.rows, run.pool, run.scratch);
    } else {
      quant::Matmul(input, *part.weight, epilogue, columns, run.pool,
                    run.scratch);
    }
  }
}

void Linear::Apply(const ConstMatrix& x, quant::Activation activation,
                   quant::Combine combine, const Matrix& y,
                   const Run& run) const {
  ScratchScope scope(run.scratch);
  Apply(Prepare(x, {this}, run), activation, combine, y, run);
}

}  // namespace ounce::model
