// Codes and the numbers beside them as they come in bands, written as streams
// of bits or floats.
#ifndef OUNCE_MODEL_SAVER_CODE_STREAMS_H_
#define OUNCE_MODEL_SAVER_CODE_STREAMS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "model/saver/safetensors_files.h"
#include "quant/codes.h"

namespace ounce::model {

// A stream of numbers of some bits each, lowest bits first, as it grows.
class BitStream {
 public:
  BitStream(TensorSink* sink, int bits) : sink_(sink), bits_(bits) {}

  // Numbers of more bits are cut: negative ones are two's complement.
  void Add(uint64_t number);
  // Writes what is whole; at the end all of it.
  absl::Status Flush(bool is_end);

 private:
  TensorSink* sink_;
  const int bits_;
  uint64_t pending_ = 0;  // fewer than 8 bits between calls
  int pending_bits_ = 0;
  std::string bytes_;
  int64_t written_ = 0;
};

// Values of a field, of which bands have overlapping ranges: floats as the
// field has them, integers as a stream of bits.
class FieldStream {
 public:
  FieldStream(const quant::CodeField& field, TensorSink* sink)
      : field_(field), sink_(sink), bits_(sink, field.bits) {}

  // Of the `index`th field of a band.
  absl::Status Add(const quant::CodeBand& band, size_t index, int64_t cols);
  absl::Status Finish();

 private:
  const quant::CodeField& field_;
  TensorSink* sink_;
  BitStream bits_;
  int64_t next_ = 0;  // index of the first value that is not written
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_CODE_STREAMS_H_
