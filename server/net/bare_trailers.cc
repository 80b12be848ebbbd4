#include "server/net/bare_trailers.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"

namespace ounce::server {
namespace {

// A literal that enters no table, with a name that is a literal too.
constexpr char kLiteral = 0;
// A length below it is the first byte's, whose highest bit says Huffman's code.
constexpr uint8_t kLongLength = 127;
constexpr uint8_t kHuffman = 0x80;
constexpr int kMaxLengthShift = 21;

bool TakeByte(absl::string_view* bytes, uint8_t* byte) {
  if (bytes->empty()) return false;
  *byte = static_cast<uint8_t>(bytes->front());
  bytes->remove_prefix(1);
  return true;
}

bool TakeLength(absl::string_view* bytes, size_t* length) {
  uint8_t byte = 0;
  if (!TakeByte(bytes, &byte) || (byte & kHuffman) != 0) return false;
  *length = byte;
  if (byte < kLongLength) return true;
  for (int shift = 0; shift <= kMaxLengthShift; shift += 7) {
    if (!TakeByte(bytes, &byte)) return false;
    *length += size_t{byte & 0x7fU} << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

bool TakeString(absl::string_view* bytes, absl::string_view* text) {
  size_t length = 0;
  if (!TakeLength(bytes, &length) || length > bytes->size()) return false;
  *text = bytes->substr(0, length);
  bytes->remove_prefix(length);
  return true;
}

// The value of the field of this name, if it is what `bytes` begin with.
bool TakeField(absl::string_view* bytes, absl::string_view name,
               absl::string_view* value) {
  absl::string_view rest = *bytes, found;
  if (rest.empty() || rest.front() != kLiteral) return false;
  rest.remove_prefix(1);
  if (!TakeString(&rest, &found) || found != name ||
      !TakeString(&rest, value)) {
    return false;
  }
  *bytes = rest;
  return true;
}

void AppendString(absl::string_view text, std::string* block) {
  size_t length = text.size();
  if (length < kLongLength) {
    block->push_back(static_cast<char>(length));
  } else {
    block->push_back(static_cast<char>(kLongLength));
    for (length -= kLongLength; length >= 0x80; length >>= 7) {
      block->push_back(static_cast<char>(0x80 | (length & 0x7f)));
    }
    block->push_back(static_cast<char>(length));
  }
  block->append(text.data(), text.size());
}

// grpc-message has bytes that are not printable as %XX.
std::string WithoutPercents(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) {
      return at < text.size() &&
             absl::ascii_isxdigit(static_cast<unsigned char>(text[at]));
    };
    if (text[i] == '%' && digit(i + 1) && digit(i + 2)) {
      plain += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::optional<BareTrailers> ReadBareTrailers(absl::string_view block) {
  absl::string_view value;
  BareTrailers trailers;
  if (TakeField(&block, ":status", &value) &&
      !TakeField(&block, "content-type", &value)) {
    return std::nullopt;
  }
  if (!TakeField(&block, "grpc-status", &value) ||
      !absl::SimpleAtoi(value, &trailers.code) ||
      !TakeField(&block, "grpc-message", &value) || !block.empty()) {
    return std::nullopt;
  }
  trailers.message = WithoutPercents(value);
  return trailers;
}

void AppendField(absl::string_view name, absl::string_view value,
                 std::string* block) {
  block->push_back(kLiteral);
  AppendString(name, block);
  AppendString(value, block);
}

}  // namespace ounce::server
