#include "image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "image/kernels/resize.h"

namespace ounce::image {
namespace {

double Sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= M_PI;
  return std::sin(x) / x;
}

// f(x), in the very operations of Pillow's.
double Value(Resample resample, double x) {
  switch (resample) {
    case Resample::kNearest:
      break;  // has none
    case Resample::kLanczos:
      return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3) : 0.0;
    case Resample::kBilinear:
      x = std::abs(x);
      return x < 1.0 ? 1.0 - x : 0.0;
    case Resample::kBicubic: {
      constexpr double a = -0.5;
      x = std::abs(x);
      if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
      return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
    }
    case Resample::kBox:
      return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case Resample::kHamming:
      x = std::abs(x);
      if (x == 0.0) return 1.0;
      if (x >= 1.0) return 0.0;
      x *= M_PI;
      return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));
  }
  return 0.0;
}

// f is 0 from here on.
double Radius(Resample resample) {
  constexpr double kRadii[kNumResamples] = {0, 3, 1, 2, 0.5, 1};
  return kRadii[static_cast<int>(resample)];
}

double Spread(int64_t from, int64_t to) {
  return std::max(static_cast<double>(from) / to, 1.0);
}

// Taps of a position at most, padded.
int64_t NumTaps(int64_t from, int64_t to, Resample resample) {
  const double support = Radius(resample) * Spread(from, to);
  const int64_t taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  return (taps + kTapGroup - 1) / kTapGroup * kTapGroup;
}

struct Filter {
  int64_t taps = 0;
  std::vector<int32_t> first;
  std::vector<int32_t> count;
  std::vector<int16_t> high;
  std::vector<int16_t> low;

  FilterView view() const {
    return {.positions = static_cast<int64_t>(first.size()),
            .taps = taps,
            .first = first.data(),
            .count = count.data(),
            .high = high.data(),
            .low = low.data()};
  }
};

int64_t FilterBytes(int64_t from, int64_t to, Resample resample) {
  return to * (NumTaps(from, to, resample) * 4 + 8);
}

// In float64 and in this order, as Pillow does it: the rounded weights are the
// same then.
Filter MakeFilter(int64_t from, int64_t to, Resample resample) {
  const double scale = static_cast<double>(from) / to;
  const double support = Radius(resample) * Spread(from, to);
  const double step = 1.0 / Spread(from, to);
  Filter filter;
  filter.taps = NumTaps(from, to, resample);
  filter.first.resize(to);
  filter.count.resize(to);
  filter.high.resize(to * filter.taps);
  filter.low.resize(to * filter.taps);
  std::vector<double> weights(filter.taps);
  for (int64_t i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const int64_t first =
        std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end =
        std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), from);
    double sum = 0.0;
    for (int64_t j = first; j < end; ++j) {
      weights[j - first] = Value(resample, (j - center + 0.5) * step);
      sum += weights[j - first];
    }
    filter.first[i] = static_cast<int32_t>(first);
    filter.count[i] = static_cast<int32_t>(end - first);
    for (int64_t t = 0; t < end - first; ++t) {
      const double weight = sum == 0.0 ? weights[t] : weights[t] / sum;
      const int32_t fixed = static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) +
                                                 weight * (1 << kWeightBits));
      filter.high[i * filter.taps + t] =
          static_cast<int16_t>(fixed >> kLowBits);
      filter.low[i * filter.taps + t] =
          static_cast<int16_t>(fixed & ((1 << kLowBits) - 1));
    }
  }
  return filter;
}

const ResizeKernels& KernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx2) return kResizeAvx2;
#endif
  return kResizePortable;
}

// Rows that are alive between the passes: those of one output row, and what
// filtering kRowsAtOnce at a time runs ahead.
int64_t RingRows(int64_t from_height, int64_t to_height, Resample resample) {
  return NumTaps(from_height, to_height, resample) + kRowsAtOnce;
}

int64_t RingStride(int64_t width) {
  return (width * 3 + Rgb8::kPadding + 63) / 64 * 64;
}

// The rows of a picture, each filtered to the new width when it is first asked
// for.
class FilteredRows {
 public:
  // `width`: of the rows; `ring_rows`: how far apart rows asked for may lie.
  static absl::StatusOr<FilteredRows> Create(const Rgb8& picture, int64_t width,
                                             int64_t ring_rows,
                                             Resample resample,
                                             const ResizeKernels& kernels) {
    FilteredRows rows(picture, kernels);
    if (width == picture.width()) return rows;
    rows.filter_ = MakeFilter(picture.width(), width, resample);
    rows.stride_ = RingStride(width);
    rows.ring_rows_ = ring_rows;
    // One more, where rows past the last go.
    ASSIGN_OR_RETURN(rows.ring_,
                     MappedMemory::Create((ring_rows + 1) * rows.stride_));
    return rows;
  }

  // Rows [first, end) of the filtered picture, valid until the next call;
  // `first` never goes back.
  void Get(int64_t first, int64_t end, const uint8_t** rows) {
    if (stride_ == 0) {
      for (int64_t y = first; y < end; ++y) rows[y - first] = picture_.row(y);
      return;
    }
    next_ = std::max(next_, first);
    while (next_ < end) FilterSome();
    for (int64_t y = first; y < end; ++y) rows[y - first] = Slot(y);
  }

 private:
  FilteredRows(const Rgb8& picture, const ResizeKernels& kernels)
      : picture_(picture), kernels_(kernels) {}

  uint8_t* Slot(int64_t y) {
    return reinterpret_cast<uint8_t*>(ring_.data()) + y % ring_rows_ * stride_;
  }

  void FilterSome() {
    const uint8_t* in[kRowsAtOnce];
    uint8_t* out[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const int64_t y = next_ + r;
      const bool inside = y < picture_.height();
      in[r] = picture_.row(inside ? y : picture_.height() - 1);
      out[r] = inside ? Slot(y)
                      : reinterpret_cast<uint8_t*>(ring_.data()) +
                            ring_rows_ * stride_;
    }
    kernels_.horizontal(filter_.view(), in, out);
    next_ = std::min(next_ + kRowsAtOnce, picture_.height());
  }

  const Rgb8& picture_;
  const ResizeKernels& kernels_;
  Filter filter_;
  MappedMemory ring_;
  int64_t ring_rows_ = 0;
  int64_t stride_ = 0;  // 0: the rows are those of the picture
  int64_t next_ = 0;    // the first row that was not filtered yet
};

// Columns of the picture, filtered to the new height row by row.
class FilteredColumns {
 public:
  FilteredColumns(int64_t from, int64_t to, Resample resample,
                  const ResizeKernels& kernels)
      : kernels_(kernels),
        filter_(MakeFilter(from, to, resample)),
        rows_(filter_.taps) {}

  // Row `y` of the result, `bytes` wide. `get(first, end, rows)` names rows of
  // what is filtered.
  template <class Get>
  void Row(int64_t y, int64_t bytes, const Get& get, uint8_t* out) {
    const int64_t first = filter_.first[y];
    const int64_t count = filter_.count[y];
    get(first, first + count, rows_.data());
    // An odd one's partner has weight 0.
    const int64_t taps = (count + 1) / 2 * 2;
    if (taps > count) rows_[count] = rows_[0];
    kernels_.vertical(rows_.data(), filter_.high.data() + y * filter_.taps,
                      filter_.low.data() + y * filter_.taps, taps, bytes, out);
  }

 private:
  const ResizeKernels& kernels_;
  const Filter filter_;
  std::vector<const uint8_t*> rows_;
};

bool VerticalFirst(int64_t from_height, int64_t from_width, int64_t to_height,
                   int64_t to_width) {
  const int64_t fewer_rows = from_height - to_height;
  return fewer_rows > 0 && fewer_rows > (from_width - to_width) * 2;
}

absl::Status ResizeRowsFirst(const Rgb8& picture, Resample resample,
                             const ResizeKernels& kernels, Rgb8& result) {
  const int64_t height = result.height();
  const int64_t width = result.width();
  const bool vertical = height != picture.height();
  ASSIGN_OR_RETURN(
      FilteredRows source,
      FilteredRows::Create(
          picture, width,
          vertical ? RingRows(picture.height(), height, resample) : kRowsAtOnce,
          resample, kernels));
  if (!vertical) {
    for (int64_t y = 0; y < height; ++y) {
      const uint8_t* row;
      source.Get(y, y + 1, &row);
      std::memcpy(result.row(y), row, width * 3);
    }
    return absl::OkStatus();
  }
  FilteredColumns columns(picture.height(), height, resample, kernels);
  const auto get = [&](int64_t first, int64_t end, const uint8_t** rows) {
    source.Get(first, end, rows);
  };
  for (int64_t y = 0; y < height; ++y) {
    columns.Row(y, width * 3, get, result.row(y));
  }
  return absl::OkStatus();
}

absl::Status ResizeColumnsFirst(const Rgb8& picture, Resample resample,
                                const ResizeKernels& kernels, Rgb8& result) {
  const int64_t height = result.height();
  FilteredColumns columns(picture.height(), height, resample, kernels);
  const auto get = [&](int64_t first, int64_t end, const uint8_t** rows) {
    for (int64_t y = first; y < end; ++y) rows[y - first] = picture.row(y);
  };
  if (result.width() == picture.width()) {
    for (int64_t y = 0; y < height; ++y) {
      columns.Row(y, picture.width() * 3, get, result.row(y));
    }
    return absl::OkStatus();
  }
  const Filter filter = MakeFilter(picture.width(), result.width(), resample);
  const int64_t in_stride = RingStride(picture.width());
  // And a row for what is filtered past the last.
  ASSIGN_OR_RETURN(const MappedMemory memory,
                   MappedMemory::Create(kRowsAtOnce * in_stride +
                                        RingStride(result.width())));
  uint8_t* const buffer = reinterpret_cast<uint8_t*>(memory.data());
  for (int64_t y = 0; y < height; y += kRowsAtOnce) {
    const uint8_t* in[kRowsAtOnce];
    uint8_t* out[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      uint8_t* const row = buffer + r * in_stride;
      const bool inside = y + r < height;
      if (inside) columns.Row(y + r, picture.width() * 3, get, row);
      in[r] = row;
      out[r] = inside ? result.row(y + r) : buffer + kRowsAtOnce * in_stride;
    }
    kernels.horizontal(filter.view(), in, out);
  }
  return absl::OkStatus();
}

// The sample under the center of each output, by running sums as Pillow has
// them: where a center falls between two samples, rounding decides.
std::vector<int64_t> NearestSamples(int64_t from, int64_t to) {
  const double step = static_cast<double>(from) / to;
  double center = step * 0.5;
  std::vector<int64_t> samples(to);
  for (int64_t i = 0; i < to; ++i, center += step) {
    samples[i] = std::min(static_cast<int64_t>(center), from - 1);
  }
  return samples;
}

void ResizeNearest(const Rgb8& picture, Rgb8& result) {
  const std::vector<int64_t> columns =
      NearestSamples(picture.width(), result.width());
  const std::vector<int64_t> rows =
      NearestSamples(picture.height(), result.height());
  for (int64_t y = 0; y < result.height(); ++y) {
    const uint8_t* const from = picture.row(rows[y]);
    uint8_t* to = result.row(y);
    for (int64_t x = 0; x < result.width(); ++x, to += 3) {
      std::memcpy(to, from + columns[x] * 3, 3);
    }
  }
}

}  // namespace

absl::StatusOr<Rgb8> Resize(const Rgb8& picture, int64_t height, int64_t width,
                            Resample resample, Isa isa) {
  if (picture.height() == 0) {
    return absl::InvalidArgumentError("an empty picture cannot be resized");
  }
  ASSIGN_OR_RETURN(Rgb8 result, Rgb8::Create(height, width));
  const ResizeKernels& kernels = KernelsFor(isa);
  if (resample == Resample::kNearest) {
    ResizeNearest(picture, result);
  } else if (VerticalFirst(picture.height(), picture.width(), height, width)) {
    RETURN_IF_ERROR(ResizeColumnsFirst(picture, resample, kernels, result));
  } else {
    RETURN_IF_ERROR(ResizeRowsFirst(picture, resample, kernels, result));
  }
  return result;
}

int64_t ResizeBytes(int64_t from_height, int64_t from_width, int64_t to_height,
                    int64_t to_width, Resample resample) {
  int64_t bytes = to_height * to_width * 3 + Rgb8::kPadding;
  if (resample == Resample::kNearest) return bytes + (to_height + to_width) * 8;
  if (from_width != to_width) {
    bytes += FilterBytes(from_width, to_width, resample);
    if (VerticalFirst(from_height, from_width, to_height, to_width)) {
      bytes += kRowsAtOnce * RingStride(from_width) + RingStride(to_width);
    } else {
      bytes += (RingRows(from_height, to_height, resample) + 1) *
               RingStride(to_width);
    }
  }
  if (from_height != to_height) {
    bytes += FilterBytes(from_height, to_height, resample);
  }
  return bytes;
}

}  // namespace ounce::image
