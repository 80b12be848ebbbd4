// The inner loops of the resize, per instruction set.
#ifndef OUNCE_IMAGE_KERNELS_RESIZE_H_
#define OUNCE_IMAGE_KERNELS_RESIZE_H_

#include <cstdint>

// Included by files that are compiled for one instruction set, so it brings in
// no inline function that the linker could take from one of them.
namespace ounce::image {

// A weight is high * 2^kLowBits + low, with kWeightBits fractional bits.
inline constexpr int kWeightBits = 22;
inline constexpr int kLowBits = 11;
inline constexpr int kTapGroup = 4;  // taps of a position, padded with zeros
inline constexpr int kRowsAtOnce = 4;

// The filter of one axis: position i takes count[i] samples, first[i] and on.
struct FilterView {
  int64_t positions;
  int64_t taps;          // from position to position, a multiple of kTapGroup
  const int32_t* first;  // [positions]
  const int32_t* count;  // [positions]
  const int16_t* high;   // [positions, taps], zeros behind count[i]
  const int16_t* low;
};

struct ResizeKernels {
  // kRowsAtOnce rows of three-byte pixels, each filtered along itself. May read
  // 16 bytes behind the last pixel a filter names.
  void (*horizontal)(const FilterView& filter, const uint8_t* const* rows,
                     uint8_t* const* out);
  // One row of `bytes` from `taps` rows. May read 31 bytes behind a row.
  void (*vertical)(const uint8_t* const* rows, const int16_t* high,
                   const int16_t* low, int64_t taps, int64_t bytes,
                   uint8_t* out);
};

extern const ResizeKernels kResizePortable;
extern const ResizeKernels kResizeAvx2;

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_KERNELS_RESIZE_H_
