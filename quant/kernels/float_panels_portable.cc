#include "quant/kernels/float_panels_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {

void FloatPanelsPortable(const FloatJob& job, int64_t first_panel,
                         int64_t end_panel, int64_t first_row, int64_t end_row,
                         std::byte* scratch) {
  vec::RunFloatPanels(job, first_panel, end_panel, first_row, end_row, scratch);
}

}  // namespace ounce::quant
