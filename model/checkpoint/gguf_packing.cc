#include "model/checkpoint/gguf_packing.h"

#include <cstring>

#include "quant/dtype.h"

namespace ounce::model {
namespace {

// A block that grows from its first byte on.
class Block {
 public:
  Block(const GgufParts& from, uint8_t* bytes) : from_(from), next_(bytes) {}

  void Put(int byte) { *next_++ = static_cast<uint8_t>(byte); }
  void Half(int field) {
    const uint16_t bits = quant::FloatToHalf(from_.fields[field][0]);
    Put(bits & 255);
    Put(bits >> 8);
  }
  // Value `index` of a field of integers, of which the least is -zero.
  int Integer(int field, int index, int zero = 0) const {
    return static_cast<int>(from_.fields[field][index]) + zero;
  }
  void Codes(int cols) {
    std::memcpy(next_, from_.codes, cols);
    next_ += cols;
  }
  // The low halves of `half` bytes are so many columns, the high ones as many
  // more; and so on.
  void Nibbles(int cols, int half) {
    for (int run = 0; run < cols; run += 2 * half) {
      for (int i = run; i < run + half; ++i) {
        Put((from_.codes[i] & 15) | (from_.codes[i + half] & 15) << 4);
      }
    }
  }
  // `bits` of each of columns that lie 32 apart, those above `shift`, in one
  // byte.
  void Bits(int cols, int bits, int shift) {
    const int in_a_byte = 8 / bits;
    for (int run = 0; run < cols; run += 32 * in_a_byte) {
      for (int i = run; i < run + 32; ++i) {
        int byte = 0;
        for (int k = 0; k < in_a_byte; ++k) {
          const int code = from_.codes[i + 32 * k] >> shift;
          byte |= (code & ((1 << bits) - 1)) << k * bits;
        }
        Put(byte);
      }
    }
  }
  // Those of 32 columns.
  void FifthBits() {
    for (int i = 0; i < 32; i += 8) {
      int byte = 0;
      for (int k = 0; k < 8; ++k) byte |= (from_.codes[i + k] >> 4) << k;
      Put(byte);
    }
  }
  // Eight scales and eight minima of 6 bits, in 12 bytes.
  void ScalesAndMinima(int scale, int minimum) {
    for (const int field : {scale, minimum}) {
      for (int i = 0; i < 4; ++i) {
        Put(Integer(field, i) | Integer(field, i + 4) >> 4 << 6);
      }
    }
    for (int i = 4; i < 8; ++i) {
      Put((Integer(scale, i) & 15) | (Integer(minimum, i) & 15) << 4);
    }
  }

 private:
  const GgufParts& from_;
  uint8_t* next_;
};

}  // namespace

void PackQ40(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Nibbles(32, 16);
}
void PackQ41(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Half(1);
  to.Nibbles(32, 16);
}
void PackQ50(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.FifthBits();
  to.Nibbles(32, 16);
}
void PackQ51(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Half(1);
  to.FifthBits();
  to.Nibbles(32, 16);
}
void PackQ80(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Codes(32);
}

void PackQ2K(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  for (int i = 0; i < 16; ++i) to.Put(to.Integer(2, i) | to.Integer(3, i) << 4);
  to.Bits(256, 2, 0);
  to.Half(0);
  to.Half(1);
}
void PackQ3K(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Bits(256, 1, 2);
  to.Bits(256, 2, 0);
  const auto scale = [&](int i) { return to.Integer(1, i, 32); };
  for (int i = 0; i < 8; ++i) {
    to.Put((scale(i) & 15) | (scale(i + 8) & 15) << 4);
  }
  for (int i = 0; i < 4; ++i) {
    to.Put(scale(i) >> 4 | scale(i + 4) >> 4 << 2 | scale(i + 8) >> 4 << 4 |
           scale(i + 12) >> 4 << 6);
  }
  to.Half(0);
}
void PackQ4K(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Half(1);
  to.ScalesAndMinima(2, 3);
  to.Nibbles(256, 32);
}
void PackQ5K(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  to.Half(1);
  to.ScalesAndMinima(2, 3);
  to.Bits(256, 1, 4);
  to.Nibbles(256, 32);
}
void PackQ6K(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Nibbles(256, 64);
  to.Bits(256, 2, 4);
  for (int i = 0; i < 16; ++i) to.Put(to.Integer(1, i));
  to.Half(0);
}
void PackIq4Xs(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Half(0);
  const auto scale = [&](int i) { return to.Integer(1, i, 32); };
  int high = 0;
  for (int i = 0; i < 8; ++i) high |= scale(i) >> 4 << 2 * i;
  to.Put(high & 255);
  to.Put(high >> 8);
  for (int i = 0; i < 8; i += 2) {
    to.Put((scale(i) & 15) | (scale(i + 1) & 15) << 4);
  }
  to.Nibbles(256, 16);
}
void PackTq20(const GgufParts& from, uint8_t* block) {
  Block to(from, block);
  to.Bits(256, 2, 0);
  to.Half(0);
}

}  // namespace ounce::model
