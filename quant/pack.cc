#include "quant/pack.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define PACKER(function, file) const Packer& function();
#include "quant/packers.def"
#undef PACKER

namespace {

struct Packing {
  const Packer* packer;
  Tiles tiles;
};

Packing PackingOf(const CodeFormat& format, int64_t cols, Product product) {
  const Packer* const packers[] = {
#define PACKER(function, file) &function(),
#include "quant/packers.def"
#undef PACKER
  };
  for (const Packer* packer : packers) {
    std::optional<Tiles> tiles = packer->tiles(format, cols);
    if (tiles.has_value() && (product == Product::kMatmul ||
                              tiles->layout->form != TileForm::kRuns)) {
      return {packer, *std::move(tiles)};
    }
  }
  OUNCE_CHECK(false, "the last packer takes every format");
}

absl::Status CheckInputRounding(const CodeFormat& format, TileForm form) {
  const InputRounding& rounding = format.input_rounding;
  if (rounding.bits == 16 || form == TileForm::kInt8 ||
      (form == TileForm::kRuns && rounding.threshold == 0)) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      StrCat("activations in 8 bits are for weights that are multiplied as "
             "integers, and ",
             format.element, " of this kind is not"));
}

absl::StatusOr<int64_t> BytesOf(const Packing& packing,
                                const CodeFormat& format, int64_t rows,
                                int64_t cols, Product product) {
  const auto& [packer, tiles] = packing;
  if (cols > packer->max_cols) {
    return absl::InvalidArgumentError(
        StrCat("must have at most ", packer->max_cols, " columns, has ", cols));
  }
  if (product == Product::kMatmul) {
    RETURN_IF_ERROR(CheckInputRounding(format, tiles.layout->form));
  }
  return PackedWeight::ResidentBytes(*tiles.layout, rows, cols, tiles.runs);
}

// Packs the panels of a weight, each on one thread, because rows of a panel may
// share bytes. In the order of their numbers, so that when one fails all before
// it have been begun.
class PanelPacker {
 public:
  PanelPacker(absl::Span<const CodeSlice> slices, const Packer& packer,
              PackedWeight& weight, int workers)
      : slices_(slices), packer_(packer), weight_(weight), rooms_(workers) {
    for (const CodeSlice& slice : slices) {
      if (slice.error != nullptr) errors_.resize(weight.panels());
    }
  }

  void Pack(int64_t panel, int worker) {
    if (panel > first_failed_.load(std::memory_order_relaxed)) return;
    absl::Status status;
    try {
      status = PackRows(panel, rooms_[worker]);
    } catch (const std::bad_alloc&) {
      status = absl::ResourceExhaustedError("memory is short");
    }
    if (status.ok()) return;
    MutexLock lock(&mutex_);
    if (panel >= first_failed_.load(std::memory_order_relaxed)) return;
    first_failed_.store(panel, std::memory_order_relaxed);
    status_ = std::move(status);
  }

  // When all panels are done: tells the slices' meters, panel by panel.
  absl::Status Finish() {
    MutexLock lock(&mutex_);
    RETURN_IF_ERROR(status_);
    for (const std::vector<PieceError>& pieces : errors_) {
      for (const auto& [slice, error, output_error] : pieces) {
        slice->error->Add(error);
        if (slice->input != nullptr) slice->output_error->Add(output_error);
      }
    }
    return absl::OkStatus();
  }

 private:
  struct Room {
    CodeBand band;
    std::vector<float> wanted;
    std::vector<float> found;
    std::vector<float> wanted_products;
    std::vector<float> found_products;
  };
  struct PieceError {
    const CodeSlice* slice;
    ErrorMeter error;
    ErrorMeter output_error;
  };

  absl::Status PackRows(int64_t panel, Room& room) {
    const int64_t begin = panel * kPanelRows;
    const int64_t end = std::min(begin + kPanelRows, weight_.rows());
    int64_t slice_begin = 0;
    for (const CodeSlice& slice : slices_) {
      const int64_t from = std::max(begin, slice_begin);
      const int64_t count = std::min(end, slice_begin + slice.rows) - from;
      if (count > 0) {
        const int64_t row = slice.first_row + from - slice_begin;
        RETURN_IF_ERROR(slice.codes->Read(row, count, room.band));
        packer_.pack(slice.codes->format(), room.band, from, weight_);
        if (slice.error != nullptr) {
          RETURN_IF_ERROR(Measure(slice, row, count, room, errors_[panel]));
        }
      }
      slice_begin += slice.rows;
    }
    return absl::OkStatus();
  }

  static absl::Status Measure(const CodeSlice& slice, int64_t row,
                              int64_t count, Room& room,
                              std::vector<PieceError>& errors) {
    const int64_t cols = slice.codes->cols();
    room.wanted.resize(count * cols);
    room.found.resize(count * cols);
    RETURN_IF_ERROR(slice.original->Read(row, count, room.wanted.data()));
    Decode(slice.codes->format(), room.band, cols, room.found.data());
    PieceError piece = {&slice, {}, {}};
    piece.error.Add(slice.codes->format(), room.band, cols, room.wanted.data(),
                    room.found.data());
    if (slice.input != nullptr) {
      room.wanted_products.resize(slice.input->rows);
      room.found_products.resize(slice.input->rows);
      for (int64_t i = 0; i < count; ++i) {
        Multiply(*slice.input, room.wanted.data() + i * cols,
                 room.wanted_products);
        Multiply(*slice.input, room.found.data() + i * cols,
                 room.found_products);
        piece.output_error.Add(room.wanted_products.data(),
                               room.found_products.data(), slice.input->rows);
      }
    }
    errors.push_back(piece);
    return absl::OkStatus();
  }

  // products = x row, over ascending columns.
  static void Multiply(const LayerInput& x, const float* row,
                       std::vector<float>& products) {
    std::fill(products.begin(), products.end(), 0.0f);
    for (int64_t col = 0; col < x.cols; ++col) {
      const float* column = x.columns.data() + col * x.rows;
      for (int64_t i = 0; i < x.rows; ++i) products[i] += row[col] * column[i];
    }
  }

  const absl::Span<const CodeSlice> slices_;
  const Packer& packer_;
  PackedWeight& weight_;
  std::vector<Room> rooms_;                      // by worker
  std::vector<std::vector<PieceError>> errors_;  // by panel
  std::atomic<int64_t> first_failed_{INT64_MAX};
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // of the first that failed
};

}  // namespace

absl::StatusOr<PackedWeight> Pack(absl::Span<const CodeSlice> slices,
                                  Product product, ThreadPool* pool) {
  OUNCE_CHECK(!slices.empty(), "rows of something");
  const CodeRows& first = *slices[0].codes;
  const Packing packing = PackingOf(first.format(), first.cols(), product);
  int64_t rows = 0;
  for (const CodeSlice& slice : slices) {
    const CodeRows& codes = *slice.codes;
    OUNCE_CHECK(slice.input == nullptr || slice.input->cols == first.cols(),
                "inputs of the weight's columns");
    OUNCE_CHECK(
        codes.cols() == first.cols() &&
            (&codes == &first ||
             PackingOf(codes.format(), codes.cols(), product).packer ==
                 packing.packer) &&
            codes.format().input_rounding == first.format().input_rounding,
        "slices of one kind");
    rows += slice.rows;
  }
  const absl::StatusOr<int64_t> bytes =
      BytesOf(packing, first.format(), rows, first.cols(), product);
  RETURN_IF_ERROR(
      WithContext(bytes.status(), StrCat("tensor '", first.name(), "'")));
  ASSIGN_OR_RETURN(PackedWeight weight,
                   PackedWeight::Create(*packing.tiles.layout, rows,
                                        first.cols(), packing.tiles.runs));
  weight.set_input_rounding(first.format().input_rounding);
  PanelPacker panels(slices, *packing.packer, weight,
                     pool == nullptr ? 1 : pool->num_threads());
  if (pool == nullptr) {
    for (int64_t panel = 0; panel < weight.panels(); ++panel) {
      panels.Pack(panel, 0);
    }
  } else {
    pool->ParallelFor(weight.panels(), [&](int64_t panel, int worker) {
      panels.Pack(panel, worker);
    });
  }
  RETURN_IF_ERROR(panels.Finish());
  return weight;
}

absl::StatusOr<PackedWeight> Pack(const CodeRows& codes, Product product,
                                  ThreadPool* pool) {
  const CodeSlice whole = {&codes, 0, codes.rows()};
  return Pack(absl::MakeConstSpan(&whole, 1), product, pool);
}

absl::StatusOr<int64_t> PackedBytes(const CodeFormat& format, int64_t rows,
                                    int64_t cols, Product product) {
  return BytesOf(PackingOf(format, cols, product), format, rows, cols, product);
}

PackedWeight PackedOutline(const CodeFormat& format, int64_t rows,
                           int64_t cols) {
  const Tiles tiles = PackingOf(format, cols, Product::kMatmul).tiles;
  PackedWeight weight =
      PackedWeight::Outline(*tiles.layout, rows, cols, tiles.runs);
  weight.set_input_rounding(format.input_rounding);
  return weight;
}

}  // namespace ounce::quant
