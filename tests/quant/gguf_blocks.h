// Codes as the bytes of GGUF's blocks, by the layouts of ggml-common.h: what a
// file would hold.
#ifndef OUNCE_TESTS_QUANT_GGUF_BLOCKS_H_
#define OUNCE_TESTS_QUANT_GGUF_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "quant/codes.h"
#include "quant/dtype.h"

namespace ounce::quant {

// A block being written.
struct GgufBlock {
  const uint8_t* codes;
  int cols;
  // Of fields, by index, the values from the block's first.
  std::vector<const float*> fields;
  std::vector<uint8_t>* out;

  void Put(int byte) const { out->push_back(static_cast<uint8_t>(byte)); }
  void Half(int field) const {
    const uint16_t bits = FloatToHalf(fields[field][0]);
    Put(bits & 255);
    Put(bits >> 8);
  }
  int Integer(int field, int index) const {
    return static_cast<int>(fields[field][index]);
  }
  // The low halves of bytes are so many columns, the high ones as many more.
  void Nibbles(int half) const {
    for (int run = 0; run < cols; run += 2 * half) {
      for (int i = run; i < run + half; ++i) {
        Put((codes[i] & 15) | (codes[i + half] & 15) << 4);
      }
    }
  }
  // Bits from `shift` on of columns 32 apart, `bits` of each, in one byte.
  void Bits(int shift, int bits) const {
    const int in_a_byte = 8 / bits;
    for (int run = 0; run < cols; run += 32 * in_a_byte) {
      for (int i = run; i < run + 32; ++i) {
        int byte = 0;
        for (int k = 0; k < in_a_byte; ++k) {
          const int code = codes[i + 32 * k] >> shift & ((1 << bits) - 1);
          byte |= code << k * bits;
        }
        Put(byte);
      }
    }
  }
  // The fifth bits of 32 columns.
  void FifthBits() const {
    for (int i = 0; i < 32; i += 8) {
      int byte = 0;
      for (int k = 0; k < 8; ++k) byte |= (codes[i + k] >> 4) << k;
      Put(byte);
    }
  }
  // Eight scales and minima of 6 bits.
  void ScalesAndMinima(int scale, int min) const {
    for (const int field : {scale, min}) {
      for (int i = 0; i < 4; ++i) {
        Put(Integer(field, i) | Integer(field, i + 4) >> 4 << 6);
      }
    }
    for (int i = 4; i < 8; ++i) {
      Put((Integer(scale, i) & 15) | (Integer(min, i) & 15) << 4);
    }
  }
};

inline const std::map<std::string_view, std::function<void(const GgufBlock&)>>&
GgufWriters() {
  static const std::map<std::string_view, std::function<void(const GgufBlock&)>>
      kWriters = {
          {"q4_0", [](const GgufBlock& b) { b.Half(0), b.Nibbles(16); }},
          {"q4_1",
           [](const GgufBlock& b) { b.Half(0), b.Half(1), b.Nibbles(16); }},
          {"q5_0",
           [](const GgufBlock& b) { b.Half(0), b.FifthBits(), b.Nibbles(16); }},
          {"q5_1",
           [](const GgufBlock& b) {
             b.Half(0), b.Half(1), b.FifthBits(), b.Nibbles(16);
           }},
          {"q8_0",
           [](const GgufBlock& b) {
             b.Half(0);
             for (int i = 0; i < 32; ++i) b.Put(b.codes[i]);
           }},
          {"q2_k",
           [](const GgufBlock& b) {
             for (int i = 0; i < 16; ++i) {
               b.Put(b.Integer(2, i) | b.Integer(3, i) << 4);
             }
             b.Bits(0, 2), b.Half(0), b.Half(1);
           }},
          {"q3_k",
           [](const GgufBlock& b) {
             b.Bits(2, 1), b.Bits(0, 2);
             const auto scale = [&](int i) { return b.Integer(1, i) + 32; };
             for (int i = 0; i < 8; ++i) {
               b.Put((scale(i) & 15) | (scale(i + 8) & 15) << 4);
             }
             for (int i = 0; i < 4; ++i) {
               b.Put(scale(i) >> 4 | scale(i + 4) >> 4 << 2 |
                     scale(i + 8) >> 4 << 4 | scale(i + 12) >> 4 << 6);
             }
             b.Half(0);
           }},
          {"q4_k",
           [](const GgufBlock& b) {
             b.Half(0), b.Half(1), b.ScalesAndMinima(2, 3), b.Nibbles(32);
           }},
          {"q5_k",
           [](const GgufBlock& b) {
             b.Half(0), b.Half(1), b.ScalesAndMinima(2, 3);
             b.Bits(4, 1), b.Nibbles(32);
           }},
          {"q6_k",
           [](const GgufBlock& b) {
             b.Nibbles(64), b.Bits(4, 2);
             for (int i = 0; i < 16; ++i) b.Put(b.Integer(1, i));
             b.Half(0);
           }},
          {"iq4_nl", [](const GgufBlock& b) { b.Half(0), b.Nibbles(16); }},
          {"iq4_xs",
           [](const GgufBlock& b) {
             b.Half(0);
             const auto scale = [&](int i) { return b.Integer(1, i) + 32; };
             int high = 0;
             for (int i = 0; i < 8; ++i) high |= scale(i) >> 4 << 2 * i;
             b.Put(high & 255), b.Put(high >> 8);
             for (int i = 0; i < 8; i += 2) {
               b.Put((scale(i) & 15) | (scale(i + 1) & 15) << 4);
             }
             b.Nibbles(16);
           }},
          {"tq2_0", [](const GgufBlock& b) { b.Bits(0, 2), b.Half(0); }},
      };
  return kWriters;
}

// Of the rows of a band of whole blocks of so many columns.
inline std::vector<uint8_t> GgufBlocks(const CodeFormat& format,
                                       const CodeBand& band, int64_t cols,
                                       int block) {
  std::vector<uint8_t> bytes;
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < cols; col += block) {
      GgufBlock b = {.codes = band.unsigned_row(row, cols) + col,
                     .cols = block,
                     .fields = {},
                     .out = &bytes};
      for (size_t i = 0; i < format.fields.size(); ++i) {
        b.fields.push_back(band.fields[i].values.data() +
                           (format.fields[i].reach.IndexOf(row, col, cols) -
                            band.fields[i].first));
      }
      GgufWriters().at(format.element)(b);
    }
  }
  return bytes;
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_GGUF_BLOCKS_H_
