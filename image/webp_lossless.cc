// Source: RFC 9649, sections 3 to 6; libwebp 1.2.4 for what it allocates.
#include "image/webp_lossless.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace ounce::image {
namespace {

constexpr int kMaxCodeLength = 15;
constexpr int kNumLiterals = 256;
constexpr int kNumLengths = 24;
constexpr int kNumDistances = 40;
constexpr int kMaxTableSets = 1 << 16;

// Of the images in front of the pixels, all together: some milliseconds.
// Encoders write less than half of it for pictures of 64 million pixels.
constexpr int64_t kMaxPixelsRead = 1 << 20;

// Least significant bits first. Past the end it fails and reads zeros.
class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  uint32_t Read(int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (at_ / 8 >= bytes_.size()) {
        failed_ = true;
        return 0;
      }
      const uint32_t byte = static_cast<uint8_t>(bytes_[at_ / 8]);
      value |= (byte >> (at_ % 8) & 1) << i;
    }
    return value;
  }

  bool failed() const { return failed_; }

 private:
  const std::string_view bytes_;
  size_t at_ = 0;  // bits
  bool failed_ = false;
};

// A canonical prefix code.
class PrefixCode {
 public:
  // False unless the lengths make a complete code.
  bool Build(const std::vector<uint8_t>& lengths) {
    counts_.fill(0);
    symbols_.clear();
    for (int length = 1; length <= kMaxCodeLength; ++length) {
      for (size_t symbol = 0; symbol < lengths.size(); ++symbol) {
        if (lengths[symbol] != length) continue;
        symbols_.push_back(static_cast<int>(symbol));
        ++counts_[length];
      }
    }
    // One symbol alone takes no bits.
    if (symbols_.size() <= 1) return symbols_.size() == 1;
    int64_t open = 1;
    for (int length = 1; length <= kMaxCodeLength; ++length) {
      open = open * 2 - counts_[length];
      if (open < 0) return false;
    }
    return open == 0;
  }

  int Read(BitReader& bits) const {
    if (symbols_.size() == 1) return symbols_[0];
    int code = 0, first = 0, index = 0;
    for (int length = 1; length <= kMaxCodeLength; ++length) {
      code |= static_cast<int>(bits.Read(1));
      if (code - first < counts_[length]) return symbols_[index + code - first];
      index += counts_[length];
      first = (first + counts_[length]) * 2;
      code *= 2;
    }
    return 0;
  }

 private:
  std::array<int, kMaxCodeLength + 1> counts_ = {};
  std::vector<int> symbols_;  // by length, then by number
};

// Code lengths, themselves coded.
bool ReadLengths(BitReader& bits, std::vector<uint8_t>& lengths) {
  constexpr std::array<int, 19> kOrder = {17, 18, 0, 1,  2,  3,  4,  5,  16, 6,
                                          7,  8,  9, 10, 11, 12, 13, 14, 15};
  const int size = static_cast<int>(lengths.size());
  const int num_codes = static_cast<int>(bits.Read(4)) + 4;
  std::vector<uint8_t> code_lengths(kOrder.size());
  for (int i = 0; i < num_codes; ++i) {
    code_lengths[kOrder[i]] = static_cast<uint8_t>(bits.Read(3));
  }
  PrefixCode code;
  if (!code.Build(code_lengths)) return false;
  int left = size;
  if (bits.Read(1) != 0) {
    const int width = 2 + 2 * static_cast<int>(bits.Read(3));
    left = 2 + static_cast<int>(bits.Read(width));
    if (left > size) return false;
  }
  uint8_t previous = 8;
  for (int symbol = 0; symbol < size && left > 0 && !bits.failed(); --left) {
    const int length = code.Read(bits);
    if (length < 16) {
      lengths[symbol++] = static_cast<uint8_t>(length);
      if (length != 0) previous = static_cast<uint8_t>(length);
      continue;
    }
    const int repeat = length == 16   ? 3 + static_cast<int>(bits.Read(2))
                       : length == 17 ? 3 + static_cast<int>(bits.Read(3))
                                      : 11 + static_cast<int>(bits.Read(7));
    if (repeat > size - symbol) return false;
    std::fill_n(lengths.begin() + symbol, repeat,
                length == 16 ? previous : uint8_t{0});
    symbol += repeat;
  }
  return true;
}

bool ReadCode(BitReader& bits, int alphabet, PrefixCode& code) {
  std::vector<uint8_t> lengths(alphabet);
  if (bits.Read(1) == 0) {
    if (!ReadLengths(bits, lengths)) return false;
  } else {
    const bool two = bits.Read(1) != 0;
    const int width = bits.Read(1) != 0 ? 8 : 1;
    // Names past the alphabet of distances are possible, and wrong.
    for (const int size : {width, two ? 8 : 0}) {
      if (size == 0) continue;
      const uint32_t symbol = bits.Read(size);
      if (symbol >= lengths.size()) return false;
      lengths[symbol] = 1;
    }
  }
  return !bits.failed() && code.Build(lengths);
}

// 0: no cache; nothing: an invalid size.
std::optional<int> ReadCacheBits(BitReader& bits) {
  if (bits.Read(1) == 0) return 0;
  const int cache_bits = static_cast<int>(bits.Read(4));
  if (cache_bits < 1 || cache_bits > 11) return std::nullopt;
  return cache_bits;
}

// What is known of the pixels of an image after its stream was read: the values
// of red and green, which name a set of tables, that appear in it.
struct Values {
  int max = 0;
  int distinct = 1;  // 0 counts as one
  std::vector<bool> seen = std::vector<bool>(kMaxTableSets);

  void Add(int value) {
    max = std::max(max, value);
    if (value == 0 || seen[value]) return;
    seen[value] = true;
    ++distinct;
  }
};

// A length or its like: 1 to 2^20.
int64_t ReadPrefixed(BitReader& bits, int symbol) {
  if (symbol < 4) return symbol + 1;
  const int extra = (symbol - 2) >> 1;
  return (int64_t{2 + (symbol & 1)} << extra) + bits.Read(extra) + 1;
}

// An image inside of the stream. Copies bring no value that was not there (or
// 0), so the pixels themselves need not be kept. `pixels_left`: see
// kMaxPixelsRead.
bool ReadImage(BitReader& bits, int64_t width, int64_t height, Values& values,
               int64_t& pixels_left) {
  const int64_t num_pixels = width * height;
  pixels_left -= num_pixels;
  if (pixels_left < 0) return false;
  const std::optional<int> cache_bits = ReadCacheBits(bits);
  if (!cache_bits.has_value()) return false;
  const int cache_size = *cache_bits == 0 ? 0 : 1 << *cache_bits;
  PrefixCode green, red, blue, alpha, distance;
  if (!ReadCode(bits, kNumLiterals + kNumLengths + cache_size, green) ||
      !ReadCode(bits, kNumLiterals, red) ||
      !ReadCode(bits, kNumLiterals, blue) ||
      !ReadCode(bits, kNumLiterals, alpha) ||
      !ReadCode(bits, kNumDistances, distance)) {
    return false;
  }
  for (int64_t pixel = 0; pixel < num_pixels && !bits.failed();) {
    const int symbol = green.Read(bits);
    if (symbol < kNumLiterals) {
      values.Add(red.Read(bits) << 8 | symbol);
      blue.Read(bits);
      alpha.Read(bits);
      ++pixel;
    } else if (symbol < kNumLiterals + kNumLengths) {
      pixel += ReadPrefixed(bits, symbol - kNumLiterals);
      ReadPrefixed(bits, distance.Read(bits));
    } else {
      ++pixel;
    }
  }
  return !bits.failed();
}

int64_t Tiles(int64_t length, int bits) {
  return (length + (int64_t{1} << bits) - 1) >> bits;
}

// The five tables' entries of four bytes, and what finds them.
int64_t TableBytes(int64_t num_sets, int cache_bits) {
  return num_sets * ((3100 + (int64_t{1} << cache_bits)) * 4 + 640);
}

}  // namespace

std::optional<int64_t> LosslessTableBytes(std::string_view stream) {
  constexpr uint32_t kSignature = 0x2f;
  BitReader bits(stream);
  if (bits.Read(8) != kSignature) return std::nullopt;
  int64_t width = bits.Read(14) + 1;
  const int64_t height = bits.Read(14) + 1;
  bits.Read(1);  // alpha is used
  if (bits.Read(3) != 0) return std::nullopt;
  int64_t pixels_left = kMaxPixelsRead;
  std::array<bool, 4> seen = {};
  while (bits.Read(1) != 0) {
    const uint32_t transform = bits.Read(2);
    if (seen[transform]) return std::nullopt;
    seen[transform] = true;
    Values ignored;
    if (transform == 3) {  // a palette
      const int64_t colors = bits.Read(8) + 1;
      if (!ReadImage(bits, colors, 1, ignored, pixels_left))
        return std::nullopt;
      width = Tiles(width, colors > 16  ? 0
                           : colors > 4 ? 1
                           : colors > 2 ? 2
                                        : 3);
    } else if (transform != 2) {  // predictors or factors, by tile
      const int size = static_cast<int>(bits.Read(3)) + 2;
      if (!ReadImage(bits, Tiles(width, size), Tiles(height, size), ignored,
                     pixels_left)) {
        return std::nullopt;
      }
    }
  }
  const std::optional<int> cache_bits = ReadCacheBits(bits);
  if (!cache_bits.has_value()) return std::nullopt;
  int64_t num_sets = 1;
  if (bits.Read(1) != 0) {
    const int size = static_cast<int>(bits.Read(3)) + 2;
    Values values;
    if (!ReadImage(bits, Tiles(width, size), Tiles(height, size), values,
                   pixels_left)) {
      return std::nullopt;
    }
    // Up to 1,000 it makes sets for gaps in the numbers, too.
    num_sets = std::max(std::min(values.max + 1, 1000), values.distinct);
  }
  if (bits.failed()) return std::nullopt;
  return TableBytes(num_sets, *cache_bits);
}

int64_t MaxLosslessTableBytes(int64_t width, int64_t height) {
  constexpr int kMaxCacheBits = 11;
  const int64_t tiles = Tiles(width, 2) * Tiles(height, 2);
  return TableBytes(
      std::min<int64_t>(std::max<int64_t>(tiles, 1000), kMaxTableSets),
      kMaxCacheBits);
}

}  // namespace ounce::image
