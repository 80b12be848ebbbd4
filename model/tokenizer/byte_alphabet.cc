#include "model/tokenizer/byte_alphabet.h"

#include <array>

namespace ounce::model {
namespace {

constexpr int kPastAlphabet = 0x144;

// Bytes that are printable in Latin-1 stand for themselves, the other 68 are
// U+0100, U+0101, ... in order.
constexpr bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
         byte >= 0xae;
}

struct Alphabet {
  std::array<std::array<char, 2>, 256> spelled = {};
  std::array<uint8_t, 256> lengths = {};
  // The byte by code point; -1 for a character that is not of the alphabet.
  std::array<int16_t, kPastAlphabet> bytes = {};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.bytes) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int c = StandsForItself(byte) ? byte : next++;
    alphabet.bytes[c] = static_cast<int16_t>(byte);
    if (c < 0x80) {
      alphabet.spelled[byte] = {static_cast<char>(c)};
      alphabet.lengths[byte] = 1;
    } else {
      alphabet.spelled[byte] = {static_cast<char>(0xc0 | c >> 6),
                                static_cast<char>(0x80 | (c & 0x3f))};
      alphabet.lengths[byte] = 2;
    }
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string_view SpelledByte(uint8_t byte) {
  return {kAlphabet.spelled[byte].data(), kAlphabet.lengths[byte]};
}

bool AppendSpelledBytes(std::string_view token, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < token.size(); ++at) {
    int c = static_cast<uint8_t>(token[at]);
    // The alphabet ends before U+0800, so its characters have two bytes at
    // most.
    if (c >= 0xc0 && c < 0xe0 && at + 1 < token.size()) {
      c = (c & 0x1f) << 6 | (static_cast<uint8_t>(token[++at]) & 0x3f);
    } else if (c >= 0x80) {
      c = kPastAlphabet;
    }
    if (c >= kPastAlphabet || kAlphabet.bytes[c] < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(kAlphabet.bytes[c]));
  }
  return true;
}

}  // namespace ounce::model
